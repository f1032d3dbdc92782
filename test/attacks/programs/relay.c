/* Connects, sends the connection to another container, and becomes a program that is trusted: no
 * child, no company, the first process, and its exe is the right one.
 * Usage: CHANNEL=PATH relay SOCKET PROGRAM; with no argument, reads the answer in that container */
#include "channel.h"

int main(int argc, char **argv) {
    if (argc == 1) {
        print_answer("thief", receive_descriptor(getenv("CHANNEL")));
        return 0;
    }
    if (argc != 3)
        errx(64, "usage: CHANNEL=PATH relay [SOCKET PROGRAM]");
    int s = connect_to(argv[1]);
    int channel = connect_to(getenv("CHANNEL"));
    send_descriptor(channel, s);
    close(channel);
    close(s);
    execl(argv[2], argv[2], NULL);
    err(127, "%s", argv[2]);
}
