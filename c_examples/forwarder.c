/* A TCP forwarder: for each connection that it accepts it opens one to the target and passes bytes both ways.
 *
 *   forwarder <listen address> <target address>       forwarder :8080 127.0.0.1:8088
 *
 * It shows: server and client in one engine, backpressure both ways (who reads slowly slows down who writes, and memory
 * stays bounded), and half-close both ways (each side may end its stream while the other goes on).
 *
 * Names: `near` is the accepted connection, `far` the one to the target. The engine has one worker, so no two callbacks
 * run at once and a pair needs no lock. */
#define _POSIX_C_SOURCE 200809L
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <wharf.h>

enum { MAX_PAIRS = 512, PIECE_BYTES = 16 * 1024, DRAIN_MS = 2000, CONNECT_MS = 5000 };

struct app {
  wharf_engine engine;
  const char *target;
};

/* One direction. A send is taken whole or not at all; a piece that was refused waits in `held`, and `from` is paused
 * until it is gone. One piece is never larger than the engine's receive buffer, which is PIECE_BYTES here. */
struct way {
  wharf_conn from, to;
  int ended; /* `from` has sent all that it will send */
  size_t held_len;
  uint8_t held[PIECE_BYTES];
};

struct pair {
  struct way up, down; /* near to far, far to near */
  wharf_client client;
  int users; /* the accepted connection and the client; the last one to go frees the pair */
};

static void release(struct pair *pair) {
  if (--pair->users == 0) free(pair);
}

static struct pair *pair_of(wharf_conn conn) {
  void *pair = NULL;
  return wharf_conn_data(conn, &pair) == WHARF_OK ? pair : NULL;
}

static int is_no_room(wharf_status status) {
  return status == WHARF_E_QUEUE_FULL || status == WHARF_E_POOL_EXHAUSTED;
}

/* For calls on a connection that may have ended a moment ago: its own on_close does what is to be done then. */
static void expect(wharf_status status, const char *what) {
  if (status != WHARF_OK && status != WHARF_E_STALE && status != WHARF_E_CLOSED) {
    fprintf(stderr, "forwarder: %s: %s\n", what, wharf_status_text(status));
  }
}

static void on_receive(void *context, wharf_conn conn, const uint8_t *data, size_t len) {
  struct pair *pair = pair_of(conn);
  (void)context;
  if (pair == NULL) return;
  struct way *way = conn == pair->up.from ? &pair->up : &pair->down;
  wharf_status status = wharf_send(way->to, data, len);
  if (is_no_room(status) && way->held_len == 0 && len <= sizeof way->held) {
    memcpy(way->held, data, len);
    way->held_len = len;
    expect(wharf_conn_pause(conn), "pause");
    return;
  }
  expect(status, "send");
}

/* Room again in `conn`: what was held for it goes first, then its source may go on. */
static void on_writable(void *context, wharf_conn conn) {
  struct pair *pair = pair_of(conn);
  (void)context;
  if (pair == NULL) return;
  struct way *way = conn == pair->up.to ? &pair->up : &pair->down;
  if (way->held_len > 0) {
    wharf_status status = wharf_send(conn, way->held, way->held_len);
    if (is_no_room(status)) return; /* on_writable comes again */
    expect(status, "send");
    way->held_len = 0;
    expect(wharf_conn_resume(way->from), "resume");
  }
  if (way->ended) expect(wharf_conn_close(conn, WHARF_CLOSE_SEND_SIDE), "close");
}

/* The peer of `conn` ends its stream: the other side learns it as the end of ours, behind all that is queued. */
static void on_end(void *context, wharf_conn conn) {
  struct pair *pair = pair_of(conn);
  (void)context;
  if (pair == NULL) return;
  struct way *way = conn == pair->up.from ? &pair->up : &pair->down;
  way->ended = 1;
  if (way->held_len == 0) expect(wharf_conn_close(way->to, WHARF_CLOSE_SEND_SIDE), "close");
}

/* One connection has gone; what happens to the other one? */
static void follow(wharf_conn other, wharf_status reason) {
  if (other == 0 || reason == WHARF_E_END_OF_STREAM) return; /* both streams ended: the other one ends by itself */
  int orderly = reason == WHARF_OK || reason == WHARF_E_STOPPED;
  expect(wharf_conn_close(other, orderly ? WHARF_CLOSE_FLUSH : WHARF_CLOSE_RESET), "close");
}

/* ---- the far side: context is the pair */

static void on_far_open(void *context, wharf_conn conn) {
  struct pair *pair = context;
  pair->up.to = pair->down.from = conn;
  if (wharf_conn_set_data(conn, pair) != WHARF_OK || pair->up.from == 0) {
    expect(wharf_conn_close(conn, WHARF_CLOSE_RESET), "close");
    return;
  }
  expect(wharf_conn_resume(pair->up.from), "resume"); /* held back since on_near_open */
}

/* Also told, with conn 0, when the connection could not be made. */
static void on_far_close(void *context, wharf_conn conn, wharf_status reason) {
  struct pair *pair = context;
  if (conn == 0) fprintf(stderr, "forwarder: connect: %s\n", wharf_status_text(reason));
  pair->up.to = pair->down.from = 0;
  follow(pair->up.from, conn == 0 ? WHARF_E_RESET : reason);
  expect(wharf_client_destroy(pair->client), "destroy");
}

static void on_far_drop(void *context) { release(context); }

/* ---- the near side: context is the app */

static void on_near_open(void *context, wharf_conn conn) {
  const struct app *app = context;
  wharf_error error = {0};
  error.struct_size = sizeof error;
  wharf_client_config config = {0};
  config.struct_size = sizeof config;
  config.address = app->target;
  config.connect_timeout_ms = CONNECT_MS;

  wharf_handler handler = {0};
  handler.struct_size = sizeof handler;
  handler.on_open = on_far_open;
  handler.on_receive = on_receive;
  handler.on_writable = on_writable;
  handler.on_end = on_end;
  handler.on_close = on_far_close;
  handler.on_drop = on_far_drop;

  struct pair *pair = calloc(1, sizeof *pair);
  handler.context = pair;
  if (pair == NULL || wharf_conn_set_data(conn, pair) != WHARF_OK) {
    free(pair);
    expect(wharf_conn_close(conn, WHARF_CLOSE_RESET), "close");
    return;
  }
  pair->users = 1;
  pair->up.from = pair->down.to = conn;
  /* Nothing is read from the near side until the far side is there. */
  expect(wharf_conn_pause(conn), "pause");
  if (wharf_client_create(app->engine, &config, &handler, &pair->client, &error) == WHARF_OK) {
    pair->users = 2; /* from here on on_far_drop comes, whatever happens */
    if (wharf_client_start(pair->client, &error) == WHARF_OK) return;
  }
  fprintf(stderr, "forwarder: %s\n", error.message);
  expect(wharf_conn_close(conn, WHARF_CLOSE_RESET), "close");
}

static void on_near_close(void *context, wharf_conn conn, wharf_status reason) {
  struct pair *pair = pair_of(conn);
  (void)context;
  if (pair == NULL) return;
  pair->up.from = pair->down.to = 0;
  if (pair->up.to != 0) {
    follow(pair->up.to, reason);
  } else if (pair->client != 0) {
    expect(wharf_client_destroy(pair->client), "destroy"); /* it was still connecting */
  }
  release(pair);
}

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: forwarder <listen address> <target address>\n");
    return 2;
  }
  sigset_t signals; /* blocked before any thread exists; sigwait takes them */
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigprocmask(SIG_BLOCK, &signals, NULL);

  struct app app = {0, argv[2]};
  wharf_error error = {0};
  error.struct_size = sizeof error;
  wharf_engine_config engine_config = {0};
  engine_config.struct_size = sizeof engine_config;
  engine_config.max_connections = 2 * MAX_PAIRS; /* each pair has two */
  engine_config.receive_buffer_bytes = PIECE_BYTES;
  wharf_server_config config = {0};
  config.struct_size = sizeof config;
  config.address = argv[1];
  config.max_connections = MAX_PAIRS;
  wharf_handler handler = {0};
  handler.struct_size = sizeof handler;
  handler.context = &app;
  handler.on_open = on_near_open;
  handler.on_receive = on_receive;
  handler.on_writable = on_writable;
  handler.on_end = on_end;
  handler.on_close = on_near_close;

  wharf_server server = 0;
  if (wharf_engine_create(&engine_config, &app.engine, &error) != WHARF_OK ||
      wharf_server_create(app.engine, &config, &handler, &server, &error) != WHARF_OK ||
      wharf_server_start(server, &error) != WHARF_OK) {
    fprintf(stderr, "forwarder: %s\n", error.message);
    return 1;
  }
  char address[64];
  wharf_status status = wharf_server_address(server, address, sizeof address, NULL);
  printf("listening on %s\n", status == WHARF_OK ? address : argv[1]);
  fflush(stdout);

  int signal_number = 0;
  sigwait(&signals, &signal_number);

  /* Drains the server and all clients together and waits for the last callback. */
  return wharf_engine_destroy(app.engine, DRAIN_MS) == WHARF_OK ? 0 : 1;
}
