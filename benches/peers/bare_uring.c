/* The floor on io_uring: one ring, accepts that go on by themselves, a receive and a send for each message. */
#define _GNU_SOURCE
#include <liburing.h>
#include "peer.h"

enum { ENTRIES = 4096, OWN_BUFFER = 16 << 10 };
enum operation { RECEIVE, SEND };

struct client {
  int fd;
  enum operation operation;
  size_t len, done;
  struct cutter cutter;
  char *out; /* what is being sent: the receive buffer itself, or answers that were gathered */
  size_t out_room;
  char buffer[];
};

static struct io_uring ring;
static long bytes = MESSAGE;
static const char *mode;
static size_t buffer_bytes = OWN_BUFFER;

static struct io_uring_sqe *next_entry(void) {
  struct io_uring_sqe *entry = io_uring_get_sqe(&ring);
  while (!entry) {
    io_uring_submit(&ring);
    entry = io_uring_get_sqe(&ring);
  }
  return entry;
}

static void receive(struct client *client) {
  struct io_uring_sqe *entry = next_entry();
  client->operation = RECEIVE;
  io_uring_prep_recv(entry, client->fd, client->buffer, buffer_bytes, 0);
  io_uring_sqe_set_data(entry, client);
}

static void send_rest(struct client *client) {
  struct io_uring_sqe *entry = next_entry();
  client->operation = SEND;
  io_uring_prep_send(entry, client->fd, client->out + client->done, client->len - client->done, MSG_NOSIGNAL);
  io_uring_sqe_set_data(entry, client);
}

static void end(struct client *client) {
  close(client->fd);
  if (client->out != client->buffer) free(client->out);
  free(client->cutter.rest);
  free(client);
}

static void gather(void *context, const uint8_t *message) {
  struct client *client = context;
  memcpy(client->out + client->len, message, MESSAGE);
  client->len += MESSAGE;
}

/* One send for each message: the next when the one before is done, which keeps their order. */
static void send_each(struct client *client) {
  struct io_uring_sqe *entry = next_entry();
  size_t left = client->len - client->done;
  client->operation = SEND;
  io_uring_prep_send(entry, client->fd, client->out + client->done, left < MESSAGE ? left : MESSAGE, MSG_NOSIGNAL);
  io_uring_sqe_set_data(entry, client);
}

static void received(struct client *client, size_t len) {
  if (strcmp(mode, "sink") == 0) return receive(client);
  if (mode[0] == 'b' && client->buffer[0] == 'B') usleep(50000);
  client->len = len;
  client->done = 0;
  if (strcmp(mode, "each") == 0) {
    client->len = 0;
    cut(&client->cutter, (uint8_t *)client->buffer, len, gather, client);
    return client->len == 0 ? receive(client) : send_each(client);
  }
  send_rest(client);
}

static void completed(struct client *client, int result) {
  if (result <= 0) {
    if (client->operation == RECEIVE && result == 0 && strcmp(mode, "sink") == 0) send(client->fd, "!", 1, MSG_NOSIGNAL);
    return end(client);
  }
  if (client->operation == RECEIVE) return received(client, (size_t)result);
  client->done += (size_t)result;
  if (client->done == client->len) return receive(client);
  if (strcmp(mode, "each") == 0) return send_each(client);
  send_rest(client);
}

static void accepted(int fd) {
  no_delay(fd);
  struct client *client = calloc(1, sizeof *client + buffer_bytes);
  client->fd = fd;
  client->out = client->buffer;
  if (strcmp(mode, "each") == 0) {
    client->cutter.size = (size_t)bytes;
    client->cutter.rest = malloc((size_t)bytes);
    client->out = malloc(buffer_bytes + MESSAGE);
  }
  receive(client);
}

static void accept_on(int listener) {
  struct io_uring_sqe *entry = next_entry();
  io_uring_prep_multishot_accept(entry, listener, NULL, NULL, SOCK_CLOEXEC);
  io_uring_sqe_set_data(entry, NULL);
}

int main(int argc, char **argv) {
  mode = argc > 1 ? argv[1] : "";
  if (strcmp(mode, "echo") && strcmp(mode, "block") && strcmp(mode, "each") && strcmp(mode, "sink"))
    return unsupported("only answers, as a floor");
  if (number(argc, argv, "workers", 1) != 1) return unsupported("one ring is one thread");
  set_up_signals();
  struct io_uring_params params = { .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN };
  int error = io_uring_queue_init_params(ENTRIES, &ring, &params);
  if (error < 0) {
    memset(&params, 0, sizeof params);
    error = io_uring_queue_init_params(ENTRIES, &ring, &params);
  }
  if (error < 0) return unsupported(strerror(-error));
  int listener = listen_here();
  accept_on(listener);
  for (;;) {
    if (io_uring_submit_and_wait(&ring, 1) < 0) continue;
    struct io_uring_cqe *completion;
    unsigned head, count = 0;
    io_uring_for_each_cqe(&ring, head, completion) {
      struct client *client = io_uring_cqe_get_data(completion);
      if (client) {
        completed(client, completion->res);
      } else {
        if (completion->res >= 0) accepted(completion->res);
        if (!(completion->flags & IORING_CQE_F_MORE)) accept_on(listener);
      }
      count++;
    }
    io_uring_cq_advance(&ring, count);
  }
}
