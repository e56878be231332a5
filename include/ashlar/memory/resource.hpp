// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/memory/detail/block.hpp"

namespace ashlar::memory {

/// The memory of a chip, as its driver gives it: what a chip's `memory` must model.
///
/// `allocate` returns a multiple of `alignment`, nullptr where there is none left; sizes are
/// positive. Addresses belong to the chip. `copy_in` and `copy_out` move bytes between the host and
/// the chip and return when done. Laws: tests/laws/memory.hpp.
template <class M>
concept Memory =
    requires(std::byte* p, const std::byte* q, void* to, const void* from, std::size_t n) {
      { M::alignment } -> std::convertible_to<std::size_t>;
      { M::allocate(n) } -> std::same_as<std::byte*>;
      { M::free(p, n) } noexcept;
      M::copy_in(p, from, n);
      M::copy_out(to, q, n);
    };

/// A memory whose addresses the host may read and write.
template <class M>
concept HostAddressable = Memory<M> && M::host_addressable;

/// A memory whose chip has several queues: `record(q)` marks the place that queue `q` has reached,
/// `happened(e)` says whether the queue has come by, `wait(e)` returns when it has.
template <class M>
concept HasEvents = Memory<M> && requires(queue_id q, const typename M::event& e) {
  { M::record(q) } noexcept -> std::same_as<typename M::event>;
  { M::happened(e) } noexcept -> std::same_as<bool>;
  { M::wait(e) } noexcept;
};

/// A memory whose addresses can be had without bytes: `reserve(n)` returns `n` addresses, nullptr
/// where there are none left; `map(p, n)` gives a part of them bytes, or returns false; `unmap`
/// takes them away again. A part starts at a multiple of `M::page` and is multiples of it long.
template <class M>
concept ReservesAddresses = Memory<M> && requires(std::byte* p, std::size_t n) {
  { M::page } -> std::convertible_to<std::size_t>;
  { M::reserve(n) } -> std::same_as<std::byte*>;
  { M::unreserve(p, n) } noexcept;
  { M::map(p, n) } -> std::same_as<bool>;
  { M::unmap(p, n) } noexcept;
};

/// Where tensors get their elements from: what a context points to.
///
/// An allocator behind one indirect call, so that a tensor can give its elements back to the
/// allocator that it got them from, whatever its type. Safe to use from several threads.
struct resource {
  /// Returns: at least `bytes` bytes; nullptr for 0.
  /// Throws: `out_of_memory`, and leaves everything as it was.
  virtual std::byte* allocate(std::size_t bytes) = 0;
  virtual void deallocate(std::byte* p, std::size_t bytes) noexcept = 0;

  /// For calls on queue `queue`. An allocator that does not know queues hands out blocks that
  /// another queue may still be busy with: it is for chips with one.
  virtual std::byte* allocate(std::size_t bytes, queue_id /*queue*/) { return allocate(bytes); }
  /// Queue `by` uses a block that was allocated for another one, until it is given back.
  virtual void used_by(std::byte* /*p*/, queue_id /*by*/) {}

 protected:
  resource() = default;
  resource(const resource&) = delete;
  resource& operator=(const resource&) = delete;
  ~resource() = default;
};

/// What an allocator does before it gives up, in this order.
enum class ladder : std::uint8_t {
  events = 1,              ///< took back blocks that other queues were done with
  quick_lists = 2,         ///< joined the blocks that waited for a request of their own size
  callbacks = 4,           ///< asked others to free memory
  collection = 8,          ///< gave back old blocks, because of `collect_above`
  chip = 16,               ///< asked the chip
  release_oversized = 32,  ///< gave back oversized blocks and asked again
  release_all = 64,        ///< waited for events, gave back every whole segment and asked again
};

/// What the blocks of one label hold.
struct allocation_site {
  std::string label;
  std::size_t bytes = 0;
  std::size_t blocks = 0;
};

/// Neither the cache nor the chip has that much. Every earlier block is as it was.
struct out_of_memory final : error {
  std::size_t requested;               ///< bytes
  std::size_t allocated;               ///< bytes in use by callers
  std::size_t reserved;                ///< bytes held from the chip, in use or cached
  std::size_t free_in_pool = 0;        ///< bytes that are cached where this request would look
  std::size_t largest_free = 0;        ///< bytes of the largest block among them
  std::size_t limit = 0;               ///< bytes that the allocator may hold; 0: no limit was set
  unsigned tried = 0;                  ///< `ladder` bits
  std::vector<allocation_site> sites;  ///< the largest ones, where labels are recorded

  out_of_memory(std::size_t wanted, std::size_t in_use, std::size_t held,
                std::source_location at = std::source_location::current())
      : error(at), requested(wanted), allocated(in_use), reserved(held) {}

  /// The share of cached bytes that lie outside the largest free block: 0 is one block.
  [[nodiscard]] double fragmentation() const {
    return free_in_pool == 0
               ? 0
               : 1 - static_cast<double>(largest_free) / static_cast<double>(free_in_pool);
  }
  /// What to do about it, in one sentence.
  [[nodiscard]] std::string advice() const {
    if (limit != 0 && requested <= limit && allocated > limit - requested) {
      return "raise the limit of " + std::to_string(limit) + " bytes, or hold less";
    }
    if (limit != 0 && requested > limit) {
      return "the request alone is over the limit of " + std::to_string(limit) + " bytes";
    }
    if (free_in_pool >= requested) {
      return "enough is cached but in pieces: use larger segments, or split fewer large blocks";
    }
    return "hold less: smaller batches, recomputation, or give tensors back earlier";
  }

 private:
  [[nodiscard]] std::string message() const override {
    std::string text =
        "ashlar::memory: out of memory: " + std::to_string(requested) + " bytes requested, " +
        std::to_string(allocated) + " in use, " + std::to_string(reserved) +
        " held from the chip, " + std::to_string(free_in_pool) + " of them free (largest block " +
        std::to_string(largest_free) + ", " +
        std::to_string(static_cast<int>(fragmentation() * 100 + 0.5)) + " % fragmented); tried:";
    constexpr const char* steps[] = {" events",         " quick lists", " callbacks",
                                     " collection",     " the chip",    " oversized blocks",
                                     " the whole cache"};
    for (unsigned i = 0; i < 7; ++i) {
      if ((tried >> i & 1U) != 0) {
        text += steps[i];
      }
    }
    for (const allocation_site& s : sites) {
      text += "; " + s.label + " holds " + std::to_string(s.bytes) + " in " +
              std::to_string(s.blocks) + " blocks";
    }
    return text + "; " + advice();
  }
};

}  // namespace ashlar::memory
