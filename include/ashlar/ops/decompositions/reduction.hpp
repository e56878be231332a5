// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "ashlar/dispatch/op.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/comparison.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/detail/from_prims.hpp"
#include "ashlar/ops/elementwise.hpp"
#include "ashlar/ops/fwd.hpp"
#include "ashlar/ops/math.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/sort.hpp"
#include "ashlar/ops/views.hpp"

/// Reductions in terms of the core set.
namespace ashlar {

template <>
struct decomposition<ops::mean> : detail::parts::from_prims {
  auto operator()(const auto& x, const shape& axes, bool keepdim) const {
    const std::uint32_t bits = ops::detail::axis_bits("mean", axes, x.rank());
    double count = 1;
    for (int i = 0; i < x.rank(); ++i) {
      count *= (bits >> i & 1u) != 0 ? static_cast<double>(x.extent(i)) : 1.0;
    }
    return div(call<ops::sum>(x, axes, keepdim), ops::detail::scalar_like(x, count));
  }
};
template <>
struct decomposition<ops::min> : detail::parts::from_prims {
  template <class X>
  auto operator()(const X& x, const shape& axes, bool keepdim) const {
    using T = typename X::value_type;
    // What turns the order around without overflow: all bits of an integer.
    const auto turned = [](const auto& v) {
      if constexpr (std::is_same_v<T, bool>) {
        return logical_not(v);
      } else {
        constexpr double most = Floating<T>             ? 0.0
                                : std::is_unsigned_v<T> ? double{std::numeric_limits<T>::max()}
                                                        : -1.0;
        return sub(ops::detail::scalar_like(v, most), v);
      }
    };
    return turned(max(turned(x), axes, keepdim));
  }
};
template <>
struct decomposition<ops::argmax> : detail::parts::from_prims {
  auto operator()(const auto& x, const shape& axes, bool keepdim) const {
    const std::uint32_t bits = ops::detail::axis_bits("argmax", axes, x.rank());
    shape order;
    shape extents;
    std::int64_t n = 1;
    for (int i = 0; i < x.rank(); ++i) {
      if ((bits >> i & 1u) == 0) {
        order.push_back(i);
        extents.push_back(x.extent(i));
      } else {
        n *= x.extent(i);
      }
    }
    for (int i = 0; i < x.rank(); ++i) {
      if ((bits >> i & 1u) != 0) {
        order.push_back(i);
      }
    }
    extents.push_back(n);
    const auto rows = reshape(permute(x, order), extents);
    const std::int64_t kept = rows.size() == 0 ? std::min<std::int64_t>(n, 1) : 1;
    const auto first = call<ops::argsort>(rows, std::int64_t{-1}, true, kept);
    return reshape(first, ops::detail::reduced_shape(shape(x.shape()), bits, keepdim));
  }
};
template <>
struct decomposition<ops::sum_to> : detail::parts::from_prims {
  template <class X>
  X operator()(const X& x, const shape& to) const {
    shape axes;
    const int lead = x.rank() - to.rank();
    for (int i = 0; i < x.rank(); ++i) {
      if (i < lead || (to[i - lead] == 1 && x.extent(i) != 1)) {
        axes.push_back(i);
      }
    }
    return axes.rank() == 0 ? X(clone(x)) : X(reshape(call<ops::sum>(x, axes, true), to));
  }
};
template <>
struct decomposition<ops::sum_squares> : detail::parts::from_prims {
  auto operator()(const auto& x) const { return call<ops::sum>(square(x), shape{}, false); }
};

}  // namespace ashlar
