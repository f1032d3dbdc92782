/* A child with a number of our choice, which is also the first process of a pid namespace of its
 * own (clone3(2), set_tid: what others wait for by chance, root can ask for), asks from a cgroup.
 * Usage: reborn NUMBER UID CGROUP-DIRECTORY PATH */
#include "peer.h"
#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <sched.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static void enter(const char *cgroup) {
    char file[4096];
    snprintf(file, sizeof file, "%s/cgroup.procs", cgroup);
    int f = open(file, O_WRONLY);
    if (f < 0 || write(f, "0", 1) != 1)
        err(1, "%s", file);
    close(f);
}

int main(int argc, char **argv) {
    if (argc != 5)
        errx(64, "usage: reborn NUMBER UID CGROUP-DIRECTORY PATH");
    pid_t numbers[] = {1, atoi(argv[1])}; /* the innermost namespace first */
    uid_t user = (uid_t)atoi(argv[2]);
    struct clone_args how = {
        .flags = CLONE_NEWPID,
        .exit_signal = SIGCHLD,
        .set_tid = (uintptr_t)numbers,
        .set_tid_size = 2,
    };
    long child = syscall(SYS_clone3, &how, sizeof how);
    if (child < 0)
        err(1, "clone3: number %d", numbers[1]);
    if (child > 0)
        return waitpid((pid_t)child, NULL, 0) != child;
    enter(argv[3]);
    if (setgroups(0, NULL) < 0 || setresgid(user, user, user) < 0 || setresuid(user, user, user) < 0)
        err(1, "uid %u", user);
    print_answer("thief", connect_to(argv[4]));
}
