/* The program that a policy trusts: asks as it should where a path is given, and lives on.
 * Usage: trusted [PATH] */
#include "peer.h"

int main(int argc, char **argv) {
    if (argc > 1) {
        int s = connect_to(argv[1]);
        print_answer("trusted", s);
        close(s);
    }
    for (;;)
        pause();
}
