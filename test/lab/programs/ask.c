/* A peer as it should be: connects, sends nothing, and asks again while it is told "unavailable".
 * Prints the last answer. With "stay" it lives on, so that it can be looked at.
 * Usage: ask PATH [stay] */
#include "../../attacks/programs/peer.h"

enum { PAUSE_US = 200 * 1000, ATTEMPTS = 300 };

int main(int argc, char **argv) {
    char text[1 << 16];
    if (argc < 2)
        errx(64, "usage: ask PATH [stay]");
    for (int i = 0; i < ATTEMPTS; i++) {
        size_t filled = 0;
        ssize_t n;
        int s = connect_to(argv[1]);
        while ((n = read(s, text + filled, sizeof text - 1 - filled)) > 0)
            filled += (size_t)n;
        close(s);
        text[filled] = '\0';
        if (filled > 0 && !strstr(text, "\"unavailable\""))
            break;
        usleep(PAUSE_US);
    }
    dprintf(STDOUT_FILENO, "%s\n", text);
    if (argc > 2)
        pause();
}
