/* Threads that send, close, stop, start and count at the same time, and an engine that is destroyed at the end.
   threads [epoll | polling] [rounds]
   Compiles as C and as C++. For ThreadSanitizer, helgrind and memcheck. */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wharf.h>

#include "check.h"

#define TALKERS 3
#define SENDERS 3
#define PATIENCE_MS 60000

/* What a sender puts on the shared connection. */
struct record {
  uint32_t sender;
  uint32_t number;
};

static wharf_engine engine;
static wharf_server echo_server, sink_server;
static uint32_t rounds = 20;

/* The shared connection, and what its sink saw; the sink's worker writes it, main reads it when the engine is gone. */
static wharf_conn shared;
static uint32_t next_number[SENDERS];
static uint64_t sink_records;
static unsigned char begun[sizeof(struct record)];
static size_t begun_len;

static void echo(void *context, wharf_conn conn, const uint8_t *data, size_t len) {
  wharf_status status = wharf_send(conn, data, len);
  (void)context;
  CHECK(status == WHARF_OK || status == WHARF_E_CLOSED);
}

/* Each sender's records come in its order, none twice, none missing. */
static void sink(void *context, wharf_conn conn, const uint8_t *data, size_t len) {
  size_t place;
  (void)context;
  (void)conn;
  for (place = 0; place < len; place++) {
    begun[begun_len++] = data[place];
    if (begun_len == sizeof begun) {
      struct record record;
      memcpy(&record, begun, sizeof record);
      CHECK(record.sender < SENDERS && record.number == next_number[record.sender]);
      next_number[record.sender]++;
      sink_records++;
      begun_len = 0;
    }
  }
}

static wharf_server serve(wharf_on_receive on_receive) {
  wharf_server_config config;
  wharf_handler handler;
  wharf_server server;
  memset(&config, 0, sizeof config);
  memset(&handler, 0, sizeof handler);
  config.struct_size = sizeof config;
  config.address = "127.0.0.1:0";
  handler.struct_size = sizeof handler;
  handler.on_receive = on_receive;
  OK(wharf_server_create(engine, &config, &handler, &server, NULL));
  OK(wharf_server_start(server, NULL));
  return server;
}

/* A client in pull mode, connecting. */
static wharf_client dial(const char *address) {
  wharf_client_config config;
  wharf_handler handler;
  wharf_client client;
  memset(&config, 0, sizeof config);
  memset(&handler, 0, sizeof handler);
  config.struct_size = sizeof config;
  config.address = address;
  config.linger_ms = PATIENCE_MS;
  handler.struct_size = sizeof handler;
  OK(wharf_client_create(engine, &config, &handler, &client, NULL));
  OK(wharf_client_start(client, NULL));
  return client;
}

/* Sends and has it echoed; the server may stop in the middle of that. True: all of it came back. */
static int talk(wharf_conn conn, uint32_t seed) {
  unsigned char sent[1000], back[1000];
  size_t len = 0, place;
  for (place = 0; place < sizeof sent; place++) sent[place] = (unsigned char)(seed + place * 7);
  if (wharf_send_wait(conn, sent, sizeof sent, PATIENCE_MS, NULL) != WHARF_OK) return 0;
  while (len < sizeof back) {
    size_t more = 0;
    wharf_status status = wharf_receive_wait(conn, back + len, sizeof back - len, PATIENCE_MS, &more);
    CHECK(status != WHARF_E_TIMEOUT);
    if (status != WHARF_OK) return 0;
    len += more;
  }
  CHECK(memcmp(sent, back, sizeof back) == 0);
  return 1;
}

static void *talker(void *argument) {
  uint32_t number = (uint32_t)(size_t)argument, round, whole = 0;
  for (round = 0; round < rounds; round++) {
    char address[64];
    wharf_client client;
    wharf_conn conn;
    /* Another port after each start; while it is stopped, nobody listens there. */
    OK(wharf_server_address(echo_server, address, sizeof address, NULL));
    client = dial(address);
    if (wharf_client_wait(client, PATIENCE_MS, NULL) == WHARF_OK && wharf_client_conn(client, &conn) == WHARF_OK) {
      whole += (uint32_t)talk(conn, number * 1000 + round);
      /* It may be closed already. */
      (void)wharf_conn_close(conn, round % 4);
    }
    OK(wharf_client_destroy(client));
  }
  return (void *)(size_t)whole;
}

/* Sends until the connection is closed; gives how many were taken. Each is taken whole, so none is cut by another's. */
static void *sender(void *argument) {
  struct record record;
  record.sender = (uint32_t)(size_t)argument;
  record.number = 0;
  for (;;) {
    wharf_status status = wharf_send(shared, &record, sizeof record);
    if (status == WHARF_E_QUEUE_FULL || status == WHARF_E_POOL_EXHAUSTED) {
      sched_yield();
      continue;
    }
    if (status != WHARF_OK) {
      CHECK(status == WHARF_E_CLOSED || status == WHARF_E_STALE);
      return (void *)(size_t)record.number;
    }
    record.number++;
  }
}

static void *stopper(void *argument) {
  uint32_t round;
  (void)argument;
  for (round = 0; round < rounds / 4; round++) {
    OK(wharf_server_stop(echo_server, round % 2 * 20));
    OK(wharf_server_wait(echo_server, PATIENCE_MS));
    OK(wharf_server_start(echo_server, NULL));
  }
  return NULL;
}

static void *counter(void *argument) {
  uint32_t round;
  (void)argument;
  for (round = 0; round < rounds * 4; round++) {
    wharf_stats stats;
    wharf_conn list[8];
    size_t count = 0, place;
    memset(&stats, 0, sizeof stats);
    stats.struct_size = sizeof stats;
    OK(wharf_engine_stats(engine, &stats));
    OK(wharf_server_stats(echo_server, &stats));
    (void)wharf_server_connections(echo_server, list, 8, &count);
    for (place = 0; place < count && place < 8; place++) {
      /* Gone by now, or not: never a crash, never another one's. */
      (void)wharf_conn_pause(list[place]);
      (void)wharf_conn_resume(list[place]);
    }
    OK(wharf_engine_wake(engine));
  }
  return NULL;
}

int main(int argc, char **argv) {
  pthread_t talkers[TALKERS], senders[SENDERS], stops, counts;
  wharf_engine_config config;
  char sink_address[64];
  wharf_client client;
  wharf_stats stats;
  uint64_t taken = 0;
  size_t place, whole = 0;
  void *result;

  memset(&config, 0, sizeof config);
  config.struct_size = sizeof config;
  config.workers = 2;
  config.max_connections = 64;
  config.pool_bytes = 1 << 20;
  if (argc > 1) config.port = strcmp(argv[1], "polling") == 0 ? WHARF_PORT_POLLING : WHARF_PORT_EPOLL;
  if (argc > 2) rounds = (uint32_t)atoi(argv[2]);
  OK(wharf_engine_create(&config, &engine, NULL));
  echo_server = serve(echo);
  sink_server = serve(sink);
  OK(wharf_server_address(sink_server, sink_address, sizeof sink_address, NULL));
  client = dial(sink_address);
  OK(wharf_client_wait(client, PATIENCE_MS, NULL));
  OK(wharf_client_conn(client, &shared));

  for (place = 0; place < SENDERS; place++) CHECK(pthread_create(&senders[place], NULL, sender, (void *)place) == 0);
  for (place = 0; place < TALKERS; place++) CHECK(pthread_create(&talkers[place], NULL, talker, (void *)place) == 0);
  CHECK(pthread_create(&counts, NULL, counter, NULL) == 0);
  CHECK(pthread_create(&stops, NULL, stopper, NULL) == 0);
  CHECK(pthread_join(stops, NULL) == 0 && pthread_join(counts, NULL) == 0);
  for (place = 0; place < TALKERS; place++) {
    CHECK(pthread_join(talkers[place], &result) == 0);
    whole += (size_t)result;
  }
  /* In the middle of their sends. */
  OK(wharf_conn_close(shared, WHARF_CLOSE_FLUSH));
  for (place = 0; place < SENDERS; place++) {
    CHECK(pthread_join(senders[place], &result) == 0);
    taken += (size_t)result;
  }
  /* What was taken arrives, if nobody ends the sink before. */
  memset(&stats, 0, sizeof stats);
  stats.struct_size = sizeof stats;
  do {
    OK(wharf_server_stats(sink_server, &stats));
    sched_yield();
  } while (stats.closed == 0);
  OK(wharf_engine_destroy(engine, PATIENCE_MS));
  CHECK(taken > 0 && whole > 0);
  CHECK(begun_len == 0 && sink_records == taken);
  printf("the threads agree: %lu records, %lu conversations\n", (unsigned long)taken, (unsigned long)whole);
  return 0;
}
