/* A process with so many threads, that of main() among them. Prints "ready" once it has them.
 * Usage: threads COUNT */
#include <err.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void *wait_for_ever(void *unused) {
    for (;;)
        pause();
    return unused;
}

int main(int argc, char **argv) {
    pthread_t thread;
    pthread_attr_t small;
    int count = argc == 2 ? atoi(argv[1]) : 0;
    if (count == 0)
        errx(64, "usage: threads COUNT");
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, PTHREAD_STACK_MIN);
    for (int i = 1; i < count; i++)
        if (pthread_create(&thread, &small, wait_for_ever, NULL) != 0)
            errx(1, "pthread_create");
    puts("ready");
    fflush(stdout);
    wait_for_ever(NULL);
}
