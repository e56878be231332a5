// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "support/tile_random.hpp"

/// Random programs for chips that compile: the same for one seed on every chip.
namespace random_programs {

namespace tile = ashlar::tile;

/// Short, so that compilers take hundreds; silent, since `print` of the host is heard.
inline constexpr tile_test::random_options options = tile_test::everything({.moves = 3});
inline constexpr std::uint64_t first_seed = 20000;
inline constexpr int pack_size = 50;  ///< programs of one source file, or of one module

/// Packs that are tested where LLVM compiles: the text is the same whatever compiles this.
#if defined(__clang__)
inline constexpr int llvm_packs = 1;
#else
inline constexpr int llvm_packs = 6;
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
