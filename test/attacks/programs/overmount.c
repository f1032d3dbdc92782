/* In a mount namespace of its own, mounts a program over the trusted one and becomes it: its exe has
 * the trusted path. Who may not mount makes a user namespace too ("user"); in "pids" its child is the
 * first process of a pid namespace as well; in "root" the container's root maps all of its users, so
 * that the map is the container's own; "adopted" enters the user namespace whose descriptor another
 * container sends to DIRECTORY/channel. Root asks as user 1001 in the end.
 * Usage: overmount user|mount|pids|root|adopted PROGRAM TRUSTED PATH [DIRECTORY] */
#include "channel.h"
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { APPLICATION = 1001 };

static void put(pid_t pid, const char *name, const char *text) {
    char file[64];
    snprintf(file, sizeof file, "/proc/%d/%s", pid, name);
    int f = open(file, O_WRONLY);
    if (f < 0 || write(f, text, strlen(text)) < 0)
        err(1, "%s", file);
    close(f);
}

/* As whoever it is already: no other user can be mapped without a right to. */
static void map_self(void) {
    char map[64];
    snprintf(map, sizeof map, "%u %u 1", getuid(), getuid());
    put(getpid(), "uid_map", map);
    put(getpid(), "setgroups", "deny");
    put(getpid(), "gid_map", map);
}

/* A child, which stays in the former user namespace and has its rights, writes the maps and is gone. */
static void unshare_as_root(void) {
    int made[2];
    char byte;
    pid_t self = getpid();
    if (pipe(made) < 0)
        err(1, "pipe");
    pid_t child = fork();
    if (child == 0) {
        close(made[1]);
        if (read(made[0], &byte, 1) != 0)
            err(1, "no user namespace");
        put(self, "uid_map", "0 0 65536");
        put(self, "gid_map", "0 0 65536");
        _exit(0);
    }
    if (child < 0 || unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
        err(1, "unshare");
    close(made[0]);
    close(made[1]);
    if (waitpid(child, &(int){0}, 0) != child)
        err(1, "the maps");
}

static void adopt(const char *directory) {
    char path[128];
    snprintf(path, sizeof path, "%s/channel", directory);
    umask(0);
    int user_namespace = receive_descriptor(path);
    if (setns(user_namespace, CLONE_NEWUSER) < 0 || unshare(CLONE_NEWNS) < 0)
        err(1, "setns");
    close(user_namespace);
}

int main(int argc, char **argv) {
    if (argc < 5)
        errx(64, "usage: overmount user|mount|pids|root|adopted PROGRAM TRUSTED PATH [DIRECTORY]");
    const char *how = argv[1];
    bool is_root = getuid() == 0; /* what it is called in another user namespace says nothing */
    if (strcmp(how, "root") == 0)
        unshare_as_root();
    else if (strcmp(how, "adopted") == 0)
        adopt(argv[5]);
    else {
        int pids = strcmp(how, "pids") == 0 ? CLONE_NEWPID : 0;
        int user = pids || strcmp(how, "user") == 0 ? CLONE_NEWUSER : 0;
        if (unshare(CLONE_NEWNS | user | pids) < 0)
            err(1, "unshare");
        if (user)
            map_self();
        if (pids && fork() != 0)
            for (;;)
                pause();
    }
    if (mount(argv[2], argv[3], NULL, MS_BIND, NULL) < 0)
        err(1, "%s over %s", argv[2], argv[3]);
    if (is_root &&
        (setgroups(0, NULL) < 0 || setgid(APPLICATION) < 0 || setuid(APPLICATION) < 0))
        err(1, "uid %d", APPLICATION);
    execl(argv[3], argv[3], argv[4], NULL);
    err(127, "%s", argv[3]);
}
