/* Connects, leaves the connection to a child, and becomes a program that is trusted: same pid,
 * alive, and its exe is the right one.
 * Usage: handoff PATH PROGRAM */
#include "peer.h"

int main(int argc, char **argv) {
    if (argc != 3)
        errx(64, "usage: handoff PATH PROGRAM");
    int s = connect_to(argv[1]);
    pid_t child = fork();
    if (child < 0)
        err(1, "fork");
    if (child == 0) {
        print_answer("thief", s);
        return 0;
    }
    execl(argv[2], argv[2], NULL);
    err(127, "%s", argv[2]);
}
