// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "support/tile_random.hpp"

/// The random programs on which passes and chips are tested: seeds 0, 1, 2 ...
namespace tile_test {

inline constexpr std::uint64_t program_count = 10000;

/// The first so many are made by compilers, too: the host's, and LLVM for x86-64 and for RISC-V.
inline constexpr std::uint64_t compiled_count = 300;

/// These are short, since g++ takes half a second for each, and silent, since the host's `print` is
/// heard. That is all that sets them apart.
inline constexpr random_options short_options = everything({.moves = 4});

constexpr random_options options_of(std::uint64_t seed) {
  return seed < compiled_count
             ? short_options
             : everything({.speech = seed % 4 == 0, .moves = 6 + static_cast<int>(seed % 16)});
}

}  // namespace tile_test
