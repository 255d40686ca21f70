/* Connections of the load, and the bytes that go over them. */
#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A prime period: no buffer of a server is a multiple of it, so a piece that is lost or moved does not fit. */
enum { PERIOD = 4093, STALL_MS = 10000 };

static char pattern[PERIOD + LARGEST_PIECE];
static char incoming[LARGEST_PIECE];
static int epoll = -1;

static void prepare(void) {
  epoll = epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0) fail("epoll_create1");
  uint32_t random = 0x9e3779b9u;
  for (size_t i = 0; i < PERIOD; i++) {
    random ^= random << 13, random ^= random >> 17, random ^= random << 5;
    pattern[i] = (char)(random >> 11);
    if (pattern[i] == 'B') pattern[i] = 'b'; /* a 'B' has a meaning in mode block */
  }
  for (size_t i = PERIOD; i < sizeof pattern; i++) pattern[i] = pattern[i - PERIOD];
}

const char *stream_at(const struct connection *c, uint64_t position) {
  return pattern + (c->start + position) % PERIOD;
}

/* Ports of one local address run out while closed connections are remembered: many addresses, in turn. */
static void bind_in_turn(int fd) {
  static uint32_t turn;
  if (turn == 0) turn = (uint32_t)getpid();
  int on = 1;
  struct sockaddr_in local = { .sin_family = AF_INET };
  local.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + turn++ % 249);
  setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
  if (bind(fd, (struct sockaddr *)&local, sizeof local) != 0) fail("bind");
}

void connection_open(struct connection *c, uint32_t start) {
  if (epoll < 0) prepare();
  int on = 1;
  struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)server_port()) };
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  *c = (struct connection){ .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), .start = start % PERIOD };
  if (c->fd < 0) fail("socket");
  bind_in_turn(c->fd);
  if (connect(c->fd, (struct sockaddr *)&to, sizeof to) != 0) fail("connect");
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  struct epoll_event event = { .events = EPOLLIN, .data.ptr = c };
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event) != 0) fail("epoll_ctl");
}

void connection_close(struct connection *c) {
  close(c->fd);
  c->fd = -1;
}

struct connection *connect_all(long count) {
  if (count < 1) fail("connections must be at least 1");
  struct connection *all = calloc((size_t)count, sizeof *all);
  if (all == NULL) fail("no memory");
  for (long i = 0; i < count; i++) connection_open(&all[i], (uint32_t)i * 131);
  return all;
}

static void watch_out(struct connection *c, bool on) {
  if (c->watches_out == on) return;
  c->watches_out = on;
  struct epoll_event event = { .events = on ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = c };
  if (epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event) != 0) fail("epoll_ctl");
}

void send_due(struct connection *c) {
  uint64_t waiting = c->due - c->sent;
  if (waiting > 0) {
    size_t piece = waiting < LARGEST_PIECE ? (size_t)waiting : LARGEST_PIECE;
    ssize_t n = send(c->fd, stream_at(c, c->sent), piece, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN) fail("send");
    if (n > 0) c->sent += (uint64_t)n;
  }
  watch_out(c, c->sent < c->due);
}

size_t receive_raw(struct connection *c, const char **bytes) {
  ssize_t n = recv(c->fd, incoming, sizeof incoming, MSG_DONTWAIT);
  if (n < 0) fail("recv");
  *bytes = incoming;
  return (size_t)n;
}

size_t receive(struct connection *c, uint64_t limit) {
  const char *bytes;
  size_t n = receive_raw(c, &bytes);
  errno = 0;
  if (n == 0) fail("the server closed a connection at byte %llu", (unsigned long long)c->received);
  if (c->received + n > limit) fail("more bytes came than are due");
  if (memcmp(bytes, stream_at(c, c->received), n) != 0)
    fail("wrong bytes between %llu and %llu of a stream", (unsigned long long)c->received,
         (unsigned long long)(c->received + n));
  c->received += n;
  return n;
}

int wait_ready(struct epoll_event *events, int count) {
  int ready = epoll_wait(epoll, events, count, STALL_MS);
  if (ready < 0) fail("epoll_wait");
  errno = 0;
  if (ready == 0) fail("nothing came for 10 s");
  return ready;
}

int wait_ready_until(struct epoll_event *events, int count, uint64_t until_ns) {
  uint64_t now = now_ns(), left = until_ns > now ? until_ns - now : 0;
  struct timespec timeout = { .tv_sec = (time_t)(left / 1000000000u), .tv_nsec = (long)(left % 1000000000u) };
  int ready = epoll_pwait2(epoll, events, count, &timeout, NULL);
  if (ready < 0) fail("epoll_pwait2");
  return ready;
}
