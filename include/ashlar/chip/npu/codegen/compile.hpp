// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/chip/npu/codegen/allocate.hpp"
#include "ashlar/chip/npu/codegen/analyse.hpp"
#include "ashlar/chip/npu/codegen/arguments.hpp"
#include "ashlar/chip/npu/codegen/emit.hpp"
#include "ashlar/chip/npu/codegen/errors.hpp"
#include "ashlar/chip/npu/codegen/hazards.hpp"
#include "ashlar/chip/npu/codegen/ir.hpp"
#include "ashlar/chip/npu/codegen/layout.hpp"
#include "ashlar/chip/npu/codegen/lower.hpp"
#include "ashlar/chip/npu/description.hpp"
#include "ashlar/chip/npu/instruction.hpp"
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

}  // namespace ashlar::chip::npu_codegen
