/*
 * peercred: owns the listening socket and every client's descriptor.
 *
 * Question: which process connected, and is it still alive when it is answered?
 * Input:    connections (hostile), and commands on stdin from the server that started this process
 *           (trusted).
 * Output:   lines on stdout to that server. Errors go to stderr and end the process; the peers see
 *           end of file.
 * Promise:  nothing is ever read from a client, and nothing is written to one that has sent a byte
 *           or whose process has exited (invariants 1 and 3).
 * Life:     the server's. End of file on stdin, or a write that fails, ends this process, and its end
 *           ends the server.
 * Rights:   none. It drops every capability once the socket is open; with --user-namespaces all but
 *           CAP_SYS_PTRACE, which the command `owner` needs.
 *
 * Usage: peercred PATH|--inherited [--user-namespaces]
 *                                      (inherited: a listening socket on descriptor 3)
 *
 *   peercred tells the server                 the server tells peercred
 *   ready pidfd|no-pidfd                      grant ID TEXT    send TEXT, then watch the process
 *   peer ID PID UID GID GROUPS LABEL          refuse ID TEXT   send TEXT, then forget the peer
 *   drop REASON PID UID GID (it got no id)    watch PID        after a restart of the server
 *   answered ID sent|spoke|exited|closed      owner PID        of that process's pid namespace
 *   exit ID (a process that waits or is watched)
 *   watching ID PID (ID 0: no process has that number)
 *   watching later PID (no descriptor is left to watch it by)
 *   owner INODE PID (of a user namespace; 0: there is no such process, or EPERM, EACCES)
 *   owner later PID (no descriptor is left to ask by)
 *
 * GROUPS is "" or "1,2,3,"; LABEL, perhaps empty, is the rest of the line.
 * Sources: unix(7) for SO_PEERCRED, SO_PEERSEC, SIOCINQ; pidfd_open(2); SO_PEERPIDFD is Linux 6.5;
 * capabilities(7); ioctl_ns(2).
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/nsfs.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

/* PEERPIDFD is SO_PEERPIDFD, which older headers lack (asm-generic/socket.h). */
enum { PEERPIDFD = 77, MAX_DESCRIPTORS = 1 << 17, PAUSE_MS = 100 };

/* A process that waits for an answer, or (socket -1) is watched until it exits. Its index in the
 * table is its pidfd. Its id gives the index too (id modulo MAX_DESCRIPTORS), and is never used
 * again. An unused entry has id 0. */
struct peer {
    uint64_t id;
    int socket;
};

static struct peer peers[MAX_DESCRIPTORS];
/* By pid: the id of its latest connection. PID_MAX_LIMIT is 2^22 (proc_sys_kernel(5)). */
static uint64_t latest_id[1 << 22];
static int epoll;
static bool no_pidfd;

#define say(...) (dprintf(STDOUT_FILENO, __VA_ARGS__) < 0 ? err(1, "stdout") : (void)0)

static void watch_descriptor(int descriptor) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = descriptor};
    if (descriptor >= MAX_DESCRIPTORS || epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event) < 0)
        err(1, "cannot watch descriptor %d", descriptor);
}

/* Owns both descriptors from here on. Returns the peer's id. */
static uint64_t add_peer(int socket, int pidfd) {
    static uint64_t serial;
    watch_descriptor(pidfd);
    peers[pidfd] = (struct peer){++serial * MAX_DESCRIPTORS + (uint64_t)pidfd, socket};
    return peers[pidfd].id;
}

/* The peer with this id, if it waits for its answer; else NULL. */
static struct peer *find_waiting(uint64_t id) {
    struct peer *p = &peers[id % MAX_DESCRIPTORS];
    return id != 0 && p->id == id && p->socket >= 0 ? p : NULL;
}

/* Closes both descriptors; the entry is unused from here on. */
static void forget_peer(struct peer *p) {
    if (p->socket >= 0)
        close(p->socket);
    close((int)(p - peers)); /* its only descriptor: epoll forgets it too */
    p->id = 0;
}

/* A pidfd is readable from the moment that its process is a zombie (pidfd_open(2)), also when it
 * was reaped before SO_PEERPIDFD was asked for: that call succeeding says nothing. */
static bool is_alive(int pidfd) {
    return poll(&(struct pollfd){.fd = pidfd, .events = POLLIN}, 1, 0) == 0;
}

/* Bytes wait on the socket (FIONREAD is SIOCINQ). If the ioctl fails, assume that the peer has sent
 * something. */
static bool has_spoken(int socket) {
    int queued = 0;
    return ioctl(socket, FIONREAD, &queued) < 0 || queued != 0;
}

/* Returns a pidfd of the process that called connect(). It is of the same kernel object as
 * SO_PEERCRED's pid, so the two cannot differ. With no_pidfd, it is of the process that has that
 * number now. -1: there is none. */
static int open_pidfd(int socket, pid_t pid) {
    int pidfd = -1;
    socklen_t size = sizeof pidfd;
    if (no_pidfd)
        return (int)syscall(SYS_pidfd_open, pid, 0);
    return getsockopt(socket, SOL_SOCKET, PEERPIDFD, &pidfd, &size) < 0 ? -1 : pidfd;
}

/* Writes "GROUPS LABEL" of the peer: its supplementary groups (ERANGE if there are more than 256) and
 * its MAC label by SELinux or AppArmor (ENOPROTOOPT if the kernel has neither: an empty label).
 * Returns false if either cannot be read, or would end the line early. */
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

/* Reads what the kernel fixed at connect() (invariant 2) and tells it to the server. Any doubt drops
 * the peer. A second connection of a process that still waits is closed without a line. Owns the
 * socket from here on. */
static void accept_peer(int socket) {
    struct ucred peer = {0};
    socklen_t size = sizeof peer;
    char groups_and_label[8192];
    const char *reason = NULL;
    int has_credentials = getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size);
    if (find_waiting(latest_id[peer.pid])) {
        close(socket); /* invariant 10: a flood costs the others no more than this */
        return;
    }
    int pidfd = open_pidfd(socket, peer.pid);
    if (pidfd < 0 && (errno == EMFILE || errno == ENFILE))
        poll(NULL, 0, PAUSE_MS); /* the socket took the last descriptor: other callers wait */
    if (has_credentials < 0 || peer.pid <= 0)
        reason = "no-pid"; /* it is in a pid namespace that is not visible here */
    else if (pidfd < 0 || pidfd >= MAX_DESCRIPTORS || !is_alive(pidfd))
        reason = "exited"; /* invariant 3; or no descriptor is left to hold it by */
    else if (!read_groups_and_label(socket, groups_and_label, sizeof groups_and_label))
        reason = "unreadable";
    else if (has_spoken(socket))
        reason = "spoke"; /* invariant 1 */
    if (reason) {
        say("drop %s %d %u %u\n", reason, peer.pid, peer.uid, peer.gid);
        close(socket);
        close(pidfd); /* if it is -1, this does nothing */
        return;
    }
    uint64_t id = latest_id[peer.pid] = add_peer(socket, pidfd);
    say("peer %ju %d %u %u %s\n", id, peer.pid, peer.uid, peer.gid, groups_and_label);
}

/* Sends the text if the peer is silent and alive. Once the receiving side is shut nothing more can be
 * queued, so the count of bytes is final (shut at accept, it would hide a peer that speaks late).
 * The pidfd is polled immediately before the write: a process that is alive now was alive at every
 * earlier look at /proc/PID. */
static void answer(struct peer *p, bool grant, const char *text, size_t length) {
    const char *outcome = "sent";
    if (shutdown(p->socket, SHUT_RD) < 0 || has_spoken(p->socket))
        outcome = "spoke"; /* invariant 1 */
    else if (!is_alive((int)(p - peers)))
        outcome = "exited"; /* invariant 3 */
    else if (send(p->socket, text, length, MSG_NOSIGNAL) != (ssize_t)length)
        outcome = "closed"; /* by the peer: the empty buffer of a new socket has room for any answer */
    close(p->socket); /* closed first: the peer waits for it, the server does not */
    p->socket = -1;   /* from now on it is watched */
    say("answered %ju %s\n", p->id, outcome);
    if (!grant || strcmp(outcome, "sent") != 0)
        forget_peer(p);
}

/* Watches the process that has this number now, and tells the server its id. Where no descriptor or
 * memory is left the server asks again later: its token lives on meanwhile. */
static void watch(pid_t pid) {
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd >= 0 && pidfd < MAX_DESCRIPTORS) {
        say("watching %ju %d\n", add_peer(-1, pidfd), pid);
        return;
    }
    /* The number belongs to a thread now: ENOENT, EINVAL on older kernels. */
    bool is_gone = pidfd < 0 && (errno == ESRCH || errno == ENOENT || errno == EINVAL);
    close(pidfd); /* if it is -1, this does nothing */
    say("watching %s %d\n", is_gone ? "0" : "later", pid);
}

/* Tells the server which user namespace owns the pid namespace of this process: the one in which that
 * was made. All namespaces are on one device, so that the inode names one (fs/nsfs.c). The kernel
 * names only this process's own and those below it (EPERM). Other peers can use up the descriptors,
 * which must not make a refusal of this one's (invariant 10). */
static void tell_owner(pid_t pid) {
    char path[64];
    struct stat owner = {0};
    snprintf(path, sizeof path, "/proc/%d/ns/pid", pid);
    int pid_namespace = open(path, O_RDONLY | O_CLOEXEC);
    int user_namespace = pid_namespace < 0 ? -1 : ioctl(pid_namespace, NS_GET_USERNS);
    if (user_namespace < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM))
        say("owner later %d\n", pid);
    else {
        fstat(user_namespace, &owner);
        say("owner %ju %d\n", (uintmax_t)owner.st_ino, pid);
    }
    close(user_namespace); /* if it is -1, this does nothing */
    close(pid_namespace);
}

/* One line of the server, which is trusted: a line that is not a command is a bug in it. */
static void handle_command(const char *line, size_t length) {
    char verb[8];
    uint64_t number;
    int used = 0;
    if (sscanf(line, "%7s %ju%n", verb, &number, &used) != 2 || (size_t)used >= length)
        errx(1, "a line from the server is not a command");
    struct peer *p = find_waiting(number);
    if (strcmp(verb, "watch") == 0)
        watch((pid_t)number);
    else if (strcmp(verb, "owner") == 0)
        tell_owner((pid_t)number);
    else if (p)
        answer(p, strcmp(verb, "grant") == 0, line + used + 1, length - (size_t)used - 1);
    else
        say("answered %ju exited\n", number); /* it exited while the server was deciding */
}

/* Handles whole lines and keeps the rest. End of file, or a line that is too long, ends the process. */
static void read_commands(void) {
    static char buffer[1 << 17];
    static size_t filled;
    ssize_t n = read(STDIN_FILENO, buffer + filled, sizeof buffer - 1 - filled);
    if (n <= 0)
        exit(0);
    filled += (size_t)n;
    for (char *end; (end = memchr(buffer, '\n', filled));) {
        size_t length = (size_t)(end + 1 - buffer);
        handle_command(buffer, length);
        filled -= length;
        memmove(buffer, end + 1, filled);
        explicit_bzero(buffer + filled, length); /* it may have held a token */
    }
}

/* Reads the beginning of a file of /proc or /sys: "" if there is none. */
static void read_start(const char *path, char *text, size_t size) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = file < 0 ? -1 : read(file, text, size - 1);
    text[n < 0 ? 0 : n] = '\0';
    close(file); /* if it is -1, this does nothing */
}

/* The socket has the label of the process that makes it. Where SELinux is enforcing, containers may
 * connect to the module's domain alone. */
static void warn_without_module(void) {
    char label[256], enforcing[2] = "";
    read_start("/proc/self/attr/current", label, sizeof label);
    if (!strstr(label, ":authproxy_t:"))
        read_start("/sys/fs/selinux/enforce", enforcing, sizeof enforcing);
    if (strcmp(enforcing, "1") == 0)
        warnx("warning: SELinux may deny containers this socket: the server is in %s, not authproxy_t: "
              "install the module authproxy (docs/operate.md, SELinux)",
              label);
}

/* Returns a socket that is bound to this path. Everybody may connect (0666): identity decides. A socket
 * on which nobody listens any more (ECONNREFUSED) is replaced, and nothing else is. */
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
        err(1, "%s (%s)", path,
            errno == EACCES ? "may the server write there? with SELinux: restorecon -R its directory"
                            : "is a server running? does the directory exist?");
    return s;
}

/* Gives up the capabilities, those of root included, and every way to get one back. `kept` is a set of
 * those below 32. */
static void drop_capabilities_but(uint32_t kept) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = {
        {.permitted = kept, .effective = kept}};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || syscall(SYS_capset, &header, sets) < 0)
        err(1, kept ? "\"user_namespaces\" needs CAP_SYS_PTRACE" : "cannot drop capabilities");
}

int main(int argc, char **argv) {
    bool asks_for_owners = argc == 3 && strcmp(argv[2], "--user-namespaces") == 0;
    if (argc != 2 && !asks_for_owners)
        errx(64, "usage: peercred PATH|--inherited [--user-namespaces]");
    /* An inherited socket is descriptor 3 (sd_listen_fds(3)). */
    int listener = strcmp(argv[1], "--inherited") == 0 ? 3 : bind_to(argv[1]);
    if (listen(listener, SOMAXCONN) < 0)
        err(1, "%s: cannot listen", argv[1]);
    /* Without it the namespaces of other users' processes cannot be opened. */
    drop_capabilities_but(asks_for_owners ? 1U << CAP_SYS_PTRACE : 0);
    warn_without_module();
    /* The peer of a listening socket is its own process, so it serves as a probe. */
    int probe = open_pidfd(listener, 0);
    no_pidfd = probe < 0;
    close(probe);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    watch_descriptor(STDIN_FILENO);
    watch_descriptor(listener);
    say("ready %s\n", no_pidfd ? "no-pidfd" : "pidfd");
    for (;;) {
        struct epoll_event event;
        if (epoll_wait(epoll, &event, 1, -1) != 1)
            continue; /* EINTR: the process was stopped and continued (signal(7)) */
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
            forget_peer(&peers[event.data.fd]);
        }
    }
}
