// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <utility>

#include "ashlar/chip/npu/codegen/allocate.hpp"
#include "ashlar/chip/npu/codegen/analyse.hpp"
#include "ashlar/chip/npu/codegen/arguments.hpp"
#include "ashlar/chip/npu/codegen/emit.hpp"
#include "ashlar/chip/npu/codegen/errors.hpp"
#include "ashlar/chip/npu/codegen/hazards.hpp"
#include "ashlar/chip/npu/codegen/ir.hpp"
#include "ashlar/chip/npu/codegen/layout.hpp"
#include "ashlar/chip/npu/codegen/lower.hpp"
#include "ashlar/chip/npu/codegen/verify.hpp"
#include "ashlar/chip/npu/description.hpp"
#include "ashlar/chip/npu/instruction.hpp"
#include "ashlar/config.hpp"
#include "ashlar/tile/passes/pipeline.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/verify.hpp"

/// From a tile program to a program of the reference accelerator.
namespace ashlar::chip::npu_codegen {

/// A tile program for one machine: what it became after the passes, by which `ir` and errors number
/// instructions, its chip IR and its code.
struct compiled {
  tile::program program;
  chip_program ir;
  isa::program code;
};

namespace detail {

/// Returns: nothing where the scratchpad is too small for it.
inline std::optional<compiled> attempt(const npu_description& d, const tile::program& p,
                                       const compile_options& options) {
  [[maybe_unused]] constexpr auto message =
      "ashlar::chip::npu_codegen: a step made chip IR that breaks a rule";
  chip_program ir = lower(p, d, options);
  ASHLAR_ASSERT(verify(ir, ir_stage::lowered), message);
  analyse(ir);
  ASHLAR_ASSERT(verify(ir, ir_stage::analysed), message);
  if (!allocate(ir, options.stages, options.compact)) {
    return std::nullopt;
  }
  ASHLAR_ASSERT(verify(ir, ir_stage::allocated), message);
  if (!synchronise(ir)) {  // engines meet at the borders of regions instead
    for (region& r : ir.regions) {
      r.fenced = r.kind != region_kind::root;
    }
    if (!synchronise(ir)) {
      throw unsupported(ir.name, -1, "program", "it needs more semaphores than there are");
    }
  }
  ASHLAR_ASSERT(verify(ir), message);
  isa::program code = emit(ir);
  return compiled{p, std::move(ir), std::move(code)};
}

}  // namespace detail

/// Compiles a tile program; the result works for all arguments and grids.
///
/// Where the scratchpad is too small, padding goes first, then what the passes have unrolled and
/// hoisted; what is still too large lets buffers share bytes.
/// Throws: `program_error` where `verify` finds something; `unsupported`; `out_of_scratchpad`.
inline compiled compile(const npu_description& d, const tile::program& p,
                        const compile_options& options = {}) {
  tile::expect_valid(p);
  const tile::program better = options.passes ? tile::passes::optimise(p) : p;
  for (const bool compact : {false, true}) {
    for (const bool passes : {true, false}) {
      for (const bool padding : {true, false}) {
        if ((options.compact && !compact) || (passes && !options.passes) ||
            (padding && !options.padding)) {
          continue;
        }
        compile_options tried = options;
        tried.compact = compact;
        tried.padding = padding;
        if (auto made = detail::attempt(d, passes ? better : p, tried)) {
          return *std::move(made);
        }
      }
    }
  }
  chip_program least = lower(p, d, {.padding = false, .one_dma = options.one_dma});
  analyse(least);
  throw out_of_scratchpad(least.name, least_bytes(least), capacity_of(least));
}

}  // namespace ashlar::chip::npu_codegen
