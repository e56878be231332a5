// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <type_traits>
#include <vector>

#include "ashlar/config.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/memory/block_info.hpp"
#include "ashlar/memory/detail/block_allocator.hpp"
#include "ashlar/memory/detail/shard.hpp"
#include "ashlar/memory/policies.hpp"
#include "ashlar/memory/resource.hpp"
#include "ashlar/memory/snapshot.hpp"

namespace ashlar::memory {

/// Keeps a chip's memory for the next request.
///
/// Takes segments from the chip, cuts them into blocks and joins free neighbours again. When the
/// chip has nothing left, climbs a `ladder` of measures before it throws `out_of_memory`; what was
/// allocated before stays as it is, and the allocator stays usable.
///
/// Every question that such an allocator has to answer is a policy (`policies.hpp`); a list of
/// policies (`pytorch_policies`) answers many at once, and what stands before it overrides it:
/// `caching_allocator<my_memory, aligned<2048>, pytorch_policies>`. Default: `default_policies`.
///
/// Cost: of a small block that waits for its size, one lock and a few instructions; else one lock
/// and the policy's search.
/// Source: PyTorch's CUDACachingAllocator; TLSF (Masmano et al., 2004).
template <class Upstream, class... Policies>
class caching_allocator final : public resource {
  static_assert(Memory<Upstream>,
                "ashlar::memory::caching_allocator<Upstream, Policies...>: Upstream must model "
                "ashlar::memory::Memory (allocate, free, copy_in, copy_out)");
  using config = detail::configuration<Policies...>;
  static_assert(SizeClasses<typename config::sizes>,
                "ashlar::memory::caching_allocator: a policy of kind size_classes must model "
                "SizeClasses (`smallest`, `rounded(n)`)");
  static_assert(SegmentPolicy<typename config::segments>,
                "ashlar::memory::caching_allocator: a policy of kind segments must model "
                "SegmentPolicy (`pools`, `pool(n)`, `bytes(n)`)");
  static_assert(FitPolicy<typename config::fit>,
                "ashlar::memory::caching_allocator: a policy of kind fit must model FitPolicy (a "
                "nested `index` with insert, erase, find, largest, for_each)");
  static_assert(
      SplitPolicy<typename config::split>,
      "ashlar::memory::caching_allocator: a policy of kind split must model SplitPolicy "
      "(`max_split`, `small_are_exact`, `takes(wanted, block)`, `splits(pool, wanted, block)`)");
  static_assert(PlacementPolicy<typename config::placement>,
                "ashlar::memory::caching_allocator: a policy of kind placement must model "
                "PlacementPolicy (`alignment`, `gap(address, bytes, count)`, `most(bytes)`)");

  using core = detail::block_allocator<Upstream, config>;
  static constexpr bool locks = config::threads::locks;
  /// A block that waits for its own size is known by that size alone, so it must have just that;
  /// and what is written down is written by the core, so nothing may pass beside it.
  static constexpr bool quick =
      config::quick::largest > 0 && config::record::actions == 0 && config::split::small_are_exact;
  using shard =
      detail::shard<config::granule, quick ? config::quick::largest : 0, config::quick::bytes,
                    std::conditional_t<locks, detail::spin_lock, detail::no_lock>>;
  using mutex = std::conditional_t<locks, std::recursive_mutex, detail::no_lock>;

 public:
  /// Every block starts at a multiple of this.
  static constexpr std::size_t alignment = config::placement::alignment;
  static_assert(alignment <= Upstream::alignment,
                "ashlar::memory::caching_allocator: the placement asks for more than "
                "Upstream::alignment; let the chip's memory align its blocks, or use aligned_from");

  caching_allocator() = default;
  /// Gives everything back to the chip. Requires: no block is in use any more.
  ~caching_allocator() { release_cached(); }

  /// The size of the block that serves a request.
  /// Throws: `out_of_memory` where no address range could be that long.
  [[nodiscard]] std::size_t block_size(std::size_t bytes) const {
    if (bytes > no_limit / 4) {
      const std::lock_guard hold(mutex_);
      throw out_of_memory(bytes, core_.counts().allocated, core_.counts().reserved);
    }
    return core::block_size(bytes);
  }

  /// Returns: at least `bytes` bytes for the default queue; nullptr for 0.
  /// Throws: `out_of_memory`, what the chip's driver throws; nothing has changed then.
  std::byte* allocate(std::size_t bytes) override {
    std::byte* const p = take_quick(bytes);
    return p != nullptr ? p : allocate(bytes, 0);
  }

  /// For queue `queue`; blocks that were freed on another queue do not serve.
  [[gnu::noinline]] std::byte* allocate(std::size_t bytes, queue_id queue) override {
    if (bytes == 0) {
      return nullptr;
    }
    const typename core::outcome o = ask(bytes, queue);
    if (o.found == nullptr) [[unlikely]] {
      fail(bytes, o);
    }
    return o.found->address;
  }
  /// As `allocate`, but nullptr where that throws `out_of_memory`; observers are not called.
  std::byte* allocate_or_null(std::size_t bytes, queue_id queue = 0) {
    if (bytes == 0) {
      return nullptr;
    }
    if (std::byte* const p = queue == 0 ? take_quick(bytes) : nullptr) {
      return p;
    }
    const typename core::outcome o = ask(bytes, queue);
    return o.found != nullptr ? o.found->address : nullptr;
  }

  /// Requires: `p` came from `allocate(bytes)` of this allocator, or is null.
  void deallocate(std::byte* p, std::size_t bytes) noexcept override {
    if (p == nullptr) {
      return;
    }
    if constexpr (quick) {
      const std::size_t wanted = core::block_size(bytes);
      if (wanted <= config::quick::largest) [[likely]] {
        shard& s = mine();
        const std::lock_guard hold(s.lock);
        if (quick_on_.load(std::memory_order_relaxed) && s.put(wanted / config::granule - 1, p))
            [[likely]] {
          s.waiting += wanted;
          s.requested -= static_cast<std::ptrdiff_t>(bytes);
          return;
        }
      }
    }
    give_back(p, bytes);
  }

  /// Says that queue `by` uses `p` too: when `p` is given back, it serves again only after what is
  /// on `by` by then has happened.
  void record_use(std::byte* p, queue_id by)
    requires HasEvents<Upstream>
  {
    const std::lock_guard hold(mutex_);
    detail::block* b = core_.find(p);
    ASHLAR_ASSERT(b != nullptr && b->used,
                  "ashlar::memory::caching_allocator::record_use: not a block of this allocator");
    one_queue_ = false;
    switch_quick();
    core_.record_use(*b, by);
  }

  void used_by(std::byte* p, queue_id by) override {
    if constexpr (HasEvents<Upstream>) {
      record_use(p, by);
    }
  }
  /// Whether a block of this allocator, in use or cached, starts at `p`.
  [[nodiscard]] bool owns(const std::byte* p) const {
    const std::lock_guard hold(mutex_);
    return core_.find(p) != nullptr;
  }

  // ---- private pools ----

  /// Makes a pool for the blocks of a captured graph, which must lie where they lay when it runs
  /// again. While private pools have blocks, none wait for their own size.
  [[nodiscard]] pool_id make_pool() {
    const std::lock_guard hold(mutex_);
    return core_.make_pool();
  }
  /// From now on, requests for `queue` are served from segments of `pool` alone. While anything is
  /// captured the cache is not given back, and no event is recorded or asked for.
  void begin_capture(pool_id pool, queue_id queue = 0) {
    const std::lock_guard hold(mutex_);
    ASHLAR_ASSERT(core_.exists(pool) && !core_.captures(queue),
                  "ashlar::memory::caching_allocator::begin_capture: the pool was dropped, or the "
                  "queue is captured already");
    core_.begin_capture(pool, queue);
    switch_quick();
  }
  void end_capture(queue_id queue = 0) noexcept {
    const std::lock_guard hold(mutex_);
    core_.end_capture(queue);
    switch_quick();
  }
  /// Says that the graph will not run again. Blocks stay as they are; segments go back to the chip,
  /// once they are free, when the cache is given back.
  void drop_pool(pool_id pool) {
    const std::lock_guard hold(mutex_);
    core_.drop_pool(pool);
  }
  /// Which blocks of `pool` are in use, to return to with `restore`.
  [[nodiscard]] pool_checkpoint checkpoint(pool_id pool) const {
    pool_checkpoint now{pool, blocks()};
    std::erase_if(now.blocks, [&](const block_info& b) { return b.owner != pool; });
    return now;
  }
  /// Makes the blocks of a pool what they were, at the same addresses, so that another graph can be
  /// captured behind the same first one. Waits for events. Requires: nothing is captured.
  /// Throws: `checkpoint_error` where a segment is gone, `argument_error` where the checkpoint is
  /// of no private pool; nothing changes.
  pool_restored restore(const pool_checkpoint& then) {
    if (then.of == pool_id::shared) {
      throw argument_error("ashlar::memory::caching_allocator::restore",
                           "the checkpoint is of no private pool; take it with checkpoint(pool)");
    }
    const std::lock_guard hold(mutex_);
    ASHLAR_ASSERT(!core_.captures_any(),
                  "ashlar::memory::caching_allocator::restore: end the captures first");
    pool_restored changed;
    core_.restore(then, changed);
    return changed;
  }

  /// Gives every segment without a block in use back to the chip.
  void release_cached() noexcept {
    const std::lock_guard hold(mutex_);
    join_waiting();
    core_.release_cached();
    switch_quick();
  }

  /// Holds at most `bytes` from now on; from `collect_above` of that, a share, old blocks are given
  /// back before the chip is asked for more (0: never).
  /// Throws: `argument_error` where that share is not from 0 to 1.
  void set_limit(std::size_t bytes, double collect_above = 0) {
    if (!(collect_above >= 0 && collect_above <= 1)) {
      throw argument_error("ashlar::memory::caching_allocator::set_limit",
                           "collect_above is " + std::to_string(collect_above) +
                               "; it is a share of the limit, 0 to 1");
    }
    const std::lock_guard hold(mutex_);
    core_.set_limit(bytes, collect_above);
  }

  /// `run(with)` is asked to give blocks back where none is left, and says whether it did. It is
  /// called while the allocator is locked; it must not ask for memory.
  void on_low_memory(bool (*run)(void*), void* with) {
    const std::lock_guard hold(mutex_);
    core_.add_callback({run, with});
  }
  /// `run(error, with)` sees each failure before it is thrown; it may use the allocator.
  void on_out_of_memory(void (*run)(const out_of_memory&, void*), void* with) {
    const std::lock_guard hold(mutex_);
    observers_.push_back({run, with});
  }

  /// `peak_allocated` counts blocks that wait for their own size as if they were in use.
  [[nodiscard]] statistics stats() const {
    const std::lock_guard hold(mutex_);
    statistics s = core_.counts();
    for (shard& each : *shards_) {
      const std::lock_guard hold_shard(each.lock);
      s.allocated -= each.waiting;
      s.requested += static_cast<std::size_t>(each.requested);
      s.requests += each.requests;
    }
    return s;
  }

  /// Every block by address, those that wait for their own size included (as in use).
  [[nodiscard]] std::vector<block_info> blocks() const {
    const std::lock_guard hold(mutex_);
    std::vector<block_info> all;
    core_.for_each_block([&](const detail::block& b) {
      const auto at = reinterpret_cast<std::uintptr_t>(b.address);
      const bool starts = b.previous == nullptr || !b.previous->mapped;
      all.push_back({at, b.size, b.requested, starts ? at : 0, b.pool->kind, b.pool->owner,
                     b.pool->queue,
                     b.used        ? block_info::state::in_use
                     : b.is_free() ? block_info::state::free
                                   : block_info::state::waiting,
                     b.label});
    });
    std::sort(all.begin(), all.end(),
              [](const block_info& a, const block_info& b) { return a.address < b.address; });
    for (std::size_t i = 1; i < all.size(); ++i) {
      all[i].segment = all[i].segment == 0 ? all[i - 1].segment : all[i].segment;
    }
    return all;
  }

  /// What was written down, oldest first. Requires: a policy `recorded<Count>`.
  [[nodiscard]] std::vector<trace_entry> actions() const
    requires(config::record::actions > 0)
  {
    const std::lock_guard hold(mutex_);
    return core_.log().entries();
  }

  /// All that is known about it, for `to_json` and `to_html` (`memory/picture.hpp`).
  [[nodiscard]] memory::snapshot snapshot() {
    const std::lock_guard hold(mutex_);
    memory::snapshot all{blocks(), {}, stats()};
    if constexpr (config::record::actions > 0) {
      core_.log().add(action::snapshot, nullptr, 0, 0, label_scope::current());
      all.actions = actions();
    }
    return all;
  }

 private:
  struct observer {
    void (*run)(const out_of_memory&, void*);
    void* with;
  };

  [[nodiscard]] shard& mine() const {
    if constexpr (config::threads::shards == 1) {
      return (*shards_)[0];
    } else {
      return (*shards_)[detail::thread_number() % config::threads::shards];
    }
  }

  /// Returns: a block that waited for a request of this size, or null.
  std::byte* take_quick(std::size_t bytes) {
    if constexpr (quick) {
      if (bytes - 1 < config::quick::largest) [[likely]] {  // 0 is not
        const std::size_t wanted = core::block_size(bytes);
        if (wanted <= config::quick::largest) [[likely]] {
          shard& s = mine();
          const std::lock_guard hold(s.lock);
          if (std::byte* const p = s.take(wanted / config::granule - 1)) [[likely]] {
            s.waiting -= wanted;
            s.requested += static_cast<std::ptrdiff_t>(bytes);
            ++s.requests;
            return p;
          }
        }
      }
    }
    return nullptr;
  }

  typename core::outcome ask(std::size_t bytes, queue_id queue) {
    // What no address range is long enough for is refused as if it were only just that.
    const std::size_t wanted = core::block_size(std::min(bytes, no_limit / 4));
    const std::lock_guard hold(mutex_);
    if (queue != 0 && one_queue_) {
      one_queue_ = false;
      switch_quick();
    }
    return core_.allocate(bytes, wanted, queue, label_scope::current(),
                          [this] { return join_waiting(); });
  }

  /// Blocks may wait for their own size where all are alike. Requires: `mutex_`.
  void switch_quick() noexcept {
    if constexpr (quick) {
      const bool on = one_queue_ && !core_.any_private();
      if (quick_on_.exchange(on) && !on) {
        join_waiting();  // who takes a shard's lock from here on sees the switch
      }
    }
  }

  [[gnu::noinline]] void give_back(std::byte* p, std::size_t bytes) noexcept {
    const std::lock_guard hold(mutex_);
    detail::block* b = core_.find(p);
    ASHLAR_ASSERT(b != nullptr && b->used,
                  "ashlar::memory::caching_allocator::deallocate: not a block of this allocator");
    core_.free(*b, bytes);
  }

  /// Ends the wait of all blocks that wait for a request of their own size. Requires: `mutex_`.
  bool join_waiting() noexcept {
    bool any = false;
    if constexpr (quick) {
      for (shard& s : *shards_) {
        const std::lock_guard hold(s.lock);
        for (std::size_t c = 0; s.waiting != 0 && c < shard::classes; ++c) {
          while (std::byte* const p = s.take(c)) {
            s.waiting -= (c + 1) * config::granule;
            core_.free(*core_.find(p), 0);
            any = true;
          }
        }
      }
    }
    return any;
  }

  [[noreturn]] void fail(std::size_t bytes, const typename core::outcome& o) {
    std::vector<observer> observers;
    out_of_memory error = [&] {
      const std::lock_guard hold(mutex_);
      const statistics& now = core_.counts();
      out_of_memory e(bytes, now.allocated, now.reserved);
      e.free_in_pool = o.free_in_pool;
      e.largest_free = o.largest_free;
      e.limit = core_.limit() == no_limit ? 0 : core_.limit();
      e.tried = o.tried;
      e.sites = largest_sites();
      observers = observers_;
      return e;
    }();
    for (const observer& each : observers) {
      each.run(error, each.with);
    }
    throw error;
  }

  /// The five labels that hold most. Requires: `mutex_`.
  [[nodiscard]] std::vector<allocation_site> largest_sites() const {
    std::vector<allocation_site> sites;
    core_.for_each_block([&](const detail::block& b) {
      if (b.used && b.label != nullptr) {
        auto at = std::find_if(sites.begin(), sites.end(),
                               [&](const allocation_site& s) { return s.label == b.label; });
        if (at == sites.end()) {
          at = sites.insert(at, {b.label, 0, 0});
        }
        at->bytes += b.size;
        ++at->blocks;
      }
    });
    std::sort(sites.begin(), sites.end(), [](const allocation_site& a, const allocation_site& b) {
      return a.bytes != b.bytes ? a.bytes > b.bytes : a.label < b.label;
    });
    sites.resize(std::min<std::size_t>(sites.size(), 5));
    return sites;
  }

  mutable mutex mutex_;
  core core_;
  std::unique_ptr<std::array<shard, config::threads::shards>> shards_ =
      std::make_unique_for_overwrite<std::array<shard, config::threads::shards>>();
  bool one_queue_ = true;  ///< every block so far is of queue 0, and of it alone
  std::atomic<bool> quick_on_ = true;
  std::vector<observer> observers_;
};

/// The allocator as a policy of a stack: `allocate<memory::caching<memory::aligned<512>>>`.
template <class... Policies>
struct caching {
  template <class Upstream>
  using on = caching_allocator<Upstream, Policies...>;
};
/// The allocator with PyTorch's decisions.
using pytorch = caching<pytorch_policies>;

/// The allocator of a chip's device where nothing else was chosen; it lives as long as the program.
///
/// Throws: `argument_error` where there is no such device.
template <class Upstream, class Policy = caching<>, int Devices = 1>
typename Policy::template on<Upstream>& shared_allocator(int device = 0) {
  using all = std::array<typename Policy::template on<Upstream>, Devices>;
  // Never destroyed: tensors of other static objects may outlive any order of destruction.
  static all& allocators = *new all;
  if (device < 0 || device >= Devices) {
    throw argument_error("ashlar::memory::shared_allocator",
                         "there is no device " + std::to_string(device) + " of " +
                             std::to_string(Devices) + "; they count from 0");
  }
  return allocators[static_cast<std::size_t>(device)];
}

}  // namespace ashlar::memory
