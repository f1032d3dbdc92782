/*
 * Question: does a fuzz target hold for these inputs? In place of libFuzzer, for any compiler.
 * Input:    on standard input, each with its length in 4 bytes, the lowest first, before it.
 * Output:   a byte on standard output after each for which it holds.
 * Promise:  ends as the target does at the first for which it does not.
 */
#include <err.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv) {
    static uint8_t data[1 << 16];
    uint8_t length[4];
    LLVMFuzzerInitialize(&argc, &argv);
    while (fread(length, sizeof length, 1, stdin) == 1) {
        size_t size = length[0] | (size_t)length[1] << 8 | (size_t)length[2] << 16;
        if (length[3] != 0 || size > sizeof data || fread(data, 1, size, stdin) != size)
            errx(1, "an input is cut off, or longer than %zu bytes", sizeof data);
        LLVMFuzzerTestOneInput(data, size);
        if (write(STDOUT_FILENO, "+", 1) != 1)
            err(1, "stdout");
    }
}
