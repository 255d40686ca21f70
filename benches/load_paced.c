/* Scenarios in which messages go out at fixed times, whether or not the server has answered the ones before. A latency
 * counts from the time at which a message was due, so a server that stops is charged for all that it delays. */
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { EVENTS = 256 };
static const uint64_t SECOND = 1000000000u;

struct pace {
  struct connection *all; /* these take turns */
  long count;
  size_t bytes;
  double gap_ns;          /* between two messages */
  bool spins;             /* never sleeps: no wake-up of the load is in the latencies */
  struct histogram *each; /* one for each connection, or NULL */

  struct connection *blocker; /* or NULL: sends a message that blocks its handler, every block_gap_ns */
  uint64_t block_gap_ns;
};

/* The message that blocks is the same each time, and a new one goes out when the one before was answered. */
static uint64_t block_answers;
static size_t blocker_has;

static void blocking_message(char message[64]) {
  for (int i = 0; i < 64; i++) message[i] = (char)('a' + i % 26);
  message[0] = 'B';
}

static void blocker_send(struct connection *c) {
  char message[64];
  blocking_message(message);
  if (blocker_has != 0 || c->sent != c->received) return;
  if (send(c->fd, message, sizeof message, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)sizeof message) fail("send");
  c->sent += sizeof message;
}

static void blocker_receive(struct connection *c) {
  char message[64];
  const char *bytes;
  blocking_message(message);
  size_t n = receive_raw(c, &bytes);
  errno = 0;
  if (n == 0) fail("the server closed a connection");
  if (c->received + n > c->sent || memcmp(bytes, message + blocker_has, n) != 0) fail("wrong bytes after a block");
  c->received += n;
  blocker_has = (blocker_has + n) % sizeof message;
  if (blocker_has == 0) block_answers++;
}

static void pace_messages(struct pace *p, uint64_t messages) {
  struct epoll_event events[EVENTS];
  uint64_t *answers = calloc((size_t)p->count, sizeof *answers), *base = calloc((size_t)p->count, sizeof *base);
  if (answers == NULL || base == NULL) fail("no memory");
  for (long i = 0; i < p->count; i++) base[i] = p->all[i].received;

  uint64_t start = now_ns() + 1000000u, progress = start, next_block = start, begun = 0, done = 0;
  while (done < messages) {
    uint64_t now = now_ns(), due = UINT64_MAX;
    for (; begun < messages && (due = start + (uint64_t)((double)begun * p->gap_ns)) <= now; begun++) {
      struct connection *c = &p->all[begun % (uint64_t)p->count];
      c->due += p->bytes;
      send_due(c);
    }
    if (p->blocker != NULL && now >= next_block && begun < messages) {
      blocker_send(p->blocker);
      next_block += p->block_gap_ns;
    }
    errno = 0;
    if (now > progress + 10 * SECOND) fail("nothing came for 10 s");

    uint64_t until = begun < messages ? due : now + SECOND;
    if (p->blocker != NULL && next_block < until) until = next_block;
    int ready = wait_ready_until(events, EVENTS, p->spins ? 0 : until);
    if (ready == 0) continue;
    now = now_ns();
    progress = now > start ? now : start;
    for (int i = 0; i < ready; i++) {
      struct connection *c = events[i].data.ptr;
      if (c == p->blocker) {
        blocker_receive(c);
        continue;
      }
      if (events[i].events & EPOLLOUT) send_due(c);
      if (!(events[i].events & ~(uint32_t)EPOLLOUT)) continue;
      receive(c, c->sent);
      long which = c - p->all;
      for (uint64_t have = (c->received - base[which]) / p->bytes; answers[which] < have; answers[which]++, done++) {
        uint64_t message = (uint64_t)which + answers[which] * (uint64_t)p->count;
        uint64_t scheduled = start + (uint64_t)((double)message * p->gap_ns);
        if (p->each != NULL) histogram_add(&p->each[which], now - scheduled);
      }
    }
  }
  free(answers);
  free(base);
}

static void pace_measured(struct pace *p, uint64_t messages) {
  exchange(p->all, p->count, p->bytes, (uint64_t)p->count, NULL);
  do pace_messages(p, messages / 20 + 1);
  while (warming());
  p->each = calloc((size_t)p->count, sizeof *p->each);
  if (p->each == NULL) fail("no memory");
  block_answers = 0;
  measure_begin();
  pace_messages(p, messages);
  measure_end();
}

void scenario_rate(void) {
  long connections = option("connections", 64), bytes = option("bytes", 64), per_second = option("per_second", 20000);
  double seconds = option_fraction("seconds", 2);
  bool spins = option("spin", 1) != 0;
  option("warmup_ms", 0);
  options_end();
  if (bytes < 1 || per_second < 1) fail("bytes and per_second must be at least 1");
  struct pace pace = { .all = connect_all(connections), .count = connections, .bytes = (size_t)bytes,
                       .gap_ns = 1e9 / (double)per_second, .spins = spins };
  uint64_t messages = (uint64_t)(seconds * (double)per_second) + 1;
  pace_measured(&pace, messages);
  static struct histogram all;
  for (long i = 0; i < connections; i++) histogram_merge(&all, &pace.each[i]);
  report(messages, messages * (uint64_t)bytes, connections, &all, "\"paced\": true, ");
}

static int by_p99(const void *left, const void *right) {
  double a = histogram_us(left, 0.99), b = histogram_us(right, 0.99);
  return (a > b) - (a < b);
}

/* With two workers the half of the connections on the other worker is promised to be undisturbed: the better half, by
 * each connection's own p99, is reported beside all. */
void scenario_block(void) {
  long connections = option("connections", 64), per_second = option("per_second", 2000);
  long blocks_per_second = option("blocks_per_second", 5);
  double seconds = option_fraction("seconds", 3);
  option("warmup_ms", 0);
  options_end();
  if (connections < 3 || per_second < 1) fail("connections must be at least 3, per_second at least 1");
  if (blocks_per_second < 0) fail("blocks_per_second must not be negative");
  struct connection *all = connect_all(connections);
  struct pace pace = { .all = all + 1, .count = connections - 1, .bytes = 64, .gap_ns = 1e9 / (double)per_second,
                       .blocker = blocks_per_second > 0 ? all : NULL,
                       .block_gap_ns = blocks_per_second > 0 ? SECOND / (uint64_t)blocks_per_second : 0 };
  uint64_t messages = (uint64_t)(seconds * (double)per_second) + 1;
  pace_measured(&pace, messages);
  static struct histogram everyone, best;
  qsort(pace.each, (size_t)pace.count, sizeof *pace.each, by_p99);
  for (long i = 0; i < pace.count; i++) {
    histogram_merge(&everyone, &pace.each[i]);
    if (i < pace.count / 2) histogram_merge(&best, &pace.each[i]);
  }
  char extra[128];
  snprintf(extra, sizeof extra, "\"paced\": true, \"p99_us_best_half\": %.2f, \"blocks\": %llu, ",
           histogram_us(&best, 0.99), (unsigned long long)block_answers);
  report(messages, messages * 64, connections, &everyone, extra);
}
