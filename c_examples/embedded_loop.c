/* Wharf inside a loop of your own: no threads, every callback runs when you say so.
 *
 *   embedded_loop [address]      default ":8088"; lines that you type go to every connected client, and what clients
 *                                send is printed; ends at the end of input or on SIGINT / SIGTERM
 *
 * It shows: a caller-driven engine. Its descriptor stands in poll(2) beside standard input and a self-pipe for signals;
 * when it is readable, a turn is due. The same works with epoll, libuv, GLib, Qt or asyncio. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <wharf.h>

enum { DRAIN_MS = 2000 };

static int signal_pipe[2];

/* All that a signal handler may safely do here: one write(2). */
static void on_signal(int signal_number) {
  int saved = errno;
  char byte = (char)signal_number;
  ssize_t written = write(signal_pipe[1], &byte, 1);
  (void)written;
  errno = saved;
}

static int catch_signals(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  if (pipe(signal_pipe) != 0) return -1;
  return sigaction(SIGINT, &action, NULL) | sigaction(SIGTERM, &action, NULL);
}

static void on_open(void *context, wharf_conn conn) {
  char peer[64];
  (void)context;
  if (wharf_conn_peer_address(conn, peer, sizeof peer, NULL) == WHARF_OK) printf("%s connected\n", peer);
  fflush(stdout);
}

static void on_receive(void *context, wharf_conn conn, const uint8_t *data, size_t len) {
  (void)context;
  (void)conn;
  fwrite(data, 1, len, stdout);
  fflush(stdout);
}

static void on_close(void *context, wharf_conn conn, wharf_status reason) {
  (void)context;
  (void)conn;
  printf("a client disconnected (%s)\n", wharf_status_name(reason));
  fflush(stdout);
}

/* Reads what was typed and sends it to everybody. Returns 0 at the end of input. */
static int tell_everybody(wharf_server server) {
  char text[4096];
  wharf_broadcast_result result = {0};
  result.struct_size = sizeof result;
  ssize_t len = read(STDIN_FILENO, text, sizeof text);
  if (len < 0) return errno == EINTR;
  if (len == 0) return 0;
  wharf_status status = wharf_server_broadcast(server, text, (size_t)len, 0, &result);
  if (status != WHARF_OK) fprintf(stderr, "embedded_loop: broadcast: %s\n", wharf_status_text(status));
  else printf("sent to %u, refused by %u\n", (unsigned)result.taken, (unsigned)result.refused);
  fflush(stdout);
  return 1;
}

/* The program's own loop. */
static wharf_status run(wharf_engine engine, wharf_server server) {
  int fd = -1;
  wharf_status status = wharf_engine_fd(engine, &fd);
  if (status != WHARF_OK) return status;
  struct pollfd fds[3] = {{fd, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}, {signal_pipe[0], POLLIN, 0}};
  for (;;) {
    /* A turn with timeout 0 does whatever is due and never waits: waiting is the business of this loop. The first one
     * comes before the first poll, so that what was asked for so far is begun. */
    status = wharf_engine_turn(engine, 0, NULL);
    if (status != WHARF_OK) return status;
    if (poll(fds, 3, -1) < 0) {
      if (errno == EINTR) continue;
      return WHARF_E_OS;
    }
    if (fds[2].revents != 0) return WHARF_OK;
    if (fds[1].revents != 0 && !tell_everybody(server)) return WHARF_OK;
  }
}

int main(int argc, char **argv) {
  if (catch_signals() != 0) {
    perror("embedded_loop");
    return 1;
  }
  wharf_engine_config engine_config = {0};
  engine_config.struct_size = sizeof engine_config;
  engine_config.flags = WHARF_ENGINE_CALLER_DRIVEN;

  wharf_server_config config = {0};
  config.struct_size = sizeof config;
  config.address = argc > 1 ? argv[1] : ":8088";

  wharf_handler handler = {0};
  handler.struct_size = sizeof handler;
  handler.on_open = on_open;
  handler.on_receive = on_receive;
  handler.on_close = on_close;

  wharf_error error = {0};
  error.struct_size = sizeof error;

  wharf_engine engine = 0;
  wharf_server server = 0;
  char address[64];
  if (wharf_engine_create(&engine_config, &engine, &error) != WHARF_OK ||
      wharf_server_create(engine, &config, &handler, &server, &error) != WHARF_OK ||
      wharf_server_start(server, &error) != WHARF_OK) {
    fprintf(stderr, "embedded_loop: %s\n", error.message);
    return 1;
  }
  wharf_status status = wharf_server_address(server, address, sizeof address, NULL);
  printf("listening on %s\n", status == WHARF_OK ? address : config.address);
  fflush(stdout);

  status = run(engine, server);
  if (status != WHARF_OK) fprintf(stderr, "embedded_loop: %s\n", wharf_status_text(status));
  /* Takes the last turns itself: on_close comes for every connection before it returns. */
  if (wharf_engine_destroy(engine, DRAIN_MS) != WHARF_OK) return 1;
  close(signal_pipe[0]);
  close(signal_pipe[1]);
  return status == WHARF_OK ? 0 : 1;
}
