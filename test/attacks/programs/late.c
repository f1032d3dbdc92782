/* Asks as it should, and reads the answer a little later, as a program does that has other work.
 * Usage: late PATH */
#include "peer.h"

int main(int argc, char **argv) {
    if (argc != 2)
        errx(64, "usage: late PATH");
    int s = connect_to(argv[1]);
    usleep(1000000);
    print_answer("trusted", s);
    for (;;)
        pause();
}
