/* A handler for binfmt_misc: in place of running the program it says that it would.
 * Usage: emulator PROGRAM [ARGUMENT...]   prints the last word, and how long the variable X is */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    const char *x = getenv("X");
    printf("emulated %s %zu\n", argv[argc - 1], x ? strlen(x) : 0);
}
