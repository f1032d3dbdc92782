// Question: what is the simplest program of a pod?
// Usage:    pod wait        waits; the sandbox's own, too
//           pod ask         connects to the socket, sends nothing, prints what comes, and waits
//           pod beside      as "ask", with a child that waits
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void end(int signal) {
  (void)signal;
  _exit(0);
}

static void ask(void) {
  struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/run/authproxy/authproxy.sock"};
  int connection = socket(AF_UNIX, SOCK_STREAM, 0);
  if (connect(connection, (struct sockaddr *)&address, sizeof address) != 0) {
    perror("connect");
    _exit(1);
  }
  char answer[8192];
  ssize_t length;
  while ((length = read(connection, answer, sizeof answer)) > 0)
    if (write(STDOUT_FILENO, answer, (size_t)length) != length)
      _exit(1);
}

int main(int count, char **words) {
  signal(SIGTERM, end);
  signal(SIGINT, end);
  const char *what = count > 1 ? words[1] : "wait";
  int is_child = strcmp(what, "beside") == 0 && fork() == 0;
  if (strcmp(what, "wait") != 0 && !is_child)
    ask();
  for (;;)
    pause();
}
