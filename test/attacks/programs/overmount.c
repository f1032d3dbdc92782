/* In a user and a mount namespace of its own, mounts a program over the trusted one and becomes it:
 * its exe has the trusted path.
 * Usage: overmount PROGRAM TRUSTED PATH */
#include "peer.h"
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>

static void put(const char *file, const char *text) {
    int f = open(file, O_WRONLY);
    if (f < 0 || write(f, text, strlen(text)) < 0)
        err(1, "%s", file);
    close(f);
}

int main(int argc, char **argv) {
    char map[64];
    uid_t uid = getuid();
    if (argc != 4)
        errx(64, "usage: overmount PROGRAM TRUSTED PATH");
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
        err(1, "unshare");
    snprintf(map, sizeof map, "%u %u 1", uid, uid);
    put("/proc/self/uid_map", map);
    put("/proc/self/setgroups", "deny");
    put("/proc/self/gid_map", map);
    if (mount(argv[1], argv[2], NULL, MS_BIND, NULL) < 0)
        err(1, "%s over %s", argv[1], argv[2]);
    execl(argv[2], argv[2], argv[3], NULL);
    err(127, "%s", argv[2]);
}
