/* The load: runs one scenario against a server, compares every byte, reads the server's CPU and memory.
 *
 *   load SCENARIO PORT SERVER_PID [KEY=NUMBER ...]
 *
 * Prints one line of JSON. A wrong byte, an early close or 10 s without any progress: a sentence on stderr, exit 1. */
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static const struct {
  const char *name;
  void (*run)(void);
} SCENARIOS[] = {
  { "pingpong", scenario_pingpong }, { "pipeline", scenario_pipeline }, { "broadcast", scenario_broadcast },
  { "push", scenario_push },         { "bulk", scenario_bulk },         { "sink", scenario_sink },
  { "rate", scenario_rate },         { "block", scenario_block },       { "churn", scenario_churn },
  { "idle", scenario_idle },         { "stall", scenario_stall },
};

static struct {
  const char *scenario;
  int port, pid;
  char **keys;
  bool *used;
  int key_count;
} command;

static struct {
  uint64_t seconds_ns, server_ns, load_ns;
  long rss_before;
} measured;

int server_port(void) { return command.port; }

/* Options */

static const char *option_text(const char *key) {
  size_t len = strlen(key);
  for (int i = 0; i < command.key_count; i++)
    if (strncmp(command.keys[i], key, len) == 0 && command.keys[i][len] == '=') {
      command.used[i] = true;
      return command.keys[i] + len + 1;
    }
  return NULL;
}

double option_fraction(const char *key, double fallback) {
  const char *text = option_text(key);
  if (text == NULL) return fallback;
  char *end;
  double value = strtod(text, &end);
  if (end == text || *end != 0 || !(value >= 0 && value < 1e15)) fail("%s=%s is no number", key, text);
  return value;
}

long option(const char *key, long fallback) {
  double value = option_fraction(key, (double)fallback);
  if (value != (double)(long)value) fail("%s must be a whole number", key);
  return (long)value;
}

void options_end(void) {
  for (int i = 0; i < command.key_count; i++)
    if (!command.used[i]) fail("%s does not take %s", command.scenario, command.keys[i]);
}

void fail(const char *format, ...) {
  int error = errno;
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, "load %s: ", command.scenario ? command.scenario : "");
  vfprintf(stderr, format, arguments);
  if (error != 0) fprintf(stderr, " (%s)", strerror(error));
  fputc('\n', stderr);
  exit(1);
}

/* Clocks */

static uint64_t clock_ns(clockid_t clock) {
  struct timespec t;
  if (clock_gettime(clock, &t) != 0) fail("the server's clock cannot be read: has it ended?");
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

/* The CPU clock of a whole process, of its ended threads too. */
uint64_t server_cpu_ns(void) { return clock_ns((clockid_t)(~(unsigned)command.pid << 3 | 2)); }

void measure_begin(void) {
  measured.server_ns = server_cpu_ns();
  measured.load_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
  measured.seconds_ns = now_ns();
}

void measure_end(void) {
  measured.seconds_ns = now_ns() - measured.seconds_ns;
  measured.load_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - measured.load_ns;
  measured.server_ns = server_cpu_ns() - measured.server_ns;
}

bool warming(void) {
  static uint64_t until;
  if (until == 0) until = now_ns() + (uint64_t)option("warmup_ms", 300) * 1000000u;
  return now_ns() < until;
}

/* Latencies: 128 buckets for each power of two. Below 256 ns a bucket is a nanosecond. */

static size_t bucket_of(uint64_t ns) {
  if (ns < 256) return (size_t)ns;
  int shift = 63 - __builtin_clzll(ns) - 7;
  return (size_t)shift * 128 + (size_t)(ns >> shift);
}

void histogram_add(struct histogram *h, uint64_t ns) {
  h->buckets[bucket_of(ns)]++;
  h->count++;
  if (ns > h->max) h->max = ns;
}

void histogram_merge(struct histogram *to, const struct histogram *from) {
  for (size_t i = 0; i < sizeof to->buckets / sizeof *to->buckets; i++) to->buckets[i] += from->buckets[i];
  to->count += from->count;
  if (from->max > to->max) to->max = from->max;
}

double histogram_us(const struct histogram *h, double share) {
  uint64_t rank = (uint64_t)(share * (double)h->count), seen = 0;
  size_t i = 0;
  while (i < sizeof h->buckets / sizeof *h->buckets - 1 && (seen += h->buckets[i]) <= rank) i++;
  size_t shift = i < 256 ? 0 : i / 128 - 1;
  uint64_t ns = i < 256 ? i : (uint64_t)(i - shift * 128) << shift;
  return (double)(ns < h->max ? ns : h->max) / 1000;
}

/* Memory of the server */

static long server_status_kib(const char *field) {
  char path[64], line[256];
  snprintf(path, sizeof path, "/proc/%d/status", command.pid);
  FILE *file = fopen(path, "r");
  if (file == NULL) fail("the server's memory cannot be read: has it ended?");
  long kib = -1;
  while (kib < 0 && fgets(line, sizeof line, file) != NULL)
    if (strncmp(line, field, strlen(field)) == 0) kib = atol(line + strlen(field));
  fclose(file);
  if (kib < 0) fail("the server has no %s", field);
  return kib;
}

/* The peak shall be of the scenario and not of the program's start. Not every system allows it: then it is of both. */
static void server_peak_restart(void) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/clear_refs", command.pid);
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  ssize_t ignored = write(fd, "5", 1);
  (void)ignored;
  close(fd);
}

void report(uint64_t messages, uint64_t bytes, long connections, const struct histogram *latencies, const char *extra) {
  printf("{\"scenario\": \"%s\", \"connections\": %ld, \"messages\": %llu, \"bytes\": %llu, \"seconds\": %.6f, "
         "\"server_cpu_ns\": %llu, \"load_cpu_ns\": %llu, ",
         command.scenario, connections, (unsigned long long)messages, (unsigned long long)bytes,
         (double)measured.seconds_ns / 1e9, (unsigned long long)measured.server_ns,
         (unsigned long long)measured.load_ns);
  if (latencies != NULL && latencies->count > 0)
    printf("\"p50_us\": %.2f, \"p99_us\": %.2f, \"max_us\": %.2f, ", histogram_us(latencies, 0.5),
           histogram_us(latencies, 0.99), (double)latencies->max / 1000);
  if (extra != NULL) fputs(extra, stdout);
  printf("\"server_rss_kib_before\": %ld, \"server_rss_kib_after\": %ld, \"server_rss_kib_peak\": %ld}\n",
         measured.rss_before, server_status_kib("VmRSS:"), server_status_kib("VmHWM:"));
}

int main(int argc, char **argv) {
  if (argc < 4) {
    fprintf(stderr, "usage: load SCENARIO PORT SERVER_PID [KEY=NUMBER ...]\n");
    return 2;
  }
  command.scenario = argv[1];
  command.port = atoi(argv[2]);
  command.pid = atoi(argv[3]);
  command.keys = argv + 4;
  command.key_count = argc - 4;
  command.used = calloc((size_t)argc, sizeof *command.used);
  if (command.port <= 0 || command.port > 65535 || command.pid <= 0) fail("PORT or SERVER_PID is no such number");

  signal(SIGPIPE, SIG_IGN);
  prctl(PR_SET_TIMERSLACK, 1UL); /* messages at fixed times shall not wait for others' timers */
  struct rlimit files;
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }

  for (size_t i = 0; i < sizeof SCENARIOS / sizeof *SCENARIOS; i++)
    if (strcmp(SCENARIOS[i].name, command.scenario) == 0) {
      server_peak_restart();
      measured.rss_before = server_status_kib("VmRSS:");
      SCENARIOS[i].run();
      return fflush(stdout) == 0 ? 0 : 1;
    }
  errno = 0;
  fail("there is no such scenario");
}
