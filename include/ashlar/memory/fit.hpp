// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstddef>

#include "ashlar/memory/detail/block.hpp"
#include "ashlar/memory/detail/size_bins.hpp"
#include "ashlar/memory/kinds.hpp"

/// Which free block serves a request.
namespace ashlar::memory {

/// An index of free blocks; `find(n)` names one of at least `n` bytes, or none.
template <class I>
concept FreeIndex =
    std::default_initializable<I> && requires(I i, const I c, detail::block& b, std::size_t n) {
      { i.insert(b) } noexcept;
      { i.erase(b) } noexcept;
      { c.find(n) } -> std::same_as<detail::block*>;
      { c.largest() } -> std::same_as<detail::block*>;
      c.for_each([](detail::block&) {});
    };

/// Which free block serves a request: `P::index` is a `FreeIndex`.
template <class P>
concept FitPolicy = FreeIndex<typename P::index>;

/// The smallest block that is large enough; of equals the one at the lowest address.
/// Cost: O(log n) among blocks whose sizes differ by less than an eighth.
struct best_fit {
  using kind = kinds::fit;
  using index = detail::size_bins<detail::sorted_blocks>;
};

/// The block that was freed last among those of about the right size. Cost: O(1).
/// Source: TLSF (Masmano et al., 2004), eight lists per power of two.
struct first_fit {
  using kind = kinds::fit;
  using index = detail::size_bins<detail::block_stack>;
};

/// The block at the lowest address that is large enough: what is in use gathers at the bottom, and
/// the top of the address space empties. Cost: O(log n).
struct lowest_address {
  using kind = kinds::fit;
  using index = detail::lowest_first;
};

}  // namespace ashlar::memory
