/* How far CPU 0 and CPU 1 are from each other now: two threads, one on each, hand a cache line to and fro for 20 ms.
 * Prints the nanoseconds of a round trip. A virtual machine's CPUs move; figures of different placements do not
 * compare. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { TRIPS = 500, MOST_SLICES = 4096 };

static _Alignas(128) atomic_uint ball;
static atomic_bool over;

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void stay_on(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (pthread_setaffinity_np(pthread_self(), sizeof set, &set) == 0) return;
  fprintf(stderr, "placement: CPU %d is not to be had\n", cpu);
  exit(1);
}

/* Odd numbers are thrown, even ones thrown back. */
static void *answer(void *unused) {
  stay_on(1);
  for (unsigned next = 1; !atomic_load_explicit(&over, memory_order_relaxed);)
    if (atomic_load_explicit(&ball, memory_order_acquire) == next) {
      atomic_store_explicit(&ball, next + 1, memory_order_release);
      next += 2;
    }
  return unused;
}

static int ascending(const void *left, const void *right) {
  double a = *(const double *)left, b = *(const double *)right;
  return (a > b) - (a < b);
}

int main(void) {
  static double slices[MOST_SLICES];
  pthread_t other;
  stay_on(0);
  if (pthread_create(&other, NULL, answer, NULL) != 0) return 1;
  int count = 0;
  unsigned next = 1;
  uint64_t begin = now_ns(), last = begin;
  while (count < MOST_SLICES && (last < begin + 20000000u || count < 3)) {
    for (int i = 0; i < TRIPS; i++, next += 2) {
      atomic_store_explicit(&ball, next, memory_order_release);
      while (atomic_load_explicit(&ball, memory_order_acquire) != next + 1) {}
    }
    uint64_t now = now_ns();
    slices[count++] = (double)(now - last) / TRIPS;
    last = now;
  }
  atomic_store(&over, true);
  pthread_join(other, NULL);
  qsort(slices, (size_t)count, sizeof *slices, ascending);
  printf("%.0f\n", slices[count / 2]); /* the median: a slice in which one of them slept is no distance */
  return 0;
}
