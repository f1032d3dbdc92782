/* One process that connects as often as it is told, one connection after the other, sends nothing,
 * and ends when each has had the answer.
 * Usage: crowd PATH TIMES ANSWER */
#include "../attacks/programs/peer.h"

int main(int argc, char **argv) {
    char text[4096];
    if (argc != 4)
        errx(64, "usage: crowd PATH TIMES ANSWER");
    for (int times = atoi(argv[2]); times > 0; times--) {
        int s = connect_to(argv[1]);
        size_t filled = 0;
        ssize_t n;
        while ((n = read(s, text + filled, sizeof text - filled)) > 0)
            filled += (size_t)n;
        if (filled != strlen(argv[3]) || memcmp(text, argv[3], filled) != 0)
            errx(1, "%.*s is not the answer", (int)filled, text);
        close(s);
    }
}
