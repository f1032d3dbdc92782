/* A container that harms the others as well as it can.
 *
 *   flood HOW SOCKET    flooding
 *   stop                stopped
 *
 * HOW  loops   connects and closes, as often as it can
 *      held    keeps as many connections as it may have, and reads none of them
 *      slow    keeps 100 connections, and reads a byte of each every 10 ms
 *      forks   forks without end, up to 100 processes at once, each of which connects and reads
 *      swarm   400 processes, each of which always waits for an answer
 *      burn    the control: one process that takes a processor, and never connects
 *
 * Usage: flooder CONTROL NAME */
#include "control.h"
#include <signal.h>

enum { SLOW = 100, FORKS = 100, SWARM = 400, HELD_MAX = 4096 };

static void loops(const char *path) {
    for (;;)
        close(connect_now(path)); /* perhaps -1: nothing */
}

static void held(const char *path) {
    static int sockets[HELD_MAX];
    for (size_t filled = 0;; filled++) {
        int s = filled < HELD_MAX ? connect_now(path) : -1;
        for (; s < 0 && filled > 0; filled--) /* no more may be had: begin again */
            close(sockets[filled - 1]);
        sockets[filled] = s;
    }
}

static void slow(const char *path) {
    int sockets[SLOW];
    char byte;
    for (int i = 0; i < SLOW; i++)
        sockets[i] = -1;
    for (;; pause_ms(10))
        for (int i = 0; i < SLOW; i++) {
            if (sockets[i] >= 0 && read(sockets[i], &byte, 1) == 0) {
                close(sockets[i]);
                sockets[i] = -1;
            }
            if (sockets[i] < 0)
                sockets[i] = connect_now(path);
        }
}

static void forks(const char *path) {
    for (int living = 0;;) {
        pid_t child = living < FORKS ? fork() : -1;
        if (child == 0) {
            ask(path, "", "");
            _exit(0);
        }
        living += child > 0;
        while (living > 0 && waitpid(-1, NULL, living < FORKS ? WNOHANG : 0) > 0)
            living--;
    }
}

static void swarm(const char *path) {
    for (int i = 0; i < SWARM; i++)
        if (fork() == 0)
            for (;; pause_ms(2))
                ask(path, "", "");
    for (;;)
        pause();
}

static void burn(const char *path) {
    for (;;)
        (void)path;
}

static void obey(char **words, FILE *out) {
    static const struct {
        const char *how;
        void (*flood)(const char *path);
    } all[] = {{"loops", loops}, {"held", held}, {"slow", slow}, {"forks", forks}, {"swarm", swarm}, {"burn", burn}};
    if (strcmp(words[0], "stop") == 0) {
        kill(-1, SIGKILL); /* as pid 1: all others of the container (kill(2)) */
        while (wait(NULL) > 0)
            continue;
        fprintf(out, "stopped\n");
        return;
    }
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (strcmp(words[1], all[i].how) == 0 && fork() == 0)
            all[i].flood(words[2]);
    fprintf(out, "flooding\n");
}

int main(int argc, char **argv) {
    if (argc != 3)
        errx(64, "usage: flooder CONTROL NAME");
    return serve(argv, obey);
}
