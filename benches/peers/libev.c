/* The servers of the benchmark on libev: watchers for readiness, with recv and send of the program's own. */
#define _GNU_SOURCE
#include <errno.h>
#include <ev.h>
#include <pthread.h>
#include "peer.h"

struct client {
  ev_io io;
  struct cutter cutter;
  char *rest; /* what the kernel did not take */
  size_t rest_len, rest_room;
  long left;
  size_t place;
};

static struct ev_loop *loop;
static char buffer[BUFFER];
static long connections = 64, count = 1000, bytes = 1024;
static struct client **members, **numbered;
static size_t member_count, member_room;

static void end(struct client *client) {
  ev_io_stop(loop, &client->io);
  members[client->place] = members[--member_count];
  members[client->place]->place = client->place;
  close(client->io.fd);
  free(client->cutter.rest);
  free(client->rest);
  free(client);
}

static void watch(struct client *client, int events) {
  ev_io_stop(loop, &client->io);
  ev_io_modify(&client->io, events);
  ev_io_start(loop, &client->io);
}

static void send_bytes(struct client *client, const char *data, size_t len) {
  while (client->rest_len == 0 && len > 0) {
    ssize_t sent = send(client->io.fd, data, len, MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno != EAGAIN) return; /* the next read tells */
      break;
    }
    data += sent;
    len -= (size_t)sent;
  }
  if (len == 0) return;
  if (client->rest_len + len > client->rest_room)
    client->rest = realloc(client->rest, client->rest_room = (client->rest_len + len) * 2);
  memcpy(client->rest + client->rest_len, data, len);
  if (client->rest_len == 0) watch(client, EV_WRITE);
  client->rest_len += len;
}

static void send_rest(struct client *client) {
  ssize_t sent = send(client->io.fd, client->rest, client->rest_len, MSG_NOSIGNAL);
  if (sent < 0 && errno != EAGAIN) return end(client);
  if (sent <= 0) return;
  client->rest_len -= (size_t)sent;
  memmove(client->rest, client->rest + sent, client->rest_len);
  if (client->rest_len == 0) watch(client, EV_READ);
}

static void echo(struct client *client, size_t len) { send_bytes(client, buffer, len); }

static void block(struct client *client, size_t len) {
  if (buffer[0] == 'B') usleep(50000);
  echo(client, len);
}

static void answer(void *context, const uint8_t *message) { send_bytes(context, (const char *)message, (size_t)bytes); }

static void each(struct client *client, size_t len) { cut(&client->cutter, (uint8_t *)buffer, len, answer, client); }

static void tell_all(void *context, const uint8_t *message) {
  (void)context;
  for (size_t i = 0; i < member_count; i++) send_bytes(members[i], (const char *)message, (size_t)bytes);
}

static void broadcast(struct client *client, size_t len) { cut(&client->cutter, (uint8_t *)buffer, len, tell_all, client); }

static void sink(struct client *client, size_t len) { (void)client, (void)len; }

/* push: threads of the program's own hand messages to the loop by a locked queue and ev_async_send. */

struct item {
  struct client *client;
  uint8_t message[MESSAGE];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t has_room = PTHREAD_COND_INITIALIZER;
static struct item queue[THREADS * MOST_UNSENT], taken[THREADS * MOST_UNSENT];
static size_t queued, unsent;
static ev_async wake;

static void on_wake(struct ev_loop *of, ev_async *async, int events) {
  (void)of, (void)async, (void)events;
  pthread_mutex_lock(&lock);
  size_t here = queued;
  memcpy(taken, queue, here * sizeof *queue);
  queued = 0;
  pthread_mutex_unlock(&lock);
  for (size_t i = 0; i < here; i++) send_bytes(taken[i].client, (char *)taken[i].message, MESSAGE);
  pthread_mutex_lock(&lock);
  unsent -= here;
  if (unsent <= THREADS * MOST_UNSENT / 2) pthread_cond_broadcast(&has_room);
  pthread_mutex_unlock(&lock);
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
      ev_async_send(loop, &wake);
    }
  return NULL;
}

static void push(struct client *client, size_t len) {
  static long ready;
  (void)client;
  ready += (long)len;
  if (ready != connections) return;
  for (long i = 0; i < THREADS; i++) {
    pthread_t thread;
    pthread_create(&thread, NULL, pusher, (void *)(intptr_t)i);
    pthread_detach(thread);
  }
}

/* produce: 16 pieces a millisecond, whatever waits */

static ev_timer timer;
static struct client *reader;

static void on_timer(struct ev_loop *of, ev_timer *handle, int events) {
  static const char zeros[PIECE];
  (void)events;
  for (int i = 0; i < 16 && reader->left > 0; i++) {
    size_t piece = reader->left < PIECE ? (size_t)reader->left : PIECE;
    reader->left -= (long)piece;
    send_bytes(reader, zeros, piece);
  }
  if (reader->left == 0) ev_timer_stop(of, handle);
}

static void produce(struct client *client, size_t len) {
  (void)len;
  reader = client;
  client->left = count;
  ev_timer_start(loop, &timer);
}

static void (*take)(struct client *, size_t);

static void on_ready(struct ev_loop *of, ev_io *io, int events) {
  struct client *client = (struct client *)io;
  (void)of;
  if (events & EV_WRITE) return send_rest(client);
  ssize_t got = recv(io->fd, buffer, sizeof buffer, 0);
  if (got > 0) {
    take(client, (size_t)got);
  } else if (got == 0 || errno != EAGAIN) {
    if (got == 0 && take == sink) send(io->fd, "!", 1, MSG_NOSIGNAL);
    end(client);
  }
}

static void on_accept(struct ev_loop *of, ev_io *io, int events) {
  static long opened;
  (void)of, (void)events;
  int fd = accept4(io->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) return;
  no_delay(fd);
  struct client *client = calloc(1, sizeof *client);
  if (take == each || take == broadcast) {
    client->cutter.size = (size_t)bytes;
    client->cutter.rest = malloc((size_t)bytes);
  }
  if (member_count == member_room) members = realloc(members, (member_room = member_room * 2 + 64) * sizeof *members);
  client->place = member_count;
  members[member_count++] = client;
  if (take == push && opened < connections) numbered[opened++] = client;
  ev_io_init(&client->io, on_ready, fd, EV_READ);
  ev_io_start(loop, &client->io);
}

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    void (*take)(struct client *, size_t);
  } modes[] = { { "echo", echo }, { "block", block }, { "each", each }, { "broadcast", broadcast }, { "sink", sink },
                { "push", push }, { "produce", produce } };
  if (argc > 1 && strcmp(argv[1], "version") == 0)
    return printf("libev %d.%d\n", ev_version_major(), ev_version_minor()), 0;
  for (size_t i = 0; argc > 1 && i < sizeof modes / sizeof *modes; i++)
    if (strcmp(argv[1], modes[i].name) == 0) take = modes[i].take;
  if (!take) return unsupported("no such mode");
  if (number(argc, argv, "workers", 1) != 1) return unsupported("one loop is one thread");
  connections = number(argc, argv, "connections", connections);
  count = number(argc, argv, "count", count);
  bytes = take == each ? MESSAGE : number(argc, argv, "bytes", bytes);
  numbered = calloc((size_t)connections, sizeof *numbered);
  set_up_signals();
  loop = ev_default_loop(EVBACKEND_EPOLL);
  ev_async_init(&wake, on_wake);
  ev_async_start(loop, &wake);
  ev_timer_init(&timer, on_timer, 0.001, 0.001);
  ev_io listener;
  ev_io_init(&listener, on_accept, listen_here(), EV_READ);
  ev_io_start(loop, &listener);
  ev_run(loop, 0);
}
