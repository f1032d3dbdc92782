/* An attack: a process connects, leaves the socket to a child, and exits when its standard input
 * ends. Its number is then free for any other process, while the child waits for the answer.
 * Usage: handover PATH. The child prints all that it is given, and ends with the connection. */
#include "../attacks/programs/peer.h"

int main(int argc, char **argv) {
    char text[4096];
    ssize_t n;
    if (argc != 2)
        errx(64, "usage: handover PATH");
    int s = connect_to(argv[1]);
    pid_t child = fork();
    if (child < 0)
        err(1, "fork");
    if (child > 0) {
        while (read(STDIN_FILENO, text, sizeof text) > 0)
            continue;
        _exit(0);
    }
    while ((n = read(s, text, sizeof text)) > 0)
        if (write(STDOUT_FILENO, text, (size_t)n) != n)
            return 1;
}
