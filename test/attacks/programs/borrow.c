/* Becomes a program that was opened in another mount namespace, by its descriptor: its exe has the path
 * that the program has there, and its own namespaces are the container's.
 * "child": a child makes a user and a mount namespace, mounts PROGRAM over TRUSTED, opens it in the table
 * that both share, and is gone. "sent": another container sends the descriptor to DIRECTORY/channel; and
 * there "send" opens TRUSTED and sends it.
 * Usage: borrow child TRUSTED PATH PROGRAM | borrow sent TRUSTED PATH DIRECTORY | borrow send TRUSTED DIRECTORY */
#include "channel.h"
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

struct task {
    const char *trusted, *program;
    int opened;
};

static int mount_and_open(void *argument) {
    struct task *task = argument;
    if (mount(task->program, task->trusted, NULL, MS_BIND, NULL) < 0)
        err(1, "%s over %s", task->program, task->trusted);
    /* Its mounts last as long as their namespace, which this keeps. */
    if (open("/proc/self/ns/mnt", O_RDONLY) < 0)
        err(1, "/proc/self/ns/mnt");
    task->opened = open(task->trusted, O_PATH);
    return 0;
}

static int open_in_child(const char *trusted, const char *program) {
    static char stack[1 << 16] __attribute__((aligned(16)));
    struct task task = {trusted, program, -1};
    int flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_FILES | CLONE_VM | SIGCHLD;
    pid_t child = clone(mount_and_open, stack + sizeof stack, flags, &task);
    if (child < 0 || waitpid(child, &(int){0}, 0) != child)
        err(1, "clone");
    return task.opened;
}

int main(int argc, char **argv) {
    char path[128];
    if (argc == 4 && strcmp(argv[1], "send") == 0) {
        snprintf(path, sizeof path, "%s/channel", argv[3]);
        send_descriptor(connect_to(path), open(argv[2], O_PATH));
        for (;;)
            pause();
    }
    if (argc != 5)
        errx(64, "usage: borrow child|sent TRUSTED PATH PROGRAM|DIRECTORY");
    snprintf(path, sizeof path, "%s/channel", argv[4]);
    umask(0);
    int program = strcmp(argv[1], "sent") == 0 ? receive_descriptor(path)
                                               : open_in_child(argv[2], argv[4]);
    snprintf(path, sizeof path, "/proc/self/fd/%d", program);
    execl(path, argv[2], argv[3], NULL);
    err(127, "%s", path);
}
