/* What ioctl_ns(2) tells about a process, as naive rules use it: the parent of its user namespace and
 * the uid of who made that, and the user namespace that owns its own pid namespace.
 * Usage: kin PID. Prints INODE UID INODE; 0 for what is not told. */
#include "peer.h"
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

static int open_namespace(const char *pid, const char *name) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%s/ns/%s", pid, name);
    int descriptor = open(path, O_RDONLY);
    if (descriptor < 0)
        err(1, "%s", path);
    return descriptor;
}

static unsigned long inode_of(int descriptor) {
    struct stat found = {0};
    fstat(descriptor, &found);
    return found.st_ino;
}

int main(int argc, char **argv) {
    uid_t owner = 0;
    if (argc != 2)
        errx(64, "usage: kin PID");
    int user = open_namespace(argv[1], "user"), pids = open_namespace(argv[1], "pid");
    if (ioctl(user, NS_GET_OWNER_UID, &owner) < 0)
        err(1, "NS_GET_OWNER_UID");
    printf("%lu %u %lu\n", inode_of(ioctl(user, NS_GET_PARENT)), owner,
           inode_of(ioctl(pids, NS_GET_USERNS)));
}
