/* What the files of the load generator share. One thread, one epoll; a failure is a sentence on stderr and exit 1. */
#ifndef LOAD_H
#define LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

/* load.c: options, failure, clocks */

long option(const char *key, long fallback); /* the number of KEY=NUMBER on the command line */
double option_fraction(const char *key, double fallback);
void options_end(void); /* after the last option(): whatever was not asked for is a mistake */
/* Adds errno's text when it is set. */
void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
uint64_t now_ns(void);
int server_port(void);

/* load.c: the measured phase. Whatever is before begin and after end does not count. */

void measure_begin(void);
void measure_end(void);
uint64_t server_cpu_ns(void);
bool warming(void); /* true until warmup_ms have passed since its first call */

/* load.c: latencies, in buckets of less than 1 % */

struct histogram {
  uint32_t buckets[58 * 128];
  uint64_t count, max;
};
void histogram_add(struct histogram *h, uint64_t ns);
void histogram_merge(struct histogram *to, const struct histogram *from);
double histogram_us(const struct histogram *h, double share); /* the latency that this share of all does not exceed */

/* load.c: the line of JSON. `latencies` and `extra` ("\"key\": 1, ") may be NULL. */

void report(uint64_t messages, uint64_t bytes, long connections, const struct histogram *latencies, const char *extra);

/* load_connection.c: a stream of bytes that are known by their position, so that a lost, doubled or moved byte shows */

enum { LARGEST_PIECE = 256 * 1024 };

struct connection {
  int fd;
  uint32_t start;     /* where in the pattern its stream begins */
  uint64_t due, sent; /* stream positions: what shall go out, what went out */
  uint64_t received;
  uint64_t sent_at;   /* when the message under way was sent */
  bool watches_out;
};

void connection_open(struct connection *c, uint32_t start);
void connection_close(struct connection *c);
struct connection *connect_all(long count);
void send_due(struct connection *c);                          /* one send; the rest when epoll says so */
size_t receive(struct connection *c, uint64_t limit);         /* one recv, compared; more than up to limit fails */
size_t receive_raw(struct connection *c, const char **bytes); /* one recv; 0 when the peer has ended */
const char *stream_at(const struct connection *c, uint64_t position);
int wait_ready(struct epoll_event *events, int count); /* fails when nothing comes for 10 s */
int wait_ready_until(struct epoll_event *events, int count, uint64_t until_ns);

/* The scenarios */

void exchange(struct connection *all, long count, size_t burst, uint64_t bursts, struct histogram *latencies);
/* load_messages.c */
void scenario_pingpong(void), scenario_pipeline(void), scenario_broadcast(void), scenario_push(void);
void scenario_bulk(void), scenario_sink(void);
/* load_paced.c */
void scenario_rate(void), scenario_block(void);
/* load_lives.c */
void scenario_churn(void), scenario_idle(void), scenario_stall(void);

#endif
