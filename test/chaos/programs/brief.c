/* A short life: asks, and ends with the answer; or ends at once, while the answer is on its way.
 * Usage: brief PATH waits|leaves */
#include "../../attacks/programs/peer.h"

int main(int argc, char **argv) {
    if (argc != 3)
        errx(64, "usage: brief PATH waits|leaves");
    int s = connect_to(argv[1]);
    if (strcmp(argv[2], "waits") == 0)
        print_answer("brief", s);
}
