// The servers of the benchmark on Asio: a chain of asynchronous reads and writes for each connection.
#include <array>
#include <asio.hpp>
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_set>
#include <vector>

#include "peer.h"

using asio::ip::tcp;

static long connections = 64, count = 1000, bytes = 1024;

class Client : public std::enable_shared_from_this<Client> {
 public:
  explicit Client(tcp::socket socket) : socket_(std::move(socket)) { socket_.set_option(tcp::no_delay(true)); }
  virtual ~Client() = default;
  virtual void start() { read(); }

  // Queued; one write is under way at a time.
  void send(const void *data, size_t len, std::function<void()> sent = {}) {
    auto from = static_cast<const char *>(data);
    waiting_.push_back({std::vector<char>(from, from + len), std::move(sent)});
    if (waiting_.size() == 1) write_next();
  }

 protected:
  virtual void take(char *data, size_t len) = 0;
  virtual void ended() {}

  void read() {
    socket_.async_read_some(asio::buffer(buffer_), [self = shared_from_this()](std::error_code error, size_t len) {
      if (error) return self->end(error);
      self->take(self->buffer_.data(), len);
    });
  }

  void end(std::error_code error) {
    if (error == asio::error::eof) ended();
    left();
  }
  virtual void left() {}

  tcp::socket socket_;
  std::array<char, 16 << 10> buffer_;

 private:
  struct Piece {
    std::vector<char> bytes;
    std::function<void()> sent;
  };

  void write_next() {
    auto &piece = waiting_.front();
    asio::async_write(socket_, asio::buffer(piece.bytes), [self = shared_from_this()](std::error_code error, size_t) {
      if (self->waiting_.front().sent) self->waiting_.front().sent();
      self->waiting_.pop_front();
      if (error) return self->socket_.close();
      if (!self->waiting_.empty()) self->write_next();
    });
  }

  std::deque<Piece> waiting_;
};

// Reads again when what was read is written: no queue, no copy.
class Echo : public Client {
 public:
  using Client::Client;

 protected:
  void take(char *data, size_t len) override {
    asio::async_write(socket_, asio::buffer(data, len), [self = shared_from_this(), this](std::error_code error, size_t) {
      if (!error) read();
    });
  }
};

class Block : public Echo {
 public:
  using Echo::Echo;

 protected:
  void take(char *data, size_t len) override {
    if (data[0] == 'B') std::this_thread::sleep_for(std::chrono::milliseconds(50));
    Echo::take(data, len);
  }
};

class Cutting : public Client {
 public:
  explicit Cutting(tcp::socket socket) : Client(std::move(socket)), rest_(bytes) {
    cutter_ = {rest_.data(), rest_.size(), 0};
  }

 protected:
  virtual void message(const uint8_t *data) = 0;
  void take(char *data, size_t len) override {
    auto call = [](void *context, const uint8_t *message) { static_cast<Cutting *>(context)->message(message); };
    cut(&cutter_, reinterpret_cast<uint8_t *>(data), len, call, this);
    read();
  }

 private:
  std::vector<uint8_t> rest_;
  cutter cutter_;
};

class Each : public Cutting {
 public:
  using Cutting::Cutting;

 protected:
  void message(const uint8_t *data) override { send(data, bytes); }
};

class Broadcast : public Cutting {
 public:
  using Cutting::Cutting;
  void start() override {
    all_.insert(this);
    read();
  }

 protected:
  void message(const uint8_t *data) override {
    for (auto *each : all_) each->send(data, bytes);
  }
  void left() override { all_.erase(this); }

 private:
  static inline std::unordered_set<Client *> all_;
};

class Sink : public Client {
 public:
  using Client::Client;

 protected:
  void take(char *, size_t) override { read(); }
  void ended() override { send("!", 1); }
};

// Threads of the program's own post their messages to the loop.
class Push : public Client {
 public:
  using Client::Client;
  void start() override {
    if (all_.size() < static_cast<size_t>(connections)) all_.push_back(std::static_pointer_cast<Push>(shared_from_this()));
    read();
  }

 protected:
  void take(char *, size_t len) override {
    ready_ += len;
    if (ready_ == static_cast<size_t>(connections))
      for (long i = 0; i < THREADS; i++) std::thread(push, i).detach();
    read();
  }

 private:
  static void push(long first) {
    for (long k = 0; k < count; k++)
      for (long i = first; i < connections; i += THREADS) {
        {
          std::unique_lock<std::mutex> lock(mutex_);
          if (unsent_[first] == MOST_UNSENT) has_room_.wait(lock, [&] { return unsent_[first] <= MOST_UNSENT / 2; });
          unsent_[first]++;
        }
        std::array<uint8_t, MESSAGE> message;
        fill_message(message.data(), k);
        asio::post(all_[i]->socket_.get_executor(), [to = all_[i], message, first] {
          to->send(message.data(), message.size(), [first] {
            std::lock_guard<std::mutex> lock(mutex_);
            if (--unsent_[first] == MOST_UNSENT / 2) has_room_.notify_all();
          });
        });
      }
  }

  static inline std::vector<std::shared_ptr<Push>> all_;
  static inline size_t ready_ = 0;
  static inline std::mutex mutex_;
  static inline std::condition_variable has_room_;
  static inline std::array<int, THREADS> unsent_ = {};
};

class Produce : public Client {
 public:
  explicit Produce(tcp::socket socket) : Client(std::move(socket)), timer_(socket_.get_executor()) {}

 protected:
  void take(char *, size_t) override {
    left_ = count;
    produce();
  }

 private:
  void produce() {
    static const std::array<char, PIECE> zeros = {};
    for (int i = 0; i < 16 && left_ > 0; i++) {
      auto piece = std::min<long>(left_, PIECE);
      send(zeros.data(), piece);
      left_ -= piece;
    }
    timer_.expires_after(std::chrono::milliseconds(1));
    if (left_ > 0) timer_.async_wait([self = shared_from_this(), this](std::error_code) { produce(); });
  }

  asio::steady_timer timer_;
  long left_ = 0;
};

template <class Kind>
static void accept(tcp::acceptor &acceptor) {
  acceptor.async_accept([&](std::error_code error, tcp::socket socket) {
    if (!error) std::make_shared<Kind>(std::move(socket))->start();
    accept<Kind>(acceptor);
  });
}

int main(int argc, char **argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  if (mode == "version") return printf("Asio %d.%d.%d\n", ASIO_VERSION / 100000, ASIO_VERSION / 100 % 1000, ASIO_VERSION % 100), 0;
  if (number(argc, argv, "workers", 1) != 1) return unsupported("one io_context on one thread, as here, needs no locks");
  connections = number(argc, argv, "connections", connections);
  count = number(argc, argv, "count", count);
  bytes = mode == "each" ? long{MESSAGE} : number(argc, argv, "bytes", bytes);
  set_up_signals();
  asio::io_context loop(mode == "push" ? ASIO_CONCURRENCY_HINT_DEFAULT : 1);
  tcp::acceptor acceptor(loop, tcp::v4());
  acceptor.bind({asio::ip::address_v4::loopback(), 0});
  acceptor.listen(4096);
  if (mode == "echo") accept<Echo>(acceptor);
  else if (mode == "block") accept<Block>(acceptor);
  else if (mode == "each") accept<Each>(acceptor);
  else if (mode == "broadcast") accept<Broadcast>(acceptor);
  else if (mode == "sink") accept<Sink>(acceptor);
  else if (mode == "push") accept<Push>(acceptor);
  else if (mode == "produce") accept<Produce>(acceptor);
  else return unsupported("no such mode");
  say_port(acceptor.native_handle());
  loop.run();
}
