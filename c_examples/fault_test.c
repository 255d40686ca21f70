/* A program that tests itself: lines go to an echo server and come back, while short reads and writes, stalls and a full
   pool are thrown in.
   fault_test [seed] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wharf.h>

#include "check.h"

enum { ROUNDS = 200, LINE = 600 };

/* What one connection still has to send back. Pieces of any size come in, and a send may be refused. */
struct echo {
  char pending[LINE];
  size_t len;
};

static void flush(struct echo *echo, wharf_conn conn) {
  if (echo->len > 0 && wharf_send(conn, echo->pending, echo->len) == WHARF_OK) echo->len = 0;
  /* Refused: on_writable comes. */
}

static void on_open(void *context, wharf_conn conn) {
  (void)context;
  OK(wharf_conn_set_data(conn, calloc(1, sizeof(struct echo))));
}

static void on_receive(void *context, wharf_conn conn, const uint8_t *data, size_t len) {
  void *of_conn = NULL;
  struct echo *echo;
  (void)context;
  OK(wharf_conn_data(conn, &of_conn));
  echo = of_conn;
  if (echo == NULL || len > sizeof echo->pending - echo->len) {
    wharf_conn_close(conn, WHARF_CLOSE_RESET); /* the peer does not wait for its answers */
    return;
  }
  memcpy(echo->pending + echo->len, data, len);
  echo->len += len;
  flush(echo, conn);
}

static void on_writable(void *context, wharf_conn conn) {
  void *of_conn = NULL;
  (void)context;
  OK(wharf_conn_data(conn, &of_conn));
  if (of_conn != NULL) flush(of_conn, conn);
}

static void on_close(void *context, wharf_conn conn, wharf_status reason) {
  void *of_conn = NULL;
  (void)context;
  (void)reason;
  if (wharf_conn_data(conn, &of_conn) == WHARF_OK) free(of_conn);
}

int main(int argc, char **argv) {
  wharf_engine_config engine_config = { 0 };
  wharf_server_config server_config = { 0 };
  wharf_client_config client_config = { 0 };
  wharf_handler handler = { 0 }, pulling = { 0 };
  wharf_fault_plan plan = { 0 };
  wharf_stats stats = { 0 };
  wharf_engine engine;
  wharf_server server;
  wharf_client client;
  wharf_conn conn;
  char address[64];
  int round;

  engine_config.struct_size = sizeof engine_config;
  engine_config.flags = WHARF_ENGINE_FAULTS;
  OK(wharf_engine_create(&engine_config, &engine, NULL));

  plan.struct_size = sizeof plan;
  plan.seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
  plan.short_reads_ppm = plan.short_writes_ppm = 500000;
  plan.read_stalls_ppm = plan.write_stalls_ppm = 20000;
  plan.stall_ms = 5;
  plan.pool_exhaustions_ppm = 50000;
  OK(wharf_engine_set_faults(engine, &plan, NULL));

  handler.struct_size = sizeof handler;
  handler.on_open = on_open;
  handler.on_receive = on_receive;
  handler.on_writable = on_writable;
  handler.on_close = on_close;
  server_config.struct_size = sizeof server_config;
  server_config.address = "127.0.0.1:0";
  OK(wharf_server_create(engine, &server_config, &handler, &server, NULL));
  OK(wharf_server_start(server, NULL));
  OK(wharf_server_address(server, address, sizeof address, NULL));

  pulling.struct_size = sizeof pulling;
  client_config.struct_size = sizeof client_config;
  client_config.address = address;
  OK(wharf_client_create(engine, &client_config, &pulling, &client, NULL));
  OK(wharf_client_start(client, NULL));
  OK(wharf_client_wait(client, 10000, NULL));
  OK(wharf_client_conn(client, &conn));

  for (round = 0; round < ROUNDS; round++) {
    char line[LINE], back[LINE];
    size_t len = (size_t)(1 + round * 7 % LINE), have = 0, got = 0;
    memset(line, 'a' + round % 26, len);
    OK(wharf_send_wait(conn, line, len, 10000, NULL));
    for (; have < len; have += got) OK(wharf_receive_wait(conn, back + have, len - have, 10000, &got));
    if (memcmp(line, back, len) != 0) {
      fprintf(stderr, "round %d came back changed\n", round);
      return 1;
    }
  }
  stats.struct_size = sizeof stats;
  OK(wharf_engine_stats(engine, &stats));
  OK(wharf_engine_destroy(engine, 2000));
  printf("%d rounds came back whole in %llu receives; %llu sends were refused and made again\n", ROUNDS,
         (unsigned long long)stats.messages_in, (unsigned long long)stats.pool_exhausted);
  return 0;
}
