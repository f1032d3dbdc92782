/* Runs a program from which one defence was taken: the kernel answers one system call of it, and of
 * its children, as if there were nothing to see (seccomp(2)).
 * Usage: without peerpidfd|queued PROGRAM [ARG...] */
#include "peer.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

enum { PEERPIDFD = 77 }; /* asm-generic/socket.h */

static const struct call {
    const char *name;
    unsigned number;
    unsigned argument; /* which one tells this call from others of its number */
    unsigned value;
    unsigned answer;
} calls[] = {
    {"peerpidfd", SYS_getsockopt, 2, PEERPIDFD, ENOPROTOOPT}, /* as before Linux 6.5 */
    {"queued", SYS_ioctl, 1, SIOCINQ, 0},                     /* success, and no byte counted */
};

static void answer(const struct call *call) {
    unsigned argument = offsetof(struct seccomp_data, args) + 8 * call->argument; /* its low half */
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call->number, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, argument),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call->value, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | call->answer),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
        err(1, "seccomp");
}

int main(int argc, char **argv) {
    for (size_t i = 0; argc > 2 && i < sizeof calls / sizeof calls[0]; i++)
        if (strcmp(argv[1], calls[i].name) == 0) {
            answer(&calls[i]);
            execv(argv[2], argv + 2);
            err(127, "%s", argv[2]);
        }
    errx(64, "usage: without peerpidfd|queued PROGRAM [ARG...]");
}
