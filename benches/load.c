/* The load: ping-pong on many connections from one thread; every byte is compared.
   load PORT CONNECTIONS BYTES MESSAGES -> prints the messages exchanged and the seconds they took. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fail(const char *what) {
  perror(what);
  exit(1);
}

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  int port = atoi(argv[1]), connections = atoi(argv[2]);
  size_t bytes = (size_t)atol(argv[3]);
  long messages = atol(argv[4]), done = 0, begun = 0;
  char *out = malloc(bytes), *in = malloc(bytes);
  size_t *got = calloc((size_t)connections * 64, sizeof *got);
  for (size_t i = 0; i < bytes; i++) out[i] = (char)(i * 31 + 7);

  int epoll = epoll_create1(0), on = 1;
  int *fds = malloc(sizeof(int) * (size_t)connections);
  for (int i = 0; i < connections; i++) {
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fds[i] = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fds[i], (struct sockaddr *)&to, sizeof to)) fail("connect");
    setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event event = { .events = EPOLLIN, .data.u32 = (uint32_t)i };
    epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &event);
  }
  double start = now();
  for (int i = 0; i < connections && begun < messages; i++, begun++)
    if (send(fds[i], out, bytes, MSG_NOSIGNAL) != (ssize_t)bytes) fail("send");
  struct epoll_event events[256];
  while (done < messages) {
    int count = epoll_wait(epoll, events, 256, 10000);
    if (count <= 0) fail("no answer within 10 s");
    for (int i = 0; i < count; i++) {
      uint32_t which = events[i].data.u32;
      size_t have = got[which * 64];
      ssize_t n = recv(fds[which], in, bytes - have, 0);
      if (n <= 0) fail("recv");
      if (memcmp(in, out + have, (size_t)n) != 0) {
        fprintf(stderr, "bytes differ\n");
        return 1;
      }
      have += (size_t)n;
      if (have == bytes) {
        have = 0;
        done++;
        if (begun < messages) {
          begun++;
          if (send(fds[which], out, bytes, MSG_NOSIGNAL) != (ssize_t)bytes) fail("send");
        }
      }
      got[which * 64] = have;
    }
  }
  printf("%ld %.6f\n", done, now() - start);
  return 0;
}
