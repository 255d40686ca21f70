/* The floor: servers that are nothing but a level-triggered epoll loop. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include "peer.h"

struct client {
  int fd;
  long number;
  struct cutter cutter;
  char *rest; /* what the kernel did not take; nothing is read meanwhile */
  size_t rest_len;
  long left;
  size_t place;
};

static int epoll;
static char buffer[BUFFER];
static long connections = 64, count = 1000, bytes = 1024;
static struct client **members, **numbered;
static size_t member_count, member_room;

static void end(struct client *client) {
  members[client->place] = members[--member_count];
  members[client->place]->place = client->place;
  close(client->fd);
  free(client->cutter.rest);
  free(client->rest);
  free(client);
}

static void watch(struct client *client, uint32_t events, int how) {
  struct epoll_event event = { .events = events, .data.ptr = client };
  epoll_ctl(epoll, how, client->fd, &event);
}

static void send_bytes(struct client *client, const char *data, size_t len) {
  while (client->rest_len == 0 && len > 0) {
    ssize_t sent = send(client->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
      if (errno != EAGAIN) return; /* the next read tells */
      break;
    }
    data += sent;
    len -= (size_t)sent;
  }
  if (len == 0) return;
  client->rest = realloc(client->rest, client->rest_len + len);
  memcpy(client->rest + client->rest_len, data, len);
  client->rest_len += len;
  watch(client, EPOLLOUT, EPOLL_CTL_MOD);
}

static void produce_more(struct client *client);

static void send_rest(struct client *client) {
  ssize_t sent = send(client->fd, client->rest, client->rest_len, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent < 0 && errno != EAGAIN) return end(client);
  if (sent <= 0) return;
  client->rest_len -= (size_t)sent;
  memmove(client->rest, client->rest + sent, client->rest_len);
  if (client->rest_len > 0) return;
  free(client->rest);
  client->rest = NULL;
  watch(client, EPOLLIN, EPOLL_CTL_MOD);
  produce_more(client);
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

/* push: each thread sends by itself, and waits by poll where the kernel has no room */

static void *pusher(void *context) {
  for (long k = 0; k < count; k++) {
    uint8_t message[MESSAGE];
    fill_message(message, k);
    for (long i = (long)(intptr_t)context; i < connections; i += THREADS) {
      int fd = numbered[i]->fd;
      for (size_t done = 0; done < MESSAGE;) {
        ssize_t sent = send(fd, message + done, MESSAGE - done, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0) done += (size_t)sent;
        else if (errno == EAGAIN) poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, -1);
        else return NULL;
      }
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

/* produce: writes until the kernel has no room, and goes on when it has */

static void produce_more(struct client *client) {
  static const char zeros[PIECE];
  while (client->left > 0 && client->rest_len == 0) {
    size_t piece = client->left < PIECE ? (size_t)client->left : PIECE;
    client->left -= (long)piece;
    send_bytes(client, zeros, piece);
  }
}

static void produce(struct client *client, size_t len) {
  (void)len;
  client->left = count;
  produce_more(client);
}

static void (*take)(struct client *, size_t);

static void accept_one(int listener) {
  static long opened;
  int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) return;
  no_delay(fd);
  struct client *client = calloc(1, sizeof *client);
  client->fd = fd;
  if (take == each || take == broadcast) {
    client->cutter.size = (size_t)bytes;
    client->cutter.rest = malloc((size_t)bytes);
  }
  if (member_count == member_room) members = realloc(members, (member_room = member_room * 2 + 64) * sizeof *members);
  client->place = member_count;
  members[member_count++] = client;
  if (take == push && opened < connections) numbered[opened++] = client;
  watch(client, EPOLLIN, EPOLL_CTL_ADD);
}

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    void (*take)(struct client *, size_t);
  } modes[] = { { "echo", echo }, { "block", block }, { "each", each }, { "broadcast", broadcast }, { "sink", sink },
                { "push", push }, { "produce", produce } };
  for (size_t i = 0; argc > 1 && i < sizeof modes / sizeof *modes; i++)
    if (strcmp(argv[1], modes[i].name) == 0) take = modes[i].take;
  if (!take) return unsupported("no such mode");
  if (number(argc, argv, "workers", 1) != 1) return unsupported("one loop is one thread");
  connections = number(argc, argv, "connections", connections);
  count = number(argc, argv, "count", count);
  bytes = take == each ? MESSAGE : number(argc, argv, "bytes", bytes);
  numbered = calloc((size_t)connections, sizeof *numbered);
  set_up_signals();
  epoll = epoll_create1(EPOLL_CLOEXEC);
  int listener = listen_here();
  struct epoll_event event = { .events = EPOLLIN, .data.ptr = NULL };
  epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
  static struct epoll_event events[256];
  for (;;) {
    int ready = epoll_wait(epoll, events, 256, -1);
    for (int i = 0; i < ready; i++) {
      struct client *client = events[i].data.ptr;
      if (!client) {
        accept_one(listener);
        continue;
      }
      if (events[i].events & EPOLLOUT) {
        send_rest(client);
        continue;
      }
      ssize_t got = recv(client->fd, buffer, sizeof buffer, 0);
      if (got > 0) {
        take(client, (size_t)got);
      } else if (got == 0 || errno != EAGAIN) {
        if (got == 0 && take == sink) send(client->fd, "!", 1, MSG_NOSIGNAL);
        end(client);
      }
    }
  }
}
