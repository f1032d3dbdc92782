/* Puts a link to root's directory where the client writes, as the application's user. It is started as
 * root, makes root's files and becomes that user first.
 * Usage: swap inside|itself UID DIRECTORY TARGET
 *   inside   keeps swapping a directory and a link in DIRECTORY
 *   itself   moves DIRECTORY away, and makes a link in its place */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv) {
    char moved[4096];
    if (argc != 5)
        errx(64, "usage: swap inside|itself UID DIRECTORY TARGET");
    const char *directory = argv[3], *target = argv[4];
    uid_t user = (uid_t)atoi(argv[2]);
    if (chdir(target) < 0)
        err(1, "%s", target);
    for (int i = 0; i < 3; i++) {
        const char *names[] = {"passwd", "shadow", "hosts"};
        close(open(names[i], O_CREAT | O_WRONLY, 0600));
    }
    if (setresgid(user, user, user) < 0 || setresuid(user, user, user) < 0)
        err(1, "setresuid");

    if (strcmp(argv[1], "itself") == 0) {
        snprintf(moved, sizeof moved, "%s.moved", directory);
        if (rename(directory, moved) < 0 || symlink(target, directory) < 0)
            err(1, "%s", directory);
        dprintf(STDOUT_FILENO, "swapped\n");
        for (;;)
            pause();
    }
    if (chdir(directory) < 0)
        err(1, "%s", directory);
    dprintf(STDOUT_FILENO, "swapped\n");
    for (;;) {
        mkdir("x", 0777);
        close(open("x/f", O_CREAT | O_WRONLY, 0666));
        if (symlink(target, "y") < 0)
            unlink("y");
        for (int i = 0; i < 200; i++)
            if (renameat2(AT_FDCWD, "x", AT_FDCWD, "y", RENAME_EXCHANGE) < 0)
                break;
    }
}
