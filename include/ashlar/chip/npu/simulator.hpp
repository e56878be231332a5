// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <source_location>
#include <span>
#include <string>
#include <vector>

#include "ashlar/chip/npu/description.hpp"
#include "ashlar/chip/npu/detail/machine.hpp"
#include "ashlar/chip/npu/errors.hpp"
#include "ashlar/chip/npu/instruction.hpp"
#include "ashlar/chip/npu/report.hpp"
#include "ashlar/core/error.hpp"

namespace ashlar::chip::npu_isa {

/// Runs a program on the machine that `d` describes, cycle by cycle.
///
/// `arguments` are in the scalar registers r1, r2, ... when it begins; `memory` is what DMA can
/// reach. The scratchpad begins without contents. Equal inputs give equal reports.
/// Effects: stores happen in `memory`, also those before a fault.
/// Throws: `argument_error` for a description that no machine has or more than 63 arguments;
///   `encoding_error` for an instruction that is not well-formed; classes derived from `fault` for
///   what the program does wrong.
/// Cost: below a microsecond per instruction, plus its effect on whole ranges.
inline run_report simulate(const npu_description& d, const program& p,
                           std::span<const region> memory,
                           std::span<const std::int64_t> arguments = {},
                           const run_options& options = {},
                           std::source_location where = std::source_location::current()) {
  if (!d.valid()) {
    throw argument_error("ashlar::chip::npu_isa::simulate",
                         "the description must have positive sizes, powers of two for alignments "
                         "and 1 to 13 DMA engines",
                         where);
  }
  if (arguments.size() >= register_count) {
    throw argument_error("ashlar::chip::npu_isa::simulate",
                         "63 arguments at most fit into the scalar registers", where);
  }
  return detail::machine(d, p, memory, arguments, options).run();
}

}  // namespace ashlar::chip::npu_isa
