// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "ashlar/core/spec.hpp"

namespace ashlar {

/// A tensor for the time of one call: where the first element is and how to walk. Owns nothing.
///
/// Two words, so that it travels in registers. `view<const T>` only reads. The pointer is an
/// address of the chip that holds the tensor; only the host's may be read by `operator()`.
template <class T>
struct view {
  using value_type = std::remove_const_t<T>;

  T* data;  ///< the first element; the spec's offset is already in it
  const tensor_spec* spec;

  [[nodiscard]] std::span<const std::int64_t> shape() const { return spec->shape(); }
  [[nodiscard]] std::int64_t extent(int axis) const { return (*spec)[axis]; }
  [[nodiscard]] std::int64_t stride(int axis) const { return spec->stride_of(axis); }
  [[nodiscard]] std::int64_t size() const { return spec->size; }
  [[nodiscard]] int rank() const { return spec->rank; }
  [[nodiscard]] bool contiguous() const { return spec->contiguous; }

  /// The element at some indices. Requires: as many indices as axes, each inside its extent.
  template <std::integral... I>
  [[nodiscard]] T& operator()(I... index) const {
    std::int64_t at = 0;
    std::size_t axis = 0;
    ((at += static_cast<std::int64_t>(index) * spec->stride[axis++]), ...);
    return data[at];
  }

  operator view<const T>() const
    requires(!std::is_const_v<T>)
  {
    return {data, spec};
  }
};

}  // namespace ashlar
