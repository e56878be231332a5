// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <span>

#include "ashlar/chip/codegen.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/ops/host_fallback.hpp"
#include "ashlar/ops/tile.hpp"
#include "ashlar/tile/interpret.hpp"
#include "ops/twins.hpp"

/// A chip with nothing of its own but the means to run tile programs: the interpreter.
///
/// It has no `falls_back_to`, so an operator without a tile program does not compile on it.
namespace tile_test {

namespace al = ashlar;

struct tile_chip {
  static constexpr al::chip_description description{.name = "tile_chip", .vector_bytes = 64};
  using memory = al::chip::host::memory;
  using queue = al::chip::host::queue;
  struct codegen {
    static void run(al::context<tile_chip>&, const al::tile::program& program,
                    const al::tile::grid& grid, std::span<const al::tile::argument> arguments) {
      al::tile::interpret(program, grid, arguments);
    }
  };
};

using tile_keys = al::make_key_set<al::keys::backend<tile_chip>>;
template <class T>
using on_tiles = al::tensor<T, tile_keys>;

/// A copy on the tile chip with the same strides.
template <class T>
on_tiles<T> moved(const twins::plain<T>& x) {
  return al::detail::carried<on_tiles<T>>(x);
}
template <class T>
twins::plain<T> back(const on_tiles<T>& x) {
  return al::detail::carried<twins::plain<T>>(x);
}

/// Whether each element is within `relative` of the larger of 1 and what the host says; NaN where
/// that is NaN.
template <class T>
void check_close(const on_tiles<T>& got, const twins::plain<T>& want, double relative) {
  REQUIRE(al::same_shape(got.spec(), want.spec()));
  for (std::int64_t i = 0; i < want.size(); ++i) {
    const auto g = static_cast<double>(twins::at(got, i));
    const auto w = static_cast<double>(twins::at(want, i));
    const bool close =
        (g != g && w != w) || g == w || std::abs(g - w) <= relative * std::max(1.0, std::abs(w));
    if (!close) {
      CAPTURE(i);
      CHECK(g == w);
      return;
    }
  }
  CHECK(true);
}

/// Half the distance from 1 to the next number: what one rounding may be off by.
template <class T>
inline constexpr double roundoff = sizeof(T) == 8                   ? 0x1p-53
                                   : sizeof(T) == 4                 ? 0x1p-24
                                   : std::is_same_v<T, al::float16> ? 0x1p-11
                                                                    : 0x1p-8;

}  // namespace tile_test
