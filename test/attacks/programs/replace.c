/* Puts one file in the place of another, which may be running: rename(2) does not mind.
 * Usage: replace NEW OLD */
#include "peer.h"
#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

int main(int argc, char **argv) {
    char next[4096];
    struct stat stat;
    if (argc != 3)
        errx(64, "usage: replace NEW OLD");
    snprintf(next, sizeof next, "%s.next", argv[2]);
    int from = open(argv[1], O_RDONLY);
    int to = open(next, O_WRONLY | O_CREAT, 0755);
    if (from < 0 || to < 0 || fstat(from, &stat) < 0)
        err(1, "%s", from < 0 ? argv[1] : next);
    if (sendfile(to, from, NULL, (size_t)stat.st_size) != stat.st_size)
        err(1, "%s", next);
    if (rename(next, argv[2]) < 0)
        err(1, "%s", argv[2]);
}
