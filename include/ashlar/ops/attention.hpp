// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <string_view>
#include <tuple>
#include <utility>

#include "ashlar/chip/host/attention.hpp"
#include "ashlar/chip/host/attention_backward.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/core/geometry.hpp"
#include "ashlar/dispatch.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/comparison.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/detail/from_prims.hpp"
#include "ashlar/ops/elementwise.hpp"
#include "ashlar/ops/fwd.hpp"
#include "ashlar/ops/matmul.hpp"
#include "ashlar/ops/meta_kernels.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/softmax.hpp"
#include "ashlar/ops/views.hpp"

/// Attention over keys and values that stand side by side.
namespace ashlar {

namespace ops {

namespace detail {

constexpr void require_attention(std::string_view op, const tensor_spec& q, const tensor_spec& k,
                                 const tensor_spec& v) {
  if (q.rank != 4 || k.rank != 4) {
    throw shape_error(op, q.shape(), k.shape(), "queries, keys and values are (B, H, T, Dh)");
  }
  if (!same_shape(k, v)) {
    throw shape_error(op, k.shape(), v.shape(), "keys and values must have the same shape");
  }
  if (q[0] != k[0] || q[3] != k[3]) {
    throw shape_error(op, q.shape(), k.shape(), "queries and keys must agree in B and Dh");
  }
  if (k[1] == 0 ? q[1] != 0 : q[1] % k[1] != 0) {
    throw shape_error(op, q.shape(), k.shape(),
                      "the number of query heads must be a multiple of that of key heads");
  }
}

/// (B, H, T, Dh) whose elements stand as (B, T, H, Dh): heads join without a copy.
constexpr tensor_spec heads_side_by_side(const tensor_spec& s, dtype type) {
  return geometry::transpose(contiguous_spec(type, shape{s[0], s[2], s[1], s[3]}.span()), 1, 2);
}

}  // namespace detail

/// `softmax(scale * q k^T) v`.
///
/// With `causal`, query i sees the keys j <= i + (Tk - Tq); one that sees none gives zeros.
/// Shapes: `q`, the result: (B, H, Tq, Dh); `k`, `v`: (B, Hkv, Tk, Dh), H a multiple of Hkv. The
///         result's elements stand as (B, Tq, H, Dh).
struct scaled_dot_product_attention {
  static constexpr std::string_view name = "scaled_dot_product_attention";
  static constexpr std::array arguments{argument{"query"}, argument{"key"}, argument{"value"}};
  static constexpr tensor_spec meta(const tensor_spec& q, const tensor_spec& k,
                                    const tensor_spec& v, bool, double) {
    detail::require_attention(name, q, k, v);
    return detail::heads_side_by_side(q, promote(q.type, promote(k.type, v.type)));
  }
  struct derivative {
    static constexpr unsigned all = arg<0>.bit | arg<1>.bit | arg<2>.bit | result.bit;
    static constexpr std::array needs{all, all, all};
    static auto vjp_all(const auto& g, const auto& saved, const auto&) {
      return call<scaled_dot_product_attention_backward>(g, saved(arg<0>), saved(arg<1>),
                                                         saved(arg<2>), saved(result),
                                                         saved(arg<3>), saved(arg<4>));
    }
  };
};

/// The gradients of query, key and value; the probabilities are computed again.
struct scaled_dot_product_attention_backward {
  static constexpr std::string_view name = "scaled_dot_product_attention_backward";
  static constexpr std::array arguments{argument{"gradient"}, argument{"query"}, argument{"key"},
                                        argument{"value"}, argument{"result"}};
  static constexpr std::array<tensor_spec, 3> meta(const tensor_spec& g, const tensor_spec& q,
                                                   const tensor_spec& k, const tensor_spec& v,
                                                   const tensor_spec& y, bool, double) {
    detail::require_attention(name, q, k, v);
    if (!same_shape(g, q) || !same_shape(y, q)) {
      throw shape_error(name, g.shape(), q.shape(),
                        "gradient and result must have the shape of the queries");
    }
    const dtype type = promote(g.type, promote(q.type, promote(k.type, v.type)));
    return {detail::heads_side_by_side(q, type), detail::heads_side_by_side(k, type),
            detail::heads_side_by_side(v, type)};
  }
};

}  // namespace ops

template <>
struct decomposition<ops::scaled_dot_product_attention_backward> : detail::parts::from_prims {
  using parts = ops::operators<ops::arange, ops::fill, ops::matmul, ops::scale, ops::softmax,
                               ops::where, ops::le, ops::ge, ops::cast<float>, ops::mul, ops::sub,
                               ops::sum, ops::sum_to, ops::clone>;
  template <class X>
  auto operator()(const X& g, const X& q, const X& k, const X& v, const X&, bool causal,
                  double factor) const {
    constexpr std::int64_t last = -1;
    constexpr std::int64_t before = -2;
    // (B, Hkv, group, T, Dh): query heads beside the key head that they share.
    const std::int64_t heads = k.extent(1);
    const std::int64_t group = heads == 0 ? 1 : q.extent(1) / heads;
    const auto grouped = [&](const X& x) {
      return call<ops::reshape>(x, shape{x.extent(0), heads, group, x.extent(2), x.extent(3)});
    };
    const auto single = [&](const X& x) { return call<ops::unsqueeze>(x, std::int64_t{2}); };
    const auto turned = [&](const X& x) { return call<ops::transpose>(x, before, last); };
    const X gg = grouped(g);
    const X qq = grouped(q);
    const X kk = single(k);
    const X vv = single(v);
    X scores = call<ops::scale>(call<ops::matmul>(qq, turned(kk)), factor, 0.0);
    X p;
    if (causal) {
      const auto [seen, some] = visible(q, q.extent(2), k.extent(2));
      scores = call<ops::where>(seen, scores, ops::detail::scalar_like(q, -1e30));
      p = call<ops::mul>(call<ops::softmax>(scores, last), some);
    } else {
      p = call<ops::softmax>(scores, last);
    }
    const X dp = call<ops::matmul>(gg, turned(vv));
    const X away = call<ops::sub>(dp, ops::detail::row_sum(call<ops::mul>(p, dp), last));
    const X ds = call<ops::scale>(call<ops::mul>(p, away), factor, 0.0);
    const auto together = [&](const X& x) {  // the sum over the heads of a group
      return call<ops::sum>(x, shape{2}, false);
    };
    return std::tuple{call<ops::reshape>(call<ops::matmul>(ds, kk), shape(q.shape())),
                      together(call<ops::matmul>(turned(ds), qq)),
                      together(call<ops::matmul>(turned(p), gg))};
  }

 private:
  /// Which keys a query sees, and as numbers: whether it sees any.
  template <class X>
  static auto visible(const X&, std::int64_t queries, std::int64_t keys) {
    const auto count = [](const shape& s) {
      X x = empty<X>(s);
      op_function<ops::arange>{}.in_place(x, 0.0, 1.0);
      return x;
    };
    const X limit = call<ops::scale>(count({queries, 1}), 1.0, static_cast<double>(keys - queries));
    const auto seen = call<ops::le>(count({1, keys}), limit);
    const X zero = ops::detail::scalar_like(limit, 0.0);
    return std::pair{seen, call<ops::cast<typename X::value_type>>(call<ops::ge>(limit, zero))};
  }
};

template <>
struct kernel<ops::scaled_dot_product_attention, keys::backend<chip::host>> {
  template <std::floating_point T>
  static void impl(context<chip::host>&, view<T> out, view<const T> q, view<const T> k,
                   view<const T> v, bool causal, double factor) {
    chip::host_kernels::sdpa(out, q, k, v, causal, factor);
  }
};
template <>
struct kernel<ops::scaled_dot_product_attention_backward, keys::backend<chip::host>> {
  template <std::floating_point T>
  static void impl(context<chip::host>&, view<T> dq, view<T> dk, view<T> dv, view<const T> g,
                   view<const T> q, view<const T> k, view<const T> v, view<const T> y, bool causal,
                   double factor) {
    chip::host_kernels::sdpa_backward(dq, dk, dv, g, q, k, v, y, causal, factor);
  }
};

/// `scaled_dot_product_attention(q, k, v, causal, scale = 1 / sqrt(Dh))`.
inline constexpr struct scaled_dot_product_attention_function
    : spelled_function<scaled_dot_product_attention_function> {
  static auto spell(auto to, const Tensor auto& q, const Tensor auto& k, const Tensor auto& v,
                    bool causal, double factor) {
    return to(op_function<ops::scaled_dot_product_attention>{}, q, k, v, causal, factor);
  }
  static auto spell(auto to, const Tensor auto& q, const Tensor auto& k, const Tensor auto& v,
                    bool causal = false) {
    ops::detail::require_defined("scaled_dot_product_attention", q, k, v);
    const double width = q.rank() > 0 ? static_cast<double>(q.extent(-1)) : 1.0;
    return spell(to, q, k, v, causal, 1.0 / std::sqrt(width));
  }
} scaled_dot_product_attention;

}  // namespace ashlar
