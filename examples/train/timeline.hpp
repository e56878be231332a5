// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ashlar/trace/timeline.hpp>
#include <cstdint>
#include <span>
#include <string>

namespace train {

/// Says on stdout what a step takes `where`, what of it is computation and how much of the
/// collectives it hides; leaves the last step in `file`, unless that is empty.
///
/// `marks` are the times between steps [ns], as those of the timeline.
/// Throws: `ashlar::io::file_error`.
void report_steps(const std::string& where, const ashlar::trace::timeline& all,
                  std::span<const std::int64_t> marks, int ranks, const std::string& file);

}  // namespace train
