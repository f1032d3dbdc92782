/* Prints its last argument, and ends well: a health check. Usage: say [WORD...] TEXT */
#include "peer.h"

int main(int argc, char **argv) {
    dprintf(STDOUT_FILENO, "%s\n", argv[argc - 1]);
}
