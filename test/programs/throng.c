/* Many processes that all wait for their answers at one moment; once each has connected, "all wait"
 * is printed, then each answer, on a line of its own ("" where it ended without one).
 * Usage: throng PATH COUNT */
#include "../attacks/programs/peer.h"
#include <sys/wait.h>

int main(int argc, char **argv) {
    int connected[2], count = argc == 3 ? atoi(argv[2]) : 0;
    char byte = 'c';
    if (count == 0 || pipe(connected) < 0)
        errx(64, "usage: throng PATH COUNT");
    for (int i = 0; i < count; i++)
        if (fork() == 0) {
            char text[64] = "";
            int s = connect_to(argv[1]);
            if (write(connected[1], &byte, 1) != 1)
                err(1, "write");
            ssize_t n = read(s, text, sizeof text - 1);
            if (n <= 0 || text[n - 1] != '\n')
                strcat(text, "\n");
            return write(STDOUT_FILENO, text, strlen(text)) < 0;
        }
    for (int i = 0; i < count; i++)
        if (read(connected[0], &byte, 1) != 1)
            err(1, "read");
    dprintf(STDOUT_FILENO, "all wait\n");
    while (wait(NULL) > 0)
        continue;
}
