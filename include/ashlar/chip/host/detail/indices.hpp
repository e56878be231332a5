// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "ashlar/chip/host/detail/nest.hpp"
#include "ashlar/core/error.hpp"

namespace ashlar::chip::host_kernels::detail {

/// Looks at all of `index`, the first tensor of `nest`, before anything is read or written by it.
///
/// Throws: `argument_error` for the first one out of 0 .. `places`.
template <class Nest, class Index>
void check_indices(std::string_view op, const Nest& nest, const Index* index, std::int64_t places) {
  const std::int64_t step = nest.inner_stride()[0];
  std::int64_t number = 0;
  for_each_run(nest, 0, nest.size, [&](const auto& at, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i, ++number) {
      const auto id = static_cast<std::int64_t>(index[at[0] + i * step]);
      if (id < 0 || id >= places) {
        throw argument_error("ashlar::" + std::string(op),
                             "index " + std::to_string(id) + " at place " + std::to_string(number) +
                                 "; the axis has " + std::to_string(places) + " places");
      }
    }
  });
}

}  // namespace ashlar::chip::host_kernels::detail
