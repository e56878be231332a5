// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <span>

#include "ashlar/chip/codegen.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/conformance/values.hpp"
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

template <class T>
inline constexpr double roundoff = al::conformance::roundoff(al::dtype_of<T>);

/// What two orders of the same sums may differ by: each is off by at most (number of terms) x (unit
/// roundoff of the sums) x (sum of the terms' sizes), and each result is rounded once to `T`, which
/// together is one place of it; vector and library functions differ by a few places of the sums.
struct tolerance {
  double terms = 0;      ///< of one sum, and what its factors and functions add
  double magnitude = 1;  ///< at most the sum of the sizes of the terms
};
constexpr tolerance exact{0, 0};

/// Compares a result with the host's; NaN must meet NaN.
template <class T>
void check_close(const on_tiles<T>& got, const twins::plain<T>& want, const tolerance& allowed) {
  twins::require_same_shape(got.spec(), want.spec());
  if constexpr (!al::Floating<T>) {
    twins::check_elements(got, [&](std::int64_t i) { return twins::at(want, i); });
  } else {
    const double absolute = 2 * allowed.terms * roundoff<al::compute_type<T>> * allowed.magnitude;
    const double relative = allowed.terms == 0 ? 0.0 : 2 * roundoff<T>;
    twins::check_elements(
        got, [&](std::int64_t i) { return twins::at(want, i); }, relative, absolute);
  }
}

/// Runs `f` on both chips with dense and with scattered arguments.
template <class F, class... X>
void check_both(const tolerance& allowed, const F& f, const X&... x) {
  const auto want = f(x...);
  check_close(f(moved(x)...), want, allowed);
  check_close(f(moved(twins::scattered(x))...), want, allowed);
}

}  // namespace tile_test
