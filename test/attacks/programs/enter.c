/* Moves itself to cgroups of its choice, which it makes where they are missing, and asks.
 * Usage: enter PATH CGROUP-DIRECTORY... */
#include "cgroups.h"

int main(int argc, char **argv) {
    if (argc < 3)
        errx(64, "usage: enter PATH CGROUP-DIRECTORY...");
    for (int i = 2; i < argc; i++) {
        make_cgroup(argv[i]);
        enter_cgroup(argv[i]);
    }
    print_answer("thief", connect_to(argv[1]));
    for (;;)
        pause();
}
