/* A peer as it should be: connects, sends nothing, and prints what it is given.
 * Usage: hold PATH */
#include <err.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char text[4096];
    ssize_t n;
    if (argc != 2)
        errx(64, "usage: hold PATH");
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
    if (connect(s, (struct sockaddr *)&address, sizeof address) < 0)
        err(1, "%s", argv[1]);
    while ((n = read(s, text, sizeof text)) > 0)
        if (write(STDOUT_FILENO, text, (size_t)n) != n)
            return 1;
    close(STDOUT_FILENO); /* the test sees the end of the answer */
    pause();
}
