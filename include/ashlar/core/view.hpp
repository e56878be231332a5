// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ashlar/config.hpp"
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

  /// Element `i`, counted row by row, whatever the strides are.
  /// Cost: a division per axis; a kernel in a hurry walks along the strides.
  [[nodiscard]] T& at(std::int64_t i) const { return at(i, *this); }
  /// The element that goes into element `i` of a result to whose shape this view broadcasts.
  template <class R>
  [[nodiscard]] T& at(std::int64_t i, const view<R>& result) const {
    return data[place_of(*spec, i, result.shape())];
  }

  operator view<const T>() const
    requires(!std::is_const_v<T>)
  {
    return {data, spec};
  }
};

template <class T>
inline constexpr bool is_view = false;
template <class T>
inline constexpr bool is_view<view<T>> = true;
/// A view that a kernel writes to.
template <class A>
inline constexpr bool is_output = false;
template <class T>
inline constexpr bool is_output<view<T>> = !std::is_const_v<T>;

/// Calls `run(F{attributes...}, views...)` for arguments that are some views, then attributes.
template <class F, class Run, class... A>
ASHLAR_INLINE void run_on_views(const Run& run, const A&... arguments) {
  constexpr std::size_t views = (static_cast<std::size_t>(is_view<A>) + ... + 0);
  if constexpr (views == sizeof...(A)) {
    run(F{}, arguments...);
  } else {
    const auto all = std::tie(arguments...);
    [&]<std::size_t... I, std::size_t... K>(std::index_sequence<I...>, std::index_sequence<K...>)
        __attribute__((always_inline)) {
      run(F{std::get<views + K>(all)...}, std::get<I>(all)...);
    }
    (std::make_index_sequence<views>{}, std::make_index_sequence<sizeof...(A) - views>{});
  }
}

}  // namespace ashlar
