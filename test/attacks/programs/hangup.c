/* The first process of a served container: asks, and hangs up before it is answered, again and again,
 * until it is killed. Usage: hangup PATH */
#include "peer.h"

int main(int argc, char **argv) {
    if (argc != 2)
        errx(64, "usage: hangup PATH");
    dprintf(STDOUT_FILENO, "hangs up\n");
    for (;; usleep(1000))
        close(connect_to(argv[1]));
}
