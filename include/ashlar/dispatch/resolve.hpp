// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace ashlar {

/// Which rule answers an operator under a key.
enum class found { direct, view, tile, decomposition, composite, fallback, fallthrough, missing };

/// Some keys of a list, a bit each; bit 0 is the first of the list, which has the first turn.
using key_bits = std::uint32_t;

/// The kernel that a call comes to.
struct kernel_id {
  std::size_t key;  ///< its place in the list; the list's length where no key is left
  found how;
  friend constexpr bool operator==(const kernel_id&, const kernel_id&) = default;
};

/// One operator under each key of a list, highest priority first: its row of the dispatch table.
template <std::size_t N>
struct rule_row {
  static_assert(N < 32, "ashlar::rule_row: at most 31 keys in one set; use fewer");

  std::array<found, N> rule{};
  key_bits mask = 0;  ///< the keys that do not leave the turn to the next

  constexpr explicit rule_row(const std::array<found, N>& rules) : rule(rules) {
    for (std::size_t i = 0; i < N; ++i) {
      mask |= rules[i] == found::fallthrough ? 0 : key_bits{1} << i;
    }
  }

  /// The one resolution, of calls by type and of calls at run time: the first key of `set & mask`.
  [[nodiscard]] constexpr kernel_id resolve(key_bits set) const {
    const key_bits left = set & mask;
    if (left == 0) {
      return {N, found::missing};
    }
    const auto at = static_cast<std::size_t>(std::countr_zero(left));
    return {at, rule[at]};
  }
};

}  // namespace ashlar
