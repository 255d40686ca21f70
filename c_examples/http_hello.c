/* "hello" over HTTP: enough of HTTP/1.0 and HTTP/1.1 for a browser, curl or a load generator.
 *
 *   http_hello [address]         default ":8088"; curl -v http://127.0.0.1:8088/
 *
 * It shows: a protocol on top of a stream - requests that arrive in pieces or several at once (pipelining), a bound on
 * what a peer may make us keep, keep-alive, and answers that wait when the peer does not read them. */
#define _POSIX_C_SOURCE 200809L
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <wharf.h>

enum { HEAD_BYTES = 8192, DRAIN_MS = 2000, IDLE_MS = 30000 };

#define HEAD(status, rest) "HTTP/1.1 " status "\r\nContent-Type: text/plain\r\n" rest "\r\n"
static const char hello[] = HEAD("200 OK", "Content-Length: 6\r\nConnection: keep-alive\r\n") "hello\n";
static const char hello_last[] = HEAD("200 OK", "Content-Length: 6\r\nConnection: close\r\n") "hello\n";
static const char bad[] = HEAD("400 Bad Request", "Content-Length: 0\r\nConnection: close\r\n");
static const char not_allowed[] = HEAD("405 Method Not Allowed", "Allow: GET\r\nContent-Length: 0\r\nConnection: close\r\n");
static const char too_large[] = HEAD("431 Request Header Fields Too Large", "Content-Length: 0\r\nConnection: close\r\n");

/* One connection. Answers that were refused because the peer does not read are owed: a number of equal "hello" and at
 * most one last answer, after which the connection is closed. So nothing has to be copied to be kept. */
struct request {
  unsigned owed;
  const char *last;
  size_t used;
  char head[HEAD_BYTES + 1];
};

/* Sends what is owed. While something stays owed nothing more is read from the peer. */
static void answer(wharf_conn conn, struct request *request) {
  wharf_status status = WHARF_OK;
  while (status == WHARF_OK && request->owed > 0) {
    status = wharf_send(conn, hello, sizeof hello - 1);
    if (status == WHARF_OK) request->owed--;
  }
  if (status == WHARF_OK && request->last != NULL) status = wharf_send(conn, request->last, strlen(request->last));
  if (status == WHARF_OK) {
    if (request->last != NULL) (void)wharf_conn_close(conn, WHARF_CLOSE_FLUSH);
    return;
  }
  if (status == WHARF_E_CLOSED) return; /* it closes already, and the answers before leave */
  if (status == WHARF_E_QUEUE_FULL || status == WHARF_E_POOL_EXHAUSTED) {
    if (wharf_conn_pause(conn) == WHARF_OK) return; /* on_writable goes on */
  }
  (void)wharf_conn_close(conn, WHARF_CLOSE_RESET);
}

/* The value of a header field, or NULL. `head` ends with an empty line and a NUL. */
static const char *field(const char *head, const char *name) {
  size_t len = strlen(name);
  for (const char *line = strstr(head, "\r\n") + 2; *line != '\r'; line = strstr(line, "\r\n") + 2) {
    if (strncasecmp(line, name, len) == 0 && line[len] == ':') {
      return line + len + 1 + strspn(line + len + 1, " \t");
    }
  }
  return NULL;
}

/* Whether a field's value begins with this word, as in "Connection: close". */
static int says(const char *value, const char *word) {
  return value != NULL && strncasecmp(value, word, strlen(word)) == 0;
}

/* A whole request head is there: what is the answer? Bodies are not for this server: a GET has none. */
static void judge(struct request *request) {
  const char *head = request->head;
  const char *end = strstr(head, "\r\n");
  const char *version = end - head >= 14 ? end - 9 : NULL; /* "GET / HTTP/1.1" is the shortest */
  if (version == NULL || (memcmp(version, " HTTP/1.1", 9) != 0 && memcmp(version, " HTTP/1.0", 9) != 0)) {
    request->last = bad;
  } else if (memcmp(head, "GET ", 4) != 0) {
    request->last = not_allowed;
  } else if (field(head, "Content-Length") != NULL || field(head, "Transfer-Encoding") != NULL ||
             (version[8] == '1' && field(head, "Host") == NULL)) {
    request->last = bad;
  } else if (version[8] == '1' ? !says(field(head, "Connection"), "close")
                               : says(field(head, "Connection"), "keep-alive")) {
    request->owed++;
  } else {
    request->last = hello_last;
  }
}

static void on_open(void *context, wharf_conn conn) {
  struct request *request = calloc(1, sizeof *request);
  (void)context;
  if (request == NULL || wharf_conn_set_data(conn, request) != WHARF_OK) {
    free(request);
    (void)wharf_conn_close(conn, WHARF_CLOSE_RESET);
  }
}

static void on_receive(void *context, wharf_conn conn, const uint8_t *data, size_t len) {
  void *found = NULL;
  (void)context;
  if (wharf_conn_data(conn, &found) != WHARF_OK || found == NULL) return;
  struct request *request = found;
  for (size_t i = 0; i < len && request->last == NULL; i++) {
    char *head = request->head;
    if (request->used == 0 && (data[i] == '\r' || data[i] == '\n')) continue; /* empty lines before a request */
    if (data[i] == '\0') {
      request->last = bad; /* it would cut our strings short */
    } else if (request->used == HEAD_BYTES) {
      request->last = too_large;
    } else {
      head[request->used++] = (char)data[i];
      if (data[i] == '\n' && request->used >= 4 && memcmp(head + request->used - 4, "\r\n\r\n", 4) == 0) {
        head[request->used] = '\0';
        judge(request);
        request->used = 0;
      }
    }
  }
  answer(conn, request); /* the answers to all that arrived leave together when this callback returns */
}

static void on_writable(void *context, wharf_conn conn) {
  void *found = NULL;
  (void)context;
  if (wharf_conn_data(conn, &found) != WHARF_OK || found == NULL) return;
  struct request *request = found;
  if (wharf_conn_resume(conn) != WHARF_OK) return; /* closed meanwhile */
  answer(conn, request);                           /* pauses again if need be */
}

static void on_close(void *context, wharf_conn conn, wharf_status reason) {
  void *found = NULL;
  (void)context;
  (void)reason;
  if (wharf_conn_data(conn, &found) == WHARF_OK) free(found);
}

int main(int argc, char **argv) {
  sigset_t signals; /* blocked before any thread exists; sigwait takes them */
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigprocmask(SIG_BLOCK, &signals, NULL);

  wharf_server_config config = {0};
  config.struct_size = sizeof config;
  config.address = argc > 1 ? argv[1] : ":8088";
  config.idle_timeout_ms = IDLE_MS; /* keep-alive, but not for ever */

  wharf_handler handler = {0};
  handler.struct_size = sizeof handler;
  handler.on_open = on_open;
  handler.on_receive = on_receive;
  handler.on_writable = on_writable;
  handler.on_close = on_close;

  wharf_error error = {0};
  error.struct_size = sizeof error;

  wharf_server server = 0;
  if (wharf_server_create(WHARF_DEFAULT_ENGINE, &config, &handler, &server, &error) != WHARF_OK ||
      wharf_server_start(server, &error) != WHARF_OK) {
    fprintf(stderr, "http_hello: %s\n", error.message);
    return 1;
  }
  char address[64];
  wharf_status status = wharf_server_address(server, address, sizeof address, NULL);
  printf("listening on %s\n", status == WHARF_OK ? address : config.address);
  fflush(stdout);

  int signal_number = 0;
  sigwait(&signals, &signal_number);

  status = wharf_server_stop(server, DRAIN_MS);
  if (status == WHARF_OK) status = wharf_server_wait(server, WHARF_FOREVER);
  if (status != WHARF_OK) fprintf(stderr, "http_hello: stop: %s\n", wharf_status_text(status));
  if (wharf_engine_destroy(WHARF_DEFAULT_ENGINE, 0) != WHARF_OK) return 1;
  return status == WHARF_OK ? 0 : 1;
}
