/* Shows that a user namespace is not known by its map: a process that is root in one makes another
 * below it, with the same map, and both read the same from outside (user_namespaces(7): the second
 * number of uid_map is in the reader's namespace).
 * Usage: nested. Prints the child's pid, as its parent numbers it, when the maps are written. */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void write_map(pid_t pid, const char *name) {
    char path[64];
    const char map[] = "0 0 65536";
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    int file = open(path, O_WRONLY);
    if (file < 0 || write(file, map, strlen(map)) < 0)
        err(1, "%s", path);
    close(file);
}

int main(void) {
    int made[2];
    char byte;
    if (pipe(made) < 0)
        err(1, "pipe");
    pid_t child = fork();
    if (child == 0) {
        if (unshare(CLONE_NEWUSER) < 0)
            err(1, "unshare");
        close(made[1]);
        for (;;)
            pause();
    }
    close(made[1]);
    if (child < 0 || read(made[0], &byte, 1) != 0) /* the end: the child has its namespace */
        err(1, "no child");
    write_map(child, "uid_map");
    write_map(child, "gid_map");
    dprintf(STDOUT_FILENO, "nested %d\n", child);
    for (;;)
        pause();
}
