/* Reads what appears in a directory: opens each file at the moment in which it gets a name, and keeps
 * it open when the name is gone. Says each name, and what is in the file then.
 * Usage: shmthief DIRECTORY */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

static struct {
    int file;
    char name[256];
} opened[64];
static int count;

static void open_file(const char *name) {
    int file = open(name, O_RDONLY);
    dprintf(STDOUT_FILENO, "thief saw: %s\n", name);
    if (file < 0 || count == 64) {
        dprintf(STDOUT_FILENO, "too late for %s: end\n", name);
        return;
    }
    opened[count].file = file;
    snprintf(opened[count].name, sizeof opened->name, "%s", name);
    count++;
}

/* A file is empty at first. */
static void read_files(void) {
    static char text[65536];
    for (int i = 0; i < count; i++) {
        ssize_t n = pread(opened[i].file, text, sizeof text - 1, 0);
        if (n <= 0)
            continue;
        text[n] = '\0';
        dprintf(STDOUT_FILENO, "thief got: %s\n%s: end\n", text, opened[i].name);
        close(opened[i].file);
        opened[i--] = opened[--count];
    }
}

int main(int argc, char **argv) {
    char events[4096] __attribute__((aligned(8)));
    if (argc != 2 || chdir(argv[1]) < 0)
        errx(64, "usage: shmthief DIRECTORY");
    int watch = inotify_init1(IN_NONBLOCK);
    if (inotify_add_watch(watch, ".", IN_CREATE | IN_MOVED_TO) < 0)
        err(1, "%s", argv[1]);
    dprintf(STDOUT_FILENO, "waiting\n");
    for (;;) {
        ssize_t n = read(watch, events, sizeof events);
        for (char *at = events; n > 0 && at < events + n;) {
            struct inotify_event *event = (struct inotify_event *)at;
            open_file(event->name);
            at += sizeof *event + event->len;
        }
        read_files();
    }
}
