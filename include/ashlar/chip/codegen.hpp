// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <span>

#include "ashlar/chip/concept.hpp"
#include "ashlar/tile/argument.hpp"
#include "ashlar/tile/program.hpp"

namespace ashlar {

/// A chip that runs tile programs: with this alone every operator that has one works on it.
///
/// `codegen::run(context, program, grid, arguments)` enqueues the programs of the grid. Addresses
/// in `arguments` are the chip's own. What is translated for a program is the chip's to keep:
/// programs are plain values that compare equal.
template <class C>
concept RunsTiles =
    Chip<C> && requires(context<C>& on, const tile::program& program, const tile::grid& grid,
                        std::span<const tile::argument> arguments) {
      C::codegen::run(on, program, grid, arguments);
    };

/// A chip that makes code where kernel `K` is compiled, beside that of programs made at run time:
/// operators launch what they know by its type.
template <class C, class K>
concept CompilesKernel = RunsTiles<C> && requires(context<C>& on, const tile::grid& grid,
                                                  std::span<const tile::argument> arguments) {
  C::codegen::template run<K>(on, grid, arguments);
};

}  // namespace ashlar
