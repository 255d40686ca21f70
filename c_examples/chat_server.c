/* A chat server: each complete line that one client sends goes to all the others.
 *
 *   chat_server [address]        default ":8088"; try it with two terminals running console_client
 *
 * It shows: state for each connection (wharf_conn_set_data), lines that arrive in pieces, and broadcasting. */
#define _POSIX_C_SOURCE 200809L
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <wharf.h>

enum { MAX_CLIENTS = 1024, NAME_BYTES = 64, LINE_BYTES = 1024, DRAIN_MS = 2000 };

struct room {
  wharf_server server;
};

/* One client: its name and the line that it has not finished yet. TCP is a stream: a line may come in three pieces, or
 * three lines in one. The text begins with "name: ", so that a line goes out as it stands. */
struct member {
  size_t prefix;
  size_t used;
  char text[NAME_BYTES + 2 + LINE_BYTES];
};

static void say_to_others(struct room *room, wharf_conn from, const char *text, size_t len) {
  wharf_broadcast_result result = {0};
  result.struct_size = sizeof result;
  wharf_status status = wharf_server_broadcast(room->server, text, len, from, &result);
  if (status != WHARF_OK) {
    fprintf(stderr, "broadcast: %s\n", wharf_status_text(status));
  } else if (result.refused > 0) {
    /* Their queues are full, because they do not read. A chat may drop lines; it must not wait for the slowest. */
    fprintf(stderr, "a line did not reach %u of the clients\n", (unsigned)result.refused);
  }
}

static void announce(struct room *room, wharf_conn conn, const struct member *member, const char *what) {
  char text[NAME_BYTES + 32];
  int len = snprintf(text, sizeof text, "* %.*s %s\n", (int)member->prefix - 2, member->text, what);
  if (len > 0 && (size_t)len < sizeof text) say_to_others(room, conn, text, (size_t)len);
}

static void on_open(void *context, wharf_conn conn) {
  struct member *member = calloc(1, sizeof *member);
  if (member == NULL || wharf_conn_set_data(conn, member) != WHARF_OK) {
    free(member);
    (void)wharf_conn_close(conn, WHARF_CLOSE_RESET);
    return;
  }
  if (wharf_conn_peer_address(conn, member->text, NAME_BYTES, NULL) != WHARF_OK) strcpy(member->text, "somebody");
  member->prefix = strlen(member->text) + 2;
  memcpy(member->text + member->prefix - 2, ": ", 2);
  member->used = member->prefix;
  announce(context, conn, member, "came");
}

static void on_receive(void *context, wharf_conn conn, const uint8_t *data, size_t len) {
  static const char too_long[] = "* your line is too long, goodbye\n";
  void *found = NULL;
  if (wharf_conn_data(conn, &found) != WHARF_OK || found == NULL) return; /* it is being closed */
  struct member *member = found;
  for (size_t i = 0; i < len; i++) {
    if (member->used == sizeof member->text) {
      /* Whatever a peer sends, what we keep for it stays bounded. A flushing close lets the explanation leave first. */
      (void)wharf_send(conn, too_long, sizeof too_long - 1);
      (void)wharf_conn_close(conn, WHARF_CLOSE_FLUSH);
      return;
    }
    member->text[member->used++] = (char)data[i];
    if (data[i] == '\n') {
      say_to_others(context, conn, member->text, member->used);
      member->used = member->prefix;
    }
  }
}

static void on_close(void *context, wharf_conn conn, wharf_status reason) {
  void *found = NULL;
  if (wharf_conn_data(conn, &found) != WHARF_OK || found == NULL) return;
  if (reason != WHARF_E_STOPPED) announce(context, conn, found, "left");
  free(found);
}

int main(int argc, char **argv) {
  sigset_t signals; /* blocked before any thread exists; sigwait takes them */
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigprocmask(SIG_BLOCK, &signals, NULL);

  struct room room = {0};
  wharf_server_config config = {0};
  config.struct_size = sizeof config;
  config.address = argc > 1 ? argv[1] : ":8088";
  config.max_connections = MAX_CLIENTS;
  config.send_queue_limit_bytes = 64 * 1024; /* what a client may fall behind */

  wharf_handler handler = {0};
  handler.struct_size = sizeof handler;
  handler.context = &room;
  handler.on_open = on_open;
  handler.on_receive = on_receive;
  handler.on_close = on_close;

  wharf_error error = {0};
  error.struct_size = sizeof error;

  /* No callback runs before wharf_server_start, so room.server is set before anybody reads it. */
  if (wharf_server_create(WHARF_DEFAULT_ENGINE, &config, &handler, &room.server, &error) != WHARF_OK ||
      wharf_server_start(room.server, &error) != WHARF_OK) {
    fprintf(stderr, "chat_server: %s\n", error.message);
    return 1;
  }
  char address[64];
  wharf_status status = wharf_server_address(room.server, address, sizeof address, NULL);
  printf("listening on %s\n", status == WHARF_OK ? address : config.address);
  fflush(stdout);

  int signal_number = 0;
  sigwait(&signals, &signal_number);

  status = wharf_server_stop(room.server, DRAIN_MS);
  if (status == WHARF_OK) status = wharf_server_wait(room.server, WHARF_FOREVER);
  if (status != WHARF_OK) fprintf(stderr, "chat_server: stop: %s\n", wharf_status_text(status));
  /* Waits for the last callback; after it nothing uses `room` any more. */
  if (wharf_engine_destroy(WHARF_DEFAULT_ENGINE, 0) != WHARF_OK) return 1;
  return status == WHARF_OK ? 0 : 1;
}
