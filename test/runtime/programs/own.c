/* What somebody put where the client should be. */
#include <stdio.h>

int main(void) {
    puts("not the client");
    return 0;
}
