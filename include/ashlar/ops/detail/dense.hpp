// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <memory>

#include "ashlar/chip/host/copy.hpp"
#include "ashlar/core/spec.hpp"
#include "ashlar/core/view.hpp"

namespace ashlar::ops::detail {

/// Runs `write` on a row-major output: on `out` itself, or beside it and then copied.
///
/// Only an output that the user gave can have other strides, so the copy is off the usual way.
template <class T, class Write>
void into_dense(view<T> out, const Write& write) {
  if (out.contiguous()) [[likely]] {
    write(out);
    return;
  }
  const tensor_spec spec = contiguous_spec(out.spec->type, out.shape());
  const auto elements = std::make_unique_for_overwrite<T[]>(static_cast<std::size_t>(spec.size));
  const view<T> beside{elements.get(), &spec};
  write(beside);
  chip::host_kernels::copy(out, view<const T>(beside));
}

}  // namespace ashlar::ops::detail
