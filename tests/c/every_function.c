/* Every function of wharf.h, written from the header alone: what it says must hold.
   every_function [epoll | polling] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wharf.h>

#include "check.h"

/* What the callbacks of the caller-driven engine saw. */
struct seen {
  int opens, receives, sents, writables, ends, closes, drops;
  wharf_conn conn;
  wharf_status reason;
  char text[64];
};

static void on_open(void *context, wharf_conn conn) {
  struct seen *seen = context;
  seen->opens++;
  seen->conn = conn;
}

static void on_receive(void *context, wharf_conn conn, const uint8_t *data, size_t len) {
  struct seen *seen = context;
  CHECK(conn == seen->conn && len < sizeof seen->text);
  seen->receives++;
  memcpy(seen->text, data, len);
  seen->text[len] = 0;
}

static void on_sent(void *context, wharf_conn conn, uint64_t token, wharf_status status) {
  struct seen *seen = context;
  (void)conn;
  CHECK(token == 42 && status == WHARF_OK);
  seen->sents++;
}

static void on_writable(void *context, wharf_conn conn) {
  (void)conn;
  ((struct seen *)context)->writables++;
}

static void on_end(void *context, wharf_conn conn) {
  (void)conn;
  ((struct seen *)context)->ends++;
}

static void on_close(void *context, wharf_conn conn, wharf_status reason) {
  struct seen *seen = context;
  (void)conn;
  seen->closes++;
  seen->reason = reason;
}

static void on_drop(void *context) { ((struct seen *)context)->drops++; }

static wharf_handler handler_of(struct seen *seen) {
  wharf_handler handler = { 0 };
  handler.struct_size = sizeof handler;
  handler.context = seen;
  handler.on_open = on_open;
  handler.on_receive = on_receive;
  handler.on_sent = on_sent;
  handler.on_writable = on_writable;
  handler.on_end = on_end;
  handler.on_close = on_close;
  handler.on_drop = on_drop;
  return handler;
}

/* An echo server on threads, to talk to. */
static void echo(void *context, wharf_conn conn, const uint8_t *data, size_t len) {
  (void)context;
  OK(wharf_send(conn, data, len));
}

static int32_t on_admit(void *context, const char *peer_address, size_t len) {
  (void)context;
  CHECK(strlen(peer_address) == len && strncmp(peer_address, "127.0.0.1:", 10) == 0);
  return WHARF_ADMIT_ACCEPT;
}

static uint32_t port = WHARF_PORT_AUTO;

static void versions_and_texts(void) {
  CHECK(wharf_version() == WHARF_VERSION_NUMBER);
  CHECK(strcmp(wharf_version_text(), WHARF_VERSION_TEXT) == 0);
  CHECK(strcmp(wharf_status_name(WHARF_E_QUEUE_FULL), "WHARF_E_QUEUE_FULL") == 0);
  CHECK(strlen(wharf_status_text(WHARF_E_QUEUE_FULL)) > 10);
  CHECK(wharf_status_name(-12345) != NULL);
}

static wharf_engine threaded_engine(void) {
  wharf_engine_config config = { 0 };
  wharf_error error = { 0 };
  wharf_engine engine;
  uint64_t bytes = 0;
  wharf_stats stats = { 0 };
  wharf_fault_plan plan = { 0 };
  config.struct_size = sizeof config;
  config.port = port;
  error.struct_size = sizeof error;
  OK(wharf_engine_footprint(&config, &bytes));
  OK(wharf_engine_create(&config, &engine, &error));
  stats.struct_size = sizeof stats;
  OK(wharf_engine_stats(engine, &stats));
  CHECK(stats.heap_bytes == bytes && stats.open == 0);
  OK(wharf_engine_wake(engine));
  CHECK(wharf_engine_turn(engine, 0, NULL) == WHARF_E_STATE);
  plan.struct_size = sizeof plan;
  CHECK(wharf_engine_set_faults(engine, &plan, &error) == WHARF_E_STATE);
  CHECK(strstr(error.message, "WHARF_ENGINE_FAULTS") != NULL);
  return engine;
}

static wharf_server echo_server(wharf_engine engine, char *address, size_t len) {
  wharf_server_config config = { 0 };
  wharf_handler handler = { 0 };
  wharf_error error = { 0 };
  wharf_server server;
  uint8_t running = 1;
  size_t needed = 0;
  config.struct_size = sizeof config;
  config.address = "127.0.0.1:0";
  config.allow = "127.0.0.0/8, ::1";
  config.deny = "192.0.2.0/24";
  config.accept_rate_per_s = 1000;
  config.min_receive_bytes_per_s = 1;
  handler.struct_size = sizeof handler;
  handler.on_admit = on_admit;
  handler.on_receive = echo;
  error.struct_size = sizeof error;
  OK(wharf_server_create(engine, &config, &handler, &server, &error));
  OK(wharf_server_is_running(server, &running));
  CHECK(running == 0);
  OK(wharf_server_start(server, &error));
  OK(wharf_server_is_running(server, &running));
  CHECK(running == 1);
  OK(wharf_server_address(server, address, len, &needed));
  CHECK(needed == strlen(address) + 1 && strcmp(address, "127.0.0.1:0") != 0);
  return server;
}

/* A client without callbacks: the blocking calls. */
static void blocking_calls(wharf_engine engine, wharf_server server, const char *address) {
  wharf_client_config config = { 0 };
  wharf_handler handler = { 0 };
  wharf_error error = { 0 };
  wharf_client client;
  wharf_conn conn, list[4];
  wharf_stats stats = { 0 };
  wharf_connection_stats conn_stats = { 0 };
  wharf_timeouts timeouts = { 0 };
  wharf_broadcast_result result = { 0 };
  wharf_slice slices[2];
  char buffer[64], own[64];
  size_t taken = 0, got = 0, count = 0;
  void *data = NULL;

  config.struct_size = sizeof config;
  config.address = address;
  handler.struct_size = sizeof handler;
  error.struct_size = sizeof error;
  stats.struct_size = sizeof stats;
  OK(wharf_client_create(engine, &config, &handler, &client, &error));
  CHECK(wharf_client_conn(client, &conn) == WHARF_E_STATE && conn == WHARF_NONE);
  OK(wharf_client_start(client, &error));
  OK(wharf_client_wait(client, 60000, &error));
  OK(wharf_client_conn(client, &conn));

  OK(wharf_send_wait(conn, "hello ", 6, 60000, &taken));
  CHECK(taken == 6);
  OK(wharf_send(conn, "my ", 3));
  slices[0].data = "wh";
  slices[0].len = 2;
  slices[1].data = "arf";
  slices[1].len = 3;
  OK(wharf_sendv(conn, slices, 2, 0, 0));
  while (got < 14) {
    size_t more = 0;
    OK(wharf_receive_wait(conn, buffer + got, sizeof buffer - got, 60000, &more));
    got += more;
  }
  CHECK(got == 14 && memcmp(buffer, "hello my wharf", 14) == 0);
  CHECK(wharf_receive_wait(conn, buffer, sizeof buffer, 10, &got) == WHARF_E_TIMEOUT && got == 0);

  OK(wharf_conn_set_data(conn, &config));
  OK(wharf_conn_data(conn, &data));
  CHECK(data == &config);
  OK(wharf_conn_peer_address(conn, buffer, sizeof buffer, NULL));
  CHECK(strcmp(buffer, address) == 0);
  OK(wharf_conn_local_address(conn, own, sizeof own, NULL));
  CHECK(strncmp(own, "127.0.0.1:", 10) == 0);
  timeouts.struct_size = sizeof timeouts;
  timeouts.idle_timeout_ms = 600000;
  OK(wharf_conn_set_timeouts(conn, &timeouts));
  conn_stats.struct_size = sizeof conn_stats;
  OK(wharf_conn_stats(conn, &conn_stats));
  CHECK(conn_stats.bytes_in == 14 && conn_stats.bytes_out == 14 && conn_stats.messages_out == 3);
  OK(wharf_client_stats(client, &stats));
  CHECK(stats.connected == 1 && stats.open == 1 && stats.bytes_out == 14);

  OK(wharf_server_connections(server, list, 4, &count));
  CHECK(count == 1);
  OK(wharf_conn_peer_address(list[0], buffer, sizeof buffer, NULL));
  CHECK(strcmp(buffer, own) == 0);
  result.struct_size = sizeof result;
  OK(wharf_server_broadcast(server, "to all", 6, WHARF_NONE, &result));
  CHECK(result.taken == 1 && result.refused == 0);
  OK(wharf_receive_wait(conn, buffer, sizeof buffer, 60000, &got));
  CHECK(got == 6);
  OK(wharf_server_stats(server, &stats));
  CHECK(stats.accepted == 1 && stats.open == 1);

  OK(wharf_conn_close(conn, WHARF_CLOSE_SEND_SIDE));
  CHECK(wharf_send(conn, "x", 1) == WHARF_E_CLOSED);
  CHECK(wharf_receive_wait(conn, buffer, sizeof buffer, 60000, &got) == WHARF_E_END_OF_STREAM);
  OK(wharf_client_stop(client));
  OK(wharf_client_destroy(client));
}

/* The same engine in the caller's hand: every callback comes inside a turn. */
static void turns(const char *address) {
  wharf_engine_config engine_config = { 0 };
  wharf_client_config config = { 0 };
  struct seen seen;
  wharf_handler handler;
  wharf_engine engine;
  wharf_client client;
  wharf_slice slice;
  uint32_t completions = 0;
  int fd = -1;
  memset(&seen, 0, sizeof seen);
  handler = handler_of(&seen);
  engine_config.struct_size = sizeof engine_config;
  engine_config.flags = WHARF_ENGINE_CALLER_DRIVEN;
  engine_config.port = port;
  config.struct_size = sizeof config;
  config.address = address;
  OK(wharf_engine_create(&engine_config, &engine, NULL));
  OK(wharf_engine_fd(engine, &fd));
  CHECK(fd >= 0);
  OK(wharf_client_create(engine, &config, &handler, &client, NULL));
  OK(wharf_client_start(client, NULL));
  CHECK(seen.opens == 0);
  while (seen.opens == 0) OK(wharf_engine_turn(engine, 1000, &completions));
  OK(wharf_conn_pause(seen.conn));
  slice.data = "turned";
  slice.len = 6;
  OK(wharf_sendv(seen.conn, &slice, 1, 42, 0));
  while (seen.sents == 0) OK(wharf_engine_turn(engine, 1000, &completions));
  CHECK(seen.receives == 0);
  OK(wharf_conn_resume(seen.conn));
  while (seen.receives == 0) OK(wharf_engine_turn(engine, 1000, &completions));
  CHECK(strcmp(seen.text, "turned") == 0);
  CHECK(wharf_client_wait(client, 10, NULL) == WHARF_E_WOULD_DEADLOCK);
  OK(wharf_conn_close(seen.conn, WHARF_CLOSE_NOW));
  while (seen.closes == 0) OK(wharf_engine_turn(engine, 1000, &completions));
  CHECK(seen.reason == WHARF_OK && seen.opens == 1);
  CHECK(wharf_send(seen.conn, "x", 1) == WHARF_E_STALE);
  OK(wharf_engine_destroy(engine, 0));
  CHECK(seen.drops == 1 && seen.closes == 1);
  CHECK(wharf_engine_destroy(engine, 0) == WHARF_E_STALE);
}

int main(int argc, char **argv) {
  char address[64];
  wharf_engine engine;
  wharf_server server;
  if (argc > 1) port = strcmp(argv[1], "polling") == 0 ? WHARF_PORT_POLLING : WHARF_PORT_EPOLL;
  versions_and_texts();
  engine = threaded_engine();
  server = echo_server(engine, address, sizeof address);
  blocking_calls(engine, server, address);
  turns(address);
  OK(wharf_server_stop(server, 1000));
  OK(wharf_server_wait(server, 60000));
  OK(wharf_server_destroy(server));
  OK(wharf_engine_destroy(engine, 1000));
  CHECK(wharf_server_start(server, NULL) == WHARF_E_STALE);
  puts("every function did what it should");
  return 0;
}
