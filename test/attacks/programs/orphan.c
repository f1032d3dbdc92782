/* The first process has a child that connects and leaves the connection to its own child. When the
 * one that connected is killed it is reaped, and its number is free for any other process.
 * Usage: orphan PATH */
#include "peer.h"
#include <sys/wait.h>

int main(int argc, char **argv) {
    if (argc != 2)
        errx(64, "usage: orphan PATH");
    pid_t connector = fork();
    if (connector == 0) {
        int s = connect_to(argv[1]);
        if (fork() == 0) {
            print_answer("thief", s);
            return 0;
        }
        close(s);
        dprintf(STDOUT_FILENO, "connected\n");
        for (;;)
            pause();
    }
    while (wait(NULL) > 0 || errno != ECHILD)
        dprintf(STDOUT_FILENO, "reaped\n");
    for (;;)
        pause();
}
