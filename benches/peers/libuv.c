/* The servers of the benchmark on libuv: libuv MODE [form=usual|tuned] ...
   usual: as its guide shows: an allocation a read, a request and a copy a write. tuned: one buffer for all reads,
   uv_try_write first, and a request only for what the kernel did not take. */
#define _GNU_SOURCE
#include <pthread.h>
#include <uv.h>
#include "peer.h"

struct client {
  uv_tcp_t handle;
  struct cutter cutter;
  long number, left;
  int is_member, is_paused;
  size_t place;
};

struct write {
  uv_write_t request;
  struct client *client;
  int is_pushed;
  char bytes[];
};

static uv_loop_t *loop;
static int is_tuned;
static char shared[BUFFER];
static long connections = 64, count = 1000, bytes = 1024;
static struct client **members;
static size_t member_count, member_room;
enum { MOST_WAITING = 1 << 20 };

static void on_closed(uv_handle_t *handle) {
  struct client *client = handle->data;
  free(client->cutter.rest);
  free(client);
}

static void end(struct client *client) {
  if (uv_is_closing((uv_handle_t *)&client->handle)) return;
  if (client->is_member) {
    members[client->place] = members[--member_count];
    members[client->place]->place = client->place;
  }
  uv_close((uv_handle_t *)&client->handle, on_closed);
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buffer);
static void pushed(void);

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
  (void)handle;
  *buffer = is_tuned ? uv_buf_init(shared, sizeof shared) : uv_buf_init(malloc(suggested), (unsigned)suggested);
}

static void on_written(uv_write_t *request, int status) {
  struct write *write = (struct write *)request;
  struct client *client = write->client;
  if (write->is_pushed) pushed();
  free(write);
  if (status < 0) {
    end(client);
  } else if (client->is_paused && uv_stream_get_write_queue_size((uv_stream_t *)&client->handle) == 0 &&
             !uv_is_closing((uv_handle_t *)&client->handle)) {
    client->is_paused = 0;
    uv_read_start((uv_stream_t *)&client->handle, on_alloc, on_read);
  }
}

static void send_bytes(struct client *client, const char *data, size_t len, int is_pushed) {
  uv_stream_t *stream = (uv_stream_t *)&client->handle;
  if (is_tuned && uv_stream_get_write_queue_size(stream) == 0) {
    uv_buf_t buffer = uv_buf_init((char *)data, (unsigned)len);
    int sent = uv_try_write(stream, &buffer, 1);
    if (sent < 0 && sent != UV_EAGAIN) return end(client);
    if (sent > 0) data += sent, len -= (size_t)sent;
    if (len == 0) {
      if (is_pushed) pushed();
      return;
    }
  }
  struct write *write = malloc(sizeof *write + len);
  write->client = client;
  write->is_pushed = is_pushed;
  memcpy(write->bytes, data, len);
  uv_buf_t buffer = uv_buf_init(write->bytes, (unsigned)len);
  if (uv_write(&write->request, stream, &buffer, 1, on_written) < 0) {
    if (is_pushed) pushed();
    free(write);
    return end(client);
  }
  if (uv_stream_get_write_queue_size(stream) > MOST_WAITING && !client->is_paused && client->number < 0) {
    client->is_paused = 1;
    uv_read_stop(stream);
  }
}

/* What each mode does with what it reads. */

static void echo(struct client *client, char *data, size_t len) { send_bytes(client, data, len, 0); }

static void block(struct client *client, char *data, size_t len) {
  if (data[0] == 'B') usleep(50000);
  echo(client, data, len);
}

static void answer(void *context, const uint8_t *message) { send_bytes(context, (const char *)message, (size_t)bytes, 0); }

static void each(struct client *client, char *data, size_t len) {
  cut(&client->cutter, (uint8_t *)data, len, answer, client);
}

static void tell_all(void *context, const uint8_t *message) {
  (void)context;
  for (size_t i = 0; i < member_count; i++) send_bytes(members[i], (const char *)message, (size_t)bytes, 0);
}

static void broadcast(struct client *client, char *data, size_t len) {
  cut(&client->cutter, (uint8_t *)data, len, tell_all, client);
}

static void sink(struct client *client, char *data, size_t len) { (void)client, (void)data, (void)len; }

/* push: threads of the program's own hand messages to the loop by a locked queue and uv_async_send. */

struct item {
  struct client *client;
  uint8_t message[MESSAGE];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t has_room = PTHREAD_COND_INITIALIZER;
static struct item queue[THREADS * MOST_UNSENT], taken[THREADS * MOST_UNSENT];
static size_t queued;
static int unsent;
static uv_async_t wake;
static struct client **numbered;

static void pushed(void) {
  pthread_mutex_lock(&lock);
  if (--unsent == THREADS * MOST_UNSENT / 2) pthread_cond_broadcast(&has_room);
  pthread_mutex_unlock(&lock);
}

static void on_wake(uv_async_t *async) {
  (void)async;
  pthread_mutex_lock(&lock);
  size_t here = queued;
  memcpy(taken, queue, here * sizeof *queue);
  queued = 0;
  pthread_mutex_unlock(&lock);
  for (size_t i = 0; i < here; i++) send_bytes(taken[i].client, (char *)taken[i].message, MESSAGE, 1);
}

static void *pusher(void *context) {
  for (long k = 0; k < count; k++)
    for (long i = (long)(intptr_t)context; i < connections; i += THREADS) {
      pthread_mutex_lock(&lock);
      if (unsent == THREADS * MOST_UNSENT)
        while (unsent > THREADS * MOST_UNSENT / 2) pthread_cond_wait(&has_room, &lock);
      unsent++;
      queue[queued].client = numbered[i];
      fill_message(queue[queued++].message, k);
      pthread_mutex_unlock(&lock);
      uv_async_send(&wake);
    }
  return NULL;
}

static void push(struct client *client, char *data, size_t len) {
  static long ready;
  (void)client, (void)data;
  ready += (long)len;
  if (ready != connections) return;
  for (long i = 0; i < THREADS; i++) {
    pthread_t thread;
    pthread_create(&thread, NULL, pusher, (void *)(intptr_t)i);
    pthread_detach(thread);
  }
}

/* produce: 16 pieces a millisecond, whatever waits */

static uv_timer_t timer;
static struct client *reader;
static char zeros[PIECE];

static void on_timer(uv_timer_t *handle) {
  for (int i = 0; i < 16 && reader && reader->left > 0; i++) {
    size_t piece = reader->left < PIECE ? (size_t)reader->left : PIECE;
    reader->left -= (long)piece;
    send_bytes(reader, zeros, piece, 0);
  }
  if (!reader || reader->left == 0) uv_timer_stop(handle);
}

static void produce(struct client *client, char *data, size_t len) {
  (void)data, (void)len;
  reader = client;
  client->left = count;
  uv_timer_start(&timer, on_timer, 1, 1);
}

static void (*take)(struct client *, char *, size_t);

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buffer) {
  struct client *client = stream->data;
  if (len > 0) take(client, buffer->base, (size_t)len);
  if (len < 0) {
    if (len == UV_EOF && take == sink) {
      uv_buf_t done = uv_buf_init("!", 1);
      uv_try_write(stream, &done, 1);
    }
    end(client);
  }
  if (!is_tuned) free(buffer->base);
}

static void on_connection(uv_stream_t *server, int status) {
  static long opened;
  if (status < 0) return;
  struct client *client = calloc(1, sizeof *client);
  uv_tcp_init(loop, &client->handle);
  client->handle.data = client;
  client->number = -1;
  if (uv_accept(server, (uv_stream_t *)&client->handle) < 0) return end(client);
  uv_tcp_nodelay(&client->handle, 1);
  if (take == each || take == broadcast) {
    client->cutter.size = (size_t)bytes;
    client->cutter.rest = malloc((size_t)bytes);
  }
  if (take == broadcast) {
    if (member_count == member_room) members = realloc(members, (member_room = member_room * 2 + 64) * sizeof *members);
    client->is_member = 1;
    client->place = member_count;
    members[member_count++] = client;
  }
  if (take == push && opened < connections) numbered[client->number = opened++] = client;
  if (take == produce) client->number = 0;
  uv_read_start((uv_stream_t *)&client->handle, on_alloc, on_read);
}

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    void (*take)(struct client *, char *, size_t);
  } modes[] = { { "echo", echo }, { "block", block }, { "each", each }, { "broadcast", broadcast }, { "sink", sink },
                { "push", push }, { "produce", produce } };
  if (argc > 1 && strcmp(argv[1], "version") == 0) return printf("libuv %s\n", uv_version_string()), 0;
  for (size_t i = 0; argc > 1 && i < sizeof modes / sizeof *modes; i++)
    if (strcmp(argv[1], modes[i].name) == 0) take = modes[i].take;
  if (!take) return unsupported("no such mode");
  if (number(argc, argv, "workers", 1) != 1) return unsupported("one loop is one thread");
  const char *form = option(argc, argv, "form");
  is_tuned = form && strcmp(form, "tuned") == 0;
  connections = number(argc, argv, "connections", connections);
  count = number(argc, argv, "count", count);
  bytes = take == each ? MESSAGE : number(argc, argv, "bytes", bytes);
  numbered = calloc((size_t)connections, sizeof *numbered);
  set_up_signals();
  loop = uv_default_loop();
  uv_async_init(loop, &wake, on_wake);
  uv_timer_init(loop, &timer);
  uv_tcp_t server;
  struct sockaddr_in address;
  uv_ip4_addr("127.0.0.1", 0, &address);
  uv_tcp_init(loop, &server);
  uv_os_fd_t fd;
  if (uv_tcp_bind(&server, (struct sockaddr *)&address, 0) < 0 || uv_listen((uv_stream_t *)&server, 4096, on_connection) < 0 ||
      uv_fileno((uv_handle_t *)&server, &fd) < 0)
    return 1;
  say_port(fd);
  return uv_run(loop, UV_RUN_DEFAULT);
}
