/* Takes the socket on which another process waits for an answer (pidfd_getfd(2)), and reads that.
 * Usage: take PID */
#include "peer.h"
#include <sys/syscall.h>

enum { FIRST = 3, LAST = 64 };

int main(int argc, char **argv) {
    struct sockaddr_un end;
    if (argc != 2)
        errx(64, "usage: take PID");
    int pidfd = (int)syscall(SYS_pidfd_open, atoi(argv[1]), 0);
    for (int number = FIRST; number <= LAST; number++) {
        int s = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);
        socklen_t size = sizeof end;
        if (s < 0 && errno != EBADF) { /* EBADF: it has no such descriptor */
            dprintf(STDOUT_FILENO, "thief: %s\n", strerror(errno));
            return 1;
        }
        if (s >= 0 && getpeername(s, (struct sockaddr *)&end, &size) == 0) {
            dprintf(STDOUT_FILENO, "taken\n");
            print_answer("thief", s);
            return 0;
        }
    }
    errx(1, "it has no connected socket");
}
