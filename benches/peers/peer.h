/* What the C and C++ servers of the benchmark have in common: keys of the command line, the listening socket, messages. */
#ifndef PEER_H
#define PEER_H
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The buffer is smaller than the largest segment that Linux makes: 64 KiB sent on at once leave a tiny segment behind. */
enum { MESSAGE = 64, PIECE = 64 << 10, THREADS = 4, BUFFER = 56 << 10, MOST_UNSENT = 256 };

static inline const char *option(int argc, char **argv, const char *key) {
  size_t length = strlen(key);
  for (int i = 2; i < argc; i++)
    if (strncmp(argv[i], key, length) == 0 && argv[i][length] == '=') return argv[i] + length + 1;
  return NULL;
}

static inline long number(int argc, char **argv, const char *key, long otherwise) {
  const char *text = option(argc, argv, key);
  return text ? atol(text) : otherwise;
}

static inline int unsupported(const char *why) {
  printf("unsupported: %s\n", why);
  return 3;
}

static inline void finish(int signal_number) {
  (void)signal_number;
  _exit(0);
}

static inline void set_up_signals(void) {
  signal(SIGTERM, finish);
  signal(SIGPIPE, SIG_IGN);
}

static inline void say_port(int listener) {
  struct sockaddr_in address;
  socklen_t length = sizeof address;
  getsockname(listener, (struct sockaddr *)&address, &length);
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);
}

/* A listening socket of 127.0.0.1 with the port told; ends the program when it fails. */
static inline int listen_here(void) {
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  struct sockaddr_in address;
  memset(&address, 0, sizeof address);
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) {
    perror("listen");
    exit(1);
  }
  say_port(listener);
  return listener;
}

static inline void no_delay(int fd) {
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static inline void fill_message(uint8_t *message, long k) {
  for (int i = 0; i < MESSAGE; i++) message[i] = (uint8_t)((k + i) % 251);
}

/* Cuts a stream into messages of one size; what is incomplete waits in `rest`, which has room for one. */
struct cutter {
  uint8_t *rest;
  size_t size, len;
};

typedef void take_message(void *context, const uint8_t *message);

static inline void cut(struct cutter *cutter, const uint8_t *data, size_t len, take_message *take, void *context) {
  if (cutter->len > 0) {
    size_t more = cutter->size - cutter->len < len ? cutter->size - cutter->len : len;
    memcpy(cutter->rest + cutter->len, data, more);
    cutter->len += more;
    data += more;
    len -= more;
    if (cutter->len < cutter->size) return;
    take(context, cutter->rest);
    cutter->len = 0;
  }
  for (; len >= cutter->size; data += cutter->size, len -= cutter->size) take(context, data);
  if (len > 0) memcpy(cutter->rest, data, len);
  cutter->len = len;
}
#endif
