// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <initializer_list>
#include <span>

#include "ashlar/tile/argument.hpp"
#include "ashlar/tile/detail/interpreter.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/scalar.hpp"
#include "ashlar/tile/verify.hpp"

namespace ashlar::tile {

/// Runs a program on the host, one instruction after the other: the meaning of tile IR.
///
/// The programs of the grid run one by one, axis 0 fastest. `Math` gives the functions whose last
/// bits differ between machines, see `eval::std_math`.
/// Throws: `program_error` where `verify` finds something, `launch_error` where the arguments or
///         the grid do not fit, `execution_error` where a `require` does not hold, a loop has no
///         step or a `repeat` no end; what was stored until then stays.
/// Cost:   a few nanoseconds per element and instruction; for tests and for looking, not for work.
template <class Math = eval::std_math>
void interpret(const program& p, const grid& size, std::span<const argument> arguments,
               const interpret_options& options = {}) {
  expect_valid(p);
  expect_matching(p, arguments);
  for (const std::int64_t n : size) {
    if (n < 0) {
      throw launch_error(-1, "an axis of the grid is negative");
    }
  }
  detail::interpreter<Math> machine(p, size, arguments, options);
  for (std::int64_t z = 0; z < size[2]; ++z) {
    for (std::int64_t y = 0; y < size[1]; ++y) {
      for (std::int64_t x = 0; x < size[0]; ++x) {
        machine.run({x, y, z});
      }
    }
  }
}

template <class Math = eval::std_math>
void interpret(const program& p, const grid& size, std::initializer_list<argument> arguments,
               const interpret_options& options = {}) {
  interpret<Math>(p, size, std::span(arguments.begin(), arguments.size()), options);
}

}  // namespace ashlar::tile
