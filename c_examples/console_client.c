/* A console client: sends each line that you type, prints whatever comes back, ends at "exit" or at the end of input.
 *
 *   console_client [address]     default "127.0.0.1:8088"
 *
 * It shows: a client's life, sends from a thread of your own, and how callbacks (which run on Wharf's thread) tell the
 * main thread something without a lock: through a pipe, which poll(2) can wait for beside standard input. */
#define _POSIX_C_SOURCE 200809L
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <wharf.h>

enum { LINE_BYTES = 4096, CONNECT_MS = 10000, SEND_MS = 10000, GOODBYE_MS = 5000 };

struct app {
  int closed[2]; /* a pipe: on_close writes the reason, main reads it */
};

static void on_receive(void *context, wharf_conn conn, const uint8_t *data, size_t len) {
  (void)context;
  (void)conn;
  fwrite(data, 1, len, stdout);
  fflush(stdout);
}

/* Once for a connection, or once for a connect that failed (conn is 0 then). */
static void on_close(void *context, wharf_conn conn, wharf_status reason) {
  struct app *app = context;
  (void)conn;
  if (write(app->closed[1], &reason, sizeof reason) != (ssize_t)sizeof reason) perror("console_client: pipe");
}

static int is_exit(const char *line, size_t len) {
  while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r')) len--;
  return len == 4 && memcmp(line, "exit", 4) == 0;
}

/* Sends the complete lines of the buffer (all of it when `all` is set) and moves the rest to its front. Returns 0 when
 * the conversation goes on, 1 at "exit", -1 on an error. */
static int send_lines(wharf_conn conn, char *buffer, size_t *len, int all) {
  size_t start = 0;
  while (start < *len) {
    char *end = memchr(buffer + start, '\n', *len - start);
    if (end == NULL && !all) break;
    size_t line = end != NULL ? (size_t)(end - buffer) + 1 - start : *len - start;
    if (is_exit(buffer + start, line)) return 1;
    wharf_status status = wharf_send_wait(conn, buffer + start, line, SEND_MS, NULL);
    if (status != WHARF_OK) {
      fprintf(stderr, "console_client: send: %s\n", wharf_status_text(status));
      return -1;
    }
    start += line;
  }
  memmove(buffer, buffer + start, *len - start);
  *len -= start;
  return 0;
}

/* Reads standard input and sends it, until "exit", the end of input, or the end of the connection. */
static int converse(wharf_conn conn, int closed) {
  static char buffer[LINE_BYTES];
  size_t len = 0;
  struct pollfd fds[2] = {{STDIN_FILENO, POLLIN, 0}, {closed, POLLIN, 0}};
  for (;;) {
    if (poll(fds, 2, -1) < 0) return -1;
    if (fds[1].revents != 0) return 0;
    if (fds[0].revents == 0) continue;
    ssize_t got = read(STDIN_FILENO, buffer + len, sizeof buffer - len);
    if (got < 0) return -1;
    len += (size_t)got;
    int all = got == 0 || len == sizeof buffer; /* a line longer than the buffer goes in pieces */
    int result = send_lines(conn, buffer, &len, all);
    if (result != 0) return result < 0 ? -1 : 0;
    if (got == 0) return 0;
  }
}

int main(int argc, char **argv) {
  struct app app;
  if (pipe(app.closed) != 0) {
    perror("console_client: pipe");
    return 1;
  }
  wharf_client_config config = {0};
  config.struct_size = sizeof config;
  config.address = argc > 1 ? argv[1] : "127.0.0.1:8088";
  config.connect_timeout_ms = CONNECT_MS;

  wharf_handler handler = {0};
  handler.struct_size = sizeof handler;
  handler.context = &app;
  handler.on_receive = on_receive;
  handler.on_close = on_close;

  wharf_error error = {0};
  error.struct_size = sizeof error;

  int result = 1;
  wharf_client client = 0;
  wharf_conn conn = 0;
  if (wharf_client_create(WHARF_DEFAULT_ENGINE, &config, &handler, &client, &error) != WHARF_OK ||
      wharf_client_start(client, &error) != WHARF_OK ||
      wharf_client_wait(client, WHARF_FOREVER, &error) != WHARF_OK) {
    fprintf(stderr, "console_client: %s\n", error.message);
  } else if (wharf_client_conn(client, &conn) != WHARF_OK) {
    fprintf(stderr, "console_client: the connection has ended already\n");
  } else {
    printf("connected to %s\n", config.address);
    fflush(stdout);
    result = converse(conn, app.closed[0]) == 0 ? 0 : 1;

    /* End our side only: the server sends what it still owes us and then ends its own, which is told by on_close. So
     * nothing that was on its way back is lost. A server that never ends its side has GOODBYE_MS. */
    struct pollfd closed = {app.closed[0], POLLIN, 0};
    wharf_status reason = WHARF_E_TIMEOUT;
    wharf_status status = wharf_conn_close(conn, WHARF_CLOSE_SEND_SIDE);
    if (status != WHARF_OK && status != WHARF_E_STALE) result = 1; /* stale: it has ended already */
    if (poll(&closed, 1, GOODBYE_MS) == 1 && read(app.closed[0], &reason, sizeof reason) != (ssize_t)sizeof reason) {
      result = 1;
    }
    printf("disconnected (%s)\n", wharf_status_name(reason));
    if (reason != WHARF_E_END_OF_STREAM) result = 1;
  }
  /* Waits until no callback can run any more; only then may what they use go away. */
  if (wharf_engine_destroy(WHARF_DEFAULT_ENGINE, 0) != WHARF_OK) result = 1;
  close(app.closed[0]);
  close(app.closed[1]);
  return result;
}
