// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>

#include "ashlar/parallel/memory_model.hpp"

namespace ashlar::parallel {

/// How `fsdp` handles its units.
struct fsdp_options {
  parallel::prefetch prefetch = parallel::prefetch::pre;
  bool forward_prefetch = false;      ///< gather the next unit while one computes, as last time
  bool reshard_after_forward = true;  ///< else units stay whole until they have gone back
  /// Units that are whole or on their way at once, the one that computes among them: the rate
  /// limit. 1 gathers nothing ahead; no more than transports have channels, 95.
  int gathers = 2;
  std::int64_t micro_batches = 1;  ///< per rank and step
};

/// What a rank holds of units beside its own parts. Bytes.
struct fsdp_usage {
  std::size_t parameters = 0;  ///< of units that are whole, or on their way
  std::size_t gradients = 0;   ///< that are being collected or reduced
  std::size_t peak_parameters = 0;
  std::size_t peak = 0;  ///< of both together
};

}  // namespace ashlar::parallel
