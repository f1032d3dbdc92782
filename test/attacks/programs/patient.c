/* Asks as the client does, until it has a token: again after 50 ms where it was told to, and prints how
 * long it took, in milliseconds. Usage: patient PATH */
#include "peer.h"
#include <time.h>

static double now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

int main(int argc, char **argv) {
    if (argc != 2)
        errx(64, "usage: patient PATH");
    double began_ms = now_ms();
    for (;; usleep(50000)) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        char text[1 << 16] = "";
        size_t filled = 0;
        int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
        if (connect(s, (struct sockaddr *)&address, sizeof address) == 0)
            for (ssize_t n; (n = read(s, text + filled, sizeof text - 1 - filled)) > 0;)
                filled += (size_t)n;
        close(s);
        if (!strstr(text, "\"token\""))
            continue;
        dprintf(STDOUT_FILENO, "waited: %.1f ms\n", now_ms() - began_ms);
        break;
    }
    for (;;)
        pause();
}
