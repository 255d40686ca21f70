/* Scenarios about what a connection costs: to make and end it, to keep it, to have it not read. */
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { BYTES = 64 };

static void sleep_ns(uint64_t ns) {
  struct timespec time = { .tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u) };
  nanosleep(&time, NULL);
}

static void open_and_send(struct connection *c) {
  static uint32_t lives;
  uint64_t begin = now_ns();
  connection_open(c, lives++ * 131);
  c->sent_at = begin;
  c->due = BYTES;
  send_due(c);
}

static void live(struct connection *slots, long count, uint64_t lives, struct histogram *latencies) {
  struct epoll_event events[256];
  uint64_t begun = 0, done = 0;
  for (; begun < (uint64_t)count && begun < lives; begun++) open_and_send(&slots[begun]);
  while (done < lives) {
    int ready = wait_ready(events, 256);
    for (int i = 0; i < ready; i++) {
      struct connection *c = events[i].data.ptr;
      receive(c, c->sent);
      if (c->received < BYTES) continue;
      done++;
      if (latencies != NULL) histogram_add(latencies, now_ns() - c->sent_at);
      connection_close(c);
      if (begun < lives) {
        begun++;
        open_and_send(c);
      }
    }
  }
}

void scenario_churn(void) {
  long messages = option("messages", 20000), concurrent = option("concurrent", 16);
  option("warmup_ms", 0);
  options_end();
  if (messages < 1 || concurrent < 1) fail("messages and concurrent must be at least 1");
  static struct histogram latencies;
  struct connection *slots = calloc((size_t)concurrent, sizeof *slots);
  if (slots == NULL) fail("no memory");
  do live(slots, concurrent, (uint64_t)(messages / 20 + 1), NULL);
  while (warming());
  measure_begin();
  live(slots, concurrent, (uint64_t)messages, &latencies);
  measure_end();
  report((uint64_t)messages, (uint64_t)messages * BYTES, concurrent, &latencies, NULL);
}

/* Less than 1 % of a CPU for two tenths of a second; at most 5 s. */
static void wait_until_quiet(void) {
  int quiet = 0;
  for (int i = 0; i < 50 && quiet < 2; i++) {
    uint64_t before = server_cpu_ns();
    sleep_ns(100000000u);
    quiet = server_cpu_ns() - before < 1000000u ? quiet + 1 : 0;
  }
}

void scenario_idle(void) {
  enum { BATCH = 500 }; /* no more than a server's backlog holds */
  long connections = option("connections", 10000);
  options_end();
  if (connections < 1) fail("connections must be at least 1");
  struct connection *all = calloc((size_t)connections, sizeof *all);
  if (all == NULL) fail("no memory");
  measure_begin();
  for (long first = 0; first < connections; first += BATCH) {
    long count = connections - first < BATCH ? connections - first : BATCH;
    for (long i = first; i < first + count; i++) connection_open(&all[i], (uint32_t)i * 131);
    exchange(all + first, count, BYTES, (uint64_t)count, NULL);
  }
  measure_end();
  wait_until_quiet();
  report((uint64_t)connections, (uint64_t)connections * BYTES, connections, NULL, NULL);
}

/* The other side produces; this side never reads. What the server's memory does meanwhile is the figure. */
void scenario_stall(void) {
  double seconds = option_fraction("seconds", 8);
  options_end();
  struct connection c;
  measure_begin();
  connection_open(&c, 0);
  c.due = 1;
  send_due(&c);
  sleep_ns((uint64_t)(seconds * 1e9));
  measure_end();
  report(1, 1, 1, NULL, NULL);
  struct epoll_event event; /* all is measured; now it may read, to see that there was something */
  const char *bytes;
  wait_ready(&event, 1);
  size_t n = receive_raw(&c, &bytes);
  errno = 0;
  if (n == 0) fail("the server closed the connection");
  for (size_t i = 0; i < n; i++)
    if (bytes[i] != 0) fail("wrong bytes were produced");
}
