/* The half of the naive server that Node cannot be: who connected, by SO_PEERCRED (unix(7)), which
 * is right about who it was and says nothing of who it is.
 * Usage: naive PATH. Prints "peer SOCKET PID UID"; obeys "SOCKET TEXT": sends TEXT and closes. */
#include "peer.h"
#include <poll.h>
#include <sys/stat.h>

static void say_who(int s) {
    struct ucred who;
    socklen_t size = sizeof who;
    if (getsockopt(s, SOL_SOCKET, SO_PEERCRED, &who, &size) < 0)
        err(1, "SO_PEERCRED");
    dprintf(STDOUT_FILENO, "peer %d %d %u\n", s, who.pid, who.uid);
}

static void obey(char *line) {
    char *text;
    int s = (int)strtol(line, &text, 10);
    if (send(s, text + 1, strlen(text + 1), MSG_NOSIGNAL) < 0 && errno != EPIPE)
        warn("send");
    close(s);
}

int main(int argc, char **argv) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char *line = NULL;
    size_t size = 0;
    if (argc != 2)
        errx(64, "usage: naive PATH");
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
    umask(0111); /* everybody may connect */
    setvbuf(stdin, NULL, _IONBF, 0); /* nothing is read ahead: poll sees every line */
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 4096) < 0)
        err(1, "%s", argv[1]);
    dprintf(STDOUT_FILENO, "ready\n");
    for (;;) {
        struct pollfd ready[] = {{.fd = listener, .events = POLLIN}, {.events = POLLIN}};
        if (poll(ready, 2, -1) < 0)
            continue;
        if (ready[1].revents && getline(&line, &size, stdin) < 0)
            return 0;
        if (ready[1].revents)
            obey(line);
        int s = ready[0].revents ? accept(listener, NULL, NULL) : -1;
        if (s >= 0)
            say_who(s);
    }
}
