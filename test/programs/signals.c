/* Prints each signal that comes, once for each time that it comes: "got 2". Ends with 3 on SIGTERM.
 * A shell would not do: it knows only that a signal came, not how often. */
#include <err.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(void) {
    sigset_t all;
    sigfillset(&all);
    if (sigprocmask(SIG_BLOCK, &all, NULL))
        err(71, "sigprocmask");
    printf("ready %d\n", getpid());
    fflush(stdout);
    for (;;) {
        int number = sigwaitinfo(&all, NULL);
        if (number < 0)
            continue; /* SIGSTOP and SIGCONT interrupt it */
        printf("got %d\n", number);
        fflush(stdout);
        if (number == SIGTERM)
            exit(3);
    }
}
