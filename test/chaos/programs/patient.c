/* A peer that does not give up: at each SIGUSR1 it asks until it is granted a token or refused, and
 * prints that answer. Where nobody listens, the connection is lost or the answer is "unavailable",
 * it asks again. An answer that has not come within the server's 10 s is "hung", and final.
 * Usage: patient PATH */
#include <signal.h>
#include <stdbool.h>
#include <sys/time.h>
#include <time.h>
#include "../../attacks/programs/peer.h"

/* The answer is whole, and final. */
static bool asked(const char *path, char *text, size_t size) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    const struct timeval deadline = {.tv_sec = 10};
    size_t filled = 0;
    ssize_t n = 0;
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof deadline);
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    if (connect(s, (struct sockaddr *)&address, sizeof address) == 0)
        while ((n = read(s, text + filled, size - 1 - filled)) > 0)
            filled += (size_t)n;
    if (n < 0 && errno == EAGAIN)
        filled = (size_t)sprintf(text, "{\"error\":\"hung\"}\n");
    close(s);
    text[filled] = '\0';
    return strchr(text, '\n') && !strstr(text, "unavailable");
}

int main(int argc, char **argv) {
    static char text[1 << 16];
    const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
    sigset_t signals;
    int which;
    if (argc != 2)
        errx(64, "usage: patient PATH");
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    dprintf(STDOUT_FILENO, "ready\n");
    while (sigwait(&signals, &which) == 0) {
        while (!asked(argv[1], text, sizeof text))
            nanosleep(&pause, NULL);
        dprintf(STDOUT_FILENO, "%s", text);
    }
}
