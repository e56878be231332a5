// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "ashlar/dispatch/op.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/comparison.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/cross_entropy.hpp"
#include "ashlar/ops/detail/from_prims.hpp"
#include "ashlar/ops/elementwise.hpp"
#include "ashlar/ops/fwd.hpp"
#include "ashlar/ops/gather.hpp"
#include "ashlar/ops/math.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/softmax.hpp"
#include "ashlar/ops/views.hpp"

/// Softmax and the loss over it in terms of the core set.
namespace ashlar {

namespace detail::parts {

/// `x` less the largest of its row; rows of no elements have nothing to take away.
template <class X>
X away_from_largest(const X& x, std::int64_t axis) {
  if (x.size() == 0) {
    return clone(x);
  }
  const shape axes = x.rank() == 0 ? shape{} : shape{axis};
  return sub(x, max(x, axes, true));
}

}  // namespace detail::parts

template <>
struct decomposition<ops::softmax> : detail::parts::from_prims {
  auto operator()(const auto& x, std::int64_t axis) const {
    const auto terms = exp(detail::parts::away_from_largest(x, axis));
    return div(terms, ops::detail::row_sum(terms, axis));
  }
};
template <>
struct decomposition<ops::softmax_backward> : detail::parts::from_prims {
  auto operator()(const auto& y, const auto& g, std::int64_t axis) const {
    return mul(y, sub(g, ops::detail::row_sum(mul(y, g), axis)));
  }
};
template <>
struct decomposition<ops::log_softmax> : detail::parts::from_prims {
  auto operator()(const auto& x, std::int64_t axis) const {
    const auto rest = detail::parts::away_from_largest(x, axis);
    return sub(rest, log(ops::detail::row_sum(exp(rest), axis)));
  }
};
template <>
struct decomposition<ops::log_softmax_backward> : detail::parts::from_prims {
  auto operator()(const auto& y, const auto& g, std::int64_t axis) const {
    return sub(g, mul(exp(y), ops::detail::row_sum(g, axis)));
  }
};
template <>
struct decomposition<ops::cross_entropy> : detail::parts::from_prims {
  template <class X>
  auto operator()(const X& logits, const auto& targets, std::int64_t ignore_index) const {
    using ops::detail::scalar_like;
    const auto t = ops::detail::in_type<std::int64_t>(targets);
    const auto live = ne(t, scalar_like(t, static_cast<double>(ignore_index)));
    const auto classes = where(live, t, scalar_like(t, 0.0));
    const auto logs = log_softmax(logits, -1);
    const auto taken = squeeze(gather(logs, 1, unsqueeze(classes, 1)), 1);
    const auto total = call<ops::sum>(where(live, taken, scalar_like(logits, 0.0)), shape{}, false);
    const auto count =
        call<ops::sum>(call<ops::cast<typename X::value_type>>(live), shape{}, false);
    return neg(div(total, count));
  }
};

}  // namespace ashlar
