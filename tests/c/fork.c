/* A server that forks, written from the header alone: the child is refused, the parent goes on.
   fork [epoll | polling] */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wharf.h>

#include "check.h"

static void echo(void *context, wharf_conn conn, const uint8_t *data, size_t len) {
  (void)context;
  CHECK(wharf_send(conn, data, len) == WHARF_OK);
}

/* Sends through the client and waits for the same bytes; the client's handler has no on_receive. */
static void exchange(wharf_conn conn) {
  char text[] = "there and back", back[sizeof text];
  size_t got = 0, taken = 0;
  CHECK(wharf_send_wait(conn, text, sizeof text, 10000, &taken) == WHARF_OK && taken == sizeof text);
  for (size_t have = 0; have < sizeof text; have += got)
    CHECK(wharf_receive_wait(conn, back + have, sizeof text - have, 10000, &got) == WHARF_OK);
  CHECK(memcmp(text, back, sizeof text) == 0);
}

/* 0 when all is as the header says. */
static int child(wharf_engine engine, wharf_server server, wharf_conn conn) {
  wharf_error error = {.struct_size = sizeof error};
  wharf_stats stats = {.struct_size = sizeof stats};
  wharf_engine_config config = {.struct_size = sizeof config};
  wharf_engine mine = 0;
  uint64_t bytes = 0;
  if (wharf_send(conn, "x", 1) != WHARF_E_FORKED) return 1;
  if (wharf_conn_close(conn, WHARF_CLOSE_RESET) != WHARF_E_FORKED) return 2;
  if (wharf_server_start(server, &error) != WHARF_E_FORKED || error.status != WHARF_E_FORKED) return 3;
  if (strcmp(error.message, wharf_status_text(WHARF_E_FORKED)) != 0) return 4;
  if (wharf_engine_stats(engine, &stats) != WHARF_E_FORKED) return 5;
  if (wharf_engine_create(NULL, &mine, &error) != WHARF_E_FORKED || mine != 0) return 6;
  if (wharf_engine_destroy(engine, 1000) != WHARF_E_FORKED) return 7;
  if (strcmp(wharf_status_name(WHARF_E_FORKED), "WHARF_E_FORKED") != 0) return 8;
  if (wharf_version() != WHARF_VERSION_NUMBER) return 9;
  if (wharf_engine_footprint(&config, &bytes) != WHARF_OK || bytes == 0) return 10;
  return 0;
}

int main(int argc, char **argv) {
  wharf_engine_config engine_config = {.struct_size = sizeof engine_config};
  wharf_server_config server_config = {.struct_size = sizeof server_config};
  wharf_client_config client_config = {.struct_size = sizeof client_config};
  wharf_handler handler = {.struct_size = sizeof handler}, pulling = {.struct_size = sizeof pulling};
  wharf_engine engine;
  wharf_server server;
  wharf_client client;
  wharf_conn conn;
  char address[64];
  int how, round;

  engine_config.port = argc > 1 && strcmp(argv[1], "polling") == 0 ? WHARF_PORT_POLLING : WHARF_PORT_EPOLL;
  CHECK(wharf_engine_create(&engine_config, &engine, NULL) == WHARF_OK);
  handler.on_receive = echo;
  server_config.address = "127.0.0.1:0";
  CHECK(wharf_server_create(engine, &server_config, &handler, &server, NULL) == WHARF_OK);
  CHECK(wharf_server_start(server, NULL) == WHARF_OK);
  CHECK(wharf_server_address(server, address, sizeof address, NULL) == WHARF_OK);
  client_config.address = address;
  CHECK(wharf_client_create(engine, &client_config, &pulling, &client, NULL) == WHARF_OK);
  CHECK(wharf_client_start(client, NULL) == WHARF_OK);
  CHECK(wharf_client_wait(client, 10000, NULL) == WHARF_OK);
  CHECK(wharf_client_conn(client, &conn) == WHARF_OK);

  exchange(conn);
  for (round = 0; round < 5; round++) {
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
      alarm(20); /* a child that hangs is a broken promise */
      if ((how = child(engine, server, conn)) == 0) execlp("true", "true", (char *)NULL);
      _exit(how == 0 ? 99 : how); /* what the parent's threads held is lost here: a leak checker would say so */
    }
    exchange(conn);
    CHECK(waitpid(pid, &how, 0) == pid);
    CHECK(WIFEXITED(how));
    CHECK(WEXITSTATUS(how) == 0);
    exchange(conn);
  }
  CHECK(wharf_engine_destroy(engine, 1000) == WHARF_OK);
  return 0;
}
