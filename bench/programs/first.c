/* An application whose first instruction says when it runs: `first` and nanoseconds of CLOCK_MONOTONIC. */
#include "control.h"

int main(void) {
    printf("first %ju\n", now_ns());
}
