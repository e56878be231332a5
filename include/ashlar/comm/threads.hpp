// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <atomic>
#include <concepts>
#include <condition_variable>
#include <cstddef>
#include <cstring>
#include <exception>
#include <list>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/comm/transport.hpp"
#include "ashlar/core/error.hpp"

namespace ashlar::comm {

class threads;

/// The ranks of one process: one mailbox for every ordered pair of them.
///
/// A message is copied once, by its receiver, straight from the sender's memory into its own; the
/// sender waits for that.
class thread_group {
 public:
  /// Throws: `argument_error` where `ranks` is not positive.
  explicit thread_group(int ranks)
      : ranks_(ranks),
        boxes_(ranks > 0 ? static_cast<std::size_t>(ranks) * static_cast<std::size_t>(ranks) : 0),
        gone_(ranks > 0 ? static_cast<std::size_t>(ranks) : 0) {
    if (ranks <= 0) {
      throw argument_error(
          "ashlar::comm::thread_group",
          "the number of ranks is " + std::to_string(ranks) + "; it must be positive");
    }
  }
  thread_group(const thread_group&) = delete;
  thread_group& operator=(const thread_group&) = delete;

  [[nodiscard]] int size() const { return ranks_; }

  /// The endpoint of one rank. Throws: `argument_error` where there is no such rank.
  [[nodiscard]] threads endpoint(int rank);

  /// Tells the others that a rank will neither send nor receive any more: who waits for it, and who
  /// does so later, gets `peer_failed`. Messages that it received before count.
  void leave(int rank) {
    gone_[check("ashlar::comm::thread_group::leave", rank)] = true;
    wake_all();
  }

  /// Gives up the group after an exception in `rank`: every rank that waits, or begins to wait,
  /// gets `peer_failed`.
  void fail(int rank) {
    check("ashlar::comm::thread_group::fail", rank);
    int nobody = -1;
    failed_.compare_exchange_strong(nobody, rank);
    wake_all();
  }

 private:
  friend class threads;

  enum class state { posted, taken, refused };
  struct envelope {
    std::span<const std::byte> bytes;
    int tag;
    state now = state::posted;
    std::size_t expected = 0;  // where refused
  };
  struct mailbox {
    std::mutex mutex;
    std::condition_variable changed;
    std::list<envelope*> posted;
  };

  std::size_t check(const char* entity, int rank) const {
    if (rank < 0 || rank >= ranks_) {
      throw argument_error(entity, "there is no rank " + std::to_string(rank) + " in a group of " +
                                       std::to_string(ranks_));
    }
    return static_cast<std::size_t>(rank);
  }
  mailbox& box(int from, int to) {
    return boxes_[check("ashlar::comm::threads", from) * static_cast<std::size_t>(ranks_) +
                  check("ashlar::comm::threads", to)];
  }
  void wake_all() {
    for (mailbox& b : boxes_) {
      // The lock makes sure that nobody is between looking at the flags and falling asleep.
      { const std::lock_guard lock(b.mutex); }
      b.changed.notify_all();
    }
  }
  /// Returns: whom `peer`'s partner waits for in vain, or -1.
  [[nodiscard]] int lost(int peer) const {
    const int failed = failed_;
    return failed >= 0 ? failed : gone_[static_cast<std::size_t>(peer)] ? peer : -1;
  }

  int ranks_;
  std::vector<mailbox> boxes_;  // [from * ranks + to]
  std::vector<std::atomic<bool>> gone_;
  std::atomic<int> failed_ = -1;
};

/// One rank of a `thread_group`. Models `Transport`.
///
/// `send` returns once the receiver has the message, so two ranks that both `send` first wait for
/// ever: such pairs use `sendrecv`. Several threads may use one rank at once with different tags.
/// Throws: `size_mismatch` (the group stays usable), `peer_failed`, and `argument_error` where a
/// peer does not exist.
class threads {
 public:
  threads(thread_group& group, int rank) : group_(&group), rank_(rank) {
    group.check("ashlar::comm::threads", rank);
  }

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int size() const { return group_->size(); }

  void send(int to, std::span<const std::byte> out, int tag) {
    outgoing message(*this, to, out, tag);
    message.wait();
  }

  void recv(int from, std::span<std::byte> in, int tag) {
    thread_group::mailbox& box = group_->box(from, rank_);
    std::unique_lock lock(box.mutex);
    auto at = box.posted.end();
    while ((at = find(box, tag)) == box.posted.end()) {
      throw_if_lost(from);
      box.changed.wait(lock);
    }
    thread_group::envelope& message = **at;
    box.posted.erase(at);
    const std::size_t sent = message.bytes.size();
    if (sent == in.size()) {
      if (sent != 0) {
        std::memcpy(in.data(), message.bytes.data(), sent);
      }
      message.now = thread_group::state::taken;
    } else {
      message.expected = in.size();
      message.now = thread_group::state::refused;
    }
    box.changed.notify_all();  // under the lock: afterwards the sender may destroy the message
    if (sent != in.size()) {
      throw size_mismatch(from, rank_, tag, sent, in.size());
    }
  }

  /// Sends and receives at once. Requires: `in` and `out` do not overlap.
  void sendrecv(int to, std::span<const std::byte> out, int from, std::span<std::byte> in,
                int tag) {
    outgoing message(*this, to, out, tag);
    recv(from, in, tag);
    message.wait();
  }

 private:
  /// A posted message; it is withdrawn where its sender gives up before somebody took it.
  class outgoing {
   public:
    outgoing(threads& sender, int to, std::span<const std::byte> bytes, int tag)
        : sender_(sender),
          box_(sender.group_->box(sender.rank_, to)),
          to_(to),
          message_{.bytes = bytes, .tag = tag} {
      const std::lock_guard lock(box_.mutex);
      box_.posted.push_back(&message_);
      box_.changed.notify_all();
    }
    outgoing(const outgoing&) = delete;
    outgoing& operator=(const outgoing&) = delete;
    ~outgoing() {
      const std::lock_guard lock(box_.mutex);
      if (message_.now == thread_group::state::posted) {
        box_.posted.remove(&message_);
      }
    }

    void wait() {
      std::unique_lock lock(box_.mutex);
      while (message_.now == thread_group::state::posted) {
        sender_.throw_if_lost(to_);
        box_.changed.wait(lock);
      }
      if (message_.now == thread_group::state::refused) {
        throw size_mismatch(sender_.rank_, to_, message_.tag, message_.bytes.size(),
                            message_.expected);
      }
    }

   private:
    threads& sender_;
    thread_group::mailbox& box_;
    int to_;
    thread_group::envelope message_;
  };

  static std::list<thread_group::envelope*>::iterator find(thread_group::mailbox& box, int tag) {
    auto at = box.posted.begin();
    while (at != box.posted.end() && (*at)->tag != tag) {
      ++at;
    }
    return at;
  }
  void throw_if_lost(int peer) const {
    if (const int failed = group_->lost(peer); failed >= 0) {
      throw peer_failed(rank_, failed);
    }
  }

  thread_group* group_;
  int rank_;
};

inline threads thread_group::endpoint(int rank) { return {*this, rank}; }

static_assert(Transport<threads>);

/// Calls `f(endpoint)` on `ranks` threads, one per rank of a new group, and waits for all of them.
///
/// Returns: what the ranks returned, by rank; nothing where `f` returns `void`.
/// Throws:  the first exception of a rank, after the others have ended: those that wait for a
///          message get `peer_failed`. `argument_error` where `ranks` is not positive.
template <class F>
  requires std::invocable<F&, threads&>
auto run(int ranks, F&& f) {
  using result = std::invoke_result_t<F&, threads&>;
  thread_group group(ranks);
  std::mutex mutex;
  std::exception_ptr first;
  using slot = std::conditional_t<std::is_void_v<result>, char, std::optional<result>>;
  std::vector<slot> results(static_cast<std::size_t>(ranks));
  const auto give_up = [&](int rank) {
    {
      const std::lock_guard lock(mutex);
      if (!first) {
        first = std::current_exception();
      }
    }
    group.fail(rank);
  };
  const auto body = [&](int rank) {
    try {
      threads endpoint = group.endpoint(rank);
      if constexpr (std::is_void_v<result>) {
        f(endpoint);
      } else {
        results[static_cast<std::size_t>(rank)].emplace(f(endpoint));
      }
      group.leave(rank);
    } catch (...) {
      give_up(rank);
    }
  };
  std::vector<std::thread> running;
  running.reserve(static_cast<std::size_t>(ranks));
  for (int rank = 0; rank < ranks; ++rank) {
    try {
      running.emplace_back(body, rank);
    } catch (...) {  // the system has no thread left
      give_up(rank);
      break;
    }
  }
  for (std::thread& t : running) {
    t.join();
  }
  if (first) {
    std::rethrow_exception(first);
  }
  if constexpr (!std::is_void_v<result>) {
    std::vector<result> values;
    values.reserve(results.size());
    for (auto& value : results) {
      values.push_back(std::move(*value));
    }
    return values;
  }
}

}  // namespace ashlar::comm
