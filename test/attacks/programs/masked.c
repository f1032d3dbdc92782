/* Asks under a name of its choice (prctl(2): up to 15 bytes, any of them).
 * Usage: masked NAME PATH */
#include "peer.h"
#include <sys/prctl.h>

int main(int argc, char **argv) {
    if (argc != 3)
        errx(64, "usage: masked NAME PATH");
    prctl(PR_SET_NAME, argv[1]);
    print_answer("thief", connect_to(argv[2]));
    for (;;)
        pause();
}
