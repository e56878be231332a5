// SPDX-License-Identifier: Apache-2.0
#pragma once
// A transport from outside the library: ranks are processes, messages go through TCP connections of
// this machine. It models `ashlar::comm::Transport` by its form; nothing in the library knows it.
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "ashlar/comm/transport.hpp"
#include "ashlar/core/error.hpp"

namespace own {

/// Throws: `std::system_error` where a call of the system failed.
template <class Int>
Int sure(Int result, const char* call) {
  if (result < 0) {
    throw std::system_error(errno, std::generic_category(), call);
  }
  return result;
}

/// A descriptor, closed with its owner.
class descriptor {
 public:
  descriptor() = default;
  explicit descriptor(int fd) : fd_(fd) {}
  descriptor(descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  descriptor& operator=(descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~descriptor() {
    if (fd_ >= 0) {
      close(fd_);
    }
  }
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_ = -1;
};

/// A door that a rank listens at, made before there are processes, so that all know the number.
struct door {
  descriptor own;
  sockaddr_in at{};

  explicit door(int ranks) : own(sure(socket(AF_INET, SOCK_STREAM, 0), "socket")) {
    const int fd = own.get();
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    sure(bind(fd, reinterpret_cast<sockaddr*>(&at), sizeof at), "bind");
    socklen_t size = sizeof at;
    sure(getsockname(fd, reinterpret_cast<sockaddr*>(&at), &size), "getsockname");
    sure(listen(fd, ranks), "listen");  // all may knock before anybody opens
  }
};

/// One process of a group. Each has a connection to send through and one to receive through for
/// every rank, itself included. Messages move while somebody is in `test` or `wait`; a send has
/// ended when the system has taken its bytes. They are copied once on either side.
class tcp {
  struct header {
    std::uint64_t bytes = 0;
    std::int64_t tag = 0;
  };
  struct ticket {
    int peer;
    int tag;
    bool sends;
    std::span<std::byte> in = {};
    std::size_t sent = 0;  // what the peer has sent [bytes]
    bool done = false;
  };
  struct letter {
    header head;
    std::vector<std::byte> contents;
  };
  struct line {
    descriptor in, out;
    bool open_in = true;
    bool open_out = true;
    letter arriving;
    std::size_t arrived = 0;  // of its header and contents together
    std::deque<std::pair<std::weak_ptr<ticket>, std::vector<std::byte>>> leaving;
    std::size_t left = 0;     // of the first of them
    std::list<letter> early;  // nobody has asked for them yet
    std::list<std::weak_ptr<ticket>> waiting;
  };

 public:
  /// The only owner: where it is destroyed, a receive leaves its place alone, a send goes on.
  using request = std::shared_ptr<ticket>;

  /// Throws: `timed_out` where a process does not come, or does not say who it is, within
  ///         `patience_ms`; `peer_failed` where it goes before; `argument_error` where it says what
  ///         no rank would, or what another has said.
  tcp(int rank, const std::vector<door>& doors, int patience_ms = 30000)
      : rank_(rank), lines_(doors.size()) {
    for (std::size_t peer = 0; peer < doors.size(); ++peer) {
      const auto* const at = reinterpret_cast<const sockaddr*>(&doors[peer].at);
      lines_[peer].out = descriptor(sure(socket(AF_INET, SOCK_STREAM, 0), "socket"));
      const int out = lines_[peer].out.get();
      sure(connect(out, at, sizeof doors[peer].at), "connect");
      sure(send(out, &rank, sizeof rank, MSG_NOSIGNAL), "send");
    }
    const int own = doors[static_cast<std::size_t>(rank)].own.get();
    for (std::size_t i = 0; i < doors.size(); ++i) {
      await(own, patience_ms);
      descriptor in(sure(accept(own, nullptr, nullptr), "accept"));
      int peer = -1;
      for (std::size_t said = 0; said < sizeof peer;) {
        await(in.get(), patience_ms);
        const auto n =
            sure(recv(in.get(), reinterpret_cast<std::byte*>(&peer) + said, sizeof peer - said, 0),
                 "recv");
        if (n == 0) {
          throw ashlar::comm::peer_failed(rank_, missing());
        }
        said += static_cast<std::size_t>(n);
      }
      if (of(peer).in.get() >= 0) {
        throw ashlar::argument_error("own::tcp", "rank " + std::to_string(peer) + " came twice");
      }
      of(peer).in = std::move(in);
    }
  }
  tcp(const tcp&) = delete;
  tcp& operator=(const tcp&) = delete;

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int size() const { return static_cast<int>(lines_.size()); }

  request isend(int to, std::span<const std::byte> out, int tag) {
    const header head{out.size(), tag};
    std::vector<std::byte> bytes(sizeof head + out.size());
    std::memcpy(bytes.data(), &head, sizeof head);
    std::ranges::copy(out, bytes.begin() + sizeof head);
    auto t = std::make_shared<ticket>(ticket{to, tag, true});
    of(to).leaving.emplace_back(t, std::move(bytes));
    return t;
  }
  request irecv(int from, std::span<std::byte> in, int tag) {
    line& l = of(from);
    auto t = std::make_shared<ticket>(ticket{from, tag, false, in});
    const auto at = std::ranges::find(l.early, tag, [](const letter& e) { return e.head.tag; });
    if (at == l.early.end()) {
      l.waiting.push_back(t);
    } else {
      hand_over(*t, *at);
      l.early.erase(at);
    }
    return t;
  }
  /// Throws: `size_mismatch` on the receiver's side; `peer_failed` where the peer has gone.
  bool test(request& r) { return ended(*r, 0); }
  void wait(request& r) {
    while (!ended(*r, -1)) {
    }
  }

 private:
  line& of(int rank) {
    if (rank < 0 || rank >= size()) {
      throw ashlar::argument_error("own::tcp", "there is no rank " + std::to_string(rank));
    }
    return lines_[static_cast<std::size_t>(rank)];
  }

  /// The first rank that has not come.
  [[nodiscard]] int missing() const {
    return static_cast<int>(
        std::ranges::find_if(lines_, [](const line& l) { return l.in.get() < 0; }) -
        lines_.begin());
  }
  /// Waits for somebody to come, or to say who has come.
  void await(int fd, int patience_ms) const {
    pollfd door{fd, POLLIN, 0};
    if (sure(poll(&door, 1, patience_ms), "poll") == 0) {
      throw ashlar::comm::timed_out(rank_, missing(), 0, false, patience_ms / 1000.0);
    }
  }

  bool ended(ticket& t, int patience) {
    if (!t.done) {
      if (const line& l = of(t.peer); t.sends ? !l.open_out : !l.open_in) {
        throw ashlar::comm::peer_failed(rank_, t.peer);
      }
      progress(patience);
    }
    if (t.done && !t.sends && t.sent != t.in.size()) {
      throw ashlar::comm::size_mismatch(t.peer, rank_, t.tag, t.sent, t.in.size());
    }
    return t.done;
  }

  static void hand_over(ticket& t, const letter& what) {
    t.sent = what.contents.size();
    t.done = true;
    if (t.sent == t.in.size()) {
      std::ranges::copy(what.contents, t.in.begin());
    }
  }

  /// Moves what can be moved at once; where that is nothing, waits as long as `patience` says.
  void progress(int patience) {
    std::vector<pollfd> fds;
    for (const line& l : lines_) {
      fds.push_back({l.open_in ? l.in.get() : -1, POLLIN, 0});
      fds.push_back({l.open_out && !l.leaving.empty() ? l.out.get() : -1, POLLOUT, 0});
    }
    if (poll(fds.data(), fds.size(), patience) < 0 && errno != EINTR) {  // a signal is no failure
      throw std::system_error(errno, std::generic_category(), "poll");
    }
    for (std::size_t i = 0; i < lines_.size(); ++i) {
      while (fds[2 * i].revents != 0 && read_some(lines_[i])) {
      }
      while (fds[2 * i + 1].revents != 0 && !lines_[i].leaving.empty() && write_some(lines_[i])) {
      }
    }
  }

  /// Counts `n` bytes that a call of the system has moved. Returns: whether there may be more.
  static bool moved(ssize_t n, std::size_t& count, bool& open) {
    if (n <= 0) {
      open = n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
      return false;
    }
    count += static_cast<std::size_t>(n);
    return true;
  }
  static bool write_some(line& l) {
    auto& [t, bytes] = l.leaving.front();
    const ssize_t n = send(l.out.get(), bytes.data() + l.left, bytes.size() - l.left,
                           MSG_NOSIGNAL | MSG_DONTWAIT);
    if (!moved(n, l.left, l.open_out)) {
      return false;
    }
    if (l.left == bytes.size()) {
      if (const request sent = t.lock()) {
        sent->done = true;
      }
      l.left = 0;
      l.leaving.pop_front();
    }
    return true;
  }
  static bool read_some(line& l) {
    letter& now = l.arriving;
    const bool heading = l.arrived < sizeof now.head;
    std::byte* const to = heading ? reinterpret_cast<std::byte*>(&now.head) + l.arrived
                                  : now.contents.data() + (l.arrived - sizeof now.head);
    const std::size_t all = sizeof now.head + (heading ? 0 : now.contents.size());
    if (!moved(recv(l.in.get(), to, all - l.arrived, MSG_DONTWAIT), l.arrived, l.open_in)) {
      return false;
    }
    if (heading && l.arrived == sizeof now.head) {
      now.contents.resize(now.head.bytes);
    }
    if (l.arrived >= sizeof now.head && l.arrived == sizeof now.head + now.contents.size()) {
      std::erase_if(l.waiting, [](const auto& t) { return t.expired(); });
      const auto at =
          std::ranges::find(l.waiting, now.head.tag, [](const auto& t) { return t.lock()->tag; });
      if (at == l.waiting.end()) {
        l.early.push_back(std::exchange(now, {}));
      } else {
        hand_over(*at->lock(), std::exchange(now, {}));
        l.waiting.erase(at);
      }
      l.arrived = 0;
    }
    return true;
  }

  int rank_;
  std::vector<line> lines_;
};

static_assert(ashlar::comm::Transport<tcp>);

/// Calls `f(transport)` in `ranks` processes; this one is rank 0.
///
/// Returns: whether it returned true in all of them.
template <class F>
bool on_processes(int ranks, const F& f) {
  std::vector<door> doors;
  for (int i = 0; i < ranks; ++i) {
    doors.emplace_back(ranks);
  }
  const auto as_rank = [&](int rank) {
    try {
      tcp transport(rank, doors);
      return static_cast<bool>(f(transport));
    } catch (...) {  // nothing may leave a process that was made here
      return false;
    }
  };
  std::vector<pid_t> others;
  for (int rank = 1; rank < ranks; ++rank) {
    others.push_back(sure(fork(), "fork"));
    if (others.back() == 0) {
      _exit(as_rank(rank) ? 0 : 1);
    }
  }
  bool all = as_rank(0);
  for (const pid_t child : others) {
    int status = 1;
    all = waitpid(child, &status, 0) == child && status == 0 && all;
  }
  return all;
}

}  // namespace own
