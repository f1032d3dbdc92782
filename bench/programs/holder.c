/* Many processes that each get a token of their own.
 *
 *   hold SOCKET COUNT     held       each keeps it: it lives on
 *   live SOCKET COUNT     lived      each ends with its answer
 *   release               released   those that hold one end
 *
 * Usage: holder CONTROL NAME */
#include "control.h"
#include <signal.h>

enum { AT_ONCE = 8, AGAIN_MS = 5 };

static void one(const char *path, int places[2], int done, bool holds) {
    char place;
    if (read(places[0], &place, 1) != 1)
        _exit(1);
    while (!ask(path, "\"token\"", ""))
        pause_ms(AGAIN_MS);
    if (write(places[1], "p", 1) != 1 || write(done, "d", 1) != 1)
        _exit(1);
    while (holds)
        pause();
    _exit(0);
}

static void many(const char *path, int count, bool hold) {
    int places[2], done[2];
    char byte;
    if (pipe2(places, O_CLOEXEC) < 0 || pipe2(done, O_CLOEXEC) < 0)
        err(1, "pipe2");
    for (int i = 0; i < AT_ONCE; i++)
        if (write(places[1], "p", 1) != 1)
            err(1, "write");
    for (int i = 0; i < count; i++) {
        pid_t child = fork();
        if (child < 0)
            err(1, "fork");
        if (child == 0)
            one(path, places, done[1], hold);
        if (!hold && i >= AT_ONCE)
            wait(NULL); /* not all at once */
    }
    for (int i = 0; i < count; i++)
        if (read(done[0], &byte, 1) != 1)
            err(1, "read");
    while (!hold && wait(NULL) > 0)
        continue;
    for (int i = 0; i < 2; i++) {
        close(places[i]);
        close(done[i]);
    }
}

static void obey(char **words, FILE *out) {
    bool hold = strcmp(words[0], "hold") == 0;
    if (strcmp(words[0], "release") == 0) {
        kill(-1, SIGKILL); /* as pid 1: all others of the container (kill(2)) */
        while (wait(NULL) > 0)
            continue;
        fprintf(out, "released\n");
        return;
    }
    many(words[1], atoi(words[2]), hold);
    fprintf(out, hold ? "held\n" : "lived\n");
}

int main(int argc, char **argv) {
    if (argc != 3)
        errx(64, "usage: holder CONTROL NAME");
    return serve(argv, obey);
}
