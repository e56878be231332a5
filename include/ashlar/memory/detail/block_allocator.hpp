// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "ashlar/memory/action.hpp"
#include "ashlar/memory/detail/block.hpp"
#include "ashlar/memory/policies.hpp"
#include "ashlar/memory/resource.hpp"
#include "ashlar/memory/statistics.hpp"

namespace ashlar::memory::detail {

/// The free blocks of one kind and one queue.
struct pool_base {
  std::size_t kind = 0;
  queue_id queue = 0;
  std::uint64_t clock = 0;  ///< searches so far: the ages of free blocks
  std::size_t free_bytes = 0;
};

struct no_event {};
template <class Upstream>
struct event_of {
  using type = no_event;
};
template <HasEvents Upstream>
struct event_of<Upstream> {
  using type = typename Upstream::event;
};

/// Cuts the chip's segments into blocks and joins them again; one thread at a time.
///
/// A block that is freed joins its free neighbours and waits in the index of its pool and queue. A
/// request climbs the ladder: free blocks, callbacks, collection, the chip, the cache given back.
template <class Upstream, class Config>
class block_allocator {
  using sizes = typename Config::sizes;
  using segments = typename Config::segments;
  using split = typename Config::split;
  using placement = typename Config::placement;
  using event = typename event_of<Upstream>::type;
  static constexpr bool has_events = HasEvents<Upstream>;
  static constexpr std::size_t granule = Config::granule;

  struct pool : pool_base {
    typename Config::fit::index free;
  };
  struct use {
    block* of;
    queue_id by;
  };
  struct pending {
    block* of;
    queue_id by;
    event at;
  };

 public:
  struct callback {
    bool (*run)(void*);  ///< returns whether it freed something
    void* with;
  };

  [[nodiscard]] static constexpr std::size_t block_size(std::size_t bytes) {
    return (sizes::rounded(bytes + Config::slack) + granule - 1) / granule * granule;
  }

  /// What a request has come to: a block, or null and what was tried.
  struct outcome {
    block* found = nullptr;
    unsigned tried = 0;
    pool* in = nullptr;
  };

  /// A block of `wanted` bytes (`block_size(bytes)`) for `queue`.
  ///
  /// `make_room()` is called before the chip is asked: it may free blocks, and says whether it did.
  /// Throws: what the chip's `allocate` or a callback throws, `std::bad_alloc`; nothing changes.
  template <class MakeRoom>
  outcome allocate(std::size_t bytes, std::size_t wanted, queue_id queue, const char* label,
                   MakeRoom&& make_room) {
    outcome o;
    pool& p = pool_for(segments::pool(wanted), queue);
    o.in = &p;
    blocks_.reserve(3);
    by_address_.reserve(3);
    const auto took = [&](ladder step) { o.tried |= static_cast<unsigned>(step); };
    if (!pending_.empty()) {
      took(ladder::events);
      process_events();
    }
    block* b = find(p, wanted);
    if (b == nullptr && make_room()) {
      took(ladder::quick_lists);
      b = find(p, wanted);
    }
    if (b == nullptr && run_callbacks()) {
      took(ladder::callbacks);
      make_room();  // what a callback freed may wait for its own size
      b = find(p, wanted);
    }
    if (b == nullptr) {
      if (limit_ != no_limit && collect_above_ > 0) {
        took(ladder::collection);
        collect();
      }
      const std::size_t most = placement::most(wanted);
      if (wanted > no_limit / 4 - most) {
        return o;
      }
      const auto ask = [&] {
        const std::size_t whole = segments::bytes(wanted + most);
        block* given = from_chip(p, whole);
        if (segments::exact_when_short && given == nullptr && whole > wanted + most) {
          given = from_chip(p, wanted + most);
        }
        return given;
      };
      trim(segments::bytes(wanted + most), wanted);
      took(ladder::chip);
      b = ask();
      if (b == nullptr && split::max_split != no_limit) {
        took(ladder::release_oversized);
        if (release_oversized(p, wanted)) {
          b = ask();
        }
      }
      if (b == nullptr) {
        took(ladder::release_all);
        ++counts_.retries;
        release_cached();
        b = ask();
      }
      if (b == nullptr) {
        ++counts_.failures;
        log_.add(action::oom, nullptr, wanted, queue, label);
        return o;
      }
    }
    o.found = hand_out(p, *b, bytes, wanted, label);
    return o;
  }

  [[nodiscard]] block* find(const std::byte* address) const { return by_address_.find(address); }

  /// Gives back a block that was asked for as `bytes`. Requires: `b` is in use.
  /// Effects: where other queues use it, it stays until their events have happened.
  void free(block& b, std::size_t bytes) noexcept {
    b.used = false;
    counts_.allocated -= b.size;
    counts_.requested -= bytes;
    b.requested = 0;
    log_.add(action::free_requested, b.address, b.size, b.pool->queue, b.label);
    if constexpr (has_events) {
      if (b.shared) {
        b.shared = false;
        for (std::size_t i = 0; i < uses_.size();) {
          if (uses_[i].of == &b) {
            pending_.push_back({&b, uses_[i].by, Upstream::record(uses_[i].by)});
            ++b.waits_for;
            uses_[i] = uses_.back();
            uses_.pop_back();
          } else {
            ++i;
          }
        }
        return;
      }
    }
    take_back(b);
  }

  /// Queue `by` uses a block that was allocated on another one.
  void record_use(block& b, queue_id by)
    requires has_events
  {
    if (by == b.pool->queue) {
      return;
    }
    for (const use& u : uses_) {
      if (u.of == &b && u.by == by) {
        return;
      }
    }
    // So that giving the block back needs no memory.
    pending_.reserve(pending_.size() + uses_.size() + 1);
    uses_.push_back({&b, by});
    b.shared = true;
  }
  [[nodiscard]] bool any_shared() const { return !uses_.empty(); }

  /// Gives every segment without a block in use back to the chip, after all events.
  void release_cached() noexcept {
    if constexpr (has_events) {
      for (const pending& e : pending_) {
        Upstream::wait(e.at);
      }
      process_events();
    }
    for (std::size_t kind = segments::pools; kind-- > 0;) {  // large blocks first
      for (const auto& p : pools_) {
        if (p->kind == kind) {
          p->free.for_each([&](block& b) {
            if (!b.is_split()) {
              note_for_release(b);
            }
          });
          release_noted();
        }
      }
    }
  }

  void set_limit(std::size_t bytes, double collect_above) {
    limit_ = bytes;
    collect_above_ = collect_above;
  }
  [[nodiscard]] std::size_t limit() const { return limit_; }
  void add_callback(callback c) { callbacks_.push_back(c); }

  [[nodiscard]] const statistics& counts() const { return counts_; }
  [[nodiscard]] const auto& log() const { return log_; }
  auto& log() { return log_; }
  [[nodiscard]] std::size_t largest_free(const pool& p) const {
    const block* b = p.free.largest();
    return b != nullptr ? b->size : 0;
  }
  /// Calls `f` for every block, free or in use, in no order.
  template <class F>
  void for_each_block(F&& f) const {
    by_address_.for_each(f);
  }

 private:
  pool& pool_for(std::size_t kind, queue_id queue) {
    for (const auto& p : pools_) {
      if (p->kind == kind && p->queue == queue) [[likely]] {
        return *p;
      }
    }
    auto p = std::make_unique<pool>();
    p->kind = kind;
    p->queue = queue;
    pools_.push_back(std::move(p));
    return *pools_.back();
  }

  [[nodiscard]] std::size_t gap(const block& b, std::size_t wanted) const {
    return placement::gap(reinterpret_cast<std::uintptr_t>(b.address), wanted,
                          static_cast<std::size_t>(counts_.requests));
  }

  block* find(pool& p, std::size_t wanted) {
    ++p.clock;
    block* b = p.free.find(wanted);
    if (b != nullptr && b->size - wanted < gap(*b, wanted)) {
      b = p.free.find(wanted + placement::most(wanted));
    }
    if (b == nullptr || !split::takes(wanted, b->size)) {
      return nullptr;
    }
    p.free.erase(*b);
    p.free_bytes -= b->size;
    return b;
  }

  bool run_callbacks() {
    bool freed = false;
    for (const callback& c : callbacks_) {
      freed = c.run(c.with) || freed;
    }
    return freed;
  }

  block* from_chip(pool& p, std::size_t bytes) {
    if (limit_ != no_limit && (bytes > limit_ || counts_.reserved > limit_ - bytes)) {
      return nullptr;
    }
    std::byte* address = Upstream::allocate(bytes);
    if (address == nullptr) {
      return nullptr;
    }
    ++counts_.upstream_requests;
    counts_.reserved += bytes;
    counts_.peak_reserved = std::max(counts_.peak_reserved, counts_.reserved);
    log_.add(action::segment_alloc, address, bytes, p.queue, nullptr);
    block* b = blocks_.take();
    b->address = address;
    b->size = bytes;
    b->pool = &p;
    by_address_.insert(b);
    return b;
  }

  /// Cuts what is not wanted off both ends of a block that is in no index.
  block* hand_out(pool& p, block& found, std::size_t bytes, std::size_t wanted, const char* label) {
    block* b = &found;
    if (const std::size_t below = gap(*b, wanted); below != 0) {
      block& rest = cut(*b, below);
      keep(p, *b);
      b = &rest;
    }
    if (b->size > wanted && split::splits(p.kind, wanted, b->size)) {
      keep(p, cut(*b, wanted));
    }
    b->used = true;
    b->requested = bytes;
    b->label = label;
    ++counts_.requests;
    counts_.requested += bytes;
    counts_.allocated += b->size;
    counts_.peak_allocated = std::max(counts_.peak_allocated, counts_.allocated);
    log_.add(action::alloc, b->address, b->size, p.queue, label);
    return b;
  }

  /// Makes a block of what lies above the first `bytes` of `b`.
  block& cut(block& b, std::size_t bytes) noexcept {
    block& upper = *blocks_.take();
    upper.address = b.address + bytes;
    upper.size = b.size - bytes;
    upper.pool = b.pool;
    upper.previous = &b;
    upper.next = b.next;
    if (b.next != nullptr) {
      b.next->previous = &upper;
    }
    b.next = &upper;
    b.size = bytes;
    by_address_.insert(&upper);
    return upper;
  }

  void keep(pool& p, block& b) noexcept {
    b.born = p.clock;
    b.label = nullptr;
    p.free.insert(b);
    p.free_bytes += b.size;
  }
  void drop(pool& p, block& b) noexcept {
    p.free.erase(b);
    p.free_bytes -= b.size;
  }

  /// Joins a block that nobody uses with its free neighbours.
  void take_back(block& b) noexcept {
    auto& p = static_cast<pool&>(*b.pool);
    log_.add(action::free_completed, b.address, b.size, p.queue, b.label);
    block* joined = &b;
    if (b.previous != nullptr && b.previous->is_free()) {
      joined = b.previous;
      drop(p, *joined);
      absorb_next(*joined);
    }
    if (joined->next != nullptr && joined->next->is_free()) {
      drop(p, *joined->next);
      absorb_next(*joined);
    }
    keep(p, *joined);
  }
  void absorb_next(block& b) noexcept {
    block* gone = b.next;
    b.size += gone->size;
    b.next = gone->next;
    if (b.next != nullptr) {
      b.next->previous = &b;
    }
    by_address_.erase(gone->address);
    blocks_.give(gone);
  }

  /// Blocks whose events have happened, each queue's in order up to the first that has not.
  void process_events() noexcept {
    if constexpr (has_events) {
      std::size_t kept = 0;
      std::uint64_t behind = 0;  // queues, modulo 64, with an event that has not happened
      for (const pending& e : pending_) {
        const std::uint64_t queue = std::uint64_t{1} << e.by % 64;
        if ((behind & queue) != 0 || !Upstream::happened(e.at)) {
          behind |= queue;
          pending_[kept++] = e;
        } else if (--e.of->waits_for == 0) {
          take_back(*e.of);
        }
      }
      pending_.erase(pending_.begin() + static_cast<std::ptrdiff_t>(kept), pending_.end());
    }
  }

  // ---- giving memory back to the chip ----

  /// An index must not change while it is walked over: blocks are noted first.
  void note_for_release(block& b) noexcept {
    (noted_ == nullptr ? noted_ : last_noted_->noted) = &b;
    last_noted_ = &b;
  }
  std::size_t release_noted() noexcept {
    std::size_t released = 0;
    for (block* b = std::exchange(noted_, nullptr); b != nullptr;) {
      block* const then = b == last_noted_ ? nullptr : b->noted;
      released += b->size;
      release(*b);
      b = then;
    }
    return released;
  }
  void release(block& b) noexcept {
    auto& p = static_cast<pool&>(*b.pool);
    drop(p, b);
    log_.add(action::segment_free, b.address, b.size, p.queue, nullptr);
    counts_.reserved -= b.size;
    by_address_.erase(b.address);
    Upstream::free(b.address, b.size);
    blocks_.give(&b);
  }

  /// Makes up for a segment of `bytes` that serves `wanted`, as far as the policy asks for it.
  void trim(std::size_t bytes, std::size_t wanted) noexcept {
    const std::size_t allowed = Config::trim::allowed(counts_.allocated + wanted);
    for (const auto& p : pools_) {
      while (counts_.reserved + bytes > allowed) {
        block* whole = nullptr;
        p->free.for_each([&](block& b) {
          if (!b.is_split() && (whole == nullptr || b.size > whole->size)) {
            whole = &b;
          }
        });
        if (whole == nullptr) {
          break;
        }
        release(*whole);
      }
    }
  }

  /// Frees the oldest half of whole large blocks, by mean age, until enough is free or none is
  /// left.
  void collect() noexcept {
    const auto threshold = static_cast<std::size_t>(collect_above_ * static_cast<double>(limit_));
    if (counts_.reserved <= threshold) {
      return;
    }
    const std::size_t target = counts_.reserved - threshold;
    const auto for_each_whole = [&](auto&& f) {
      for (const auto& p : pools_) {
        if (p->kind + 1 == segments::pools) {
          p->free.for_each([&](block& b) {
            if (!b.is_split()) {
              f(*p, b);
            }
          });
        }
      }
    };
    double age = 0;
    std::size_t count = 0;
    for_each_whole([&](const pool& p, const block& b) {
      age += static_cast<double>(p.clock - b.born);
      ++count;
    });
    for (std::size_t released = 0; released < target && count > 0;) {
      const double mean = age / static_cast<double>(count);
      for_each_whole([&](const pool& p, block& b) {
        const auto its = static_cast<double>(p.clock - b.born);
        if (its >= mean) {
          age -= its;
          --count;
          note_for_release(b);
        }
      });
      const std::size_t now = release_noted();
      if (now == 0) {
        return;
      }
      released += now;
    }
  }

  /// Gives back the smallest oversized block that would have served, else the largest ones until
  /// together they are large enough.
  bool release_oversized(pool& p, std::size_t wanted) noexcept {
    const std::size_t enough = std::max(wanted, split::max_split);
    block* serves = nullptr;
    p.free.for_each([&](block& b) {
      if (b.size >= enough && !b.is_split() && (serves == nullptr || b.size < serves->size)) {
        serves = &b;
      }
    });
    if (serves != nullptr) {
      release(*serves);
      return true;
    }
    std::size_t released = 0;
    while (released < enough) {
      block* b = p.free.largest();
      if (b == nullptr || b->size < split::max_split || b->is_split()) {
        return false;
      }
      released += b->size;
      release(*b);
    }
    return true;
  }

  std::vector<std::unique_ptr<pool>> pools_;
  block_store blocks_;
  block_map by_address_;
  std::vector<use> uses_;
  std::vector<pending> pending_;
  std::vector<callback> callbacks_;
  block* noted_ = nullptr;  ///< the first to be given back
  block* last_noted_ = nullptr;
  std::size_t limit_ = no_limit;
  double collect_above_ = 0;  ///< a share of `limit_`; 0: never
  statistics counts_;
  [[no_unique_address]] action_log<Config::record::actions> log_;
};

}  // namespace ashlar::memory::detail
