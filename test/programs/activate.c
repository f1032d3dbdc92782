/* What systemd does for a socket unit: listens, and starts the program on descriptor 3. It stops
 * itself in between, so that a test can connect while nobody accepts.
 * Usage: activate PATH PROGRAM [ARG...] */
#include <err.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (argc < 3)
        errx(64, "usage: activate PATH PROGRAM [ARG...]");
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
    if (bind(s, (struct sockaddr *)&address, sizeof address) < 0 || listen(s, 16) < 0)
        err(1, "%s", argv[1]);
    if (s != 3 && (dup2(s, 3) < 0 || close(s) < 0))
        err(1, "descriptor 3");
    dprintf(STDOUT_FILENO, "listening\n");
    raise(SIGSTOP);
    execv(argv[2], argv + 2);
    err(127, "%s", argv[2]);
}
