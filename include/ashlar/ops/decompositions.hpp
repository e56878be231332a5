// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstdint>
#include <limits>
#include <numbers>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ashlar/dispatch/op.hpp"
#include "ashlar/ops/activation.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/attention.hpp"
#include "ashlar/ops/cat.hpp"
#include "ashlar/ops/comparison.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/cross_entropy.hpp"
#include "ashlar/ops/cumsum.hpp"
#include "ashlar/ops/detail/from_prims.hpp"
#include "ashlar/ops/embedding.hpp"
#include "ashlar/ops/fwd.hpp"
#include "ashlar/ops/gather.hpp"
#include "ashlar/ops/math.hpp"
#include "ashlar/ops/matmul.hpp"
#include "ashlar/ops/norm.hpp"
#include "ashlar/ops/paged_attention.hpp"
#include "ashlar/ops/random.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/rope.hpp"
#include "ashlar/ops/softmax.hpp"
#include "ashlar/ops/sort.hpp"
#include "ashlar/ops/unfold.hpp"
#include "ashlar/ops/views.hpp"

/// Every operator that is no prim and no composite, in terms of others: see `decomposition`.
///
/// A chip with kernels for `ops::prims` alone has all operators through these, and a fused gradient
/// is differentiated again through its own. Results differ from the kernels' by roundings, and in
/// the sign of zeros.
namespace ashlar {

namespace detail::parts {

/// A tensor without dimensions beside `x`.
auto number(const auto& x, double value) { return ops::detail::scalar_like(x, value); }
template <class T, class X>
auto as(const X& x) {
  if constexpr (std::is_same_v<T, typename X::value_type>) {
    return x;
  } else {
    return call<ops::cast<T>>(x);
  }
}
/// The axes at which something was summed, with extent 1 where they stay.
auto sum_over(const auto& x, const shape& axes) { return call<ops::sum>(x, axes, true); }
auto mean_over_last(const auto& x) { return call<ops::mean>(x, shape{-1}, true); }
/// 0, 1, ... as int64, on the chip of `x`.
template <class X>
auto places(const X&, std::int64_t count) {
  return arange<tensor<std::int64_t, typename X::keys>>(count);
}

}  // namespace detail::parts

// ---- elementwise --------------------------------------------------------------------------------

template <>
struct decomposition<ops::neg> : detail::parts::from_prims {
  auto operator()(const auto& x) const { return sub(detail::parts::number(x, 0.0), x); }
};
template <>
struct decomposition<ops::abs> : detail::parts::from_prims {
  auto operator()(const auto& x) const {
    return where(lt(x, detail::parts::number(x, 0.0)), neg(x), x);
  }
};
template <>
struct decomposition<ops::sign> : detail::parts::from_prims {
  auto operator()(const auto& x) const {
    const auto zero = detail::parts::number(x, 0.0);
    const auto below = where(lt(x, zero), detail::parts::number(x, -1.0), x);
    return where(lt(zero, x), detail::parts::number(x, 1.0), below);
  }
};
template <>
struct decomposition<ops::square> : detail::parts::from_prims {
  auto operator()(const auto& x) const { return mul(x, x); }
};
template <>
struct decomposition<ops::minimum> : detail::parts::from_prims {
  auto operator()(const auto& a, const auto& b) const {  // a NaN in `a` is not equal to itself
    return where(lt(a, b), a, where(eq(a, a), b, a));
  }
};
template <>
struct decomposition<ops::scale> : detail::parts::from_prims {
  auto operator()(const auto& x, double alpha, double beta) const {
    using detail::parts::number;
    // Unsigned numbers have no negative factors, but they can be taken away.
    const auto product = mul(x, number(x, alpha < 0 ? -alpha : alpha));
    const auto rest = number(x, beta < 0 ? -beta : beta);
    if (alpha < 0) {
      return beta < 0 ? sub(sub(number(x, 0.0), rest), product) : sub(rest, product);
    }
    return beta < 0 ? sub(product, rest) : add(product, rest);
  }
};
template <>
struct decomposition<ops::rsqrt> : detail::parts::from_prims {
  auto operator()(const auto& x) const { return div(detail::parts::number(x, 1.0), sqrt(x)); }
};
template <>
struct decomposition<ops::sigmoid> : detail::parts::from_prims {
  auto operator()(const auto& x) const {
    const auto one = detail::parts::number(x, 1.0);
    return div(one, add(one, exp(neg(x))));
  }
};
template <>
struct decomposition<ops::relu> : detail::parts::from_prims {
  auto operator()(const auto& x) const { return maximum(x, detail::parts::number(x, 0.0)); }
};
template <>
struct decomposition<ops::silu> : detail::parts::from_prims {
  auto operator()(const auto& x) const { return mul(x, sigmoid(x)); }
};
template <>
struct decomposition<ops::swiglu> : detail::parts::from_prims {
  auto operator()(const auto& gate, const auto& up) const { return mul(silu(gate), up); }
};
template <>
struct decomposition<ops::gelu> : detail::parts::from_prims {
  auto operator()(const auto& x) const {
    const auto phi = scale(erf(scale(x, 1.0 / std::numbers::sqrt2)), 0.5, 0.5);
    return mul(x, phi);
  }
};
template <>
struct decomposition<ops::gelu_tanh> : detail::parts::from_prims {
  auto operator()(const auto& x) const {
    using f = tile::fn::gelu_tanh;
    const auto inner = mul(x, scale(square(x), f::slope * f::cubic, f::slope));
    return mul(x, scale(tanh(inner), 0.5, 0.5));
  }
};
template <>
struct decomposition<ops::tanh_backward> : detail::parts::from_prims {
  auto operator()(const auto& y, const auto& g) const {
    return mul(g, scale(square(y), -1.0, 1.0));
  }
};
template <>
struct decomposition<ops::sigmoid_backward> : detail::parts::from_prims {
  auto operator()(const auto& y, const auto& g) const {
    return mul(g, mul(y, scale(y, -1.0, 1.0)));
  }
};
template <>
struct decomposition<ops::relu_backward> : detail::parts::from_prims {
  auto operator()(const auto& y, const auto& g) const {
    const auto zero = detail::parts::number(g, 0.0);
    return where(le(y, detail::parts::number(y, 0.0)), zero, g);
  }
};
template <>
struct decomposition<ops::silu_backward> : detail::parts::from_prims {
  auto operator()(const auto& x, const auto& g) const {
    const auto s = sigmoid(x);
    return mul(g, mul(s, scale(mul(x, scale(s, -1.0, 1.0)), 1.0, 1.0)));
  }
};
template <>
struct decomposition<ops::gelu_backward> : detail::parts::from_prims {
  auto operator()(const auto& x, const auto& g) const {
    constexpr double peak = 0.5 * std::numbers::sqrt2 * std::numbers::inv_sqrtpi;
    const auto phi = scale(erf(scale(x, 1.0 / std::numbers::sqrt2)), 0.5, 0.5);
    const auto density = scale(exp(scale(square(x), -0.5)), peak);
    return mul(g, add(phi, mul(x, density)));
  }
};
template <>
struct decomposition<ops::gelu_tanh_backward> : detail::parts::from_prims {
  auto operator()(const auto& x, const auto& g) const {
    using f = tile::fn::gelu_tanh;
    const auto squared = square(x);
    const auto t = tanh(mul(x, scale(squared, f::slope * f::cubic, f::slope)));
    const auto slope = scale(squared, 3 * f::slope * f::cubic, f::slope);
    const auto bent = mul(mul(scale(x, 0.5), scale(square(t), -1.0, 1.0)), slope);
    return mul(g, add(scale(t, 0.5, 0.5), bent));
  }
};
template <>
struct decomposition<ops::ne> : detail::parts::from_prims {
  auto operator()(const auto& a, const auto& b) const { return logical_not(eq(a, b)); }
};
template <>
struct decomposition<ops::le> : detail::parts::from_prims {
  auto operator()(const auto& a, const auto& b) const {
    const auto less = lt(a, b);
    return where(less, less, eq(a, b));
  }
};
template <>
struct decomposition<ops::gt> : detail::parts::from_prims {
  auto operator()(const auto& a, const auto& b) const { return lt(b, a); }
};
template <>
struct decomposition<ops::ge> : detail::parts::from_prims {
  auto operator()(const auto& a, const auto& b) const { return le(b, a); }
};
template <>
struct decomposition<ops::logical_not> : detail::parts::from_prims {
  auto operator()(const auto& x) const { return eq(x, detail::parts::number(x, 0.0)); }
};

// ---- views and copies ---------------------------------------------------------------------------

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

// ---- reductions ---------------------------------------------------------------------------------

template <>
struct decomposition<ops::mean> : detail::parts::from_prims {
  auto operator()(const auto& x, const shape& axes, bool keepdim) const {
    const std::uint32_t bits = ops::detail::axis_bits("mean", axes, x.rank());
    double count = 1;
    for (int i = 0; i < x.rank(); ++i) {
      count *= (bits >> i & 1u) != 0 ? static_cast<double>(x.extent(i)) : 1.0;
    }
    return div(call<ops::sum>(x, axes, keepdim), detail::parts::number(x, count));
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
        return sub(detail::parts::number(v, most), v);
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
    return axes.rank() == 0 ? X(clone(x)) : X(reshape(detail::parts::sum_over(x, axes), to));
  }
};
template <>
struct decomposition<ops::sum_squares> : detail::parts::from_prims {
  auto operator()(const auto& x) const { return call<ops::sum>(square(x), shape{}, false); }
};

// ---- softmax and losses -------------------------------------------------------------------------

namespace detail::parts {

/// The largest of each row, with extent 1; rows of no elements have nothing to take away.
template <class X>
X away_from_largest(const X& x, std::int64_t axis) {
  if (x.size() == 0) {
    return clone(x);
  }
  const shape axes = x.rank() == 0 ? shape{} : shape{axis};
  return sub(x, max(x, axes, true));
}

/// A loss's rows: which count, and the classes of those that do.
struct target_rows {
  static auto live(const auto& targets, std::int64_t ignore_index) {
    const auto t = as<std::int64_t>(targets);
    return ne(t, number(t, static_cast<double>(ignore_index)));
  }
};

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
    using detail::parts::number;
    const auto live = detail::parts::target_rows::live(targets, ignore_index);
    const auto t = detail::parts::as<std::int64_t>(targets);
    const auto classes = where(live, t, number(t, 0.0));
    const auto logs = log_softmax(logits, -1);
    const auto taken = squeeze(gather(logs, 1, unsqueeze(classes, 1)), 1);
    const auto total = call<ops::sum>(where(live, taken, number(logits, 0.0)), shape{}, false);
    const auto count =
        call<ops::sum>(call<ops::cast<typename X::value_type>>(live), shape{}, false);
    return neg(div(total, count));
  }
};

// ---- layers -------------------------------------------------------------------------------------

template <>
struct decomposition<ops::linear> : detail::parts::from_prims {
  auto operator()(const auto& x, const auto& weight) const {
    return matmul(x, transpose(weight, 0, 1));  // a row is a matrix there, too
  }
};
template <>
struct decomposition<ops::linear_bias> : detail::parts::from_prims {
  auto operator()(const auto& x, const auto& weight, const auto& bias) const {
    return add(linear(x, weight), bias);
  }
};
template <>
struct decomposition<ops::embedding> : detail::parts::from_prims {
  auto operator()(const auto& weight, const auto& ids) const {
    const std::int64_t columns = weight.extent(1);
    const auto index = expand(reshape(ids, shape{ids.size(), 1}), shape{ids.size(), columns});
    shape to(ids.shape());
    to.push_back(columns);
    return reshape(gather(weight, 0, index), to);
  }
};
template <>
struct decomposition<ops::embedding_backward> : detail::parts::from_prims {
  auto operator()(const auto& g, const auto& ids, std::int64_t rows) const {
    const std::int64_t columns = g.extent(-1);
    const auto index = expand(reshape(ids, shape{ids.size(), 1}), shape{ids.size(), columns});
    return scatter_add(ops::detail::spread_zeros(g, shape{rows, columns}), 0, index,
                       reshape(g, shape{ids.size(), columns}));
  }
};

namespace detail::parts {
/// `1 / sqrt(mean(x^2) + eps)` of each row.
auto one_over_size(const auto& x, double eps) {
  return rsqrt(scale(mean_over_last(square(x)), 1.0, eps));
}
auto centered(const auto& x) { return sub(x, mean_over_last(x)); }
auto sum_of_rows(const auto& x) { return sum_to(x, shape{x.extent(-1)}); }
}  // namespace detail::parts

template <>
struct decomposition<ops::rms_norm> : detail::parts::from_prims {
  auto operator()(const auto& x, const auto& weight, double eps) const {
    return mul(mul(x, detail::parts::one_over_size(x, eps)), weight);
  }
};
template <>
struct decomposition<ops::layer_norm> : detail::parts::from_prims {
  auto operator()(const auto& x, const auto& weight, const auto& bias, double eps) const {
    return add(rms_norm(detail::parts::centered(x), weight, eps), bias);
  }
};

// ---- attention ----------------------------------------------------------------------------------

namespace detail::parts {

/// Queries whose heads share keys stand one after the other: (B, H, T, Dh) -> (B, Hkv, G T, Dh).
auto grouped(const auto& q, std::int64_t kv_heads) {
  const std::int64_t rows = kv_heads == 0 ? 0 : q.extent(1) / kv_heads * q.extent(2);
  return reshape(q, shape{q.extent(0), kv_heads, rows, q.extent(3)});
}

/// The probabilities, (B, Hkv, G Tq, Tk); 0 where a query does not see a key.
auto attention_weights(const auto& q, const auto& k, bool causal, double factor) {
  const std::int64_t queries = q.extent(2);
  const std::int64_t tokens = k.extent(2);
  const auto scores = scale(matmul(grouped(q, k.extent(1)), transpose(k)), factor);
  if (!causal) {
    return softmax(scores, -1);
  }
  const auto last = scale(places(q, queries), 1.0, static_cast<double>(tokens - queries));
  const auto sees = le(places(q, tokens), unsqueeze(last, 1));
  const std::int64_t heads = k.extent(1) == 0 ? 0 : q.extent(1) / k.extent(1);
  const shape apart{q.extent(0), k.extent(1), heads, queries, tokens};
  // Not -inf: a query that sees nothing would have no softmax, and no gradient of zeros.
  const auto low = number(scores, -1e30);
  const auto weights = softmax(where(sees, reshape(scores, apart), low), -1);
  return reshape(where(sees, weights, number(weights, 0.0)), shape(scores.shape()));
}

}  // namespace detail::parts

template <>
struct decomposition<ops::scaled_dot_product_attention> : detail::parts::from_prims {
  auto operator()(const auto& q, const auto& k, const auto& v, bool causal, double factor) const {
    const auto weights = detail::parts::attention_weights(q, k, causal, factor);
    return reshape(matmul(weights, v), shape(q.shape()));
  }
};
template <>
struct decomposition<ops::paged_attention> : detail::parts::from_prims {
  auto operator()(const auto& q, const auto& key_cache, const auto& value_cache,
                  const auto& block_tables, const auto& sequence, const auto& position,
                  double factor) const {
    using detail::parts::number;
    using detail::parts::places;
    const std::int64_t rows = q.extent(0);
    const std::int64_t heads = key_cache.extent(1);
    const std::int64_t width = key_cache.extent(2);
    const std::int64_t length = key_cache.extent(3);
    const std::int64_t blocks = block_tables.extent(1);
    const std::int64_t group = heads == 0 ? 0 : q.extent(1) / heads;
    const auto last = unsqueeze(detail::parts::as<std::int64_t>(position), 1);
    // Blocks past the last position need not exist: any other stands for them.
    const auto begins = scale(places(q, blocks), static_cast<double>(length));
    const auto tables = detail::parts::as<std::int64_t>(embedding(block_tables, sequence));
    const auto ids = where(le(begins, last), tables, number(tables, 0.0));
    const auto fetch = [&](const auto& cache, const shape& block, const shape& order,
                           const shape& to) {
      const std::int64_t columns = heads * width * length;
      const auto flat = embedding(reshape(cache, shape{cache.extent(0), columns}), ids);
      shape extents{rows, blocks};
      for (const std::int64_t e : block) {
        extents.push_back(e);
      }
      return reshape(permute(reshape(flat, extents), order), to);
    };
    const std::int64_t tokens = blocks * length;
    const auto keys = fetch(key_cache, shape{heads, width, length}, shape{0, 2, 3, 1, 4},
                            shape{rows, heads, width, tokens});
    const auto values = fetch(value_cache, shape{heads, length, width}, shape{0, 2, 1, 3, 4},
                              shape{rows, heads, tokens, width});
    const auto sees = reshape(le(places(q, tokens), last), shape{rows, 1, 1, tokens});
    const auto scores = scale(matmul(reshape(q, shape{rows, heads, group, width}), keys), factor);
    const auto weights =
        softmax(where(sees, scores, number(scores, -std::numeric_limits<double>::infinity())), -1);
    // Nobody may have written what lies behind the last position.
    const auto seen = where(reshape(sees, shape{rows, 1, tokens, 1}), values, number(values, 0.0));
    return reshape(matmul(weights, seen), shape(q.shape()));
  }
};

}  // namespace ashlar
