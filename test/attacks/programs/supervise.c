/* Becomes a program that is trusted, under a filter whose supervisor, in another container, makes
 * its sockets for it and keeps a copy of each (seccomp_unotify(2)). The program is untouched: it
 * connects itself, nobody traces it, and a binary that nobody may read does not help.
 * Usage: CHANNEL=PATH supervise PROGRAM [ARG...]; with no argument, is the supervisor */
#include "channel.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* The descriptor by which the supervisor hears of each socket(2) and each read(2). */
static int filter(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_read, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    long listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                            SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    if (listener < 0)
        err(1, "seccomp");
    return (int)listener;
}

static struct seccomp_notif next_call(int listener) {
    struct seccomp_notif call = {0};
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call) < 0)
        err(1, "SECCOMP_IOCTL_NOTIF_RECV");
    return call;
}

/* Makes the socket that was wanted, gives a copy of it as the call's result, and keeps it. */
static int make_socket_for(int listener) {
    struct seccomp_notif call = next_call(listener);
    int s = socket((int)call.data.args[0], (int)call.data.args[1], (int)call.data.args[2]);
    struct seccomp_notif_addfd copy = {
        .id = call.id, .flags = SECCOMP_ADDFD_FLAG_SEND, .srcfd = (unsigned)s};
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &copy) < 0)
        err(1, "SECCOMP_IOCTL_NOTIF_ADDFD");
    return s;
}

/* The program reads: we do, before it. It will find the end of the connection. */
static void read_for(int listener, int s) {
    struct seccomp_notif call = next_call(listener);
    struct seccomp_notif_resp answer = {.id = call.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
    print_answer("thief", s);
    ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
}

int main(int argc, char **argv) {
    if (argc == 1) {
        int listener = receive_descriptor(getenv("CHANNEL"));
        read_for(listener, make_socket_for(listener));
        return 0;
    }
    int channel = connect_to(getenv("CHANNEL")); /* before the filter: nobody would answer */
    int listener = filter();
    send_descriptor(channel, listener);
    close(channel);
    close(listener);
    execv(argv[1], argv + 1);
    err(127, "%s", argv[1]);
}
