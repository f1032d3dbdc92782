/* Asks again and again, and says how long each took: a new connection each time, until the answer is
 * the one that is wanted.
 *
 *   ask SOCKET COUNT PAUSE_MS WANTED [FILE]    RETRIES NS NS ...
 *
 * PAUSE_MS: before it asks again where the answer was another one. FILE: what to send first.
 * Usage: asker CONTROL NAME */
#include "control.h"

static void obey(char **words, FILE *out) {
    static char request[1 << 12];
    const char *path = words[1], *wanted = words[4], *file = words[5];
    int count = atoi(words[2]);
    long pauseMs = atol(words[3]), retries = 0;
    uint64_t *took = calloc((size_t)count, sizeof *took);
    memset(request, 0, sizeof request);
    if (file) {
        FILE *from = fopen(file, "r");
        if (!from || fread(request, 1, sizeof request - 1, from) == 0)
            err(1, "%s", file);
        fclose(from);
    }
    for (int i = 0; i < count; i++) {
        uint64_t began = now_ns();
        for (; !ask(path, wanted, request); retries++)
            pause_ms(pauseMs);
        took[i] = now_ns() - began;
    }
    fprintf(out, "%ld", retries);
    for (int i = 0; i < count; i++)
        fprintf(out, " %ju", took[i]);
    fprintf(out, "\n");
    free(took);
}

int main(int argc, char **argv) {
    if (argc != 3)
        errx(64, "usage: asker CONTROL NAME");
    return serve(argv, obey);
}
