/* The servers of the benchmark on libevent's bufferevents. */
#define _GNU_SOURCE
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <event2/thread.h>
#include <pthread.h>
#include "peer.h"

struct client {
  struct bufferevent *stream;
  struct cutter cutter;
  long left;
  size_t place;
  int is_ending;
};

static struct event_base *base;
static char buffer[BUFFER];
static long connections = 64, count = 1000, bytes = 1024;
static struct client **members, **numbered;
static size_t member_count, member_room;
enum { MOST_WAITING = 1 << 20 };

static void end(struct client *client) {
  members[client->place] = members[--member_count];
  members[client->place]->place = client->place;
  bufferevent_free(client->stream);
  free(client->cutter.rest);
  free(client);
}

static void send_bytes(struct client *client, const void *data, size_t len) {
  bufferevent_write(client->stream, data, len);
}

static void block(struct client *client, size_t len) {
  if (buffer[0] == 'B') usleep(50000);
  send_bytes(client, buffer, len);
}

static void answer(void *context, const uint8_t *message) { send_bytes(context, message, (size_t)bytes); }

static void each(struct client *client, size_t len) { cut(&client->cutter, (uint8_t *)buffer, len, answer, client); }

static void tell_all(void *context, const uint8_t *message) {
  (void)context;
  for (size_t i = 0; i < member_count; i++) send_bytes(members[i], message, (size_t)bytes);
}

static void broadcast(struct client *client, size_t len) { cut(&client->cutter, (uint8_t *)buffer, len, tell_all, client); }

static void sink(struct client *client, size_t len) { (void)client, (void)len; }

/* push: bufferevents that were made thread-safe are written by the threads themselves. */

static void *pusher(void *context) {
  for (long k = 0; k < count; k++) {
    uint8_t message[MESSAGE];
    fill_message(message, k);
    for (long i = (long)(intptr_t)context; i < connections; i += THREADS) {
      struct evbuffer *output = bufferevent_get_output(numbered[i]->stream);
      while (evbuffer_get_length(output) >= MOST_UNSENT / 16 * MESSAGE) usleep(50);
      send_bytes(numbered[i], message, MESSAGE);
    }
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

static struct event *timer;
static struct client *reader;

static void on_timer(evutil_socket_t none, short events, void *context) {
  static const char zeros[PIECE];
  (void)none, (void)events, (void)context;
  for (int i = 0; i < 16 && reader->left > 0; i++) {
    size_t piece = reader->left < PIECE ? (size_t)reader->left : PIECE;
    reader->left -= (long)piece;
    send_bytes(reader, zeros, piece);
  }
  if (reader->left == 0) event_del(timer);
}

static void produce(struct client *client, size_t len) {
  (void)len;
  reader = client;
  client->left = count;
  event_add(timer, &(struct timeval){ .tv_usec = 1000 });
}

static void echo(struct client *client, size_t len) { (void)client, (void)len; }

static void (*take)(struct client *, size_t);

static void on_read(struct bufferevent *stream, void *context) {
  struct evbuffer *input = bufferevent_get_input(stream), *output = bufferevent_get_output(stream);
  if (take == echo) {
    evbuffer_add_buffer(output, input);
    if (evbuffer_get_length(output) > MOST_WAITING) bufferevent_disable(stream, EV_READ);
    return;
  }
  for (int len; (len = evbuffer_remove(input, buffer, sizeof buffer)) > 0;) take(context, (size_t)len);
}

static void on_drained(struct bufferevent *stream, void *context) {
  struct client *client = context;
  if (client->is_ending) return end(client);
  bufferevent_enable(stream, EV_READ);
}

static void on_event(struct bufferevent *stream, short what, void *context) {
  struct client *client = context;
  if ((what & BEV_EVENT_EOF) && take == sink) {
    client->is_ending = 1;
    bufferevent_write(stream, "!", 1);
  } else if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) {
    end(client);
  }
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *from, int len, void *context) {
  static long opened;
  (void)listener, (void)from, (void)len, (void)context;
  no_delay(fd);
  struct client *client = calloc(1, sizeof *client);
  if (take == each || take == broadcast) {
    client->cutter.size = (size_t)bytes;
    client->cutter.rest = malloc((size_t)bytes);
  }
  if (member_count == member_room) members = realloc(members, (member_room = member_room * 2 + 64) * sizeof *members);
  client->place = member_count;
  members[member_count++] = client;
  client->stream = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE | (take == push ? BEV_OPT_THREADSAFE : 0));
  if (take == push && opened < connections) numbered[opened++] = client;
  bufferevent_setcb(client->stream, on_read, take == push || take == produce ? NULL : on_drained, on_event, client);
  bufferevent_enable(client->stream, EV_READ | EV_WRITE);
}

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    void (*take)(struct client *, size_t);
  } modes[] = { { "echo", echo }, { "block", block }, { "each", each }, { "broadcast", broadcast }, { "sink", sink },
                { "push", push }, { "produce", produce } };
  if (argc > 1 && strcmp(argv[1], "version") == 0) return printf("libevent %s\n", event_get_version()), 0;
  for (size_t i = 0; argc > 1 && i < sizeof modes / sizeof *modes; i++)
    if (strcmp(argv[1], modes[i].name) == 0) take = modes[i].take;
  if (!take) return unsupported("no such mode");
  if (number(argc, argv, "workers", 1) != 1) return unsupported("one loop is one thread");
  connections = number(argc, argv, "connections", connections);
  count = number(argc, argv, "count", count);
  bytes = take == each ? MESSAGE : number(argc, argv, "bytes", bytes);
  numbered = calloc((size_t)connections, sizeof *numbered);
  set_up_signals();
  if (take == push) evthread_use_pthreads();
  base = event_base_new();
  timer = event_new(base, -1, EV_PERSIST, on_timer, NULL);
  struct evconnlistener *listener = evconnlistener_new(base, on_accept, NULL, LEV_OPT_CLOSE_ON_FREE, 0, listen_here());
  if (!listener) return 1;
  event_base_dispatch(base);
}
