/* Changes a word in the memory of the container's first process, code and constants included
 * (/proc/PID/mem takes no notice of their protection), and leaves: what it does with the answer is
 * ours to say.
 * Usage: patch OLD NEW, of one length */
#include "peer.h"
#include <fcntl.h>

static char bytes[1 << 20];

static int replace(int memory, unsigned long start, size_t size, const char *old, const char *new) {
    size_t length = strlen(old), count = 0;
    ssize_t n = pread(memory, bytes, size < sizeof bytes ? size : sizeof bytes, (off_t)start);
    for (char *at = bytes; n > 0 && (at = memmem(at, (size_t)(bytes + n - at), old, length)); at++)
        count += pwrite(memory, new, length, (off_t)start + (at - bytes)) == (ssize_t)length;
    return (int)count;
}

int main(int argc, char **argv) {
    char line[4096];
    unsigned long start, end;
    int count = 0;
    if (argc != 3 || strlen(argv[1]) != strlen(argv[2]))
        errx(64, "usage: patch OLD NEW, of one length");
    int memory = open("/proc/1/mem", O_RDWR);
    FILE *maps = fopen("/proc/1/maps", "r");
    if (memory < 0 || !maps) {
        dprintf(STDOUT_FILENO, "thief: %s\n", strerror(errno));
        return 1;
    }
    while (fgets(line, sizeof line, maps))
        if (sscanf(line, "%lx-%lx r", &start, &end) == 2)
            count += replace(memory, start, end - start, argv[1], argv[2]);
    dprintf(STDOUT_FILENO, "patched %d\n", count);
}
