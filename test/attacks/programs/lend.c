/* Sends its user namespace to whoever listens at DIRECTORY/channel, and lives on.
 * Usage: lend DIRECTORY */
#include "channel.h"
#include <fcntl.h>

int main(int argc, char **argv) {
    char path[128];
    if (argc != 2)
        errx(64, "usage: lend DIRECTORY");
    snprintf(path, sizeof path, "%s/channel", argv[1]);
    int user_namespace = open("/proc/self/ns/user", O_RDONLY);
    if (user_namespace < 0)
        err(1, "/proc/self/ns/user");
    send_descriptor(connect_to(path), user_namespace);
    dprintf(STDOUT_FILENO, "lent\n");
    for (;;)
        pause();
}
