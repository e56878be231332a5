// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

namespace ashlar {

/// How many blocks of `b` hold `a` things: `a / b`, rounded up.
///
/// Requires: `a >= 0`, `b > 0`. Nothing overflows.
constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return a / b + (a % b != 0 ? 1 : 0);
}

}  // namespace ashlar
