/* What an application sees of its environment: each variable that is named, and of X_FILE the file.
 * Usage: show NAME… */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        const char *value = getenv(argv[i]);
        printf("%s=%s\n", argv[i], value ? value : "(none)");
        const char *ending = strstr(argv[i], "_FILE");
        FILE *file = value && ending ? fopen(value, "r") : NULL;
        for (int c; file && (c = fgetc(file)) != EOF;)
            putchar(c);
        if (ending)
            putchar('\n');
    }
    return 0;
}
