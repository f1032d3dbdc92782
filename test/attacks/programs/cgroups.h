/* How a process gets into a cgroup that need not be there yet. */
#include "peer.h"
#include <fcntl.h>
#include <sys/stat.h>

/* Whether it could be written. */
static inline int put(const char *directory, const char *name, const char *text) {
    char file[8192];
    snprintf(file, sizeof file, "%s/%s", directory, name);
    int f = open(file, O_WRONLY);
    int written = f >= 0 && write(f, text, strlen(text)) > 0;
    if (f >= 0)
        close(f);
    return written;
}

/* With all that are missing above it. */
static inline void make_cgroup(const char *path) {
    char above[4096];
    for (const char *end = path + 1; (end = strchrnul(end, '/')); end++) {
        snprintf(above, sizeof above, "%.*s", (int)(end - path), path);
        if (mkdir(above, 0755) < 0 && errno != EEXIST && errno != EROFS)
            err(1, "%s", above);
        /* Version 1 only: what is made below has processors and memory (cpuset). */
        put(above, "cgroup.clone_children", "1");
        if (!*end)
            return;
    }
}

static inline void enter_cgroup(const char *path) {
    if (!put(path, "cgroup.procs", "0"))
        err(1, "%s/cgroup.procs", path);
}
