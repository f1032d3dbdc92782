/* What another process of the same user can do to a process: each line names a system call and what
 * came of it. Usage: reach PID */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

static void say(const char *call, long result) {
    printf("%s: %s\n", call, result < 0 ? strerror(errno) : "done");
}

int main(int argc, char **argv) {
    pid_t pid = argc > 1 ? atoi(argv[1]) : 0;
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    say("pidfd_open", pidfd);
    say("pidfd_getfd", syscall(SYS_pidfd_getfd, pidfd, 1, 0));
    say("ptrace", ptrace(PTRACE_SEIZE, pid, NULL, NULL));
    return 0;
}
