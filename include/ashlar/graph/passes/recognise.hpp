// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <utility>
#include <vector>

#include "ashlar/core/spec.hpp"
#include "ashlar/core/tensor.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/passes/match.hpp"
#include "ashlar/graph/passes/replace_pattern.hpp"
#include "ashlar/ops/activation.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/attention.hpp"
#include "ashlar/ops/comparison.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/math.hpp"
#include "ashlar/ops/matmul.hpp"
#include "ashlar/ops/norm.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/softmax.hpp"
#include "ashlar/ops/views.hpp"

/// Norms and attention that are written in parts, as the operators of these names.
namespace ashlar::graph {

namespace detail {

/// Numbers are whatever they are: the guard looks at them.
inline constexpr auto numbers_of_parts = [](const node& wanted, const node&, std::size_t) {
  return is_call_of<ops::scale>(wanted) || is_call_of<ops::mean>(wanted) ||
         is_call_of<ops::softmax>(wanted) || is_call_of<ops::transpose>(wanted);
};

/// The ways in which a norm is written: one of each kind, whose numbers the guard has found.
struct norm_in_parts {
  bool product = false;   ///< `x * x` in place of `square(x)`
  bool quotient = false;  ///< `x / sqrt(...)` in place of `x * rsqrt(...)`
  bool inverse_first = false, weight_first = false, bias_first = false;

  template <class F>
  static void each_way(bool with_bias, const F& f) {
    for (unsigned way = 0; way < (with_bias ? 32u : 16u); ++way) {
      const auto bit = [&](unsigned i) { return (way >> i & 1u) != 0; };
      const norm_in_parts written{bit(0), bit(1), bit(2), bit(3), bit(4)};
      if (!written.quotient || !written.inverse_first) {
        f(written);
      }
    }
  }
  auto operator()(const auto& x, const auto& weight) const {
    const auto squares = product ? call<ops::mul>(x, x) : call<ops::square>(x);
    const auto variance = call<ops::scale>(call<ops::mean>(squares, shape{-1}, true), 1.0, 0.5);
    const auto normalised = [&] {
      if (quotient) {
        return call<ops::div>(x, call<ops::sqrt>(variance));
      }
      const auto inverse = call<ops::rsqrt>(variance);
      return inverse_first ? call<ops::mul>(inverse, x) : call<ops::mul>(x, inverse);
    }();
    return weight_first ? call<ops::mul>(weight, normalised) : call<ops::mul>(normalised, weight);
  }
  auto operator()(const auto& x, const auto& weight, const auto& bias) const {
    const auto y = (*this)(call<ops::sub>(x, call<ops::mean>(x, shape{-1}, true)), weight);
    return bias_first ? call<ops::add>(bias, y) : call<ops::add>(y, bias);
  }
};

/// What a match of `norm_in_parts` says, where it is a norm of the last axis.
inline bool is_norm(const graph& g, const match& m, double& eps) {
  const tensor_spec& x = g.spec(m.arguments[0]);
  for (std::size_t i = 1; i < m.arguments.size(); ++i) {
    const tensor_spec& c = g.spec(m.arguments[i]);
    if (x.rank == 0 || c.rank != 1 || c[0] != x[-1]) {
      return false;
    }
  }
  for (const std::int32_t at : m.nodes) {
    if (at < 0) {
      continue;
    }
    const node& n = g.nodes[static_cast<std::size_t>(at)];
    if (is_call_of<ops::mean>(n)) {
      const shape axes = n.attributes[0].as<shape>();
      const bool last = axes.rank() == 1 && (axes[0] == -1 || axes[0] == x.rank - 1);
      if (!last || !n.attributes[1].as<bool>()) {
        return false;
      }
    } else if (is_call_of<ops::scale>(n)) {
      eps = n.attributes[1].as<double>();
      if (n.attributes[0].as<double>() != 1.0 || !(eps >= 0)) {
        return false;
      }
    }
  }
  return true;
}

/// The ways in which attention is written.
struct attention_in_parts {
  enum class factor : std::uint8_t { none, queries, scores };
  factor where = factor::scores;
  bool mask_first = false;

  auto scores(const auto& q, const auto& k) const {
    const auto turned = call<ops::transpose>(k, std::int64_t{-2}, std::int64_t{-1});
    if (where == factor::queries) {
      return call<ops::matmul>(call<ops::scale>(q, 0.5, 0.0), turned);
    }
    const auto product = call<ops::matmul>(q, turned);
    return where == factor::scores ? call<ops::scale>(product, 0.5, 0.0) : product;
  }
  static auto values(const auto& scores, const auto& v) {
    return call<ops::matmul>(call<ops::softmax>(scores, std::int64_t{-1}), v);
  }
  auto operator()(const auto& q, const auto& k, const auto& v) const {
    return values(scores(q, k), v);
  }
  /// `mask`: added, -infinity where a key is not seen.
  auto operator()(const auto& q, const auto& k, const auto& v, const auto& mask) const {
    const auto s = scores(q, k);
    return values(mask_first ? call<ops::add>(mask, s) : call<ops::add>(s, mask), v);
  }
  /// `low` where a key is not seen.
  auto operator()(const auto& q, const auto& k, const auto& v, const auto& sees,
                  const auto& low) const {
    return values(call<ops::where>(sees, scores(q, k), low), v);
  }
};

/// What a match of `attention_in_parts` says, where it is attention of heads side by side.
inline bool is_attention(const graph& g, const match& m, double& factor) {
  const tensor_spec& q = g.spec(m.arguments[0]);
  const tensor_spec& k = g.spec(m.arguments[1]);
  if (q.rank != 4 || k.rank != 4 || !same_shape(k, g.spec(m.arguments[2])) || q[0] != k[0] ||
      q[1] != k[1] || q[3] != k[3] || !same_shape(g.spec(m.output), q)) {
    return false;  // a mask with more axes than the scores gives the result more
  }
  const auto is_axis = [](const attribute& a, std::int64_t axis) {
    return a.as<std::int64_t>() == axis || a.as<std::int64_t>() == axis - 4;
  };
  factor = 1.0;
  for (const std::int32_t at : m.nodes) {
    if (at < 0) {
      continue;
    }
    const node& n = g.nodes[static_cast<std::size_t>(at)];
    const auto& a = n.attributes;
    bool good = true;
    if (is_call_of<ops::transpose>(n)) {
      good = (is_axis(a[0], 2) && is_axis(a[1], 3)) || (is_axis(a[0], 3) && is_axis(a[1], 2));
    } else if (is_call_of<ops::softmax>(n)) {
      good = is_axis(a[0], 3);
    } else if (is_call_of<ops::scale>(n)) {
      factor = a[0].as<double>();
      good = a[1].as<double>() == 0.0;
    }
    if (!good) {
      return false;
    }
  }
  return true;
}

/// Whether value `v` is a constant (..., T, S), 1 in front, of which `sees(element)` says that
/// query i sees the keys j <= i + S - T. Requires: T <= S, so that each query sees a key.
template <Tensor X, class F>
bool is_causal(const graph& g, value_id v, std::int64_t queries, std::int64_t keys, const F& sees) {
  const node& n = g.maker(v);
  const tensor_spec& s = g.spec(v);
  if (n.kind != node_kind::constant || queries > keys || s.rank < 2 || s[-2] != queries ||
      s[-1] != keys || s.size != queries * keys) {
    return false;
  }
  const auto elements = to_vector(X(n.data));
  for (std::int64_t i = 0; i < queries; ++i) {
    for (std::int64_t j = 0; j < keys; ++j) {
      const auto counts = sees(elements[static_cast<std::size_t>(i * keys + j)]);
      if (counts != (j <= i + keys - queries)) {
        return false;
      }
    }
  }
  return true;
}

}  // namespace detail

/// `rms_norm` and `layer_norm` in the place of means of squares, roots and products: with `square`
/// or a product, by `rsqrt` or a quotient, factors in any order. A norm has no bits in common with
/// its parts: it differs by the rounding of a sum of n numbers, n * 2^-24 at most in float, and of
/// six operations.
///
/// `X`: of the tensors to be found, on the chip of the graph.
/// Requires: nothing: means of other axes, weights of other shapes, parts that are used elsewhere
///           and scaled variances are left alone.
template <Tensor X>
  requires std::floating_point<typename X::value_type>
[[nodiscard]] graph recognise_norms(graph g) {
  double eps = 0;
  match_options options{
      .guard = [&](const graph& of, const match& m) { return detail::is_norm(of, m, eps); },
      .wildcard = detail::numbers_of_parts};
  const X x = ones<X>({1, 1});
  const X c = ones<X>({1});
  detail::norm_in_parts::each_way(true, [&](const detail::norm_in_parts& written) {
    g = replace_pattern(
            g, written,
            [&](const auto& a, const auto& weight, const auto& bias) {
              return call<ops::layer_norm>(a, weight, bias, eps);
            },
            options, x, c, c)
            .result;
  });
  detail::norm_in_parts::each_way(false, [&](const detail::norm_in_parts& written) {
    g = replace_pattern(
            g, written,
            [&](const auto& a, const auto& weight) { return call<ops::rms_norm>(a, weight, eps); },
            options, x, c)
            .result;
  });
  return g;
}

/// `scaled_dot_product_attention` in the place of products, a factor, a mask and a softmax, on
/// (B, H, T, Dh) with as many heads of keys as of queries.
///
/// The factor is on scores, on queries or nowhere. A mask is added (0 and -infinity) or chooses
/// (`where`, with a number of -1e30 or less for what is not seen); it has to be a constant that is
/// causal: see `freeze` and `fold_constants`. What differs are roundings: of scores by
/// (Dh + 4) * 2^-24 of the sum of their terms' sizes, of results by twice that and S * 2^-24.
/// Requires: keys and values are finite where a mask hides them: the parts make NaN of others, the
///           operator does not look at them.
template <Tensor X>
  requires std::floating_point<typename X::value_type>
[[nodiscard]] graph recognise_attention(graph g) {
  using flags = tensor<bool, typename X::keys>;
  using T = typename X::value_type;
  double factor = 1;
  bool causal = false;
  match_options options{.wildcard = detail::numbers_of_parts};
  const auto operation = [&](const auto& q, const auto& k, const auto& v, const auto&...) {
    return call<ops::scaled_dot_product_attention>(q, k, v, causal, factor);
  };
  const auto look_for = [&](const detail::attention_in_parts& written, const auto& is_mask,
                            const auto&... masks) {
    causal = sizeof...(masks) > 0;
    options.guard = [&](const graph& of, const match& m) {
      return detail::is_attention(of, m, factor) &&
             is_mask(of, m, of.spec(m.arguments[0])[2], of.spec(m.arguments[1])[2]);
    };
    const X x = ones<X>({1, 1, 1, 1});
    g = replace_pattern(g, written, operation, options, x, x, x, masks...).result;
  };
  const auto no_mask = [](const auto&...) { return true; };
  const auto adds = [](const graph& of, const match& m, std::int64_t queries, std::int64_t keys) {
    constexpr T low = -std::numeric_limits<T>::infinity();
    const auto sees = [](T x) { return x == 0; };
    const bool shaped = detail::is_causal<X>(of, m.arguments[3], queries, keys, sees);
    if (!shaped) {
      return false;
    }
    for (const T x : to_vector(X(of.maker(m.arguments[3]).data))) {
      if (x != 0 && x != low) {
        return false;
      }
    }
    return true;
  };
  const auto chooses = [](const graph& of, const match& m, std::int64_t queries,
                          std::int64_t keys) {
    const node& low = of.maker(m.arguments[4]);
    return low.kind == node_kind::constant && low.data.size() == 1 &&
           to_vector(X(low.data))[0] <= T(-1e30) &&
           detail::is_causal<flags>(of, m.arguments[3], queries, keys, std::identity{});
  };
  using parts = detail::attention_in_parts;
  const X mask = ones<X>({1, 1});
  const flags sees = ones<flags>({1, 1});
  for (const auto where : {parts::factor::scores, parts::factor::queries, parts::factor::none}) {
    look_for({where}, no_mask);
    look_for({where, false}, adds, mask);
    look_for({where, true}, adds, mask);
    look_for({where}, chooses, sees, mask);
  }
  return g;
}

}  // namespace ashlar::graph
