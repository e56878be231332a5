// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ashlar/chip/codegen.hpp"
#include "ashlar/chip/host/copy.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/core/geometry.hpp"
#include "ashlar/core/tensor.hpp"
#include "ashlar/dispatch/allocate.hpp"
#include "ashlar/ops/tile/elementwise.hpp"
#include "ashlar/ops/tile/launch.hpp"

/// What the default kernels share that work along one axis: rows, launches, room on the chip.
namespace ashlar::ops::detail {

/// A tensor on the chip for the time of an operator.
template <class T, LaunchesTiles C>
using tile_scratch = tensor<T, key_set<keys::backend<C>>>;

template <class T, LaunchesTiles C>
tile_scratch<T, C> make_scratch(context<C>& on, const shape& extents) {
  return allocate_tensor<tile_scratch<T, C>>(on, contiguous_spec(dtype_of<T>, extents.span()));
}

/// A view in another shape: the same elements, or a copy where strides do not allow that.
template <class T, LaunchesTiles C>
class reshaped {
 public:
  reshaped(context<C>& on, const view<const T>& x, const shape& to) : data_(x.data) {
    if (const auto same = geometry::try_reshape(*x.spec, to)) {
      spec_ = *same;
      return;
    }
    copy_ = make_scratch<T>(on, shape(x.shape()));
    if constexpr (std::same_as<C, chip::host>) {
      chip::host_kernels::copy(copy_->view(), x);
    } else {
      run_map(on, identity{}, copy_->view(), x);
    }
    data_ = copy_->data();
    spec_ = contiguous_spec(dtype_of<T>, to.span());
  }
  reshaped(const reshaped&) = delete;
  reshaped& operator=(const reshaped&) = delete;

  [[nodiscard]] view<const T> get() const { return {data_, &spec_}; }

 private:
  const T* data_;
  tensor_spec spec_{};
  std::optional<tile_scratch<T, C>> copy_;
};

/// Runs `write` on a row-major output of shape `to`: on `out` itself, or beside it and then copied.
template <class T, RunsTiles C, class Write>
void into_shape(context<C>& on, const view<T>& out, const shape& to, const Write& write) {
  if (const auto same = geometry::try_reshape(*out.spec, to)) {
    write(view<T>{out.data, &*same});
    return;
  }
  const auto beside = make_scratch<T>(on, shape(out.shape()));
  const tensor_spec spec = contiguous_spec(dtype_of<T>, to.span());
  write(view<T>{beside.data(), &spec});
  run_map(on, identity{}, out, view<const T>(beside.view()));
}

/// The spec with `axis` last and at least one axis.
constexpr tensor_spec with_last(const tensor_spec& s, int axis) {
  if (s.rank == 0) {
    return geometry::unsqueeze(s, 0);
  }
  shape order;
  for (int a = 0; a < s.rank; ++a) {
    if (a != axis) {
      order.push_back(a);
    }
  }
  order.push_back(axis);
  return geometry::permute(s, order);
}

/// Elements of all axes but the last.
constexpr std::int64_t rows_of(const tensor_spec& s) {
  std::int64_t rows = 1;
  for (int a = 0; a + 1 < s.rank; ++a) {
    rows *= s[a];
  }
  return rows;
}

/// Where a program that owns one row stands: its row is along the last of four axes.
struct row_place {
  tile::index i0, i1, i2;
  constexpr explicit row_place(tile::scope& k)
      : i0(k.program_id(2)), i1(k.program_id(1)), i2(k.program_id(0)) {}
};

/// Runs `K` with one program for each row of views that have the same shape but for `axis`.
///
/// The kernel takes the views with `axis` last, then `more`.
template <class K, RunsTiles C, class... M, class First, class... Rest>
void run_rows(context<C>& on, int axis, const std::tuple<M...>& more, const First& first,
              const Rest&... rest) {
  const std::array specs{with_last(*first.spec, axis), with_last(*rest.spec, axis)...};
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    each_four_axes(
        [&](const auto& views) {
          const auto& e = views[0].extents;
          std::apply(
              [&](const auto&... m) {
                run_tiles<K>(on, {e[2], e[1], e[0]}, views[0], views[I + 1]..., m...);
              },
              more);
        },
        First{first.data, &specs[0]}, Rest{rest.data, &specs[I + 1]}...);
  }(std::index_sequence_for<Rest...>{});
}

}  // namespace ashlar::ops::detail
