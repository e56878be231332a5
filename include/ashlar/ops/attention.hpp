// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <string_view>
#include <tuple>

#include "ashlar/chip/host/attention.hpp"
#include "ashlar/chip/host/attention_backward.hpp"
#include "ashlar/chip/host/copy.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/chip/host/widened.hpp"
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

/// Queries whose heads share keys stand one after the other: (B, H, T, Dh) -> (B, Hkv, G T, Dh).
auto grouped(const auto& q, std::int64_t kv_heads) {
  const std::int64_t rows = kv_heads == 0 ? 0 : q.extent(1) / kv_heads * q.extent(2);
  return call<reshape>(q, shape{q.extent(0), kv_heads, rows, q.extent(3)});
}
auto last_two_turned(const auto& x) {
  return call<transpose>(x, std::int64_t{-2}, std::int64_t{-1});
}

/// The probabilities, (B, Hkv, G Tq, Tk); 0 where a query does not see a key.
auto attention_weights(const auto& q, const auto& k, bool causal, double factor) {
  const std::int64_t queries = q.extent(2);
  const std::int64_t tokens = k.extent(2);
  const auto scores =
      call<scale>(call<matmul>(grouped(q, k.extent(1)), last_two_turned(k)), factor, 0.0);
  if (!causal) {
    return call<softmax>(scores, std::int64_t{-1});
  }
  const auto last = call<scale>(places(q, queries), 1.0, static_cast<double>(tokens - queries));
  const auto sees = call<le>(places(q, tokens), call<unsqueeze>(last, std::int64_t{1}));
  const std::int64_t heads = k.extent(1) == 0 ? 0 : q.extent(1) / k.extent(1);
  const shape apart{q.extent(0), k.extent(1), heads, queries, tokens};
  // Not -inf: a query that sees nothing would have no softmax, and no gradient of zeros.
  const auto low = scalar_like(scores, -1e30);
  const auto weights =
      call<softmax>(call<where>(sees, call<reshape>(scores, apart), low), std::int64_t{-1});
  return call<reshape>(call<where>(sees, weights, scalar_like(weights, 0.0)),
                       shape(scores.shape()));
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
                               ops::softmax_backward, ops::where, ops::le, ops::clone>;
  template <class X>
  auto operator()(const X& g, const X& q, const X& k, const X& v, const X&, bool causal,
                  double factor) const {
    using ops::detail::last_two_turned;
    const X gg = ops::detail::grouped(g, k.extent(1));
    const X qq = ops::detail::grouped(q, k.extent(1));
    // A key may have an element type of its own for a product or a softmax.
    const auto p = ops::detail::attention_weights(q, k, causal, factor);
    const auto dp = call<ops::matmul>(gg, last_two_turned(v));
    const auto ds =
        call<ops::scale>(call<ops::softmax_backward>(p, dp, std::int64_t{-1}), factor, 0.0);
    return std::tuple{call<ops::reshape>(call<ops::matmul>(ds, k), shape(q.shape())),
                      X(call<ops::matmul>(last_two_turned(ds), qq)),
                      X(call<ops::matmul>(last_two_turned(p), gg))};
  }
};

template <>
struct kernel<ops::scaled_dot_product_attention, keys::backend<chip::host>> {
  template <std::floating_point T>
  static void impl(context<chip::host>&, view<T> out, view<const T> q, view<const T> k,
                   view<const T> v, bool causal, double factor) {
    chip::host_kernels::sdpa(out, q, k, v, causal, factor);
  }
  /// Computed in float from end to end and rounded once.
  template <NarrowFloating T>
  static void impl(context<chip::host>&, view<T> out, view<const T> q, view<const T> k,
                   view<const T> v, bool causal, double factor) {
    using wide = chip::host_kernels::widened;
    wide y(*out.spec);
    chip::host_kernels::sdpa(y.result(), wide(q).elements(), wide(k).elements(), wide(v).elements(),
                             causal, factor);
    chip::host_kernels::copy(out, y.elements());
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
  template <NarrowFloating T>
  static void impl(context<chip::host>&, view<T> dq, view<T> dk, view<T> dv, view<const T> g,
                   view<const T> q, view<const T> k, view<const T> v, view<const T> y, bool causal,
                   double factor) {
    using wide = chip::host_kernels::widened;
    wide a(*dq.spec), b(*dk.spec), c(*dv.spec);
    chip::host_kernels::sdpa_backward(a.result(), b.result(), c.result(), wide(g).elements(),
                                      wide(q).elements(), wide(k).elements(), wide(v).elements(),
                                      wide(y).elements(), causal, factor);
    chip::host_kernels::copy(dq, a.elements());
    chip::host_kernels::copy(dk, b.elements());
    chip::host_kernels::copy(dv, c.elements());
  }
};

/// `scaled_dot_product_attention(q, k, v, causal, scale = 1 / sqrt(Dh))`.
inline constexpr struct scaled_dot_product_attention_function
    : spelled_function<scaled_dot_product_attention_function> {
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& q,
                              const detail::AnyOrTensor auto& k, const detail::AnyOrTensor auto& v,
                              bool causal, double factor) {
    return to(op_function<ops::scaled_dot_product_attention>{}, q, k, v, causal, factor);
  }
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& q,
                              const detail::AnyOrTensor auto& k, const detail::AnyOrTensor auto& v,
                              bool causal = false) {
    ops::detail::require_defined("scaled_dot_product_attention", q, k, v);
    const double width = q.rank() > 0 ? static_cast<double>(q.extent(-1)) : 1.0;
    return spell(to, q, k, v, causal, 1.0 / std::sqrt(width));
  }
} scaled_dot_product_attention;

}  // namespace ashlar
