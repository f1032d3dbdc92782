/* The root of a container without added capabilities mounts each cgroup hierarchy in a user, mount and cgroup
 * namespace of its own, makes a cgroup below its own with a name of its choice, and asks: from there,
 * or from where it was, with that directory among its mounts.
 * Usage: below inside|mounted NAME PATH; /mnt must be a directory */
#include "cgroups.h"
#include <sched.h>
#include <sys/mount.h>

/* A line of /proc/self/cgroup: "9:name=systemd:/", or "0::/" for version 2. */
static void forge(char *line, const char *name, int inside) {
    char path[4096], options[256];
    strsep(&line, ":");
    char *controllers = strsep(&line, ":");
    snprintf(options, sizeof options, "%s%s", strchr(controllers, '=') ? "none," : "", controllers);
    int failed = *controllers ? mount("cgroup", "/mnt", "cgroup", 0, options)
                              : mount("cgroup", "/mnt", "cgroup2", 0, NULL);
    if (failed)
        err(1, "mount %s", controllers);
    snprintf(path, sizeof path, "/mnt/%s", name);
    make_cgroup(path);
    if (inside) {
        enter_cgroup(path);
        umount2("/mnt", MNT_DETACH);
    } else if (mount(path, "/mnt", NULL, MS_BIND, NULL) < 0)
        err(1, "bind %s", path);
}

int main(int argc, char **argv) {
    char line[4096];
    char *rows[64];
    int count = 0;
    if (argc != 4)
        errx(64, "usage: below inside|mounted NAME PATH");
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWCGROUP) < 0)
        err(1, "unshare");
    put("/proc/self", "setgroups", "deny");
    if (!put("/proc/self", "uid_map", "0 0 1") || !put("/proc/self", "gid_map", "0 0 1"))
        err(1, "the maps of ids");
    FILE *lines = fopen("/proc/self/cgroup", "r");
    while (count < 64 && fgets(line, sizeof line, lines)) {
        line[strcspn(line, "\n")] = '\0';
        rows[count++] = strdup(line);
    }
    for (int i = 0; i < count; i++)
        forge(rows[i], argv[2], strcmp(argv[1], "inside") == 0);
    print_answer("thief", connect_to(argv[3]));
    for (;;)
        pause();
}
