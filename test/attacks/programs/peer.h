/* What every program here does: connects to the server, and prints what it is given, so that a test
 * finds it in the container's log. */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static inline int connect_to(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    if (connect(s, (struct sockaddr *)&address, sizeof address) < 0)
        err(1, "%s", path);
    return s;
}

/* All that is answered, on one line, then that it was all: a lost connection is an answer too. */
static inline void print_answer(const char *who, int s) {
    char text[1 << 16];
    size_t filled = 0;
    ssize_t n;
    while ((n = read(s, text + filled, sizeof text - 1 - filled)) > 0)
        filled += (size_t)n;
    text[filled] = '\0';
    text[strcspn(text, "\n")] = '\0';
    dprintf(STDOUT_FILENO, "%s got: %s\n%s: end\n", who, text, who);
}
