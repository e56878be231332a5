// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "ashlar/chip/host/copy.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/core/geometry.hpp"
#include "ashlar/core/view.hpp"

namespace ashlar::chip::host_kernels {

/// Row-major memory in `float` in place of a tensor of narrow floats, for a kernel that only works
/// in float.
///
/// Throws: `std::bad_alloc`.
class widened {
 public:
  /// The elements of `x`.
  template <NarrowFloating T>
  explicit widened(view<const T> x) : widened(*x.spec) {
    copy(view<float>{data_.get(), &spec_}, x);
  }
  /// Room for a result of this shape.
  explicit widened(const tensor_spec& s)
      : spec_(contiguous_spec(dtype::float32, s.shape())),
        data_(std::make_unique_for_overwrite<float[]>(
            static_cast<std::size_t>(std::max<std::int64_t>(s.size, 1)))) {}

  [[nodiscard]] view<float> result() { return {data_.get(), &spec_}; }
  [[nodiscard]] view<const float> elements() const { return {data_.get(), &spec_}; }

 private:
  tensor_spec spec_;
  std::unique_ptr<float[]> data_;
};

}  // namespace ashlar::chip::host_kernels
