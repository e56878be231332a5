// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <doctest/doctest.h>

#include <bit>
#include <cstdint>

#include "ashlar/chip/blocks.hpp"
#include "ashlar/chip/concept.hpp"

/// Laws of `chip::BlockPolicy`.
namespace ashlar::laws {

/// Blocks of any work on the chip `d` are positive, and a function of their arguments.
template <chip::BlockPolicy P>
void check_block_policy(const chip_description& d) {
  constexpr int fold = P::fold;
  static_assert(fold >= 16 && std::has_single_bit(static_cast<unsigned>(fold)));
  for (const dtype e : {dtype::float32, dtype::bfloat16, dtype::int8, dtype::float64}) {
    for (const std::int64_t m : {0, 1, 7, 512, 100003}) {
      for (const std::int64_t n : {0, 1, 17, 4096}) {
        for (const std::int64_t k : {0, 1, 31, 2048}) {
          const chip::matmul_work w{.m = m, .n = n, .k = k, .element = e};
          const chip::matmul_blocks b = P::product(d, w);
          CHECK((b.m > 0 && b.n > 0 && b.k > 0));
          CHECK(P::product(d, w) == b);
        }
      }
    }
    for (const int inputs : {0, 1, 2, 5}) {
      const chip::row_work w{.inputs = inputs, .element = e};
      CHECK(P::row(d, w) > 0);
      CHECK(P::row(d, w) == P::row(d, w));
    }
    const chip::attention_work w{.element = e};
    CHECK(P::queries(d, w) > 0);
    CHECK(P::queries(d, w) == P::queries(d, w));
  }
}

/// The choices are constant expressions: block sizes are template arguments.
template <chip::BlockPolicy P, Chip C>
inline constexpr bool constant_blocks = [] {
  constexpr auto b = P::product(C::description, chip::matmul_work{});
  constexpr int row = P::row(C::description, chip::row_work{});
  constexpr int queries = P::queries(C::description, chip::attention_work{});
  return b.m > 0 && row > 0 && queries > 0;
}();

}  // namespace ashlar::laws
