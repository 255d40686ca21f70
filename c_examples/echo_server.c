/* An echo server: sends back what it receives, and prints what happens.
 *
 *   echo_server [address]        default ":8088" (IPv4 and IPv6); port 0 lets the system choose one
 *
 * It shows: a server's whole life, the callbacks, what to do when a send is refused, and how to end on a signal. */
#define _POSIX_C_SOURCE 200809L
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <wharf.h>

enum { MAX_CLIENTS = 1024, DRAIN_MS = 2000 };

/* Wharf hands this to every callback. An engine with one worker (the default) never runs two callbacks at once, so the
 * plain counter is safe. */
struct app {
  unsigned clients;
};

/* Bytes that wharf_send refused. They wait here until on_writable. */
struct held {
  size_t len;
  uint8_t data[];
};

static const char *peer_of(wharf_conn conn, char *text, size_t size) {
  return wharf_conn_peer_address(conn, text, size, NULL) == WHARF_OK ? text : "(unknown)";
}

/* Prints bytes as text. Control characters become '.', so that a peer cannot play tricks with the terminal. */
static void print_text(const uint8_t *data, size_t len) {
  for (size_t i = 0; i < len; i++) {
    putchar((data[i] < ' ' && data[i] != '\n') || data[i] == 127 ? '.' : data[i]);
  }
  if (len == 0 || data[len - 1] != '\n') putchar('\n');
}

static void on_open(void *context, wharf_conn conn) {
  struct app *app = context;
  char peer[64];
  app->clients++;
  printf("%s connected, %u in all\n", peer_of(conn, peer, sizeof peer), app->clients);
  fflush(stdout);
}

static void on_receive(void *context, wharf_conn conn, const uint8_t *data, size_t len) {
  char peer[64];
  (void)context;
  printf("%s: ", peer_of(conn, peer, sizeof peer));
  print_text(data, len);
  fflush(stdout);

  wharf_status status = wharf_send(conn, data, len);
  if (status == WHARF_OK || status == WHARF_E_CLOSED) return; /* CLOSED: it closes already, and what was taken leaves */
  if (status == WHARF_E_QUEUE_FULL || status == WHARF_E_POOL_EXHAUSTED) {
    /* The peer reads more slowly than it writes. Nothing of this piece was sent: keep it, and read no more from the
     * peer until there is room. So at most one piece is held for each connection. */
    struct held *held = malloc(sizeof *held + len);
    if (held != NULL) {
      held->len = len;
      memcpy(held->data, data, len);
      if (wharf_conn_set_data(conn, held) == WHARF_OK && wharf_conn_pause(conn) == WHARF_OK) return;
      free(held);
      (void)wharf_conn_set_data(conn, NULL);
    }
  }
  fprintf(stderr, "%s: cannot echo: %s\n", peer_of(conn, peer, sizeof peer), wharf_status_text(status));
  (void)wharf_conn_close(conn, WHARF_CLOSE_RESET);
}

/* Room again after a refusal. */
static void on_writable(void *context, wharf_conn conn) {
  void *data = NULL;
  (void)context;
  if (wharf_conn_data(conn, &data) != WHARF_OK || data == NULL) return;
  struct held *held = data;
  wharf_status status = wharf_send(conn, held->data, held->len);
  if (status == WHARF_E_QUEUE_FULL || status == WHARF_E_POOL_EXHAUSTED) return; /* on_writable comes again */
  free(held);
  (void)wharf_conn_set_data(conn, NULL);
  if (status == WHARF_E_CLOSED) return;
  if (status != WHARF_OK || wharf_conn_resume(conn) != WHARF_OK) (void)wharf_conn_close(conn, WHARF_CLOSE_RESET);
}

/* The last call for a connection, whatever ended it. */
static void on_close(void *context, wharf_conn conn, wharf_status reason) {
  struct app *app = context;
  char peer[64];
  void *held = NULL;
  if (wharf_conn_data(conn, &held) == WHARF_OK) free(held);
  app->clients--;
  printf("%s disconnected (%s), %u in all\n", peer_of(conn, peer, sizeof peer), wharf_status_name(reason), app->clients);
  fflush(stdout);
}

int main(int argc, char **argv) {
  /* Blocked here, before any thread exists, the two signals wait until sigwait below takes them: the end of the program
   * is then ordinary code and not a signal handler. */
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigprocmask(SIG_BLOCK, &signals, NULL);

  struct app app = {0};
  wharf_server_config config = {0};
  config.struct_size = sizeof config;
  config.address = argc > 1 ? argv[1] : ":8088";
  config.max_connections = MAX_CLIENTS;

  wharf_handler handler = {0};
  handler.struct_size = sizeof handler;
  handler.context = &app;
  handler.on_open = on_open;
  handler.on_receive = on_receive;
  handler.on_writable = on_writable;
  handler.on_close = on_close;

  wharf_error error = {0};
  error.struct_size = sizeof error;

  wharf_server server = 0;
  if (wharf_server_create(WHARF_DEFAULT_ENGINE, &config, &handler, &server, &error) != WHARF_OK ||
      wharf_server_start(server, &error) != WHARF_OK) {
    fprintf(stderr, "echo_server: %s\n", error.message);
    return 1;
  }
  char address[64];
  wharf_status status = wharf_server_address(server, address, sizeof address, NULL);
  printf("listening on %s\n", status == WHARF_OK ? address : config.address);
  fflush(stdout);

  int signal_number = 0;
  sigwait(&signals, &signal_number);

  /* Stop accepting, let what is queued leave, then say goodbye; after DRAIN_MS what is left is reset. */
  status = wharf_server_stop(server, DRAIN_MS);
  if (status == WHARF_OK) status = wharf_server_wait(server, WHARF_FOREVER);
  if (status != WHARF_OK) fprintf(stderr, "echo_server: stop: %s\n", wharf_status_text(status));
  if (wharf_engine_destroy(WHARF_DEFAULT_ENGINE, 0) != WHARF_OK) return 1;
  printf("stopped\n");
  return status == WHARF_OK ? 0 : 1;
}
