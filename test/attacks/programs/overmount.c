/* In a mount namespace of its own, mounts a program over the trusted one and becomes it: its exe has
 * the trusted path. Who may not mount makes a user namespace too; root asks as user 1001 in the end.
 * Usage: overmount user|mount PROGRAM TRUSTED PATH */
#include "peer.h"
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <sys/mount.h>

enum { APPLICATION = 1001 };

static void put(const char *file, const char *text) {
    int f = open(file, O_WRONLY);
    if (f < 0 || write(f, text, strlen(text)) < 0)
        err(1, "%s", file);
    close(f);
}

int main(int argc, char **argv) {
    char map[64];
    uid_t uid = getuid();
    if (argc != 5)
        errx(64, "usage: overmount user|mount PROGRAM TRUSTED PATH");
    int user = strcmp(argv[1], "user") == 0 ? CLONE_NEWUSER : 0;
    if (unshare(CLONE_NEWNS | user) < 0)
        err(1, "unshare");
    snprintf(map, sizeof map, "%u %u 1", uid, uid);
    if (user) {
        put("/proc/self/uid_map", map);
        put("/proc/self/setgroups", "deny");
        put("/proc/self/gid_map", map);
    }
    if (mount(argv[2], argv[3], NULL, MS_BIND, NULL) < 0)
        err(1, "%s over %s", argv[2], argv[3]);
    if (uid == 0 && (setgroups(0, NULL) < 0 || setgid(APPLICATION) < 0 || setuid(APPLICATION) < 0))
        err(1, "uid %d", APPLICATION);
    execl(argv[3], argv[3], argv[4], NULL);
    err(127, "%s", argv[3]);
}
