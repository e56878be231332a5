// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "ashlar/tile/program.hpp"
#include "support/random_set.hpp"
#include "support/tile_random.hpp"

/// Random programs for chips that compile: the same for one seed on every chip.
namespace random_programs {

namespace tile = ashlar::tile;

inline constexpr int pack_size = 50;  ///< programs of one source file, or of one module
inline constexpr int pack_count = tile_test::compiled_count / pack_size;
/// The soak takes as many as passes and simulator are tested on, all of them short.
inline constexpr int soak_packs = tile_test::program_count / pack_size;

inline constexpr std::uint64_t first_seed(int pack) {
  return static_cast<std::uint64_t>(pack) * pack_size;
}
/// The program of a seed: below `compiled_count` that of `tile_test::options_of`.
constexpr tile::program program_for(std::uint64_t seed) {
  return tile_test::random_program(seed, tile_test::short_options);
}

/// Packs that are tested where LLVM compiles: the text is the same whatever compiles this.
#if defined(__clang__)
inline constexpr int llvm_packs = 1;
#else
inline constexpr int llvm_packs = pack_count;
#endif

/// Runs one program for every place of the grid.
using function = void (*)(const tile::grid&, std::span<const tile::argument>);

/// Programs that one source file holds as code of the host.
struct pack {
  std::uint64_t first_seed;
  std::array<function, pack_size> code;
};

/// Those of all source files that are linked.
inline std::vector<pack>& packs() {
  static std::vector<pack> all;
  return all;
}

}  // namespace random_programs
