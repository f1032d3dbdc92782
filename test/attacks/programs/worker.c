/* A harmless service with one worker at a time: each SIGUSR1 ends the old one and forks the next.
 * Usage: worker */
#include "peer.h"
#include <signal.h>
#include <sys/wait.h>

int main(void) {
    sigset_t signals;
    pid_t child = 0;
    int which;
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    dprintf(STDOUT_FILENO, "ready\n");
    for (; sigwait(&signals, &which) == 0;) {
        if (child > 0) {
            kill(child, SIGKILL);
            waitpid(child, NULL, 0);
        }
        child = fork();
        if (child == 0)
            for (;;)
                pause();
        dprintf(STDOUT_FILENO, "forked\n");
    }
}
