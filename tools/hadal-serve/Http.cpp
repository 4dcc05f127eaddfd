// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Connections, with limits of time and size that cpp-httplib's own lack: it
// lets a client send a byte every few seconds for ever, a line of any length,
// and a chunked body of any size.

#include "Http.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <system_error>
#include <unistd.h>

using namespace hadal;
using namespace hadal::serve;
using namespace std::chrono_literals;

/// What chunked encoding may add to a body.
static constexpr size_t framingBytes = 64 << 10;

/// Connections that wait to be accepted.
static constexpr int backlog = 1024;

static thread_local Connection *currentConnection = nullptr;

//===----------------------------------------------------------------------===//
// Connection
//===----------------------------------------------------------------------===//

Connection::Connection(int socket, HttpServer &server)
    : descriptor(socket), server(server) {
  currentConnection = this;
}

Connection::~Connection() {
  currentConnection = nullptr;
  shutdown(descriptor, SHUT_WR);
  linger();
  close(descriptor);
}

Connection &Connection::current() { return *currentConnection; }

/// Reads what the client still sends: to close now would make the system send
/// a reset, and the client might lose the answer over it.
void Connection::linger() {
  Clock::time_point until = Clock::now() + 2s;
  while (closing && !failed && waitUntil(POLLIN, until))
    if (recv(descriptor, buffer, sizeof(buffer), MSG_DONTWAIT) <= 0)
      return;
}

/// Waits for one of \p events, or the end of the connection.
bool Connection::waitUntil(short events, Clock::time_point until) const {
  for (;;) {
    auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        until - Clock::now());
    if (left.count() <= 0)
      return false;
    pollfd waited = {descriptor, events, 0};
    int count = poll(&waited, 1, int(std::min<int64_t>(left.count(), 60000)));
    if (count > 0)
      return true;
    if (count < 0 && errno != EINTR)
      return false;
  }
}

bool Connection::waitForRequest() {
  if (closing || failed)
    return false;
  allowedBytes = server.bounds.headerBytes;
  tooLarge = timedOut = inBody = false;
  Clock::time_point idleUntil = Clock::now() + server.bounds.idle;
  while (next == end) {
    pollfd waited[] = {{descriptor, POLLIN, 0}, {server.stopEvent, POLLIN, 0}};
    int count = poll(waited, 2, 250);
    if (count < 0 && errno != EINTR)
      return false;
    if (count > 0 && waited[1].revents)
      return false;
    if (count > 0 && waited[0].revents)
      break;
    // Others may need the place.
    if (Clock::now() > idleUntil || server.open >= server.bounds.connections)
      return false;
  }
  deadline = Clock::now() + server.bounds.receive;
  return true;
}

void Connection::beginBody() {
  inBody = true;
  allowedBytes = server.bounds.bodyBytes + framingBytes;
}

bool Connection::isPeerGone() const {
  pollfd waited = {descriptor, POLLRDHUP, 0};
  return poll(&waited, 1, 0) > 0 &&
         (waited.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL));
}

bool Connection::is_readable() const { return next < end || !failed; }

bool Connection::is_writable() const { return !failed && !isPeerGone(); }

ssize_t Connection::read(char *data, size_t bytes) {
  if (!allowedBytes) {
    tooLarge = closing = true;
    return -1;
  }
  if (next == end) {
    if (!waitUntil(POLLIN, deadline)) {
      timedOut = closing = true;
      return -1;
    }
    ssize_t got;
    do
      got = recv(descriptor, buffer, sizeof(buffer), 0);
    while (got < 0 && errno == EINTR);
    if (got <= 0) {
      failed = true;
      return got;
    }
    next = 0;
    end = size_t(got);
  }
  size_t count = std::min({bytes, end - next, allowedBytes});
  memcpy(data, buffer + next, count);
  next += count;
  allowedBytes -= count;
  return ssize_t(count);
}

ssize_t Connection::write(const char *data, size_t bytes) {
  Clock::time_point until = Clock::now() + server.bounds.send;
  size_t sent = 0;
  while (!failed && sent < bytes) {
    ssize_t count = send(descriptor, data + sent, bytes - sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count >= 0)
      sent += size_t(count);
    else if (errno == EAGAIN || errno == EWOULDBLOCK)
      failed = !waitUntil(POLLOUT, until);
    else if (errno != EINTR)
      failed = true;
  }
  return failed ? -1 : ssize_t(bytes);
}

static void readAddress(const sockaddr_storage &address, socklen_t length,
                        std::string &ip, int &port) {
  char host[NI_MAXHOST], service[NI_MAXSERV];
  if (getnameinfo(reinterpret_cast<const sockaddr *>(&address), length, host,
                  sizeof(host), service, sizeof(service),
                  NI_NUMERICHOST | NI_NUMERICSERV))
    return;
  ip = host;
  port = int(strtol(service, nullptr, 10));
}

void Connection::get_remote_ip_and_port(std::string &ip, int &port) const {
  sockaddr_storage address;
  socklen_t length = sizeof(address);
  if (!getpeername(descriptor, reinterpret_cast<sockaddr *>(&address), &length))
    readAddress(address, length, ip, port);
}

void Connection::get_local_ip_and_port(std::string &ip, int &port) const {
  sockaddr_storage address;
  socklen_t length = sizeof(address);
  if (!getsockname(descriptor, reinterpret_cast<sockaddr *>(&address), &length))
    readAddress(address, length, ip, port);
}

//===----------------------------------------------------------------------===//
// Server
//===----------------------------------------------------------------------===//

HttpServer::HttpServer(const HttpLimits &limits)
    : bounds(limits), stopEvent(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  set_payload_max_length(bounds.bodyBytes);
  // cpp-httplib would let two servers share a port.
  set_socket_options([](socket_t socket) {
    int yes = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  });
}

HttpServer::~HttpServer() {
  if (svr_sock_ >= 0)
    close(svr_sock_);
  close(stopEvent);
}

int HttpServer::bind(const std::string &host, int port, std::string &error) {
  errno = 0;
  if (port ? !bind_to_port(host, port) : (port = bind_to_any_port(host)) < 0) {
    error = "cannot listen on " + host + ":" + std::to_string(port) + ": " +
            (errno ? strerror(errno) : "no such address");
    return -1;
  }
  // Again, since cpp-httplib lets five connections wait.
  ::listen(svr_sock_, backlog);
  return port;
}

void HttpServer::halt() {
  uint64_t one = 1;
  while (write(stopEvent, &one, sizeof(one)) < 0 && errno == EINTR) {
  }
}

void HttpServer::serve() {
  for (;;) {
    joinFinished();
    // Those beyond the limit wait to be accepted.
    bool isFull = open >= bounds.connections;
    pollfd waited[] = {{stopEvent, POLLIN, 0},
                       {isFull ? -1 : int(svr_sock_), POLLIN, 0}};
    int count = poll(waited, 2, isFull ? 20 : 1000);
    if (count > 0 && waited[0].revents)
      break;
    if (count <= 0 || !waited[1].revents)
      continue;
    int socket = accept4(svr_sock_, nullptr, nullptr, SOCK_CLOEXEC);
    if (socket < 0) {
      // Out of files or memory: that of others comes back.
      if (errno != ECONNABORTED && errno != EINTR)
        std::this_thread::sleep_for(20ms);
      continue;
    }
    int yes = 1;
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    startWorker(socket);
  }
  // cpp-httplib cuts streams once it has no socket to listen on.
  for (Worker &worker : workers)
    worker.thread.join();
  workers.clear();
  close(svr_sock_.exchange(INVALID_SOCKET));
}

void HttpServer::startWorker(int socket) {
  ++open;
  Worker &worker = workers.emplace_back();
  try {
    worker.thread = std::thread([this, socket, &worker] {
      serveConnection(socket);
      --open;
      worker.isDone = true;
    });
  } catch (const std::system_error &) { // The system has no more threads.
    close(socket);
    --open;
    workers.pop_back();
  }
}

void HttpServer::joinFinished() {
  for (auto it = workers.begin(); it != workers.end();) {
    auto worker = it++;
    if (!worker->isDone)
      continue;
    worker->thread.join();
    workers.erase(worker);
  }
}

void HttpServer::serveConnection(int socket) {
  Connection connection(socket, *this);
  while (connection.waitForRequest()) {
    bool closes = false;
    bool goesOn = process_request(connection, /*close_connection=*/false,
                                  closes, [&](httplib::Request &request) {
                                    connection.beginBody();
                                    // Answers are neither compressed nor cut.
                                    request.headers.erase("Accept-Encoding");
                                    request.headers.erase("Range");
                                    request.ranges.clear();
                                  });
    if (!goesOn || closes)
      break;
  }
}
