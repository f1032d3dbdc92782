/* Opens connections and keeps them.
 * Usage: crowd COUNT PATH */
#include "peer.h"

int main(int argc, char **argv) {
    if (argc != 3)
        errx(64, "usage: crowd COUNT PATH");
    for (int i = 0; i < atoi(argv[1]); i++)
        connect_to(argv[2]);
    dprintf(STDOUT_FILENO, "connected\n");
    for (;;)
        pause();
}
