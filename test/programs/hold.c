/* A peer as it should be: connects, sends nothing, and prints what it is given.
 * Usage: hold PATH */
#include "../attacks/programs/peer.h"

int main(int argc, char **argv) {
    char text[4096];
    ssize_t n;
    if (argc != 2)
        errx(64, "usage: hold PATH");
    int s = connect_to(argv[1]);
    while ((n = read(s, text, sizeof text)) > 0)
        if (write(STDOUT_FILENO, text, (size_t)n) != n)
            return 1;
    close(STDOUT_FILENO); /* the test sees the end of the answer */
    pause();
}
