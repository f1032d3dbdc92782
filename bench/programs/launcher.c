/* Starts a program and says how long it took to the application's first instruction, and how much
 * memory was resident at most, the application's included (getrusage(2): it survives an execve).
 *
 *   start [NAME=VALUE ...] PROGRAM [ARGUMENT ...]    NS KIB EXIT
 *
 * The application prints the time of its first instruction (first.c), perhaps among what the program
 * before it says. NS is 0 where it does not. EXIT is as a shell has it.
 * Usage: launcher CONTROL NAME */
#include "control.h"
#include <sys/resource.h>

static void obey(char **words, FILE *out) {
    static char text[1 << 16];
    char *environment[WORDS] = {"PATH=/usr/local/bin:/usr/bin:/bin"};
    size_t filled = 0, variables = 1;
    ssize_t n;
    int ends[2], status;
    struct rusage used;
    char **command = words + 1;
    while (*command && strchr(*command, '='))
        environment[variables++] = *command++;
    if (!*command || pipe2(ends, O_CLOEXEC) < 0)
        err(1, "start");
    uint64_t began = now_ns();
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        execve(command[0], command, environment);
        _exit(127);
    }
    close(ends[1]);
    while ((n = read(ends[0], text + filled, sizeof text - 1 - filled)) > 0)
        filled += (size_t)n;
    close(ends[0]);
    if (wait4(child, &status, 0, &used) < 0)
        err(1, "wait4");
    text[filled] = '\0';
    const char *said = strstr(text, "first ");
    uint64_t first = said ? strtoull(said + strlen("first "), NULL, 10) : 0;
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    fprintf(out, "%ju %ld %d\n", first ? first - began : 0, used.ru_maxrss, code);
}

int main(int argc, char **argv) {
    if (argc != 3)
        errx(64, "usage: launcher CONTROL NAME");
    return serve(argv, obey);
}
