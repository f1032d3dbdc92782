/* Somebody's deputy: made to connect, it says what it always says, as soon as it is connected or
 * only when SIGUSR1 comes.
 * Usage: speak early|late PATH */
#include "peer.h"
#include <signal.h>

int main(int argc, char **argv) {
    static const char request[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    sigset_t signals;
    int which;
    if (argc != 3)
        errx(64, "usage: speak early|late PATH");
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    int s = connect_to(argv[2]);
    if (strcmp(argv[1], "late") == 0)
        sigwait(&signals, &which);
    if (send(s, request, sizeof request - 1, MSG_NOSIGNAL) < 0)
        err(1, "send");
    dprintf(STDOUT_FILENO, "spoken\n");
    print_answer("thief", s);
}
