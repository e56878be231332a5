// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "ashlar/chip/host/codegen/elementwise.hpp"
#include "ashlar/tile/opcode.hpp"
#include "chip/random_programs.hpp"

namespace random_programs {

/// Runs every pack that is linked against the interpreter, bit for bit.
inline void check_packs(int wanted) {
  using ashlar::chip::host_codegen::host_math;
  CHECK(packs().size() == static_cast<std::size_t>(wanted));
  MESSAGE("seeds 0 to ", first_seed(wanted) - 1);
  std::array<bool, tile::opcode_count> seen{};
  for (const pack& some : packs()) {
    for (std::uint64_t k = 0; k < pack_size; ++k) {
      const std::uint64_t seed = some.first_seed + k;
      CAPTURE(seed);
      const tile::program p = program_for(seed);
      tile_test::random_launch launch(p, seed);
      const auto expected = tile_test::interpreted<host_math>(p, seed);
      some.code[k](launch.size, launch.arguments());
      CHECK(tile_test::difference(p, expected, launch.buffers) == "");
      for (int i = 0; i < p.size; ++i) {
        seen[static_cast<std::size_t>(p.at(i).op)] = true;
      }
    }
  }
  for (int op = 0; op < tile::opcode_count; ++op) {
    const auto o = static_cast<tile::opcode>(op);
    CAPTURE(tile::info(o).name);
    CHECK(seen[static_cast<std::size_t>(op)] ==
          (o != tile::opcode::print && o != tile::opcode::require));
  }
}

}  // namespace random_programs
