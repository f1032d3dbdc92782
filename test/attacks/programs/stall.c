/* Makes whoever reads its command line in /proc wait: that takes the lock of its memory, which one
 * thread holds for as long as the kernel fills a large mapping (MADV_POPULATE_READ, madvise(2)),
 * and behind a thread that waits to change a mapping all later readers wait too.
 * It needs no privilege. Usage: stall PATH */
#include "peer.h"
#include <pthread.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14 */
#endif

static const size_t large = 24UL << 30; /* only page tables become real: 48 MB */

static char *map(size_t size) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    char *place = mmap(NULL, size, PROT_READ, flags, -1, 0);
    if (place == MAP_FAILED)
        err(1, "mmap");
    return place;
}

static void *fill(void *unused) {
    for (;;) {
        char *place = map(large);
        madvise(place, large, MADV_NOHUGEPAGE);
        if (madvise(place, large, MADV_POPULATE_READ) < 0)
            err(1, "madvise");
        munmap(place, large);
    }
    return unused;
}

static void *change(void *unused) {
    for (;;)
        munmap(map(1), 1);
    return unused;
}

int main(int argc, char **argv) {
    pthread_t thread;
    if (argc != 2)
        errx(64, "usage: stall PATH");
    pthread_create(&thread, NULL, fill, NULL);
    pthread_create(&thread, NULL, change, NULL);
    pthread_create(&thread, NULL, change, NULL);
    dprintf(STDOUT_FILENO, "stalling\n");
    for (;;) {
        usleep(100000);
        close(connect_to(argv[1]));
    }
}
