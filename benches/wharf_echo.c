/* The same echo server on Wharf, through the C ABI. Prints its port, runs until SIGTERM.
   wharf_echo [polling | caller] */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <wharf.h>

static void on_receive(void *context, wharf_conn conn, const uint8_t *data, size_t len) {
  (void)context;
  wharf_send(conn, data, len);
}

int main(int argc, char **argv) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigprocmask(SIG_BLOCK, &set, NULL);

  wharf_engine_config engine_config = { .struct_size = sizeof engine_config, .max_connections = 16384 };
  if (argc > 1 && strcmp(argv[1], "polling") == 0) engine_config.port = WHARF_PORT_POLLING;
  int is_caller_driven = argc > 1 && strcmp(argv[1], "caller") == 0;
  if (is_caller_driven) engine_config.flags = WHARF_ENGINE_CALLER_DRIVEN;
  wharf_server_config config = { .struct_size = sizeof config, .address = "127.0.0.1:0", .backlog = 4096 };
  wharf_handler handler = { .struct_size = sizeof handler, .on_receive = on_receive };
  wharf_error error = { .struct_size = sizeof error };
  wharf_engine engine;
  wharf_server server;
  char address[64];
  if (wharf_engine_create(&engine_config, &engine, &error) ||
      wharf_server_create(engine, &config, &handler, &server, &error) || wharf_server_start(server, &error) ||
      wharf_server_address(server, address, sizeof address, NULL)) {
    fprintf(stderr, "%s\n", error.message);
    return 1;
  }
  printf("%s\n", strrchr(address, ':') + 1);
  fflush(stdout);
  if (is_caller_driven) {
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    while (wharf_engine_turn(engine, -1, NULL) == WHARF_OK) {
    }
  }
  int signal_number;
  sigwait(&set, &signal_number);
  return 0;
}
