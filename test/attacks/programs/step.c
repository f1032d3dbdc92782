/* Loaded into the server (LD_PRELOAD), shifts the wall clock that it reads by as many seconds as a
 * file holds (STEP, eight bytes): a step is a write to that file. OpenSSL's time(2) stays as it is:
 * certificates are as valid as before. */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile long *step;

__attribute__((constructor)) static void open_step(void) {
    int f = open(getenv("STEP"), O_RDONLY);
    void *file = mmap(NULL, sizeof *step, PROT_READ, MAP_SHARED, f, 0);
    if (file == MAP_FAILED)
        err(1, "STEP");
    step = file;
    close(f);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    long result = syscall(SYS_clock_gettime, clock, now);
    if (step && result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += *step;
    return (int)result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &precise) < 0)
        return -1;
    *now = (struct timeval){precise.tv_sec, precise.tv_nsec / 1000};
    return 0;
}
