/* The application of an image that knows nothing of secrets. Prints the value of a variable, and what
 * the file holds that another variable names.
 * Usage: tell VARIABLE FILE_VARIABLE */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    char text[1 << 12];
    const char *value = argc == 3 ? getenv(argv[1]) : NULL;
    const char *path = argc == 3 ? getenv(argv[2]) : NULL;
    if (!value || !path)
        errx(64, "usage: tell VARIABLE FILE_VARIABLE");
    FILE *file = fopen(path, "r");
    if (!file)
        err(1, "%s", path);
    size_t length = fread(text, 1, sizeof text, file);
    printf("variable %s, file %.*s\n", value, (int)length, text);
    return 0;
}
