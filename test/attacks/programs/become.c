/* Connects as the program that is trusted; at SIGUSR1 becomes another, with the connection on
 * descriptor 3.
 * Usage: become PATH PROGRAM */
#include "peer.h"
#include <signal.h>

int main(int argc, char **argv) {
    sigset_t signals;
    int which;
    if (argc != 3)
        errx(64, "usage: become PATH PROGRAM");
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    int s = connect_to(argv[1]);
    if (s != 3 && dup2(s, 3) < 0)
        err(1, "descriptor 3");
    sigwait(&signals, &which);
    execl(argv[2], argv[2], NULL);
    err(127, "%s", argv[2]);
}
