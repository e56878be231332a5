// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>

#include "ashlar/chip/host/codegen/elementwise.hpp"
#include "chip/random_programs.hpp"

namespace random_programs {

/// Runs every pack that is linked against the interpreter, bit for bit.
inline void check_packs(std::size_t wanted) {
  using ashlar::chip::host_codegen::host_math;
  CHECK(packs().size() == wanted);
  for (const pack& some : packs()) {
    for (std::uint64_t k = 0; k < pack_size; ++k) {
      const std::uint64_t seed = some.first_seed + k;
      CAPTURE(seed);
      const tile::program p = tile_test::random_program(seed, options);
      tile_test::random_launch launch(p, seed);
      const auto expected = tile_test::interpreted<host_math>(p, seed);
      some.code[k](launch.size, launch.arguments());
      CHECK(tile_test::difference(p, expected, launch.buffers) == "");
    }
  }
}

}  // namespace random_programs
