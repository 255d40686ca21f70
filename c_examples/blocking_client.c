/* A client without callbacks: connect, send, receive and close, each a call that waits.
 *
 *   blocking_client [address [message]]      default "127.0.0.1:8088" "hello"; expects an echo server there
 *
 * It shows: pull mode. A handler without on_receive leaves what arrives in the kernel until wharf_receive_wait asks for
 * it. Good for tests, tools and threads that do one thing at a time. */
#include <stdio.h>
#include <string.h>

#include <wharf.h>

enum { TIMEOUT_MS = 5000 };

static int fail(const char *what, wharf_status status) {
  fprintf(stderr, "blocking_client: %s: %s\n", what, wharf_status_text(status));
  return 1;
}

/* Sends the message and reads as many bytes back. */
static int echo(wharf_conn conn, const char *message) {
  size_t len = strlen(message);
  wharf_status status = wharf_send_wait(conn, message, len, TIMEOUT_MS, NULL);
  if (status != WHARF_OK) return fail("send", status);

  for (size_t back = 0; back < len;) {
    char buffer[256]; /* one call gives what is there, at most this much: a message may come in pieces */
    size_t got = 0;
    status = wharf_receive_wait(conn, buffer, sizeof buffer, TIMEOUT_MS, &got);
    if (status != WHARF_OK) return fail("receive", status); /* WHARF_E_END_OF_STREAM: the server hung up */
    if (got > len - back || memcmp(buffer, message + back, got) != 0) {
      fprintf(stderr, "blocking_client: this is not what was sent\n");
      return 1;
    }
    printf("%.*s", (int)got, buffer);
    back += got;
  }
  putchar('\n');
  status = wharf_conn_close(conn, WHARF_CLOSE_FLUSH);
  return status == WHARF_OK ? 0 : fail("close", status);
}

int main(int argc, char **argv) {
  wharf_client_config config = {0};
  config.struct_size = sizeof config;
  config.address = argc > 1 ? argv[1] : "127.0.0.1:8088";
  config.connect_timeout_ms = TIMEOUT_MS;

  wharf_handler handler = {0}; /* no callbacks at all */
  handler.struct_size = sizeof handler;

  wharf_error error = {0};
  error.struct_size = sizeof error;

  int result = 1;
  wharf_client client = 0;
  wharf_conn conn = 0;
  if (wharf_client_create(WHARF_DEFAULT_ENGINE, &config, &handler, &client, &error) != WHARF_OK ||
      wharf_client_start(client, &error) != WHARF_OK ||
      wharf_client_wait(client, TIMEOUT_MS, &error) != WHARF_OK) {
    fprintf(stderr, "blocking_client: %s\n", error.message);
  } else {
    wharf_status status = wharf_client_conn(client, &conn);
    result = status == WHARF_OK ? echo(conn, argc > 2 ? argv[2] : "hello") : fail("connection", status);
  }
  /* Gives the flushing close its time, then takes everything down. */
  if (wharf_engine_destroy(WHARF_DEFAULT_ENGINE, TIMEOUT_MS) != WHARF_OK) result = 1;
  return result;
}
