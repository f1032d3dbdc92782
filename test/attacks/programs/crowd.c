/* Opens connections and keeps them, each in a process of its own: of one process ours holds one.
 * Usage: crowd COUNT PATH */
#include "peer.h"

int main(int argc, char **argv) {
    int connected[2];
    char byte = 'c';
    if (argc != 3 || pipe(connected) < 0)
        errx(64, "usage: crowd COUNT PATH");
    for (int i = 0; i < atoi(argv[1]); i++) {
        if (fork() == 0) {
            connect_to(argv[2]);
            if (write(connected[1], &byte, 1) == 1)
                for (;;)
                    pause();
        }
        if (read(connected[0], &byte, 1) != 1)
            err(1, "read");
    }
    dprintf(STDOUT_FILENO, "connected\n");
    for (;;)
        pause();
}
