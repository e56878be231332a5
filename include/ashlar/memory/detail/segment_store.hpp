// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "ashlar/memory/action.hpp"
#include "ashlar/memory/block_info.hpp"
#include "ashlar/memory/detail/block.hpp"
#include "ashlar/memory/detail/treap.hpp"
#include "ashlar/memory/policies.hpp"
#include "ashlar/memory/resource.hpp"
#include "ashlar/memory/statistics.hpp"

namespace ashlar::memory::detail {

/// The free blocks of one kind, one queue and one owner.
struct pool_base {
  std::size_t kind = 0;
  queue_id queue = 0;
  pool_id owner = pool_id::shared;
  std::uint64_t clock = 0;  ///< searches so far: the ages of free blocks
  std::size_t free_bytes = 0;
  std::size_t segments = 0;  ///< that the chip gave
  std::size_t wholes = 0;    ///< free blocks that are segments of their own
};

/// Segments, the blocks that they are cut into, and how they come from the chip and go back; one
/// thread at a time.
template <class Upstream, class Config>
class segment_store {
 protected:
  using segments = typename Config::segments;
  using split = typename Config::split;
  static constexpr bool grows = GrowingSegments<segments>;
  static_assert(!grows || ReservesAddresses<Upstream>,
                "ashlar::memory::caching_allocator: `expandable` needs a memory that models "
                "ReservesAddresses (reserve, unreserve, map, unmap); use plain_segments");

  struct pool : pool_base {
    typename Config::fit::index free;
    treap<by_address> unmapped;  ///< addresses without bytes, where segments grow
  };
  static pool& pool_of(const block& b) { return static_cast<pool&>(*b.pool); }

  segment_store() = default;
  segment_store(const segment_store&) = delete;
  segment_store& operator=(const segment_store&) = delete;
  ~segment_store() {
    if constexpr (grows) {
      for (const auto& [at, bytes] : ranges_) {
        Upstream::unreserve(at, bytes);
      }
    }
  }

  pool& pool_for(std::size_t kind, queue_id queue, pool_id owner) {
    for (const auto& p : pools_) {
      if (p->kind == kind && p->queue == queue && p->owner == owner) [[likely]] {
        return *p;
      }
    }
    auto p = std::make_unique<pool>();
    p->kind = kind;
    p->queue = queue;
    p->owner = owner;
    pools_.push_back(std::move(p));
    return *pools_.back();
  }

  /// Whether a pool belongs to a capture that may run again: its segments stay.
  [[nodiscard]] bool alive(pool_id id) const {
    const std::size_t at = static_cast<std::size_t>(id) - 1;  // of `shared`: beyond all others
    return at < owners_.size() && owners_[at];
  }

  // ---- cutting and joining ----

  /// Effects: the next `count` blocks need no memory. Throws: `std::bad_alloc`.
  void reserve(std::size_t count) {
    blocks_.reserve(count);
    by_address_.reserve(count);
  }
  block& new_block(pool& p, std::byte* address, std::size_t bytes) noexcept {
    block& b = *blocks_.take();
    b.address = address;
    b.size = bytes;
    b.pool = &p;
    by_address_.insert(&b);
    return b;
  }
  /// Makes a block of what lies above the first `bytes` of `b`, which is in no index.
  block& cut(block& b, std::size_t bytes) noexcept {
    block& upper = new_block(pool_of(b), b.address + bytes, b.size - bytes);
    upper.mapped = b.mapped;
    upper.grows = b.grows;
    upper.previous = &b;
    upper.next = b.next;
    if (b.next != nullptr) {
      b.next->previous = &upper;
    }
    b.next = &upper;
    b.size = bytes;
    return upper;
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

  void keep(block& b) noexcept {
    pool& p = pool_of(b);
    b.born = p.clock;
    b.label = nullptr;
    p.free.insert(b);
    p.free_bytes += b.size;
    p.wholes += b.is_whole();
  }
  void drop(block& b) noexcept {
    pool& p = pool_of(b);
    p.free.erase(b);
    p.free_bytes -= b.size;
    p.wholes -= b.is_whole();
  }
  /// Keeps a block that nobody uses, joined with its free neighbours. Returns: what it became.
  block& join(block& b) noexcept {
    block* joined = &b;
    if (b.previous != nullptr && b.previous->is_free()) {
      joined = b.previous;
      drop(*joined);
      absorb_next(*joined);
    }
    if (joined->next != nullptr && joined->next->is_free()) {
      drop(*joined->next);
      absorb_next(*joined);
    }
    keep(*joined);
    return *joined;
  }

  // ---- asking the chip ----

  [[nodiscard]] bool within_limit(std::size_t bytes) const {
    return limit_ == no_limit || (bytes <= limit_ && counts_.reserved <= limit_ - bytes);
  }
  void count_given(action what, pool& p, const std::byte* address, std::size_t bytes) noexcept {
    ++counts_.upstream_requests;
    counts_.reserved += bytes;
    counts_.peak_reserved = std::max(counts_.peak_reserved, counts_.reserved);
    log_.add(what, address, bytes, p.queue, nullptr);
  }
  /// Returns: a new segment, in no index, or null. Requires: room for a block.
  block* from_chip(pool& p, std::size_t bytes) {
    std::byte* const address = within_limit(bytes) ? Upstream::allocate(bytes) : nullptr;
    if (address == nullptr) {
      return nullptr;
    }
    count_given(action::segment_alloc, p, address, bytes);
    ++p.segments;
    return &new_block(p, address, bytes);
  }

  /// Gives memory to addresses of the pool until `wanted` bytes lie in one block.
  /// Returns: that block, in no index, or null; what got memory until then is kept free.
  block* grow(pool& p, std::size_t wanted) {
    block* at = growable(p, wanted);
    if (at == nullptr) {
      return nullptr;
    }
    while (!at->mapped || at->size < wanted) {
      block& bare = at->mapped ? *at->next : *at;
      at = map(p, bare, std::min(bare.size, wanted - (at->mapped ? at->size : 0)));
      if (at == nullptr) {
        return nullptr;
      }
    }
    drop(*at);
    return at;
  }

  // ---- giving memory back ----

  /// An index must not change while it is walked over: blocks are noted first.
  void note_for_release(block& b) noexcept {
    (noted_ == nullptr ? noted_ : last_noted_->noted) = &b;
    last_noted_ = &b;
  }
  std::size_t release_noted() noexcept {
    std::size_t released = 0;
    for (block* b = std::exchange(noted_, nullptr); b != nullptr;) {
      block* const then = b == last_noted_ ? nullptr : b->noted;
      released += release(*b);
      b = then;
    }
    return released;
  }
  /// What `release` would give back of a free block.
  [[nodiscard]] std::size_t releasable(const block& b) const {
    if constexpr (grows) {
      if (b.grows) {
        const auto [from, to] = granules(b);
        return from < to ? to - from : 0;
      }
    }
    return b.is_whole() ? b.size : 0;
  }
  /// Gives back a free block, or the whole granules in it. Returns: the bytes given back.
  std::size_t release(block& b) noexcept {
    if constexpr (grows) {
      if (b.grows) {
        return unmap(b);
      }
    }
    const std::size_t bytes = b.size;
    pool& p = pool_of(b);
    drop(b);
    --p.segments;
    log_.add(action::segment_free, b.address, bytes, p.queue, nullptr);
    counts_.reserved -= bytes;
    by_address_.erase(b.address);
    Upstream::free(b.address, bytes);
    blocks_.give(&b);
    return bytes;
  }
  /// What is free in a pool goes back as far as it can.
  void release_all(pool& p) noexcept {
    p.free.for_each([&](block& b) {
      if (b.grows || b.is_whole()) {
        note_for_release(b);
      }
    });
    release_noted();
  }

  /// Makes up for a segment of `bytes` that serves `wanted`, as far as the policy asks for it.
  void trim(std::size_t bytes, std::size_t wanted) noexcept {
    const std::size_t allowed = Config::trim::allowed(counts_.allocated + wanted);
    for (const auto& p : pools_) {
      while (!alive(p->owner) && counts_.reserved + bytes > allowed && (grows || p->wholes > 0)) {
        block* most = nullptr;
        p->free.for_each([&](block& b) {
          if (releasable(b) > (most != nullptr ? releasable(*most) : 0)) {
            most = &b;
          }
        });
        if (most == nullptr || release(*most) == 0) {
          break;
        }
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
        if (p->kind + 1 == segments::pools && !alive(p->owner)) {
          p->free.for_each([&](block& b) {
            if (b.is_whole()) {
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
    if (alive(p.owner)) {
      return false;
    }
    const std::size_t enough = std::max(wanted, split::max_split);
    block* serves = nullptr;
    p.free.for_each([&](block& b) {
      if (b.size >= enough && b.is_whole() && (serves == nullptr || b.size < serves->size)) {
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
      if (b == nullptr || b->size < split::max_split || !b->is_whole()) {
        return false;
      }
      released += release(*b);
    }
    return true;
  }

  std::vector<std::unique_ptr<pool>> pools_;
  std::vector<bool> owners_;  ///< by `pool_id` - 1: whether it is alive
  block_store blocks_;
  block_map by_address_;
  std::size_t limit_ = no_limit;
  double collect_above_ = 0;  ///< a share of `limit_`; 0: never
  statistics counts_;
  [[no_unique_address]] action_log<Config::record::actions> log_;

 private:
  struct range {
    std::byte* at;
    std::size_t bytes;
  };

  /// The lowest addresses without bytes that, with the free blocks around, are `wanted` long.
  block* growable(pool& p, std::size_t wanted) {
    block* found = nullptr;
    p.unmapped.for_each([&](block& bare) {
      if (found == nullptr) {
        block* const first =
            bare.previous != nullptr && bare.previous->is_free() ? bare.previous : &bare;
        std::size_t bytes = 0;
        for (const block* b = first; b != nullptr && bytes < wanted && (b->is_free() || !b->mapped);
             b = b->next) {
          bytes += b->size;
        }
        found = bytes >= wanted ? first : nullptr;
      }
    });
    if (found != nullptr) {
      return found;
    }
    const std::size_t unit = segments::granule(p.kind);
    const std::size_t bytes = (std::max(wanted, segments::reach) + unit - 1) / unit * unit;
    ranges_.reserve(ranges_.size() + 1);
    reserve(4);
    std::byte* const at = Upstream::reserve(bytes + unit);
    if (at == nullptr) {
      return nullptr;
    }
    ranges_.push_back({at, bytes + unit});
    const auto inside = reinterpret_cast<std::uintptr_t>(at) % unit;
    block& b = new_block(p, at + (unit - inside) % unit, bytes);
    b.mapped = false;
    b.grows = true;
    p.unmapped.insert(b);
    return &b;
  }
  /// Gives bytes to the first `bytes` of addresses that have none, up to whole granules.
  /// Returns: the free block that they are in then, or null.
  block* map(pool& p, block& bare, std::size_t bytes) {
    const std::size_t unit = segments::granule(p.kind);
    const std::size_t length = (bytes + unit - 1) / unit * unit;
    reserve(4);
    if (!within_limit(length) || !Upstream::map(bare.address, length)) {
      return nullptr;
    }
    p.unmapped.erase(bare);
    if (bare.size > length) {
      p.unmapped.insert(cut(bare, length));
    }
    bare.mapped = true;
    count_given(action::segment_map, p, bare.address, length);
    return &join(bare);
  }
  /// The whole granules of a block, as offsets in it.
  [[nodiscard]] std::pair<std::size_t, std::size_t> granules(const block& b) const {
    const std::size_t unit = segments::granule(b.pool->kind);
    const auto at = reinterpret_cast<std::uintptr_t>(b.address);
    const std::size_t from = (unit - at % unit) % unit;
    const std::size_t tail = (at + b.size) % unit;
    return {from, b.size > tail ? b.size - tail : 0};
  }
  std::size_t unmap(block& b) noexcept {
    const auto [from, to] = granules(b);
    if (from >= to) {
      return 0;
    }
    try {
      reserve(2);
    } catch (const std::bad_alloc&) {
      return 0;  // the host has no room to write down that the chip has
    }
    pool& p = pool_of(b);
    drop(b);
    if (to < b.size) {
      keep(cut(b, to));
    }
    block* middle = &b;
    if (from > 0) {
      middle = &cut(b, from);
      keep(b);
    }
    const std::size_t bytes = middle->size;
    log_.add(action::segment_unmap, middle->address, bytes, p.queue, nullptr);
    counts_.reserved -= bytes;
    Upstream::unmap(middle->address, bytes);
    middle->mapped = false;
    if (middle->next != nullptr && !middle->next->mapped) {
      p.unmapped.erase(*middle->next);
      absorb_next(*middle);
    }
    if (middle->previous != nullptr && !middle->previous->mapped) {
      middle = middle->previous;
      p.unmapped.erase(*middle);
      absorb_next(*middle);
    }
    p.unmapped.insert(*middle);
    return bytes;
  }

  std::vector<range> ranges_;
  block* noted_ = nullptr;  ///< the first to be given back
  block* last_noted_ = nullptr;
};

}  // namespace ashlar::memory::detail
