/* How a program in a container is told what to do: it connects to the bench's own socket, says its
 * name, and answers each line with one line. That socket is not the server's: there nothing is said.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* CLOCK_MONOTONIC is one for all processes of a kernel, and Node's process.hrtime(). */
static inline uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline void pause_ms(long ms) {
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

/* Does not wait for a place in the backlog, as Node does not: -1 is EAGAIN, or nobody listens. */
static inline int connect_now(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    if (s >= 0 && connect(s, (struct sockaddr *)&address, sizeof address) == 0)
        return s;
    close(s);
    return -1;
}

enum { WORDS = 64, ANSWER_SECONDS = 15 };

/* One connection, from connect() to the end of the answer: whether `wanted` is in that. `request` is
 * what to send first: to our server nothing, ever. */
static inline bool ask(const char *path, const char *wanted, const char *request) {
    char text[1 << 14];
    size_t filled = 0;
    ssize_t n = 0;
    const struct timeval deadline = {.tv_sec = ANSWER_SECONDS};
    int s = connect_now(path);
    if (s < 0)
        return false;
    fcntl(s, F_SETFL, 0); /* blocking from here on */
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof deadline);
    if (request[0] != '\0' && send(s, request, strlen(request), MSG_NOSIGNAL) < 0)
        n = -1;
    while (n >= 0 && (n = read(s, text + filled, sizeof text - 1 - filled)) > 0)
        filled += (size_t)n;
    text[filled] = '\0';
    close(s);
    return strstr(text, wanted) != NULL;
}

/* Calls `obey` with the words of each line, which writes one line to `out`; ends with the bench. */
static inline int serve(char **argv, void (*obey)(char **words, FILE *out)) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char *line = NULL;
    size_t size = 0;
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
    if (connect(s, (struct sockaddr *)&address, sizeof address) < 0)
        err(1, "%s", argv[1]);
    FILE *in = fdopen(s, "r"), *out = fdopen(dup(s), "w");
    if (!in || !out)
        err(1, "fdopen");
    fprintf(out, "%s\n", argv[2]);
    fflush(out);
    while (getline(&line, &size, in) > 0) {
        char *words[WORDS] = {NULL};
        size_t count = 0;
        for (char *word = strtok(line, " \n"); word && count < WORDS - 1; word = strtok(NULL, " \n"))
            words[count++] = word;
        obey(words, out);
        fflush(out);
    }
    return 0;
}
