// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "ashlar/chip/host/copy.hpp"
#include "ashlar/chip/host/elementwise.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/core/geometry.hpp"
#include "ashlar/dispatch.hpp"
#include "ashlar/ops/fwd.hpp"
#include "ashlar/ops/meta_kernels.hpp"
#include "ashlar/ops/views.hpp"
#include "ashlar/tile/functions.hpp"

/// Windows that slide along an axis: what convolutions and pools read.
namespace ashlar {

namespace ops {

/// All windows of `size` places, `dilation` apart, that begin every `step` places of an axis.
///
/// Shapes: `self`: (.., n, ..); the result: (.., count, .., size) with
///         count = (n - dilation (size - 1) - 1) / step + 1: the axis counts windows, a new last
///         one stands for their places. A view: windows that overlap share elements.
/// Throws: `argument_error` for a window that does not fit, or numbers below 1.
struct unfold : detail::view_base {
  static constexpr std::string_view name = "unfold";
  static constexpr tensor_spec meta(const tensor_spec& self, std::int64_t axis, std::int64_t size,
                                    std::int64_t step, std::int64_t dilation) {
    const auto a = static_cast<std::size_t>(wrap_axis(name, axis, self.rank));
    const std::int64_t n = self.extent[a];
    if (size < 1 || step < 1 || dilation < 1 || size > n || size - 1 > (n - 1) / dilation) {
      throw argument_error("ashlar::unfold", "windows of " + std::to_string(size) + " places, " +
                                                 std::to_string(dilation) + " apart, every " +
                                                 std::to_string(step) + ", of " +
                                                 std::to_string(n) +
                                                 "; give numbers from 1 and a window that fits");
    }
    if (self.rank == max_rank) {
      throw rank_error(max_rank + 1);
    }
    tensor_spec s = self;
    s.extent[s.rank] = size;
    s.stride[s.rank] = size > 1 ? s.stride[a] * dilation : s.stride[a];
    ++s.rank;
    s.extent[a] = (n - dilation * (size - 1) - 1) / step + 1;
    if (s.extent[a] > 1) {
      s.stride[a] *= step;
    }
    return geometry::finished(s);
  }
  struct derivative {
    static constexpr std::array needs{0u};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      return call<unfold_backward>(g, saved.shape(arg<0>), saved(arg<1>), saved(arg<2>),
                                   saved(arg<3>), saved(arg<4>));
    }
  };
};

/// Zeros of shape `to` with each window added in its place: the gradient of `unfold`.
///
/// An element's sum has the order of the places in a window, rounded after each addition.
struct unfold_backward {
  static constexpr std::string_view name = "unfold_backward";
  static constexpr std::array arguments{argument{"self"}};
  static constexpr tensor_spec meta(const tensor_spec& self, const shape& to, std::int64_t axis,
                                    std::int64_t size, std::int64_t step, std::int64_t dilation) {
    const tensor_spec whole = contiguous_spec(self.type, to.span());
    const tensor_spec windows = unfold::meta(whole, axis, size, step, dilation);
    if (!same_shape(windows, self)) {
      throw shape_error(name, self.shape(), windows.shape(), "must be the shape of the windows");
    }
    return whole;
  }
  struct derivative {
    static constexpr std::array needs{0u};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      return call<unfold>(g, saved(arg<2>), saved(arg<3>), saved(arg<4>), saved(arg<5>));
    }
  };
};

namespace detail {
/// `add(out, windows)` for place k of all windows, k by k: where they lie in `out`.
void each_window_place(const tensor_spec& out, const tensor_spec& self, std::int64_t axis,
                       std::int64_t size, std::int64_t step, std::int64_t dilation,
                       const auto& add) {
  const int a = wrap_axis("unfold_backward", axis, out.rank);
  const std::int64_t count = self[a];
  for (std::int64_t k = 0; k < size && self.size != 0; ++k) {
    add(geometry::slice(out, a, k * dilation, k * dilation + (count - 1) * step + 1, step),
        geometry::select(self, -1, k));
  }
}
}  // namespace detail

}  // namespace ops

template <>
struct kernel<ops::unfold_backward, keys::backend<chip::host>> {
  template <class T>
  static void impl(context<chip::host>&, view<T> out, view<const T> self, const shape&,
                   std::int64_t axis, std::int64_t size, std::int64_t step, std::int64_t dilation) {
    chip::host_kernels::fill(out, T{});
    ops::detail::each_window_place(
        *out.spec, *self.spec, axis, size, step, dilation,
        [&](const tensor_spec& to, const tensor_spec& from) {
          const view<T> sum{out.data + (to.offset - out.spec->offset), &to};
          const view<const T> x{self.data + (from.offset - self.spec->offset), &from};
          chip::host_kernels::map<tile::fn::add>(sum, view<const T>(sum), x);
        });
  }
};

/// `unfold(x, axis, size, step = 1, dilation = 1)`.
inline constexpr struct unfold_function : spelled_function<unfold_function> {
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x, std::int64_t axis,
                              std::int64_t size, std::int64_t step = 1, std::int64_t dilation = 1) {
    return to(op_function<ops::unfold>{}, x, axis, size, step, dilation);
  }
} unfold;

}  // namespace ashlar
