/* Many processes, each of which always waits for an answer: when one has come, it asks again.
 * Usage: swarm same|own PROCESSES PATH. With "own" each is pid 1 of a pid namespace of its own, and of
 * another one for each question (CAP_SYS_ADMIN). Prints "swarming", and lasts until it is killed. */
#include "peer.h"
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

static void ask(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char text[4096];
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    if (connect(s, (struct sockaddr *)&address, sizeof address) == 0)
        while (read(s, text, sizeof text) > 0)
            continue;
    close(s);
}

static void ask_in_own_namespace(const char *path) {
    if (unshare(CLONE_NEWPID) < 0)
        err(1, "unshare");
    pid_t child = fork();
    if (child == 0) {
        ask(path);
        _exit(0);
    }
    waitpid(child, NULL, 0);
}

int main(int argc, char **argv) {
    if (argc != 4)
        errx(64, "usage: swarm same|own PROCESSES PATH");
    int own = strcmp(argv[1], "own") == 0;
    for (int i = 0; i < atoi(argv[2]); i++)
        if (fork() == 0)
            for (;; usleep(2000)) {
                if (!own)
                    ask(argv[3]);
                else if (fork() == 0) { /* unshare(2) is for the children made afterwards, once */
                    ask_in_own_namespace(argv[3]);
                    _exit(0);
                } else
                    wait(NULL);
            }
    dprintf(STDOUT_FILENO, "swarming\n");
    for (;;)
        pause();
}
