/* The servers of the benchmark on Wharf, through the C ABI: wharf MODE [port=polling] [turn=caller] [workers=N] ... */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <wharf.h>

enum { MESSAGE = 64, PIECE = 64 << 10, THREADS = 4, MOST_UNSENT = 256 };

static wharf_server server;
static long connections = 64, count = 1000, bytes = 1024;

static const char *option(int argc, char **argv, const char *key) {
  size_t length = strlen(key);
  for (int i = 2; i < argc; i++)
    if (strncmp(argv[i], key, length) == 0 && argv[i][length] == '=') return argv[i] + length + 1;
  return NULL;
}

static long number(int argc, char **argv, const char *key, long otherwise) {
  const char *text = option(argc, argv, key);
  return text ? atol(text) : otherwise;
}

/* echo, block */

static void echo(void *context, wharf_conn conn, const uint8_t *data, size_t len) {
  (void)context;
  if (wharf_send(conn, data, len) != WHARF_OK) wharf_conn_close(conn, WHARF_CLOSE_NOW);
}

static void *back_of(wharf_conn conn) {
  void *data = NULL;
  wharf_conn_data(conn, &data);
  return data;
}

/* Bulk that comes faster than its echo leaves: what was refused is kept, and nothing more is received until it is gone. */
struct kept {
  size_t len;
  uint8_t bytes[PIECE];
};

static void echo_all(void *context, wharf_conn conn, const uint8_t *data, size_t len) {
  (void)context;
  if (wharf_send(conn, data, len) == WHARF_OK) return;
  struct kept *kept = malloc(sizeof *kept);
  kept->len = len;
  memcpy(kept->bytes, data, len);
  wharf_conn_set_data(conn, kept);
  wharf_conn_pause(conn);
}

static void send_kept(void *context, wharf_conn conn) {
  (void)context;
  struct kept *kept = back_of(conn);
  if (!kept || wharf_send(conn, kept->bytes, kept->len) != WHARF_OK) return;
  wharf_conn_set_data(conn, NULL);
  free(kept);
  wharf_conn_resume(conn);
}

static void drop_kept(void *context, wharf_conn conn, wharf_status reason) {
  (void)context;
  (void)reason;
  free(back_of(conn));
}

static void block(void *context, wharf_conn conn, const uint8_t *data, size_t len) {
  if (data[0] == 'B') nanosleep(&(struct timespec){ .tv_nsec = 50 * 1000 * 1000 }, NULL);
  echo(context, conn, data, len);
}

/* each, broadcast: a stream of messages of one size */

struct rest {
  size_t len;
  uint8_t bytes[];
};

static void open_rest(void *context, wharf_conn conn) {
  (void)context;
  wharf_conn_set_data(conn, calloc(1, sizeof(struct rest) + (size_t)bytes));
}

static void messages(wharf_conn conn, const uint8_t *data, size_t len, void (*take)(wharf_conn, const uint8_t *)) {
  struct rest *rest = back_of(conn);
  size_t size = (size_t)bytes;
  if (rest->len > 0) {
    size_t more = size - rest->len < len ? size - rest->len : len;
    memcpy(rest->bytes + rest->len, data, more);
    rest->len += more;
    data += more;
    len -= more;
    if (rest->len < size) return;
    take(conn, rest->bytes);
    rest->len = 0;
  }
  for (; len >= size; data += size, len -= size) take(conn, data);
  memcpy(rest->bytes, data, len);
  rest->len = len;
}

static void answer(wharf_conn conn, const uint8_t *message) {
  if (wharf_send(conn, message, (size_t)bytes) != WHARF_OK) wharf_conn_close(conn, WHARF_CLOSE_NOW);
}

static void each(void *context, wharf_conn conn, const uint8_t *data, size_t len) {
  (void)context;
  messages(conn, data, len, answer);
}

static void tell_all(wharf_conn conn, const uint8_t *message) {
  (void)conn;
  wharf_server_broadcast(server, message, (size_t)bytes, 0, NULL);
}

static void broadcast(void *context, wharf_conn conn, const uint8_t *data, size_t len) {
  (void)context;
  messages(conn, data, len, tell_all);
}

/* sink */

static void drop(void *context, wharf_conn conn, const uint8_t *data, size_t len) {
  (void)context;
  (void)conn;
  (void)data;
  (void)len;
}

static void say_done(void *context, wharf_conn conn) {
  (void)context;
  wharf_send(conn, "!", 1);
  wharf_conn_close(conn, WHARF_CLOSE_FLUSH);
}

/* push: four threads of the program's own send to all connections */

static wharf_conn *peers;
static long ready;

static void *pusher(void *context) {
  long first = (long)(intptr_t)context;
  for (long k = 0; k < count; k++) {
    uint8_t message[MESSAGE];
    for (int i = 0; i < MESSAGE; i++) message[i] = (uint8_t)((k + i) % 251);
    for (long i = first; i < connections; i += THREADS)
      if (wharf_send(peers[i], message, MESSAGE) != WHARF_OK &&
          wharf_send_wait(peers[i], message, MESSAGE, WHARF_FOREVER, NULL) != WHARF_OK)
        return NULL;
  }
  return NULL;
}

static void note_peer(void *context, wharf_conn conn) {
  (void)context;
  static long opened;
  if (opened < connections) peers[opened++] = conn;
}

static void start_pushers(void *context, wharf_conn conn, const uint8_t *data, size_t len) {
  (void)context;
  (void)conn;
  (void)data;
  ready += (long)len;
  if (ready != connections) return;
  for (long i = 0; i < THREADS; i++) {
    pthread_t thread;
    pthread_create(&thread, NULL, pusher, (void *)(intptr_t)i);
    pthread_detach(thread);
  }
}

/* produce: as many bytes as asked for, while there is room */

static uint8_t zeros[PIECE];

static void produce_more(void *context, wharf_conn conn) {
  (void)context;
  uintptr_t left = (uintptr_t)back_of(conn);
  while (left > 0) {
    size_t piece = left < PIECE ? left : PIECE;
    if (wharf_send(conn, zeros, piece) != WHARF_OK) break;
    left -= piece;
  }
  wharf_conn_set_data(conn, (void *)left);
}

static void produce(void *context, wharf_conn conn, const uint8_t *data, size_t len) {
  (void)data;
  (void)len;
  wharf_conn_set_data(conn, (void *)(uintptr_t)count);
  produce_more(context, conn);
}

static int handler_of(const char *mode, wharf_handler *handler) {
  if (strcmp(mode, "echo") == 0) {
    handler->on_receive = echo_all;
    handler->on_writable = send_kept;
    handler->on_close = drop_kept;
  } else if (strcmp(mode, "block") == 0) {
    handler->on_receive = block;
  } else if (strcmp(mode, "each") == 0) {
    bytes = MESSAGE;
    handler->on_open = open_rest;
    handler->on_receive = each;
    handler->on_close = drop_kept;
  } else if (strcmp(mode, "broadcast") == 0) {
    handler->on_open = open_rest;
    handler->on_receive = broadcast;
    handler->on_close = drop_kept;
  } else if (strcmp(mode, "sink") == 0) {
    handler->on_receive = drop;
    handler->on_end = say_done;
  } else if (strcmp(mode, "push") == 0) {
    peers = calloc((size_t)connections, sizeof *peers);
    handler->on_open = note_peer;
    handler->on_receive = start_pushers;
  } else if (strcmp(mode, "produce") == 0) {
    handler->on_receive = produce;
    handler->on_writable = produce_more;
  } else {
    return 0;
  }
  return 1;
}

int main(int argc, char **argv) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigprocmask(SIG_BLOCK, &set, NULL);
  connections = number(argc, argv, "connections", connections);
  count = number(argc, argv, "count", count);
  bytes = number(argc, argv, "bytes", bytes);

  wharf_engine_config engine_config = { .struct_size = sizeof engine_config, .max_connections = 16384 };
  engine_config.workers = (uint32_t)number(argc, argv, "workers", 1);
  int is_polling = option(argc, argv, "port") && strcmp(option(argc, argv, "port"), "polling") == 0;
  int is_caller_driven = option(argc, argv, "turn") && strcmp(option(argc, argv, "turn"), "caller") == 0;
  if (is_polling) engine_config.port = WHARF_PORT_POLLING;
  if (is_caller_driven) engine_config.flags = WHARF_ENGINE_CALLER_DRIVEN;
  wharf_server_config config = { .struct_size = sizeof config, .address = "127.0.0.1:0", .backlog = 4096 };
  /* Messages that are not with the kernel: as many for each thread as the other servers let it have. */
  if (argc > 1 && strcmp(argv[1], "push") == 0)
    config.send_queue_limit_bytes = (uint32_t)(MOST_UNSENT * MESSAGE / ((connections + THREADS - 1) / THREADS));
  wharf_handler handler = { .struct_size = sizeof handler };
  wharf_error error = { .struct_size = sizeof error };
  if (argc < 2 || !handler_of(argv[1], &handler)) {
    printf("unsupported: no such mode\n");
    return 3;
  }
  if (is_caller_driven && engine_config.workers > 1) {
    printf("unsupported: the caller is one thread\n");
    return 3;
  }
  wharf_engine engine;
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
  _exit(0);
}
