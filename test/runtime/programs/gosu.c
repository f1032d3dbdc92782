/* Becomes a user and then a program, as the programs gosu and su-exec do in many images.
 * Usage: gosu UID:GID PROGRAM [ARGUMENT…] */
#include <grp.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv) {
    unsigned uid, gid;
    if (argc < 3 || sscanf(argv[1], "%u:%u", &uid, &gid) != 2)
        return 64;
    gid_t group = gid;
    if (setgroups(1, &group) || setgid(gid) || setuid(uid)) {
        perror("gosu");
        return 126;
    }
    execvp(argv[2], argv + 2);
    perror(argv[2]);
    return 127;
}
