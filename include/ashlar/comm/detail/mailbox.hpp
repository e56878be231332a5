// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

/// Where sends and receives of threads meet: `comm::threads` moves what met.
namespace ashlar::comm::detail {

/// Held for a few instructions only.
class spin_lock {
 public:
  void lock() {
    for (int i = 0; taken_.test_and_set(std::memory_order_acquire); ++i) {
      if (i > 100) {
        std::this_thread::yield();
      }
    }
  }
  void unlock() { taken_.clear(std::memory_order_release); }

 private:
  std::atomic_flag taken_;
};

/// What different threads write lies this far apart.
inline constexpr std::size_t apart = 128;

/// Where the threads of a rank sleep until one of its messages changes.
struct alignas(apart) doorbell {
  std::mutex mutex;
  std::condition_variable changed;
  std::atomic<int> sleeping = 0;

  void ring() {
    if (sleeping.load() > 0) {
      // The lock makes sure that nobody is between looking and falling asleep.
      { const std::lock_guard lock(mutex); }
      changed.notify_all();
    }
  }
};

struct mailbox;

/// One side of a message.
struct posting {
  enum class state : std::uint8_t {
    open,    // nobody has met it
    met,     // it has a partner
    moving,  // one of the two copies it, or the receiver reads the sender's memory
    done,
    refused  // the sizes differ
  };
  mailbox* box = nullptr;
  int peer = -1;
  int tag = 0;
  bool sends = false;
  bool borrows = false;  // receives without a place
  /// Of a send: whom it met has a place of its size. Only a hint where the lock is not held.
  std::atomic<bool> has_place = false;
  std::uint64_t number = 0;  // in its box
  std::span<const std::byte> out;
  std::byte* in = nullptr;
  std::size_t size = 0;  // of the place; where a send was refused, of its receiver's
  posting* partner = nullptr;
  std::atomic<state> now = state::open;
};

/// Between one sender and one receiver: what has not met, in the order in which it came.
struct alignas(apart) mailbox {
  spin_lock lock;
  std::uint64_t next = 0;
  std::vector<posting*> open;

  /// Meets the first of the other side with the same tag, or waits in its place.
  /// Requires: the lock is held. Returns: whether it met one.
  bool meet(posting* mine) {
    const auto at = std::ranges::find_if(
        open, [&](const posting* p) { return p->tag == mine->tag && p->sends != mine->sends; });
    if (at == open.end()) {
      open.insert(std::ranges::upper_bound(open, mine->number, {}, &posting::number), mine);
      return false;
    }
    posting* const other = *at;
    open.erase(at);
    mine->partner = other;
    other->partner = mine;
    const posting* const receiver = mine->sends ? other : mine;
    posting* const sender = mine->sends ? mine : other;
    sender->has_place = !receiver->borrows && receiver->size == sender->out.size();
    mine->now = posting::state::met;
    other->now = posting::state::met;
    return true;
  }
};

}  // namespace ashlar::comm::detail
