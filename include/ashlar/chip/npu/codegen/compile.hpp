// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "ashlar/chip/npu/codegen/allocate.hpp"
#include "ashlar/chip/npu/codegen/analyse.hpp"
#include "ashlar/chip/npu/codegen/emit.hpp"
#include "ashlar/chip/npu/codegen/errors.hpp"
#include "ashlar/chip/npu/codegen/hazards.hpp"
#include "ashlar/chip/npu/codegen/ir.hpp"
#include "ashlar/chip/npu/codegen/layout.hpp"
#include "ashlar/chip/npu/codegen/lower.hpp"
#include "ashlar/chip/npu/description.hpp"
#include "ashlar/chip/npu/instruction.hpp"
#include "ashlar/tile/argument.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/verify.hpp"

/// From a tile program to a program of the reference accelerator.
namespace ashlar::chip::npu_codegen {

/// A tile program for one machine: its chip IR, its instructions, what it wants in its registers.
struct compiled {
  chip_program ir;
  isa::program code;
};

/// Compiles a tile program; the result works for all arguments and grids.
///
/// Throws: `program_error` where `verify` finds something; `unsupported`; `out_of_scratchpad`.
inline compiled compile(const npu_description& d, const tile::program& p,
                        const compile_options& options = {}) {
  tile::expect_valid(p);
  compiled made;
  made.ir = lower(p, d, options);
  analyse(made.ir);
  allocate(made.ir, options.stages, options.compact);
  if (!synchronise(made.ir)) {  // engines meet at the borders of regions instead
    for (region& r : made.ir.regions) {
      r.fenced = r.kind != region_kind::root;
    }
    if (!synchronise(made.ir)) {
      throw unsupported(made.ir.name, -1, "program", "it needs more semaphores than there are");
    }
  }
  made.code = emit(made.ir);
  return made;
}

namespace detail {

/// A word about the elements of a view as one line.
inline std::int64_t span_word(argument_word::kind what, const tile::argument& a) {
  std::int64_t before = 0;
  std::int64_t behind = 1;
  for (std::size_t axis = 0; axis < static_cast<std::size_t>(a.rank); ++axis) {
    const std::int64_t n = a.extents[axis];
    const std::int64_t step = n == 0 ? 0 : (n - 1) * a.strides[axis];
    (step < 0 ? before : behind) += step < 0 ? -step : step;
    behind = n == 0 ? 0 : behind;
  }
  const auto address = static_cast<std::int64_t>(reinterpret_cast<std::intptr_t>(a.data));
  return what == argument_word::kind::lowest
             ? address - before * static_cast<std::int64_t>(ashlar::size_of(a.element))
         : what == argument_word::kind::origin ? before
                                               : before + behind;
}

}  // namespace detail

/// The words that a compiled program reads, in the order in which it wants them.
inline std::vector<std::int64_t> words_for(const chip_program& c, const tile::grid& size,
                                           std::span<const tile::argument> arguments) {
  std::vector<std::int64_t> all;
  for (const argument_word& w : c.words) {
    const auto axis = static_cast<std::size_t>(w.axis);
    if (w.what == argument_word::kind::grid) {
      all.push_back(size[axis]);
      continue;
    }
    const tile::argument& a = arguments[static_cast<std::size_t>(w.parameter)];
    switch (w.what) {
      case argument_word::kind::address:
        all.push_back(static_cast<std::int64_t>(reinterpret_cast<std::intptr_t>(a.data)));
        break;
      case argument_word::kind::extent:
        all.push_back(a.extents[axis]);
        break;
      case argument_word::kind::stride:
        all.push_back(a.strides[axis]);
        break;
      case argument_word::kind::lowest:
      case argument_word::kind::origin:
      case argument_word::kind::reach:
        all.push_back(detail::span_word(w.what, a));
        break;
      default:
        all.push_back(static_cast<std::int64_t>(operand_bits(a.element, a.bits)));
    }
  }
  return all;
}

}  // namespace ashlar::chip::npu_codegen
