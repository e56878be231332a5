// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "ashlar/memory/action.hpp"
#include "ashlar/memory/block_info.hpp"
#include "ashlar/memory/detail/block.hpp"
#include "ashlar/memory/detail/segment_store.hpp"
#include "ashlar/memory/policies.hpp"
#include "ashlar/memory/resource.hpp"
#include "ashlar/memory/statistics.hpp"

namespace ashlar::memory::detail {

struct no_event {};
template <class Upstream>
struct event_of {
  using type = no_event;
};
template <HasEvents Upstream>
struct event_of<Upstream> {
  using type = typename Upstream::event;
};

/// Serves requests from blocks of the chip's segments; one thread at a time.
///
/// A block that is freed joins its free neighbours and waits in the index of its pool and queue. A
/// request climbs the ladder: free blocks, callbacks, collection, the chip, the cache given back.
template <class Upstream, class Config>
class block_allocator : private segment_store<Upstream, Config> {
  using store = segment_store<Upstream, Config>;
  using typename store::pool;
  using typename store::segments;
  using typename store::split;
  using sizes = typename Config::sizes;
  using placement = typename Config::placement;
  using event = typename event_of<Upstream>::type;
  using store::counts_;
  using store::limit_;
  using store::log_;
  using store::pools_;
  static constexpr bool has_events = HasEvents<Upstream>;
  static constexpr std::size_t granule = Config::granule;

  struct use {
    block* of;
    queue_id by;
  };
  struct pending {
    block* of;
    queue_id by;
    event at;
  };
  struct capture {
    queue_id queue;
    pool_id into;
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
    std::size_t free_in_pool = 0;  ///< bytes; where it failed
    std::size_t largest_free = 0;
  };

  /// A block of `wanted` bytes (`block_size(bytes)`) for `queue`.
  ///
  /// `make_room()` is called before the chip is asked: it may free blocks, and says whether it did.
  /// Throws: what the chip or a callback throws, `std::bad_alloc`; nothing changes for callers.
  template <class MakeRoom>
  outcome allocate(std::size_t bytes, std::size_t wanted, queue_id queue, const char* label,
                   MakeRoom&& make_room) {
    outcome o;
    pool& p = this->pool_for(segments::pool(wanted), queue, owner_for(queue));
    const std::size_t most = placement::most(wanted);
    if (most > no_limit / 4 || wanted > no_limit / 4 - most) {
      return refuse(o, p, wanted, label);
    }
    this->reserve(3);
    const auto took = [&](ladder step) { o.tried |= static_cast<unsigned>(step); };
    if (!pending_.empty() && captures_.empty()) {
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
      if (limit_ != no_limit && this->collect_above_ > 0) {
        took(ladder::collection);
        this->collect();
      }
      const auto ask = [&] { return from_chip(p, wanted + most); };
      if (captures_.empty()) {
        this->trim(segments::bytes(wanted + most), wanted);
      }
      took(ladder::chip);
      b = ask();
      if (b == nullptr && split::max_split != no_limit) {
        took(ladder::release_oversized);
        if (this->release_oversized(p, wanted)) {
          b = ask();
        }
      }
      if (b == nullptr && captures_.empty()) {
        took(ladder::release_all);
        ++counts_.retries;
        release_cached();
        b = ask();
      }
      if (b == nullptr) {
        return refuse(o, p, wanted, label);
      }
    }
    o.found = hand_out(*b, bytes, wanted, label);
    return o;
  }

  [[nodiscard]] block* find(const std::byte* address) const {
    block* const b = this->by_address_.find(address);
    return b != nullptr && b->mapped ? b : nullptr;
  }

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
        for (const use& u : uses_) {
          b.waits_for += u.of == &b;
        }
        if (captures_.empty()) {  // a queue that is captured has no events
          record_events();
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

  /// Gives what is free back to the chip, after all events; not that of pools which captures own.
  void release_cached() noexcept {
    wait_for_events();
    for (std::size_t kind = segments::pools; kind-- > 0;) {  // large blocks first
      for (const auto& p : pools_) {
        if (p->kind == kind && !this->alive(p->owner)) {
          this->release_all(*p);
        }
      }
    }
    if (captures_.empty()) {  // else a request that a callback interrupts may be in one of them
      std::erase_if(pools_, [&](const auto& p) {
        return p->owner != pool_id::shared && !this->alive(p->owner) && p->segments == 0;
      });
    }
  }

  // ---- private pools ----

  [[nodiscard]] pool_id make_pool() {
    this->owners_.push_back(true);
    return static_cast<pool_id>(this->owners_.size());
  }
  /// Its blocks stay as they are, its segments go back to the chip when they are free.
  void drop_pool(pool_id id) {
    if (this->alive(id)) {
      this->owners_[static_cast<std::size_t>(id) - 1] = false;
    }
  }
  [[nodiscard]] bool exists(pool_id id) const { return this->alive(id); }
  /// Whether a request or a block may belong to a private pool.
  [[nodiscard]] bool any_private() const {
    return !captures_.empty() || std::any_of(pools_.begin(), pools_.end(), [](const auto& p) {
      return p->owner != pool_id::shared;
    });
  }
  /// Requires: `queue` is not captured yet.
  void begin_capture(pool_id into, queue_id queue) { captures_.push_back({queue, into}); }
  void end_capture(queue_id queue) noexcept {
    std::erase_if(captures_, [&](const capture& c) { return c.queue == queue; });
    if constexpr (has_events) {
      if (captures_.empty()) {
        record_events();
      }
    }
  }
  [[nodiscard]] bool captures(queue_id queue) const { return owner_for(queue) != pool_id::shared; }
  [[nodiscard]] bool captures_any() const { return !captures_.empty(); }

  /// Makes the blocks of a private pool what they were. Requires: nothing is captured.
  /// Throws: `checkpoint_error`, `std::bad_alloc`; nothing changes.
  void restore(const pool_checkpoint& then, pool_restored& changed) {
    std::vector<block*> now;  // in use
    for_each_block([&](block& b) {
      if (b.used && b.pool->owner == then.of) {
        now.push_back(&b);
      }
    });
    for (const block_info& b : then.blocks) {
      const block* const at = this->by_address_.find(reinterpret_cast<std::byte*>(b.segment));
      if (at == nullptr || at->pool->owner != then.of || at->previous != nullptr) {
        throw checkpoint_error(b.segment);
      }
    }
    this->reserve(then.blocks.size());
    changed.freed.reserve(now.size());
    changed.taken.reserve(then.blocks.size());

    const auto in_use_then = [&](const block& b) {
      const auto at = reinterpret_cast<std::uintptr_t>(b.address);
      const auto same =
          std::lower_bound(then.blocks.begin(), then.blocks.end(), at,
                           [](const block_info& x, std::uintptr_t y) { return x.address < y; });
      return same != then.blocks.end() && same->address == at && same->bytes == b.size &&
             same->is == block_info::state::in_use;
    };
    std::vector<std::byte*>& stays = changed.taken;  // until they are told apart below
    for (const block* b : now) {
      (in_use_then(*b) ? stays : changed.freed).push_back(b->address);
    }
    std::sort(stays.begin(), stays.end());
    const std::vector<std::byte*> stayed = stays;
    stays.clear();
    for (block* b : now) {
      free(*b, b->requested);
    }
    wait_for_events();
    // Every segment is one free block now.
    block* rest = nullptr;
    for (const block_info& b : then.blocks) {
      if (b.address == b.segment) {
        rest = this->by_address_.find(reinterpret_cast<std::byte*>(b.segment));
        this->drop(*rest);
      }
      block& here = *rest;
      rest = here.size > b.bytes ? &this->cut(here, b.bytes) : nullptr;
      if (b.is == block_info::state::in_use) {
        use_block(here, b.requested, b.label);
        if (!std::binary_search(stayed.begin(), stayed.end(), here.address)) {
          changed.taken.push_back(here.address);
        }
      } else {
        this->keep(here);
      }
    }
  }

  void set_limit(std::size_t bytes, double collect_above) {
    limit_ = bytes;
    this->collect_above_ = collect_above;
  }
  [[nodiscard]] std::size_t limit() const { return limit_; }
  void add_callback(callback c) { callbacks_.push_back(c); }

  [[nodiscard]] const statistics& counts() const { return counts_; }
  [[nodiscard]] const auto& log() const { return log_; }
  auto& log() { return log_; }
  /// Calls `f` for every block with memory, free or in use, in no order.
  template <class F>
  void for_each_block(F&& f) const {
    this->by_address_.for_each([&](block& b) {
      if (b.mapped) {
        f(b);
      }
    });
  }

 private:
  [[nodiscard]] pool_id owner_for(queue_id queue) const {
    for (const capture& c : captures_) {
      if (c.queue == queue) {
        return c.into;
      }
    }
    return pool_id::shared;
  }

  block* from_chip(pool& p, std::size_t bytes) {
    const std::size_t whole = segments::bytes(bytes);
    if constexpr (store::grows) {
      if (p.owner == pool_id::shared) {
        return this->within_limit(whole) ? this->grow(p, bytes) : nullptr;
      }
    }
    block* given = store::from_chip(p, whole);
    if (segments::exact_when_short && given == nullptr && whole > bytes) {
      given = store::from_chip(p, bytes);
    }
    return given;
  }

  outcome& refuse(outcome& o, const pool& p, std::size_t wanted, const char* label) noexcept {
    ++counts_.failures;
    log_.add(action::oom, nullptr, wanted, p.queue, label);
    const block* const b = p.free.largest();
    o.free_in_pool = p.free_bytes;
    o.largest_free = b != nullptr ? b->size : 0;
    return o;
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
    if constexpr (store::grows && requires { p.free.after(*b); }) {
      // A block that can grow counts with what it can grow to.
      const auto reach = [](const block& x) {
        return x.size + (x.next != nullptr && !x.next->mapped ? x.next->size : 0);
      };
      for (block* next = b; b != nullptr && b->next != nullptr && !b->next->mapped; b = next) {
        next = p.free.after(*b);
        if (next == nullptr || reach(*next) >= reach(*b)) {
          break;
        }
      }
    }
    if (b == nullptr || !split::takes(wanted, b->size)) {
      return nullptr;
    }
    this->drop(*b);
    return b;
  }

  bool run_callbacks() {
    bool freed = false;
    for (const callback& c : callbacks_) {
      freed = c.run(c.with) || freed;
    }
    return freed;
  }

  void use_block(block& b, std::size_t bytes, const char* label) noexcept {
    b.used = true;
    b.requested = bytes;
    b.label = label;
    counts_.requested += bytes;
    counts_.allocated += b.size;
    counts_.peak_allocated = std::max(counts_.peak_allocated, counts_.allocated);
    log_.add(action::alloc, b.address, b.size, b.pool->queue, label);
  }
  /// Cuts what is not wanted off both ends of a block that is in no index.
  block* hand_out(block& found, std::size_t bytes, std::size_t wanted, const char* label) {
    block* b = &found;
    if (const std::size_t below = gap(*b, wanted); below != 0) {
      block& rest = this->cut(*b, below);
      this->keep(*b);
      b = &rest;
    }
    if (b->size > wanted && split::splits(b->pool->kind, wanted, b->size)) {
      this->keep(this->cut(*b, wanted));
    }
    ++counts_.requests;
    use_block(*b, bytes, label);
    return b;
  }
  void take_back(block& b) noexcept {
    log_.add(action::free_completed, b.address, b.size, b.pool->queue, b.label);
    this->join(b);
  }

  // ---- other queues ----

  /// Blocks that were given back wait from here on for what their users' queues have to do.
  void record_events() noexcept {
    std::size_t kept = 0;
    for (const use& u : uses_) {
      if (u.of->used) {
        uses_[kept++] = u;
      } else {
        pending_.push_back({u.of, u.by, Upstream::record(u.by)});
      }
    }
    uses_.resize(kept);
  }
  void wait_for_events() noexcept {
    if constexpr (has_events) {
      for (const pending& e : pending_) {
        Upstream::wait(e.at);
      }
      process_events();
    }
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

  std::vector<use> uses_;
  std::vector<pending> pending_;
  std::vector<callback> callbacks_;
  std::vector<capture> captures_;
};

}  // namespace ashlar::memory::detail
