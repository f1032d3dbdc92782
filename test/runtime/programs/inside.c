/* A library that an image would have the loader bring into whatever runs: says where it is. Built
 * with -shared. */
#include <stdio.h>
#include <unistd.h>

__attribute__((constructor)) static void speak(void) {
    char exe[256] = {0};
    if (readlink("/proc/self/exe", exe, sizeof exe - 1) > 0)
        dprintf(2, "inside %s\n", exe);
}
