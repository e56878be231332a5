// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "ashlar/memory/fit.hpp"

/// What a caching allocator is made of. Each policy says with `kind` which question it answers.
namespace ashlar::memory {

inline constexpr std::size_t no_limit = std::numeric_limits<std::size_t>::max();

// ---- size classes -------------------------------------------------------------------------------

/// `S::rounded(n) >= n`, monotone, `S::rounded(S::rounded(n)) == S::rounded(n)`, and a multiple of
/// `S::smallest`, a power of two. Laws: tests/laws/memory.hpp.
template <class S>
concept SizeClasses = requires(std::size_t n) {
  { S::smallest } -> std::convertible_to<std::size_t>;
  { S::rounded(n) } -> std::same_as<std::size_t>;
};

/// Four classes per power of two from 512 bytes: at most a quarter of a block is unused.
struct binned {
  using kind = kinds::size_classes;
  static constexpr std::size_t smallest = 512;
  static constexpr std::size_t rounded(std::size_t bytes) {
    if (bytes <= smallest) {
      return smallest;
    }
    const std::size_t step = std::max(std::bit_floor(bytes - 1) / 4, smallest);
    return (bytes + step - 1) / step * step;
  }
};

/// Multiples of `Bytes`: nothing but the last step is unused.
template <std::size_t Bytes = 512>
struct exact {
  static_assert(std::has_single_bit(Bytes),
                "ashlar::memory::exact<Bytes>: Bytes must be a power of two; round it up");
  using kind = kinds::size_classes;
  static constexpr std::size_t smallest = Bytes;
  static constexpr std::size_t rounded(std::size_t bytes) {
    return bytes <= Bytes ? Bytes : (bytes + Bytes - 1) / Bytes * Bytes;
  }
};

/// PyTorch's sizes: multiples of 512 bytes, or `Divisions` classes per power of two above
/// 512 * `Divisions` bytes (0: never).
template <std::size_t Divisions = 0>
struct pytorch_sizes {
  static_assert(Divisions == 0 || std::has_single_bit(Divisions),
                "ashlar::memory::pytorch_sizes<Divisions>: Divisions must be 0 or a power of two");
  using kind = kinds::size_classes;
  static constexpr std::size_t smallest = 512;
  static constexpr std::size_t rounded(std::size_t bytes) {
    if (bytes < smallest) {
      return smallest;
    }
    if constexpr (Divisions > 1) {
      if (bytes > smallest * Divisions) {
        const std::size_t step = std::max(std::bit_floor(bytes) / Divisions, smallest);
        return (bytes + step - 1) / step * step;
      }
    }
    return exact<smallest>::rounded(bytes);
  }
};

// ---- segments -----------------------------------------------------------------------------------

/// `S::pool(n)` numbers the pool of blocks of `n` bytes, below `S::pools`; `S::bytes(n)`, at least
/// `n`, is what the chip is asked for when no block of the pool serves; `S::exact_when_short` says
/// whether it is asked for `n` alone where it has not that much.
template <class S>
concept SegmentPolicy = requires(std::size_t n) {
  { S::pools } -> std::convertible_to<std::size_t>;
  { S::exact_when_short } -> std::convertible_to<bool>;
  { S::pool(n) } -> std::same_as<std::size_t>;
  { S::bytes(n) } -> std::same_as<std::size_t>;
};

inline constexpr std::size_t kib = 1024, mib = 1024 * kib;

/// PyTorch's segments: 2 MiB for blocks up to 1 MiB, 20 MiB for those below 10 MiB, and multiples
/// of 2 MiB for the rest. Pool 0 has the small blocks.
struct pytorch_segments {
  using kind = kinds::segments;
  static constexpr std::size_t pools = 2;
  static constexpr bool exact_when_short = false;
  static constexpr std::size_t pool(std::size_t block) { return block <= mib ? 0 : 1; }
  static constexpr std::size_t bytes(std::size_t block) {
    if (block <= mib) {
      return 2 * mib;
    }
    return block < 10 * mib ? 20 * mib : (block + 2 * mib - 1) / (2 * mib) * (2 * mib);
  }
};

/// One pool; `Least` bytes at a time for what is smaller, the block itself for what is larger.
template <std::size_t Least = 2 * mib>
struct plain_segments {
  using kind = kinds::segments;
  static constexpr std::size_t pools = 1;
  static constexpr bool exact_when_short = true;
  static constexpr std::size_t pool(std::size_t) { return 0; }
  static constexpr std::size_t bytes(std::size_t block) { return std::max(block, Least); }
};

/// Each block is a segment of its own.
using whole_segments = plain_segments<0>;

/// Segment policies that reserve addresses and give them memory as it is needed: in granules of
/// `S::granule(pool)` bytes, `S::reach` bytes of addresses at a time.
template <class S>
concept GrowingSegments = SegmentPolicy<S> && requires(std::size_t n) {
  { S::reach } -> std::convertible_to<std::size_t>;
  { S::granule(n) } -> std::same_as<std::size_t>;
};

/// Pools as in `Segments`, but of one segment each that grows: no block is too small because a
/// border lies in it, and what is free in the middle goes back to the chip by granules, `Large`
/// bytes each in the last pool, `Small` in the others. Needs a memory that `ReservesAddresses`.
/// Source: expandable segments (PyTorch); GMLake (Guo et al., 2024).
template <class Segments = plain_segments<>, std::size_t Small = 2 * mib, std::size_t Large = Small,
          std::size_t Reach = 16 * kib* mib>
struct expandable : Segments {
  static_assert(Small % (64 * kib) == 0 && Large % (64 * kib) == 0 && Reach >= Large,
                "ashlar::memory::expandable<Segments, Small, Large, Reach>: granules must be "
                "multiples of 64 KiB, and Reach at least one of them");
  static constexpr std::size_t reach = Reach;
  static constexpr std::size_t granule(std::size_t pool) {
    return pool + 1 == Segments::pools ? Large : Small;
  }
};

// ---- splitting ----------------------------------------------------------------------------------

/// `S::takes(wanted, block)` says whether a free block may serve at all, `S::splits(pool, wanted,
/// block)` whether what is left becomes a block of its own. `S::max_split` is the size from which
/// a block counts as oversized (`no_limit`: none does). `S::small_are_exact`: what serves a request
/// of up to 1 MiB has just the size that was wanted.
template <class S>
concept SplitPolicy = requires(std::size_t n) {
  { S::max_split } -> std::convertible_to<std::size_t>;
  { S::small_are_exact } -> std::convertible_to<bool>;
  { S::takes(n, n) } -> std::same_as<bool>;
  { S::splits(n, n, n) } -> std::same_as<bool>;
};

/// PyTorch's rules: small blocks are always split; a large one if more than 1 MiB is left and the
/// request is below `MaxSplit`. Oversized blocks serve oversized requests only, within 20 MiB.
/// `Expandable`: as with expandable segments, where large ones are always split as well.
template <std::size_t MaxSplit = no_limit, bool Expandable = false>
struct pytorch_split {
  static_assert(
      MaxSplit >= 20 * mib,
      "ashlar::memory::pytorch_split<MaxSplit, Expandable>: MaxSplit must be at least 20 MiB, the "
      "size of a large segment");
  using kind = kinds::split;
  static constexpr std::size_t max_split = MaxSplit;
  static constexpr bool small_are_exact = true;
  static constexpr bool takes(std::size_t wanted, std::size_t block) {
    return wanted < MaxSplit ? block < MaxSplit || MaxSplit == no_limit : block - wanted < 20 * mib;
  }
  static constexpr bool splits(std::size_t pool, std::size_t wanted, std::size_t block) {
    return pool == 0 || Expandable ? block - wanted >= 512
                                   : wanted < MaxSplit && block - wanted > mib;
  }
};

/// Whatever is left becomes a block.
struct always_split {
  using kind = kinds::split;
  static constexpr std::size_t max_split = no_limit;
  static constexpr bool small_are_exact = true;
  static constexpr bool takes(std::size_t, std::size_t) { return true; }
  static constexpr bool splits(std::size_t, std::size_t wanted, std::size_t block) {
    return block > wanted;
  }
};

/// Blocks stay whole; one serves what is at least half as large, or less than two pages smaller.
/// Source: MLX's buffer cache.
template <std::size_t Page = 16 * kib>
struct tolerant {
  using kind = kinds::split;
  static constexpr std::size_t max_split = no_limit;
  static constexpr bool small_are_exact = false;
  static constexpr bool takes(std::size_t wanted, std::size_t block) {
    const std::size_t left = block - wanted;
    return left == 0 || left < std::min(wanted, 2 * Page);
  }
  static constexpr bool splits(std::size_t, std::size_t, std::size_t) { return false; }
};

/// Blocks stay whole and serve their own size only.
struct never_split {
  using kind = kinds::split;
  static constexpr std::size_t max_split = no_limit;
  static constexpr bool small_are_exact = true;
  static constexpr bool takes(std::size_t wanted, std::size_t block) { return wanted == block; }
  static constexpr bool splits(std::size_t, std::size_t, std::size_t) { return false; }
};

// ---- placement ----------------------------------------------------------------------------------

/// `P::gap(address, bytes, count)` is how far above `address` the `count`-th request may start:
/// never more than `P::most(bytes)`, and a multiple of `P::alignment`.
template <class P>
concept PlacementPolicy = requires(std::uintptr_t address, std::size_t n) {
  { P::alignment } -> std::convertible_to<std::size_t>;
  { P::gap(address, n, n) } -> std::same_as<std::size_t>;
  { P::most(n) } -> std::same_as<std::size_t>;
};

/// Every block starts at a multiple of `Bytes`, also after a split.
template <std::size_t Bytes>
struct aligned {
  static_assert(std::has_single_bit(Bytes),
                "ashlar::memory::aligned<Bytes>: Bytes must be a power of two; round it up");
  using kind = kinds::placement;
  static constexpr std::size_t alignment = Bytes;
  static constexpr std::size_t gap(std::uintptr_t, std::size_t, std::size_t) { return 0; }
  static constexpr std::size_t most(std::size_t) { return 0; }
};

/// Blocks of at least `Threshold` bytes start at multiples of `Large`, all others at multiples of
/// `Bytes`; the chip's own alignment may be less than `Large`.
template <std::size_t Threshold, std::size_t Large, std::size_t Bytes = 512>
struct aligned_from {
  static_assert(std::has_single_bit(Large) && std::has_single_bit(Bytes) && Large >= Bytes,
                "ashlar::memory::aligned_from<Threshold, Large, Bytes>: Large and Bytes must be "
                "powers of two, Large the greater");
  using kind = kinds::placement;
  static constexpr std::size_t alignment = Bytes;
  static constexpr std::size_t gap(std::uintptr_t address, std::size_t bytes, std::size_t) {
    return bytes < Threshold ? 0 : (Large - address % Large) % Large;
  }
  static constexpr std::size_t most(std::size_t bytes) {
    return bytes < Threshold ? 0 : Large - Bytes;
  }
};

/// Blocks start in the `Banks` banks of a memory in turns, so that equal places of several tensors
/// do not meet in one bank. `Bytes`: the width of a bank, after which the next one follows.
template <std::size_t Banks, std::size_t Bytes>
struct interleaved {
  static_assert(std::has_single_bit(Bytes) && Banks > 0,
                "ashlar::memory::interleaved<Banks, Bytes>: Bytes must be a power of two and "
                "Banks positive");
  using kind = kinds::placement;
  static constexpr std::size_t alignment = Bytes;
  static constexpr std::size_t gap(std::uintptr_t address, std::size_t, std::size_t count) {
    return (count % Banks + Banks - address / Bytes % Banks) % Banks * Bytes;
  }
  static constexpr std::size_t most(std::size_t) { return (Banks - 1) * Bytes; }
};

// ---- the rest -----------------------------------------------------------------------------------

/// Vector code may read `Bytes` bytes behind the end of a block.
template <std::size_t Bytes>
struct tail_slack {
  using kind = kinds::slack;
  static constexpr std::size_t slack = Bytes;
};

/// Freed blocks up to `Largest` bytes wait whole, up to `Bytes` together of each size, for a
/// request of that size: neither cut nor joined until memory runs short. 0 waits for none.
template <std::size_t Largest, std::size_t Bytes = 128 * kib>
struct quick_lists {
  using kind = kinds::quick;
  static constexpr std::size_t largest = Largest;
  static constexpr std::size_t bytes = Bytes;
};

/// Any thread may call; quick lists lie in `Count` groups, shared by as few threads as possible.
template <std::size_t Count>
struct sharded {
  static_assert(Count > 0, "ashlar::memory::sharded<Count>: Count must be positive");
  using kind = kinds::threads;
  static constexpr bool locks = true;
  static constexpr std::size_t shards = Count;
};
/// Any thread may call.
using locked = sharded<1>;
/// One thread at a time may call: the caller sees to it.
struct unlocked {
  using kind = kinds::threads;
  static constexpr bool locks = false;
  static constexpr std::size_t shards = 1;
};

/// Before the chip is asked for more, it gets whole free segments back, the largest first, while
/// what is held would be more than `Percent` above what is in use: growth is paid for with what
/// lies idle.
template <std::size_t Percent>
struct trim_above {
  using kind = kinds::trim;
  static constexpr std::size_t allowed(std::size_t in_use) {
    return in_use + in_use / 100 * Percent;
  }
};
/// The chip gets memory back only when it has no more.
struct keep_cached {
  using kind = kinds::trim;
  static constexpr std::size_t allowed(std::size_t) { return no_limit; }
};

/// Nothing is written down.
struct unrecorded {
  using kind = kinds::record;
  static constexpr std::size_t actions = 0;
};
/// The last `Count` actions are kept, with the labels of who asked (see `trace.hpp`).
template <std::size_t Count = 65536>
struct recorded {
  using kind = kinds::record;
  static constexpr std::size_t actions = Count;
};

// ---- lists of policies --------------------------------------------------------------------------

template <class... P>
struct policy_list {};

/// PyTorch's caching allocator: the same segments, splits and reuse for the same requests.
/// Source: c10/cuda/CUDACachingAllocator.
using pytorch_policies =
    policy_list<pytorch_sizes<>, pytorch_segments, best_fit, pytorch_split<>, aligned<1>,
                tail_slack<0>, quick_lists<0>, sharded<1>, keep_cached>;

/// The same with `expandable_segments`, and a `max_split_size` of `MaxSplit`.
template <std::size_t MaxSplit = no_limit>
using pytorch_expandable_policies = policy_list<expandable<pytorch_segments, 2 * mib, 20 * mib>,
                                                pytorch_split<MaxSplit, true>, pytorch_policies>;

/// For new chips: one pool, blocks cut to size, freed small blocks at hand for their own size.
using default_policies =
    policy_list<exact<>, plain_segments<4 * mib>, first_fit, always_split, aligned<1>,
                tail_slack<0>, quick_lists<32 * kib>, sharded<8>, trim_above<10>, unrecorded>;

/// Whole blocks that serve their own size class. Source: tinygrad's LRU allocator.
using whole_block_policies =
    policy_list<binned, whole_segments, best_fit, never_split, keep_cached>;

/// Whole blocks that serve sizes a little below their own. Source: MLX's buffer cache.
using tolerant_policies = policy_list<exact<>, whole_segments, best_fit, tolerant<>, keep_cached>;

template <class P>
concept AllocatorPolicy = requires { typename P::kind; };

namespace detail {

template <class... Lists>
struct joined;
/// Lists within lists, laid out in one.
template <class P>
struct flat {
  static_assert(AllocatorPolicy<P>,
                "ashlar::memory::caching_allocator: a policy must say with `kind` which question "
                "it answers (memory/kinds.hpp); remove what is none");
  using type = std::conditional_t<AllocatorPolicy<P>, policy_list<P>, policy_list<>>;
};
template <class... P>
struct flat<policy_list<P...>> : joined<typename flat<P>::type...> {};
template <>
struct joined<> {
  using type = policy_list<>;
};
template <class... A>
struct joined<policy_list<A...>> {
  using type = policy_list<A...>;
};
template <class... A, class... B, class... Rest>
struct joined<policy_list<A...>, policy_list<B...>, Rest...>
    : joined<policy_list<A..., B...>, Rest...> {};

/// The first policy of a kind.
template <class Kind, class List>
struct first_of;
template <class Kind, class P, class... Rest>
struct first_of<Kind, policy_list<P, Rest...>>
    : std::conditional_t<std::is_same_v<typename P::kind, Kind>, std::type_identity<P>,
                         first_of<Kind, policy_list<Rest...>>> {};

/// What an allocator with these policies does; what they leave open is as in `default_policies`.
template <class... P>
struct configuration {
  using list = typename flat<policy_list<P..., default_policies>>::type;
  template <class Kind>
  using policy = typename first_of<Kind, list>::type;

  using sizes = policy<kinds::size_classes>;
  using segments = policy<kinds::segments>;
  using fit = policy<kinds::fit>;
  using split = policy<kinds::split>;
  using placement = policy<kinds::placement>;
  using quick = policy<kinds::quick>;
  using threads = policy<kinds::threads>;
  using trim = policy<kinds::trim>;
  using record = policy<kinds::record>;
  static constexpr std::size_t slack = policy<kinds::slack>::slack;
  /// Sizes and places are multiples of this, of a cache line at least.
  static constexpr std::size_t granule =
      std::max({std::size_t{sizes::smallest}, std::size_t{placement::alignment}, std::size_t{64}});
};

}  // namespace detail
}  // namespace ashlar::memory
