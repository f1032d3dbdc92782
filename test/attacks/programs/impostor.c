/* Puts a socket of its own in the place of the server's, and answers everybody with one line.
 * Usage: impostor PATH TEXT */
#include "peer.h"
#include <sys/stat.h>

int main(int argc, char **argv) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (argc != 3)
        errx(64, "usage: impostor PATH TEXT");
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
    umask(0111);
    if (unlink(argv[1]) < 0) {
        dprintf(STDOUT_FILENO, "impostor: %s\n", strerror(errno));
        return 1;
    }
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 16) < 0)
        err(1, "%s", argv[1]);
    dprintf(STDOUT_FILENO, "in its place\n");
    for (;;) {
        int s = accept(listener, NULL, NULL);
        dprintf(s, "%s\n", argv[2]);
        close(s);
    }
}
