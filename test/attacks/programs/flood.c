/* Connects as often as it can, from several processes, without waiting for an answer.
 * Usage: flood PROCESSES SECONDS PATH. Prints how many connections each process made. */
#include "peer.h"
#include <sys/wait.h>
#include <time.h>

static void flood(time_t until, const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    unsigned long connections = 0;
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    while (time(NULL) < until) {
        int s = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (connect(s, (struct sockaddr *)&address, sizeof address) == 0)
            connections++;
        close(s);
    }
    dprintf(STDOUT_FILENO, "connections: %lu\n", connections);
}

int main(int argc, char **argv) {
    if (argc != 4)
        errx(64, "usage: flood PROCESSES SECONDS PATH");
    time_t until = time(NULL) + atoi(argv[2]);
    for (int i = 0; i < atoi(argv[1]); i++)
        if (fork() == 0) {
            flood(until, argv[3]);
            return 0;
        }
    dprintf(STDOUT_FILENO, "flooding\n");
    while (wait(NULL) > 0)
        continue;
}
