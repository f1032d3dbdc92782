/* Starts a program, and sends it SIGUSR1 at the first moment at which that could not kill it: as
 * soon as the kernel says that it blocks or handles the signal (proc_pid_status(5)).
 * Usage: early PROGRAM [ARG...] */
#include "peer.h"
#include <signal.h>

/* "SigBlk:" and "SigCgt:" are masks of 16 digits, bit 9 for SIGUSR1. */
static unsigned long mask(const char *status, const char *name) {
    const char *line = strstr(status, name);
    return line ? strtoul(line + strlen(name), NULL, 16) : 0;
}

static void wait_for(pid_t pid) {
    char file[64], status[8192];
    snprintf(file, sizeof file, "/proc/%d/status", pid);
    for (unsigned long signals = 0; !(signals & 1UL << (SIGUSR1 - 1));) {
        FILE *f = fopen(file, "r");
        status[f ? fread(status, 1, sizeof status - 1, f) : 0] = '\0';
        if (!f)
            errx(1, "%s: it has ended", file);
        fclose(f);
        signals = mask(status, "SigBlk:") | mask(status, "SigCgt:");
    }
}

int main(int argc, char **argv) {
    pid_t parent = getpid();
    if (argc < 2)
        errx(64, "usage: early PROGRAM [ARG...]");
    if (fork() == 0) {
        wait_for(parent);
        kill(parent, SIGUSR1);
        return 0;
    }
    execvp(argv[1], argv + 1);
    err(127, "%s", argv[1]);
}
