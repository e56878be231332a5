// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>

#include "ashlar/chip/host/codegen/execute.hpp"
#include "ashlar/tile/passes/pipeline.hpp"
#include "chip/random_programs.hpp"

namespace random_programs {

template <std::uint64_t Seed>
inline constexpr tile::program program_of = program_for(Seed);

/// Every other program as it is, the others after the passes.
template <std::uint64_t Seed>
struct source {
  static constexpr const tile::program& code = program_of<Seed>;
};
template <std::uint64_t Seed>
  requires(Seed % 2 == 0)
struct source<Seed> {
  static constexpr const tile::program& code = tile::passes::pipeline<program_of<Seed>>::result;
};

template <std::uint64_t Seed>
void run(const tile::grid& grid, std::span<const tile::argument> arguments) {
  const std::int64_t places = grid[0] * grid[1] * grid[2];
  if (places > 0) {
    ashlar::chip::host_codegen::execute<source<Seed>>(arguments.data(), 0, places, grid);
  }
}

/// Puts a pack on the list. A source file of number `Number` has one variable of this type.
template <int Number>
struct registered {
  registered() {
    constexpr std::uint64_t first = first_seed(Number);
    packs().push_back([]<std::uint64_t... K>(std::integer_sequence<std::uint64_t, K...>) {
      return pack{first, {run<first + K>...}};
    }(std::make_integer_sequence<std::uint64_t, pack_size>{}));
  }
};

}  // namespace random_programs
