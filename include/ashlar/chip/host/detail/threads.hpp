// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstdint>

#include "ashlar/chip/host/parallel.hpp"

namespace ashlar::chip::host_kernels::detail {

/// Work, in elements read or written, below which waking another thread costs more than it saves.
inline constexpr std::int64_t thread_work = 32768;

/// Elements up to which an elementwise loop does not think of threads at all.
inline constexpr std::int64_t serial_elements = thread_work;

inline constexpr std::int64_t element_cost = 1;

/// Calls `body(begin, end)` on chunks of 0 .. n, each worth waking a thread for.
///
/// `cost`: work of one item, in elements.
template <class Body>
void parallel(std::int64_t n, std::int64_t cost, const Body& body) {
  const std::int64_t grain =
      std::max<std::int64_t>(thread_work / std::max<std::int64_t>(cost, 1), 1);
  chip::parallel_for(n, grain, body);
}

}  // namespace ashlar::chip::host_kernels::detail
