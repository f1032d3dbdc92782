/*
 * peercred: owns the listening socket and every client's descriptor.
 *
 * Question: which process connected, and is it still alive when it is answered?
 * Input:    connections (hostile), and commands on stdin from the server that started us (trusted).
 * Output:   lines on stdout to that server. Errors on stderr, then the end: peers see end of file.
 * Promise:  nothing is ever read from a client, and nothing is written to one that has sent a byte
 *           or whose process has exited (invariants 1 and 3).
 * Life:     the server's. End of file on stdin, or a write that fails, ends us, and ours ends it.
 *
 * Usage: peercred PATH|--inherited     (inherited: a listening socket on descriptor 3)
 *
 *   we tell the server                        the server tells us
 *   ready pidfd|no-pidfd                      grant ID TEXT    send TEXT, then watch the process
 *   peer ID PID UID GID GROUPS LABEL          refuse ID TEXT   send TEXT, then forget the peer
 *   drop REASON PID UID GID (it got no id)    watch PID        after a restart of the server
 *   answered ID sent|spoke|exited|closed
 *   exit ID (a process that waits or is watched)
 *   watching ID PID (ID 0: no such process)
 *
 * GROUPS is "" or "1,2,3,"; LABEL, perhaps empty, is the rest of the line.
 * Sources: unix(7) for SO_PEERCRED, SO_PEERSEC, SIOCINQ; pidfd_open(2); SO_PEERPIDFD is Linux 6.5.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

/* PEERPIDFD is SO_PEERPIDFD, which older headers lack (asm-generic/socket.h). */
enum { PEERPIDFD = 77, MAX_DESCRIPTORS = 1 << 17, PAUSE_MS = 100 };

/* A process that waits for an answer, or (socket -1) is watched until it exits. Its place in the
 * table is its pidfd; its id names the place too, and is never used again. Nobody: id 0. */
struct peer {
    uint64_t id;
    int socket;
};

static struct peer peers[MAX_DESCRIPTORS];
/* By pid, the id of its latest connection. PID_MAX_LIMIT is 2^22 (proc_sys_kernel(5)). */
static uint64_t latest[1 << 22];
static int events;
static bool no_pidfd;

#define say(...) (dprintf(STDOUT_FILENO, __VA_ARGS__) < 0 ? err(1, "stdout") : (void)0)

static void wake_for(int descriptor) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = descriptor};
    if (descriptor >= MAX_DESCRIPTORS || epoll_ctl(events, EPOLL_CTL_ADD, descriptor, &event) < 0)
        err(1, "cannot watch descriptor %d", descriptor);
}

/* Owns both descriptors from here on. */
static uint64_t keep(int socket, int pidfd) {
    static uint64_t serial;
    wake_for(pidfd);
    peers[pidfd] = (struct peer){++serial * MAX_DESCRIPTORS + (uint64_t)pidfd, socket};
    return peers[pidfd].id;
}

/* Whom an id names, if it waits for its answer. */
static struct peer *waiting(uint64_t id) {
    struct peer *p = &peers[id % MAX_DESCRIPTORS];
    return id != 0 && p->id == id && p->socket >= 0 ? p : NULL;
}

static void forget(struct peer *p) {
    if (p->socket >= 0)
        close(p->socket);
    close((int)(p - peers)); /* the only descriptor of it: epoll forgets it too */
    p->id = 0;
}

/* A pidfd is readable from the moment that its process is a zombie (pidfd_open(2)), also when it
 * was reaped before SO_PEERPIDFD was asked for: that call succeeding says nothing. */
static bool alive(int pidfd) {
    return poll(&(struct pollfd){.fd = pidfd, .events = POLLIN}, 1, 0) == 0;
}

/* Bytes wait on the socket (FIONREAD is SIOCINQ). Not to know counts as having spoken. */
static bool has_spoken(int socket) {
    int queued = 0;
    return ioctl(socket, FIONREAD, &queued) < 0 || queued != 0;
}

/* The process that called connect(), from the same kernel object as SO_PEERCRED's pid: the two
 * cannot differ. With no_pidfd, the process that has that number now. -1: neither. */
static int open_pidfd(int socket, pid_t pid) {
    int pidfd = -1;
    socklen_t size = sizeof pidfd;
    if (no_pidfd)
        return (int)syscall(SYS_pidfd_open, pid, 0);
    return getsockopt(socket, SOL_SOCKET, PEERPIDFD, &pidfd, &size) < 0 ? -1 : pidfd;
}

/* "GROUPS LABEL" of the peer: its supplementary groups (more than 256: ERANGE) and its MAC
 * label by SELinux or AppArmor (none in the kernel: ENOPROTOOPT, an empty label). */
static bool read_groups_and_label(int socket, char *text, size_t size) {
    gid_t groups[256];
    char label[4096] = "";
    socklen_t bytes = sizeof groups, length = sizeof label - 1;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups, &bytes) < 0 ||
        (getsockopt(socket, SOL_SOCKET, SO_PEERSEC, label, &length) < 0 && errno != ENOPROTOOPT))
        return false;
    size_t used = 0;
    for (size_t i = 0; i < bytes / sizeof groups[0]; i++)
        used += (size_t)snprintf(text + used, size - used, "%u,", groups[i]);
    snprintf(text + used, size - used, " %s", label);
    return !strchr(text, '\n');
}

/* What the kernel fixed at connect() (invariant 2), then one line about it. Any doubt drops the
 * peer. So does, without a line, another connection of its process that still waits. */
static void accept_peer(int socket) {
    struct ucred who = {0};
    socklen_t size = sizeof who;
    char groups_and_label[8192];
    const char *reason = NULL;
    int known = getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &who, &size);
    if (waiting(latest[who.pid])) {
        close(socket); /* invariant 10: a flood costs no more than this, one at a time aside */
        return;
    }
    int pidfd = open_pidfd(socket, who.pid);
    if (pidfd < 0 && (errno == EMFILE || errno == ENFILE))
        poll(NULL, 0, PAUSE_MS); /* the socket took the last one: the others wait */
    if (known < 0 || who.pid <= 0)
        reason = "no-pid"; /* of a pid namespace that we cannot see */
    else if (pidfd < 0 || pidfd >= MAX_DESCRIPTORS || !alive(pidfd))
        reason = "exited"; /* invariant 3; or no descriptor is left to hold it by */
    else if (!read_groups_and_label(socket, groups_and_label, sizeof groups_and_label))
        reason = "unreadable";
    else if (has_spoken(socket))
        reason = "spoke"; /* invariant 1 */
    if (reason) {
        say("drop %s %d %u %u\n", reason, who.pid, who.uid, who.gid);
        close(socket);
        close(pidfd); /* perhaps -1: nothing */
        return;
    }
    uint64_t id = latest[who.pid] = keep(socket, pidfd);
    say("peer %ju %d %u %u %s\n", id, who.pid, who.uid, who.gid, groups_and_label);
}

/* With the receiving side shut nothing more can be queued, so the count of bytes is final (shut at
 * accept, it would hide who speaks late). Then the pidfd, immediately before the write: alive now
 * means alive at every earlier look at /proc/PID. */
static void answer(struct peer *p, bool grant, const char *text, size_t length) {
    const char *outcome = "sent";
    if (shutdown(p->socket, SHUT_RD) < 0 || has_spoken(p->socket))
        outcome = "spoke"; /* invariant 1 */
    else if (!alive((int)(p - peers)))
        outcome = "exited"; /* invariant 3 */
    else if (send(p->socket, text, length, MSG_NOSIGNAL) != (ssize_t)length)
        outcome = "closed"; /* by the peer: the empty buffer of a new socket holds any answer */
    close(p->socket); /* first: the peer waits for it, the server does not */
    p->socket = -1;   /* watched from now on */
    say("answered %ju %s\n", p->id, outcome);
    if (!grant || strcmp(outcome, "sent") != 0)
        forget(p);
}

static void watch(pid_t pid) {
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    /* ENOENT, EINVAL on older kernels: the number is a thread's now. */
    if (pidfd < 0 && errno != ESRCH && errno != ENOENT && errno != EINVAL)
        err(1, "pidfd_open");
    say("watching %ju %d\n", pidfd < 0 ? 0 : keep(-1, pidfd), pid);
}

/* One line of the server, whom we trust: what is no command is a bug in it, and the end. */
static void obey(const char *line, size_t length) {
    char verb[8];
    uint64_t number;
    int used = 0;
    if (sscanf(line, "%7s %ju%n", verb, &number, &used) != 2 || (size_t)used >= length)
        errx(1, "a line from the server is no command");
    struct peer *p = waiting(number);
    if (strcmp(verb, "watch") == 0)
        watch((pid_t)number);
    else if (p)
        answer(p, strcmp(verb, "grant") == 0, line + used + 1, length - (size_t)used - 1);
    else
        say("answered %ju exited\n", number); /* while the server was deciding */
}

/* Obeys whole lines and keeps the rest. End of file, or a line that is too long: the end. */
static void read_commands(void) {
    static char buffer[1 << 17];
    static size_t filled;
    ssize_t n = read(STDIN_FILENO, buffer + filled, sizeof buffer - 1 - filled);
    if (n <= 0)
        exit(0);
    filled += (size_t)n;
    for (char *end; (end = memchr(buffer, '\n', filled));) {
        size_t length = (size_t)(end + 1 - buffer);
        obey(buffer, length);
        filled -= length;
        memmove(buffer, end + 1, filled);
        explicit_bzero(buffer + filled, length); /* it may have held a token */
    }
}

/* Everybody may connect (0666), identity decides. A socket on which nobody listens any more
 * (ECONNREFUSED) is replaced, and nothing else is. */
static int bind_to(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct sockaddr *name = (const struct sockaddr *)&address;
    struct stat old;
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (strlen(path) >= sizeof address.sun_path)
        errx(1, "%s: too long for a socket", path);
    strcpy(address.sun_path, path);
    bool stale = connect(s, name, sizeof address) < 0 && errno == ECONNREFUSED;
    if (stale && lstat(path, &old) == 0 && S_ISSOCK(old.st_mode))
        unlink(path);
    umask(0111);
    if (bind(s, name, sizeof address) < 0)
        err(1, "%s (is a server running? does the directory exist?)", path);
    return s;
}

int main(int argc, char **argv) {
    if (argc != 2)
        errx(64, "usage: peercred PATH|--inherited");
    /* What is inherited is descriptor 3 (sd_listen_fds(3)). */
    int listener = strcmp(argv[1], "--inherited") == 0 ? 3 : bind_to(argv[1]);
    if (listen(listener, SOMAXCONN) < 0)
        err(1, "%s: cannot listen", argv[1]);
    /* A listening socket has its own process for a peer: that makes it a probe. */
    int probe = open_pidfd(listener, 0);
    no_pidfd = probe < 0;
    close(probe);
    events = epoll_create1(EPOLL_CLOEXEC);
    wake_for(STDIN_FILENO);
    wake_for(listener);
    say("ready %s\n", no_pidfd ? "no-pidfd" : "pidfd");
    for (;;) {
        struct epoll_event event;
        if (epoll_wait(events, &event, 1, -1) != 1)
            continue; /* stopped and continued (EINTR, signal(7)) */
        if (event.data.fd == STDIN_FILENO)
            read_commands();
        else if (event.data.fd == listener) {
            int socket = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
            if (socket >= 0)
                accept_peer(socket);
            else
                poll(NULL, 0, PAUSE_MS); /* no descriptor or memory is left: callers wait */
        } else {
            say("exit %ju\n", peers[event.data.fd].id);
            forget(&peers[event.data.fd]);
        }
    }
}
