/* Scenarios that go as fast as the server answers. */
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256 };

static void begin_burst(struct connection *c, size_t burst) {
  c->due += burst;
  c->sent_at = now_ns();
  send_due(c);
}

/* Each connection has one burst under way; whoever has its answer begins the next, until there were enough. */
void exchange(struct connection *all, long count, size_t burst, uint64_t bursts, struct histogram *latencies) {
  struct epoll_event events[EVENTS];
  uint64_t begun = 0, done = 0;
  for (; begun < (uint64_t)count && begun < bursts; begun++) begin_burst(&all[begun], burst);
  while (done < bursts) {
    int ready = wait_ready(events, EVENTS);
    for (int i = 0; i < ready; i++) {
      struct connection *c = events[i].data.ptr;
      if (events[i].events & EPOLLOUT) send_due(c);
      if (!(events[i].events & ~(uint32_t)EPOLLOUT)) continue;
      receive(c, c->sent);
      if (c->received < c->due) continue;
      done++;
      if (latencies != NULL) histogram_add(latencies, now_ns() - c->sent_at);
      if (begun < bursts) {
        begun++;
        begin_burst(c, burst);
      }
    }
  }
}

static void play_exchange(long connections, long bytes, long depth, long messages) {
  if (bytes < 1 || depth < 1 || messages < depth) fail("bytes and depth must be at least 1, messages at least depth");
  static struct histogram latencies;
  size_t burst = (size_t)(bytes * depth);
  uint64_t bursts = (uint64_t)(messages / depth), some = bursts / 20;
  struct connection *all = connect_all(connections);
  do exchange(all, connections, burst, some > (uint64_t)connections ? some : (uint64_t)connections, NULL);
  while (warming());
  measure_begin();
  exchange(all, connections, burst, bursts, &latencies);
  measure_end();
  report(bursts * (uint64_t)depth, bursts * burst, connections, &latencies, NULL);
}

void scenario_pingpong(void) {
  long connections = option("connections", 64), bytes = option("bytes", 64), messages = option("messages", 300000);
  option("warmup_ms", 0);
  options_end();
  play_exchange(connections, bytes, 1, messages);
}

void scenario_pipeline(void) {
  long connections = option("connections", 1), bytes = option("bytes", 64), depth = option("depth", 16);
  long messages = option("messages", 1000000);
  option("warmup_ms", 0);
  options_end();
  play_exchange(connections, bytes, depth, messages);
}

/* Every connection sends its share and gets it back; both ways at the same time. */
static void stream_all(struct connection *all, long count, uint64_t share) {
  struct epoll_event events[EVENTS];
  long left = count;
  for (long i = 0; i < count; i++) {
    all[i].due += share;
    send_due(&all[i]);
  }
  while (left > 0) {
    int ready = wait_ready(events, EVENTS);
    for (int i = 0; i < ready; i++) {
      struct connection *c = events[i].data.ptr;
      if (events[i].events & EPOLLOUT) send_due(c);
      if (!(events[i].events & ~(uint32_t)EPOLLOUT)) continue;
      receive(c, c->sent);
      if (c->received == c->due) left--;
    }
  }
}

void scenario_bulk(void) {
  long connections = option("connections", 1), total = option("total_bytes", 2L << 30);
  option("warmup_ms", 0);
  options_end();
  struct connection *all = connect_all(connections);
  uint64_t share = (uint64_t)(total / connections), some = share / 20 + 1;
  do stream_all(all, connections, some);
  while (warming());
  measure_begin();
  stream_all(all, connections, share);
  measure_end();
  report((uint64_t)connections, share * (uint64_t)connections, connections, NULL, NULL);
}

/* One way in. The server tells by one byte that it has seen the end, and closes. */
static void sink_all(struct connection *all, long count, uint64_t share) {
  struct epoll_event events[EVENTS];
  long left = count;
  for (long i = 0; i < count; i++) {
    all[i].due = share;
    send_due(&all[i]);
  }
  while (left > 0) {
    int ready = wait_ready(events, EVENTS);
    for (int i = 0; i < ready; i++) {
      struct connection *c = events[i].data.ptr;
      if (events[i].events & EPOLLOUT) {
        send_due(c);
        if (c->sent == c->due && shutdown(c->fd, SHUT_WR) != 0) fail("shutdown");
      }
      if (!(events[i].events & ~(uint32_t)EPOLLOUT)) continue;
      const char *bytes;
      size_t n = receive_raw(c, &bytes);
      c->received += n;
      errno = 0;
      if (c->sent < c->due) fail("the server answered or closed before the end was sent");
      if (c->received != 1) fail("%llu bytes came as the answer, not one", (unsigned long long)c->received);
      if (n > 0) continue;
      connection_close(c);
      left--;
    }
  }
}

void scenario_sink(void) {
  long connections = option("connections", 1), total = option("total_bytes", 4L << 30);
  option("warmup_ms", 0);
  options_end();
  uint64_t share = (uint64_t)(total / connections), some = share / 20 + 1;
  if (share <= LARGEST_PIECE) fail("total_bytes is too small");
  if (some <= LARGEST_PIECE) some = LARGEST_PIECE + 1;
  do sink_all(connect_all(connections), connections, some); /* each connection has but one end: new ones */
  while (warming());
  struct connection *all = connect_all(connections);
  usleep(20000); /* for the server to accept them */
  measure_begin();
  sink_all(all, connections, share);
  measure_end();
  report((uint64_t)connections, share * (uint64_t)connections, connections, NULL, NULL);
}

/* One sender, all receive. `have[k % window]` counts who has message k; at most `window` are under way. */
static void spread(struct connection *all, long count, size_t bytes, uint64_t messages, long window,
                   struct histogram *latencies) {
  struct epoll_event events[EVENTS];
  struct connection *sender = &all[count - 1];
  long have[64] = { 0 };
  uint64_t sent_at[64], base = sender->due, begun = 0, done = 0;
  for (; begun < (uint64_t)window && begun < messages; begun++) {
    sent_at[begun] = now_ns();
    sender->due += bytes;
    send_due(sender);
  }
  while (done < messages) {
    int ready = wait_ready(events, EVENTS);
    for (int i = 0; i < ready; i++) {
      struct connection *c = events[i].data.ptr;
      if (events[i].events & EPOLLOUT) send_due(c);
      if (!(events[i].events & ~(uint32_t)EPOLLOUT)) continue;
      uint64_t before = (c->received - base) / bytes;
      receive(c, sender->sent);
      uint64_t after = (c->received - base) / bytes;
      for (uint64_t k = before; k < after; k++) have[k % (uint64_t)window]++;
      while (done < begun && have[done % (uint64_t)window] == count) {
        uint64_t place = done++ % (uint64_t)window, now = now_ns();
        if (latencies != NULL) histogram_add(latencies, now - sent_at[place]);
        have[place] = 0;
        if (begun == messages) continue;
        begun++;
        sent_at[place] = now;
        sender->due += bytes;
        send_due(sender);
      }
    }
  }
}

void scenario_broadcast(void) {
  long connections = option("connections", 1000), bytes = option("bytes", 1024), messages = option("messages", 500);
  long window = option("window", 4);
  option("warmup_ms", 0);
  options_end();
  if (bytes < 1 || messages < 1 || window < 1 || window > 64) fail("bytes, messages or window (1..64) is out of range");
  static struct histogram latencies;
  struct connection *all = connect_all(connections);
  for (long i = 0; i < connections; i++) all[i].start = 0; /* all get the stream of the one that sends */
  usleep(300000); /* a message goes to those that were accepted: the server needs the time to do so */
  do spread(all, connections, (size_t)bytes, (uint64_t)(messages / 20 + 1), window, NULL);
  while (warming());
  measure_begin();
  spread(all, connections, (size_t)bytes, (uint64_t)messages, window, &latencies);
  measure_end();
  uint64_t deliveries = (uint64_t)messages * (uint64_t)connections;
  report(deliveries, deliveries * (uint64_t)bytes, connections, &latencies, NULL);
}

/* The server's own threads send. Its threads begin once in its life, so the first tenth is the warm-up. */
void scenario_push(void) {
  enum { BYTES = 64, CYCLE = 251 };
  long connections = option("connections", 64), each = option("count", 20000);
  options_end();
  if (each < 10) fail("count must be at least 10");
  static char expected[CYCLE + BYTES]; /* message k begins at k mod 251 */
  for (size_t i = 0; i < sizeof expected; i++) expected[i] = (char)(i % CYCLE);
  struct epoll_event events[EVENTS];
  uint64_t per_connection = (uint64_t)each * BYTES, total = per_connection * (uint64_t)connections;
  uint64_t got = 0, first_tenth = total / 10, measured_from = 0;

  struct connection *all = connect_all(connections);
  for (long i = 0; i < connections; i++) {
    all[i].due = 1;
    send_due(&all[i]);
  }
  while (got < total) {
    int ready = wait_ready(events, EVENTS);
    for (int i = 0; i < ready; i++) {
      struct connection *c = events[i].data.ptr;
      const char *bytes;
      size_t n = receive_raw(c, &bytes);
      errno = 0;
      if (n == 0) fail("the server closed a connection");
      if (c->received + n > per_connection) fail("more bytes came than are due");
      for (size_t at = 0; at < n;) {
        uint64_t message = c->received / BYTES, inside = c->received % BYTES;
        size_t piece = BYTES - (size_t)inside < n - at ? BYTES - (size_t)inside : n - at;
        if (memcmp(bytes + at, expected + message % CYCLE + inside, piece) != 0)
          fail("wrong bytes in message %llu of a connection", (unsigned long long)message);
        c->received += piece;
        at += piece;
      }
      got += n;
    }
    if (measured_from == 0 && got >= first_tenth) {
      measured_from = got;
      measure_begin();
    }
  }
  measure_end();
  report((total - measured_from) / BYTES, total - measured_from, connections, NULL, NULL);
}
