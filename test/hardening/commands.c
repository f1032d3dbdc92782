/*
 * Question: what can lines from the server make the helper do? A fuzz target around the real
 *           server/peercred.c, for libFuzzer and for replay.c.
 * Input:    what the helper reads on standard input, where bytes that no generator could do without
 *           stand for more: 0x80 to 0x83 for the ids of four peers, 0xff for the end of one read(2).
 * Promise:  aborts unless, for each input, only the peer that lives and is silent has got anything,
 *           and that the rest of one line; the helper has said one line at most for each that it
 *           was told; no descriptor is left. Each input finds the helper as it is at its start.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SILENT, SPOKE, EXITED, CLOSED, PEERS };
enum { INPUT_MAX = 1 << 12, ID_DIGITS = 20, LINE_MAX_SAID = 64 };

/* All of it fits the helper's buffer, with which the suite in peercred.test.ts deals. */
static char told[INPUT_MAX * ID_DIGITS], taken[sizeof told], said[INPUT_MAX * LINE_MAX_SAID];
static size_t told_length, told_read, taken_length, said_length;
static bool clearing, obeying;
static jmp_buf helper_ended;
static pid_t exited; /* a zombie */

_Noreturn static void end_helper(void);
static ssize_t give(char *where, size_t room);
__attribute__((format(printf, 1, 2))) static int hear(const char *format, ...);

/* What would end the helper ends the input, and its standard input and output are ours. */
#define exit(...) end_helper()
#define err(...) end_helper()
#define errx(...) end_helper()
#define read(descriptor, where, room) give(where, room)
#define dprintf(descriptor, ...) hear(__VA_ARGS__)
#define main peercred
#include "../../server/peercred.c"

static void must(bool holds, const char *what) {
    if (holds)
        return;
    fprintf(stderr, "commands: does not hold: %s; it said:\n%.*s", what, (int)said_length, said);
    abort();
}

_Noreturn static void end_helper(void) {
    must(obeying, "the helper ends by what it is told");
    longjmp(helper_ended, 1);
}

static int hear(const char *format, ...) {
    va_list values;
    va_start(values, format);
    int n = vsnprintf(said + said_length, sizeof said - said_length, format, values);
    va_end(values);
    said_length += (size_t)n;
    return n;
}

/* Before `where` lies what an earlier input has left. It is cleared in place, for the helper keeps
 * its length where nobody else can reach it. */
static ssize_t give(char *where, size_t room) {
    static char *start;
    if (!start)
        start = where;
    if (clearing)
        memset(start, ' ', (size_t)(where - start));
    const char *from = told + told_read, *cut = memchr(from, '\xff', told_length - told_read);
    size_t n = cut ? (size_t)(cut - from) : told_length - told_read;
    must(n <= room, "there is room for all of an input");
    memcpy(where, from, n);
    memcpy(taken + taken_length, from, n);
    taken_length += n;
    told_read += n + (cut != NULL);
    return (ssize_t)n;
}

static void tell(const uint8_t *data, size_t size, const uint64_t *ids) {
    told_length = told_read = taken_length = said_length = 0;
    for (size_t i = 0; i < size; i++)
        if (data[i] >= 0x80 && data[i] < 0x80 + PEERS)
            told_length += (size_t)sprintf(told + told_length, "%ju", ids[data[i] - 0x80]);
        else
            told[told_length++] = (char)data[i];
    obeying = true;
    if (setjmp(helper_ended) == 0)
        for (;;)
            read_commands();
    obeying = false;
}

static int lowest_free_descriptor(void) {
    int descriptor = dup(STDERR_FILENO);
    close(descriptor);
    return descriptor;
}

static size_t lines_in(const char *text, size_t length) {
    size_t lines = 0;
    for (size_t i = 0; i < length; i++)
        lines += text[i] == '\n';
    return lines;
}

static bool is_rest_of_line(const char *text, size_t length) {
    return memchr(text, '\n', length) == text + length - 1 &&
           memmem(taken, taken_length, text, length) != NULL;
}

static void connect_peers(int clients[], uint64_t ids[]) {
    for (int i = 0; i < PEERS; i++) {
        int pair[2], made = socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair);
        must(made == 0, "there is a pair of sockets");
        clients[i] = pair[1];
        ids[i] = add_peer(pair[0], (int)syscall(SYS_pidfd_open, i == EXITED ? exited : getpid(), 0));
    }
    must(write(clients[SPOKE], "x", 1) == 1, "a peer has spoken");
    close(clients[CLOSED]);
    clients[CLOSED] = -1;
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    epoll = epoll_create1(EPOLL_CLOEXEC);
    exited = fork();
    if (exited == 0)
        _exit(0);
    int waited = waitid(P_PID, (id_t)exited, &(siginfo_t){0}, WEXITED | WNOWAIT);
    must(waited == 0, "a child has exited");
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const uint8_t harmless[] = "watch 2147483647\n"; /* more than any pid */
    static char received[sizeof told];
    int clients[PEERS], free_before = lowest_free_descriptor();
    uint64_t ids[PEERS];
    if (size > INPUT_MAX)
        return -1; /* libFuzzer's word for: not interesting */
    clearing = true;
    tell(harmless, sizeof harmless - 1, NULL);
    clearing = false;
    connect_peers(clients, ids);
    tell(data, size, ids);

    for (int i = 0; i < PEERS; i++) {
        ssize_t n = recv(clients[i], received, sizeof received, MSG_DONTWAIT);
        must(n <= 0 || i == SILENT, "only a peer that lives and is silent gets an answer");
        must(n <= 0 || is_rest_of_line(received, (size_t)n), "an answer is the rest of one line");
        close(clients[i]);
    }
    must(lines_in(said, said_length) <= lines_in(taken, taken_length), "one line answers one");
    for (struct peer *p = peers; p < peers + INPUT_MAX; p++)
        if (p->id != 0)
            forget_peer(p);
    must(lowest_free_descriptor() == free_before, "no descriptor is left");
    return 0;
}
