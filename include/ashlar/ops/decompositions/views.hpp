// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "ashlar/core/geometry.hpp"
#include "ashlar/dispatch/op.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/detail/from_prims.hpp"
#include "ashlar/ops/fwd.hpp"
#include "ashlar/ops/unfold.hpp"
#include "ashlar/ops/views.hpp"

/// Views and copies in terms of the core set.
namespace ashlar {

template <>
struct decomposition<ops::narrow> : detail::parts::from_prims {
  auto operator()(const auto& x, std::int64_t axis, std::int64_t start, std::int64_t length) const {
    return slice(x, axis, start, start + length);
  }
};
template <>
struct decomposition<ops::select> : detail::parts::from_prims {
  auto operator()(const auto& x, std::int64_t axis, std::int64_t index) const {
    const std::int64_t a = wrap_axis("select", axis, x.rank());
    const std::int64_t at = index < 0 ? index + x.extent(static_cast<int>(a)) : index;
    return squeeze(slice(x, a, at, at + 1), a);
  }
};
template <>
struct decomposition<ops::transpose> : detail::parts::from_prims {
  auto operator()(const auto& x, std::int64_t axis0, std::int64_t axis1) const {
    const int a = wrap_axis("transpose", axis0, x.rank());
    const int b = wrap_axis("transpose", axis1, x.rank());
    shape order;
    for (int i = 0; i < x.rank(); ++i) {
      order.push_back(i == a ? b : i == b ? a : i);
    }
    return permute(x, order);
  }
};
template <>
struct decomposition<ops::squeeze> : detail::parts::from_prims {
  auto operator()(const auto& x, std::int64_t axis) const {
    return view_as(x, shape(geometry::squeeze(x.spec(), axis).shape()));
  }
};
template <>
struct decomposition<ops::unsqueeze> : detail::parts::from_prims {
  auto operator()(const auto& x, std::int64_t axis) const {
    return view_as(x, shape(geometry::unsqueeze(x.spec(), axis).shape()));
  }
};
template <>
struct decomposition<ops::clone> : detail::parts::from_prims {
  auto operator()(const auto& x) const { return copy(x, x); }
};
template <>
struct decomposition<ops::unfold_backward> : detail::parts::from_prims {
  template <class X>
  X operator()(const X& x, const shape& to, std::int64_t axis, std::int64_t size, std::int64_t step,
               std::int64_t dilation) const {
    const int a = wrap_axis("unfold_backward", axis, to.rank());
    X total;
    for (std::int64_t k = 0; k < size; ++k) {
      const std::int64_t begin = k * dilation;
      const X part = call<ops::slice_backward>(select(x, -1, k), to, std::int64_t{a}, begin,
                                               begin + (x.extent(a) - 1) * step + 1, step);
      total = k == 0 ? part : X(add(total, part));
    }
    return total;
  }
};

}  // namespace ashlar
