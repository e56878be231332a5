// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <span>
#include <tuple>

#include "ashlar/chip/host/codegen/execute.hpp"
#include "ashlar/chip/host/codegen/grid_product.hpp"
#include "ashlar/chip/host/parallel.hpp"
#include "ashlar/chip/host/product_order.hpp"
#include "ashlar/simd/memory.hpp"
#include "ashlar/tile/argument.hpp"
#include "ashlar/tile/kernel.hpp"
#include "ashlar/tile/passes/pipeline.hpp"

/// The host's code generator: a tile kernel becomes native code where it is called.
namespace ashlar::chip {

namespace host_codegen {

/// What a kernel's code is made from: its program after the passes, which keep every bit, and how
/// its products add up.
template <tile::Kernel K, product_order Order = product_order::unit>
struct source {
  static constexpr const tile::program& written = tile::program_of<K>;
  static constexpr product_order order = Order;
  static constexpr const tile::program& code = tile::passes::pipeline<tile::program_of<K>>::result;
};

/// Runs `Source` for every place of the grid, in parallel.
///
/// Throws: `launch_error` where arguments or grid do not fit, `execution_error`.
template <class Source>
void run(const tile::grid& grid, std::span<const tile::argument> arguments) {
  tile::expect_matching(Source::code, arguments);
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
  std::int64_t places = 1;
  for (const std::int64_t n : grid) {
    if (n < 0) {
      throw tile::launch_error(-1, "an axis of the grid is negative");
    }
    if (n > 0 && places > most / n) {
      throw tile::launch_error(-1, "the grid has more places than can be counted");
    }
    places *= n;
  }
  if constexpr (detail::grid_product_of<Source>.found) {
    detail::product_grid<Source>(grid, arguments).run();
    return;
  }
  const bool streams = facts<Source>::streams(arguments);
  parallel_for(places, facts<Source>::grain, [&](std::int64_t begin, std::int64_t end) {
    execute<Source>(arguments.data(), begin, end, grid, streams);
    if (streams) {
      simd::finish_streams();
    }
  });
}

}  // namespace host_codegen

/// Runs a tile kernel on the host for every place of a grid.
///
/// Shapes:  one argument for each parameter of the kernel: a `view` for `in` and `out`, a number
/// for
///          `arg`.
/// Effects: programs run in parallel; what two of them write to one place is unordered, except
///          through atomics.
/// Throws:  `launch_error` for arguments that are not the parameters', `execution_error` where a
///          `require` does not hold or a loop has no step; its instruction is the kernel's own.
/// Cost:    the kernel is compiled where this is instantiated.
template <tile::Kernel K, product_order Order = product_order::unit, class... A>
void launch(const tile::grid& grid, const A&... arguments) {
  using parameters = typename tile::detail::call_of<decltype(&K::operator())>::parameters;
  static_assert(std::tuple_size_v<parameters> == sizeof...(A),
                "ashlar::chip::launch: one argument for each parameter of the kernel");
  const std::array<tile::argument, sizeof...(A)> given{tile::argument(arguments)...};
  host_codegen::run<host_codegen::source<K, Order>>(grid, given);
}

}  // namespace ashlar::chip
