/* How a descriptor gets from one container to another that shares a directory with it: by
 * SCM_RIGHTS over a socket there (unix(7)). */
#include "peer.h"

union control {
    char space[CMSG_SPACE(sizeof(int))];
    struct cmsghdr aligned;
};

static inline void send_descriptor(int channel, int descriptor) {
    union control control = {0};
    struct iovec one = {.iov_base = "x", .iov_len = 1};
    struct msghdr message = {.msg_iov = &one, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof descriptor);
    memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
    if (sendmsg(channel, &message, 0) != 1)
        err(1, "SCM_RIGHTS");
}

/* Says "listening", then waits for one. */
static inline int receive_descriptor(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    union control control;
    char byte;
    struct iovec one = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &one, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof control};
    int descriptor = -1;
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 1) < 0)
        err(1, "%s", path);
    dprintf(STDOUT_FILENO, "listening\n");
    if (recvmsg(accept(listener, NULL, NULL), &message, 0) != 1)
        err(1, "recvmsg");
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header)
        memcpy(&descriptor, CMSG_DATA(header), sizeof descriptor);
    return descriptor;
}
