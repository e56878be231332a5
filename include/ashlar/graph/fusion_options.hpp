// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace ashlar::graph {

/// What fusion may do.
struct fusion_options {
  /// Sums along rows may be added up in another order than by the operators, so that results differ
  /// by rounding: without, only what keeps every bit is fused.
  bool reorder_sums = true;
  /// On the host, operators' kernels take turns block by block, so that what is between them stays
  /// in the cache: with their bits, and products of rows among them. Without, programs run there,
  /// too.
  bool host_blocks = true;
  int most_instructions = 300;  ///< of one kernel
  int most_arguments = 14;
};

}  // namespace ashlar::graph
