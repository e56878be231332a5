// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <atomic>
#include <chrono>
#include <concepts>
#include <condition_variable>
#include <cstddef>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/comm/detail/mailbox.hpp"
#include "ashlar/comm/operation.hpp"
#include "ashlar/comm/recorder.hpp"
#include "ashlar/comm/transport.hpp"
#include "ashlar/core/error.hpp"

namespace ashlar::comm {

class threads;

/// The ranks of one process: one mailbox for every ordered pair of them.
///
/// A message is copied once, straight from the sender's memory into the receiver's, by whichever of
/// the two tests or waits first once both have begun it. A sender often has it in its cache, and
/// what is sent to and fro then stays there. Who waits looks for a while, then sleeps.
class thread_group {
 public:
  /// With a `timeout` other than 0, whoever waits longer gets `timed_out`.
  /// Throws: `argument_error` where `ranks` is not positive, or `timeout` negative or no number.
  explicit thread_group(int ranks, std::chrono::duration<double> timeout = {})
      : ranks_(ranks),
        timeout_(timeout),
        looks_(ranks <= static_cast<int>(std::thread::hardware_concurrency()) ? 4000 : 50),
        boxes_(ranks > 0 ? static_cast<std::size_t>(ranks) * static_cast<std::size_t>(ranks) : 0),
        recorders_(ranks > 0 ? static_cast<std::size_t>(ranks) : 0),
        bells_(ranks > 0 ? static_cast<std::size_t>(ranks) : 0),
        gone_(ranks > 0 ? static_cast<std::size_t>(ranks) : 0) {
    if (ranks <= 0) {
      throw argument_error(
          "ashlar::comm::thread_group",
          "the number of ranks is " + std::to_string(ranks) + "; it must be positive");
    }
    if (!(timeout.count() >= 0)) {
      throw argument_error("ashlar::comm::thread_group",
                           "the time-out is " + std::to_string(timeout.count()) +
                               " s; it must be 0, for none, or positive");
    }
  }
  thread_group(const thread_group&) = delete;
  thread_group& operator=(const thread_group&) = delete;

  [[nodiscard]] int size() const { return ranks_; }

  /// What a rank has joined lately. Throws: `argument_error` where there is no such rank.
  [[nodiscard]] const flight_recorder& recorder(int rank) const {
    return recorders_[check("ashlar::comm::thread_group::recorder", rank)];
  }

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

  std::size_t check(const char* entity, int rank) const {
    detail::check_rank(entity, rank, ranks_);
    return static_cast<std::size_t>(rank);
  }
  detail::mailbox& box(int from, int to) {
    return boxes_[check("ashlar::comm::threads", from) * static_cast<std::size_t>(ranks_) +
                  check("ashlar::comm::threads", to)];
  }
  detail::doorbell& bell(int rank) { return bells_[static_cast<std::size_t>(rank)]; }
  void wake_all() {
    for (detail::doorbell& b : bells_) {
      b.ring();
    }
  }
  /// Returns: whom `peer`'s partner waits for in vain, or -1.
  [[nodiscard]] int lost(int peer) const {
    const int failed = failed_;
    return failed >= 0 ? failed : gone_[static_cast<std::size_t>(peer)] ? peer : -1;
  }

  int ranks_;
  std::chrono::duration<double> timeout_;
  int looks_;                           // before falling asleep
  std::vector<detail::mailbox> boxes_;  // [from * ranks + to]
  std::vector<flight_recorder> recorders_;
  std::vector<detail::doorbell> bells_;
  std::vector<std::atomic<bool>> gone_;
  std::atomic<int> failed_ = -1;
};

/// One rank of a `thread_group`. Models `LendingTransport`.
///
/// `send` returns once the receiver has the message, so two ranks that both `send` first wait for
/// ever: such pairs use `sendrecv`. Several threads may use one rank at once with different tags.
/// Throws: `size_mismatch` (the group stays usable), `peer_failed`, `timed_out`, and
/// `argument_error` where a peer does not exist.
class threads : public blocking<threads> {
  using posting = detail::posting;
  using state = detail::posting::state;

 public:
  /// A message under way. Requires: it ends before its group.
  ///
  /// Whom a withdrawn one had met waits on in its old place, or meets the next; what has met by
  /// then stays with whom it met.
  class request {
   public:
    request() = default;
    request(request&&) = default;
    request& operator=(request&& other) noexcept {
      withdraw();
      side_ = std::move(other.side_);
      bell_ = other.bell_;
      own_ = other.own_;
      return *this;
    }
    ~request() { withdraw(); }

   private:
    friend class threads;
    void withdraw() noexcept;

    std::unique_ptr<posting> side_;
    detail::doorbell* bell_ = nullptr;  // the peer's
    detail::doorbell* own_ = nullptr;
  };

  threads(thread_group& group, int rank) : group_(&group), rank_(rank) {
    group.check("ashlar::comm::threads", rank);
  }

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int size() const { return group_->size(); }

  request isend(int to, std::span<const std::byte> out, int tag) {
    request r = make(group_->box(rank_, to), to, tag);
    r.side_->sends = true;
    r.side_->out = out;
    post(r);
    return r;
  }
  request irecv(int from, std::span<std::byte> in, int tag) {
    request r = make(group_->box(from, rank_), from, tag);
    r.side_->in = in.data();
    r.side_->size = in.size();
    post(r);
    return r;
  }
  /// Receives without a place: see `LendingTransport`.
  request iborrow(int from, std::size_t bytes, int tag) {
    request r = make(group_->box(from, rank_), from, tag);
    r.side_->size = bytes;
    r.side_->borrows = true;
    post(r);
    return r;
  }

  /// Returns: whether the message has ended, or, of a borrowed one, is there.
  bool test(request& r) {
    if (advance(r)) {
      return true;
    }
    if (const int failed = group_->lost(r.side_->peer); failed >= 0) {
      if (advance(r)) {  // it ended before its peer left
        return true;
      }
      throw peer_failed(rank_, failed);
    }
    return false;
  }

  void wait(request& r) {
    for (int i = 0; i < group_->looks_; ++i) {
      if (advance(r)) {
        return;
      }
      if (i % 64 == 63) {  // the peer may want this core
        std::this_thread::yield();
      }
    }
    detail::doorbell& bell = group_->bell(rank_);
    using clock = std::chrono::steady_clock;
    constexpr std::chrono::duration<double> longest(1e8);  // what the clock can add to now
    const auto limit = clock::now() + std::chrono::duration_cast<clock::duration>(
                                          std::min(group_->timeout_, longest));
    const struct sleeper {
      explicit sleeper(std::atomic<int>& n) : count(n) { ++count; }
      ~sleeper() { --count; }
      sleeper(const sleeper&) = delete;
      sleeper& operator=(const sleeper&) = delete;
      std::atomic<int>& count;
    } here(bell.sleeping);
    while (!test(r)) {
      std::unique_lock lock(bell.mutex);
      if (stirred(r)) {
        continue;
      }
      if (group_->timeout_.count() == 0) {
        bell.changed.wait(lock);
      } else if (bell.changed.wait_until(lock, limit) == std::cv_status::timeout) {
        lock.unlock();
        if (!test(r)) {
          throw timed_out(rank_, r.side_->peer, r.side_->tag, r.side_->sends,
                          group_->timeout_.count());
        }
        return;
      }
    }
  }

  [[nodiscard]] std::span<const std::byte> borrowed(const request& r) const {
    return r.side_->partner->out;
  }
  void give_back(request& r) { finish(r); }

  /// The group's records: see `RecordingTransport`.
  std::size_t enter(const operation& o) { return recorder(rank_).enter(o); }
  void exit(const operation& o, std::size_t number) { recorder(rank_).exit(o, number); }
  void compare(const operation& o, std::size_t number, int peer) const {
    operation other;
    if (!recorder(peer).agrees(o, number, other)) {
      throw collective_mismatch(rank_, o, peer, other);
    }
  }
  [[nodiscard]] std::vector<rank_report> absent(const operation& o, std::size_t number) const {
    std::vector<rank_report> found;
    for (int rank = 0; rank < size(); ++rank) {
      if (recorder(rank).joined(o.tag) < number) {
        std::string doing;
        for (const flight_recorder::entry& e : recorder(rank).last()) {
          doing = e.ended ? doing : describe(e.what);
        }
        found.push_back({rank, std::move(doing)});
      }
    }
    return found;
  }

 private:
  [[nodiscard]] flight_recorder& recorder(int rank) const {
    return group_->recorders_[static_cast<std::size_t>(rank)];
  }

  request make(detail::mailbox& box, int peer, int tag) {
    request r;
    r.side_ = std::make_unique<posting>();
    r.side_->box = &box;
    r.side_->peer = peer;
    r.side_->tag = tag;
    r.bell_ = &group_->bell(peer);
    r.own_ = &group_->bell(rank_);
    return r;
  }

  static void post(request& r) {
    posting* const mine = r.side_.get();
    {
      const std::lock_guard lock(mine->box->lock);
      mine->number = mine->box->next++;
      if (!mine->box->meet(mine)) {
        return;
      }
    }
    r.bell_->ring();
  }

  /// Does what can be done at once. Returns: whether that was all.
  bool advance(request& r) {
    posting& mine = *r.side_;
    const state now = mine.now.load(std::memory_order_acquire);
    if (mine.sends) {
      if (now == state::refused) {
        mine.now = state::done;
        throw size_mismatch(rank_, mine.peer, mine.tag, mine.out.size(), mine.size);
      }
      return now == state::done || (now == state::met && mine.has_place && place(r));
    }
    if (now != state::met) {
      return holds(mine, now);
    }
    posting* sender = nullptr;
    {
      const std::lock_guard lock(mine.box->lock);
      if (mine.now != state::met) {
        return false;  // the sender has withdrawn
      }
      sender = mine.partner;
      if (sender->out.size() != mine.size) {
        const std::size_t sent = sender->out.size();
        sender->size = mine.size;
        mine.partner = nullptr;
        mine.now = state::done;
        sender->now = state::refused;  // from here on it may be gone
        r.bell_->ring();
        throw size_mismatch(mine.peer, rank_, mine.tag, sent, mine.size);
      }
      sender->now.store(state::moving, std::memory_order_relaxed);
      mine.now.store(state::moving, std::memory_order_relaxed);
    }
    if (!mine.borrows) {
      if (mine.size != 0) {
        std::memcpy(mine.in, sender->out.data(), mine.size);
      }
      finish(r);
    }
    return true;
  }

  /// Puts a message where its receiver wants it. Returns: whether it could.
  bool place(request& r) {
    posting& mine = *r.side_;
    posting* receiver = nullptr;
    {
      const std::lock_guard lock(mine.box->lock);
      if (mine.now != state::met || !mine.has_place) {
        return false;  // the receiver was quicker, or has withdrawn
      }
      receiver = std::exchange(mine.partner, nullptr);
      receiver->partner = nullptr;
      receiver->now.store(state::moving, std::memory_order_relaxed);
      mine.now.store(state::moving, std::memory_order_relaxed);
    }
    if (mine.out.size() != 0) {
      std::memcpy(receiver->in, mine.out.data(), mine.out.size());
    }
    mine.now.store(state::done, std::memory_order_relaxed);
    receiver->now = state::done;  // from here on it may be gone
    r.bell_->ring();
    return true;
  }

  /// Whether a receive has what it wants.
  static bool holds(const posting& p, state now) {
    return now == state::done || (now == state::moving && p.borrows);
  }

  static void finish(request& r) {
    posting* const sender = std::exchange(r.side_->partner, nullptr);
    r.side_->now.store(state::done, std::memory_order_relaxed);
    if (sender != nullptr) {
      sender->now = state::done;  // from here on it may be gone
      r.bell_->ring();
    }
  }

  /// Whether there is something for `test` to see.
  bool stirred(const request& r) const {
    const posting& mine = *r.side_;
    const state now = mine.now;
    return (mine.sends ? now == state::done || now == state::refused ||
                             (now == state::met && mine.has_place)
                       : now == state::met || holds(mine, now)) ||
           group_->lost(mine.peer) >= 0;
  }

  thread_group* group_;
  int rank_;
};

inline void threads::request::withdraw() noexcept {
  if (!side_ || side_->now == state::done || side_->now == state::refused) {
    return;
  }
  if (side_->borrows && side_->now == state::moving) {
    finish(*this);
    return;
  }
  bool moves = false;
  bool again = false;  // the other has met the next
  {
    const std::lock_guard lock(side_->box->lock);
    if (side_->now == state::open) {
      std::erase(side_->box->open, side_.get());
    } else if (side_->now == state::met) {
      posting* const left = side_->partner;
      left->partner = nullptr;
      left->now = state::open;
      again = side_->box->meet(left);
    } else {
      moves = true;
    }
  }
  if (again) {
    bell_->ring();
    own_->ring();
  }
  while (moves && side_->now == state::moving) {
    std::this_thread::yield();
  }
}

inline threads thread_group::endpoint(int rank) { return {*this, rank}; }

static_assert(LendingTransport<threads>);

/// Calls `f(endpoint)` on `ranks` threads, one per rank of a new group, and waits for all of them.
///
/// Returns: what the ranks returned, by rank; nothing where `f` returns `void`.
/// Throws:  the first exception of a rank, after the others have ended: those that wait for a
///          message get `peer_failed`. `argument_error` as `thread_group`.
template <class F>
  requires std::invocable<F&, threads&>
auto run(int ranks, F&& f, std::chrono::duration<double> timeout = {}) {
  using result = std::invoke_result_t<F&, threads&>;
  thread_group group(ranks, timeout);
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
