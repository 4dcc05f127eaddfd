// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Connections, with limits of time and size that cpp-httplib's own lack.

#ifndef HADAL_TOOLS_HADAL_SERVE_HTTP_H
#define HADAL_TOOLS_HADAL_SERVE_HTTP_H

#include <httplib.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <string>
#include <thread>

namespace hadal::serve {

struct HttpLimits {
  int64_t connections = 256;        ///< Others wait in the system's queue.
  size_t headerBytes = 32 << 10;    ///< Request line and headers.
  size_t bodyBytes = 1 << 20;       ///< As sent and as decoded: the same here.
  std::chrono::seconds idle{15};    ///< Between two requests.
  std::chrono::seconds receive{20}; ///< From the first byte to the last.
  std::chrono::seconds send{20};    ///< For one write.
};

class HttpServer;

/// The bytes of one client, and of one request after the other.
class Connection final : public httplib::Stream {
public:
  Connection(int socket, HttpServer &server);
  ~Connection() override;

  /// That which this thread serves.
  static Connection &current();

  /// Waits for the next request. \returns False if there will be none.
  bool waitForRequest();

  /// The headers have been read; a body may follow.
  void beginBody();

  /// Whether the client has hung up, so that an answer would reach nobody.
  bool isPeerGone() const;

  /// After the answer, no other request is read from here.
  void closeAfterwards() { closing = true; }
  bool isClosing() const { return closing; }
  /// Of the request: whether its headers, its body or its bytes went wrong.
  bool hasHeaders() const { return inBody; }
  bool isTooLarge() const { return tooLarge; }
  bool isTimedOut() const { return timedOut; }

  bool is_readable() const override;
  bool is_writable() const override;
  ssize_t read(char *data, size_t bytes) override;
  ssize_t write(const char *data, size_t bytes) override;
  void get_remote_ip_and_port(std::string &ip, int &port) const override;
  void get_local_ip_and_port(std::string &ip, int &port) const override;
  socket_t socket() const override { return descriptor; }

private:
  using Clock = std::chrono::steady_clock;
  bool waitUntil(short events, Clock::time_point deadline) const;
  void linger();

  const int descriptor;
  HttpServer &server;
  char buffer[16 << 10];
  size_t next = 0, end = 0; ///< What of `buffer` has not been read.
  size_t allowedBytes = 0;  ///< That may still be read of this part.
  Clock::time_point deadline;
  bool closing = false, tooLarge = false, timedOut = false, failed = false;
  bool inBody = false;
};

/// Accepts connections and gives each a thread. Routes and the formats of HTTP
/// are cpp-httplib's.
class HttpServer : public httplib::Server {
public:
  explicit HttpServer(const HttpLimits &limits);
  ~HttpServer() override;

  /// Binds and listens; takes any port for 0. \returns The port, or -1 with
  /// one line in \p error.
  int bind(const std::string &host, int port, std::string &error);

  /// Serves until halt() is called and the last answer has been sent.
  void serve();

  /// Ends serve(). From any thread.
  void halt();

  const HttpLimits &limits() const { return bounds; }
  int64_t connections() const { return open; }

private:
  friend class Connection;
  struct Worker {
    std::thread thread;
    std::atomic<bool> isDone = false;
  };
  void serveConnection(int socket);
  void startWorker(int socket);
  void joinFinished();

  const HttpLimits bounds;
  int stopEvent = -1; ///< Readable once halt() was called.
  std::atomic<int64_t> open = 0;
  std::list<Worker> workers; ///< Of serve()'s thread alone.
};

} // namespace hadal::serve

#endif // HADAL_TOOLS_HADAL_SERVE_HTTP_H
