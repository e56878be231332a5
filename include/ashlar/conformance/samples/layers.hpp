// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <vector>

#include "ashlar/conformance/samples/reductions.hpp"
#include "ashlar/ops/dense.hpp"
#include "ashlar/ops/embedding.hpp"
#include "ashlar/ops/matmul.hpp"
#include "ashlar/ops/norm.hpp"
#include "ashlar/ops/optimizer.hpp"
#include "ashlar/ops/rope.hpp"

/// Samples of products, normalisations, tables and optimizer steps.
namespace ashlar::conformance {

namespace detail {

/// Chains over K of products of at most 4.
inline tolerance chain(std::int64_t k) {
  return {static_cast<double>(k) + 1, 4.0 * static_cast<double>(k) + 2};
}
/// Ends of blocks, primes, one, none.
inline constexpr std::int64_t products[][3] = {{0, 3, 5}, {1, 1, 0},    {1, 1, 1},   {3, 5, 2},
                                               {7, 5, 3}, {1, 129, 63}, {17, 7, 65}, {33, 66, 13}};

/// `x`: (..., in), `weight`: (out, in).
inline numbers linear_of(const numbers& x, const numbers& weight) {
  shape to = x.extents;
  const std::int64_t in = weight.extents[1];
  const std::int64_t out = weight.extents[0];
  to[to.rank() - 1] = out;
  numbers y(to);
  for (std::int64_t i = 0; i < y.size(); ++i) {
    for (std::int64_t k = 0; k < in; ++k) {
      y[i] += x[i / out * in + k] * weight[i % out * in + k];
    }
  }
  return y;
}

/// With as many arguments as the operator has: weight, bias, residual.
inline void list_linear(sample_list& all, int arguments) {
  const auto cut = [&](std::vector<given> in) {
    in.resize(static_cast<std::size_t>(arguments));
    return in;
  };
  for (const auto& [m, n, k] : products) {
    all.add({.in = cut({{{m, k}}, {{n, k}}, {{n}}, {{m, n}}}),
             .allowed = {static_cast<double>(k) + 4, chain(k).magnitude + 4},
             .gradient = m * n <= 64 && k <= 5});
  }
  all.add({.in = cut({{{37}}, {{5, 37}}, {{5}}, {{5}}}), .allowed = {41, 156}});
  all.add({.in = cut({{{2, 3, 5}}, {{4, 5}}, {{4}}, {{2, 3, 4}}}),
           .allowed = {9, 28},
           .gradient = true});
  all.add({.in = cut({{{2, 3}}, {{4, 5}}, {{4}}, {{2, 4}}}), .refused = true});
  if (arguments > 2) {
    all.add({.in = cut({{{2, 3}}, {{4, 3}}, {{3}}, {{2, 4}}}), .refused = true});
  }
}

}  // namespace detail

template <>
struct samples<ops::matmul> : plain_samples {
  template <class T>
  using arguments = types<T, T>;
  static void list(sample_list& all) {
    for (const auto& [m, n, k] : detail::products) {
      all.add({.in = {{{m, k}}, {{k, n}}},
               .allowed = detail::chain(k),
               .gradient = m * n <= 64 && k <= 5});
    }
    all.add({.in = {{{2, 3, 37}}, {{2, 37, 5}}}, .allowed = detail::chain(37)});
    all.add({.in = {{{2, 1, 3, 2}}, {{2, 2, 5}}}, .allowed = detail::chain(2), .gradient = true});
    all.add({.in = {{{2, 3, 2}}, {{2, 5}}}, .allowed = detail::chain(2), .gradient = true});
    all.add({.in = {{{2, 3}}, {{4, 2}}}, .refused = true});
    all.add({.in = {{{3}}, {{3, 2}}}, .refused = true});
    all.add({.in = {{{2, 2, 3}}, {{3, 3, 2}}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    const numbers& a = q.in[0];
    const numbers& b = q.in[1];
    const auto front = [](const shape& s) { return shape(s.span().first(s.span().size() - 2)); };
    shape to = detail::common_shape({numbers(front(a.extents)), numbers(front(b.extents))});
    const shape batch = to;
    const std::int64_t m = a.extents[a.rank() - 2];
    const std::int64_t k = a.extents[a.rank() - 1];
    const std::int64_t n = b.extents[b.rank() - 1];
    to.push_back(m);
    to.push_back(n);
    numbers y(to);
    const tensor_spec at_a = contiguous_spec(dtype::float64, front(a.extents).span());
    const tensor_spec at_b = contiguous_spec(dtype::float64, front(b.extents).span());
    for (std::int64_t i = 0; i < y.size(); ++i) {
      const std::int64_t one = i / (m * n);
      const std::int64_t row = place_of(at_a, one, batch.span()) * m + i / n % m;
      const std::int64_t first = place_of(at_b, one, batch.span()) * k * n + i % n;
      for (std::int64_t l = 0; l < k; ++l) {
        y[i] += a[row * k + l] * b[first + l * n];
      }
    }
    return {y};
  }
};
template <>
struct samples<ops::linear> : plain_samples {
  template <class T>
  using arguments = types<T, T>;
  static void list(sample_list& all) { detail::list_linear(all, 2); }
  static std::vector<numbers> twin(const question& q) {
    return {detail::linear_of(q.in[0], q.in[1])};
  }
};
template <>
struct samples<ops::linear_bias> : plain_samples {
  template <class T>
  using arguments = types<T, T, T>;
  static void list(sample_list& all) { detail::list_linear(all, 3); }
  static std::vector<numbers> twin(const question& q) {
    numbers y = detail::linear_of(q.in[0], q.in[1]);
    for (std::int64_t i = 0; i < y.size(); ++i) {
      y[i] += q.in[2][i % q.in[2].size()];
    }
    return {y};
  }
};
/// With a residual. Elsewhere than in one program, the sum without it is rounded first.
template <>
struct samples<ops::dense<void>> : plain_samples {
  template <class T>
  using arguments = types<T, T, T, T>;
  template <class T>
  static constexpr bool takes = std::floating_point<T>;
  using parts = ops::operators<ops::linear_bias, ops::add>;
  static void list(sample_list& all) { detail::list_linear(all, 4); }
  static std::vector<numbers> twin(const question& q) {
    numbers y = samples<ops::linear_bias>::twin(q)[0];
    for (std::int64_t i = 0; i < y.size(); ++i) {
      y[i] += q.in[3][i];
    }
    return {y};
  }
};

// Tables and positions ----------------------------------------------------------------------------

template <>
struct samples<ops::embedding> : plain_samples {
  template <class T>
  using arguments = types<T, std::int32_t>;
  static void list(sample_list& all) {
    for (const std::int64_t columns : {std::int64_t{1}, std::int64_t{5}, std::int64_t{129}}) {
      for (const shape& s : {shape{}, {0}, {2, 3, 2}}) {
        all.add({.in = {{{11, columns}}, {s, values::index, 11}}, .gradient = columns <= 5});
      }
    }
    all.add({.in = {{{11}}, {{2}, values::index, 11}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    shape to = q.in[1].extents;
    const std::int64_t columns = q.in[0].extents[1];
    to.push_back(columns);
    numbers y(to);
    for (std::int64_t i = 0; i < y.size(); ++i) {
      y[i] = q.in[0][static_cast<std::int64_t>(q.in[1][i / columns]) * columns + i % columns];
    }
    return {y};
  }
};
template <>
struct samples<ops::embedding_backward> : plain_samples {
  template <class T>
  using arguments = types<T, std::int32_t>;
  static std::tuple<std::int64_t> attributes(const settings& s) { return {s.integer[0]}; }
  static void list(sample_list& all) {
    for (const std::int64_t columns : {std::int64_t{1}, std::int64_t{5}, std::int64_t{129}}) {
      for (const shape& s : {shape{}, {0}, {2, 3, 2}}) {
        shape from = s;
        from.push_back(columns);
        all.add({.in = {{from}, {s, values::index, 5}},
                 .with = {.integer = {11}},
                 .allowed = {detail::stored(all.type, 12), 24},
                 .gradient = columns <= 5});
      }
    }
    all.add(
        {.in = {{{2, 3}}, {{3}, values::index, 5}}, .with = {.integer = {11}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    const std::int64_t columns = q.in[0].extents[q.in[0].rank() - 1];
    numbers y({q.with.integer[0], columns});
    for (std::int64_t i = 0; i < q.in[0].size(); ++i) {
      y[static_cast<std::int64_t>(q.in[1][i / columns]) * columns + i % columns] += q.in[0][i];
    }
    return {y};
  }
};
template <>
struct samples<ops::rope> : plain_samples {
  template <class T>
  using arguments = types<T, std::int64_t>;
  static std::tuple<double, bool, bool> attributes(const settings& s) {
    return {s.number[0], s.flag[0], s.flag[1]};
  }
  static void list(sample_list& all) {
    for (const std::int64_t width : {std::int64_t{2}, std::int64_t{6}, std::int64_t{66}}) {
      for (const bool interleaved : {false, true}) {
        // Angles are good to about 2^-50 of themselves in double; then four roundings.
        all.add({.in = {{{2, 3, 1, width}}, {{3}, values::index, 5}},
                 .with = {.number = {100.0}, .flag = {interleaved, width == 6}},
                 .allowed = {4, 4},
                 .gradient = width <= 6,
                 .prepare = [](std::vector<numbers>& in, const settings&) { in[1][2] = 100003; }});
      }
    }
    all.add({.in = {{{0, 2, 4}}, {{0}, values::index, 5}}, .with = {.number = {100.0}}});
    all.add({.in = {{{3, 2, 5}}, {{3}, values::index, 5}},
             .with = {.number = {100.0}},
             .refused = true});
    all.add({.in = {{{3, 2, 4}}, {{2}, values::index, 5}},
             .with = {.number = {100.0}},
             .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    const shape& s = q.in[0].extents;
    const std::int64_t width = s[s.rank() - 1];
    const std::int64_t heads = s[s.rank() - 2];
    const std::int64_t tokens = s[s.rank() - 3];
    numbers y = q.in[0];
    for (std::int64_t row = 0; row * width < y.size(); ++row) {
      const double position = q.in[1][row / heads % tokens] * (q.with.flag[1] ? -1 : 1);
      for (std::int64_t i = 0; i < width / 2; ++i) {
        const double angle = position * std::pow(q.with.number[0], -2.0 * static_cast<double>(i) /
                                                                       static_cast<double>(width));
        const std::int64_t a = row * width + (q.with.flag[0] ? 2 * i : i);
        const std::int64_t b = q.with.flag[0] ? a + 1 : a + width / 2;
        const double u = y[a];
        const double v = y[b];
        y[a] = u * std::cos(angle) - v * std::sin(angle);
        y[b] = u * std::sin(angle) + v * std::cos(angle);
      }
    }
    return {y};
  }
};

// Normalisations ----------------------------------------------------------------------------------

namespace detail {

/// Arguments: `tensors` of x's shape (x, and a gradient before it), then `channels` of (C).
inline void list_norm(sample_list& all, int tensors, int channels, bool backward) {
  for (const std::int64_t n :
       {std::int64_t{1}, std::int64_t{7}, std::int64_t{65}, std::int64_t{129}}) {
    for (const shape& s : {shape{3, n}, {2, 1, 2, 2, n}, {0, n}}) {
      // A row of one number has variance 0: rounding is magnified by 1 / sqrt(eps), in gradients
      // twice.
      const double sharp = n == 1 ? 320 : 8;
      const auto terms = static_cast<double>(n + (backward ? s.rank() + 8 : 0)) + 8;
      sample one{.with = {.number = {1e-5}},
                 .allowed = {terms, backward ? sharp * 32 : sharp},
                 .gradient = n == 7};
      one.in.resize(static_cast<std::size_t>(tensors), given{s});
      one.in.resize(static_cast<std::size_t>(tensors + channels), given{{n}});
      all.add(one);
    }
  }
  sample refused{.with = {.number = {1e-5}}, .refused = true};
  refused.in.resize(static_cast<std::size_t>(tensors), given{{2, 3}});
  refused.in.resize(static_cast<std::size_t>(tensors + channels), given{{4}});
  if (channels == 0) {
    refused.in[0].extents = {3, 3};
  }
  all.add(refused);
}
struct norm_samples {
  static std::tuple<double> attributes(const settings& s) { return {s.number[0]}; }
};

/// Normalised rows, and what they were multiplied by.
struct normalised {
  numbers x;
  std::vector<double> factor;
};
inline normalised normalise(const numbers& x, double eps, bool centred) {
  normalised r{x, {}};
  const std::int64_t n = x.extents[x.rank() - 1];
  for (std::int64_t row = 0; row * n < x.size(); ++row) {
    double mean = 0;
    for (std::int64_t k = 0; k < n && centred; ++k) {
      mean += x[row * n + k] / static_cast<double>(n);
    }
    double square = 0;
    for (std::int64_t k = 0; k < n; ++k) {
      square += (x[row * n + k] - mean) * (x[row * n + k] - mean) / static_cast<double>(n);
    }
    r.factor.push_back(1 / std::sqrt(square + eps));
    for (std::int64_t k = 0; k < n; ++k) {
      r.x[row * n + k] = (x[row * n + k] - mean) * r.factor.back();
    }
  }
  return r;
}
/// With a = g * weight: factor * (a - mean(a) - x * mean(a * x)); the first mean where centred.
inline std::vector<numbers> norm_backward_x(const question& q, bool centred) {
  const auto [x, factor] = normalise(q.in[1], q.with.number[0], centred);
  const std::int64_t n = x.extents[x.rank() - 1];
  numbers y = x;
  for (std::int64_t row = 0; row * n < x.size(); ++row) {
    double mean = 0;
    double product = 0;
    for (std::int64_t k = 0; k < n; ++k) {
      const double a = q.in[0][row * n + k] * q.in[2][k] / static_cast<double>(n);
      mean += centred ? a : 0;
      product += a * x[row * n + k];
    }
    for (std::int64_t k = 0; k < n; ++k) {
      y[row * n + k] = factor[static_cast<std::size_t>(row)] *
                       (q.in[0][row * n + k] * q.in[2][k] - mean - x[row * n + k] * product);
    }
  }
  return {y};
}
inline std::vector<numbers> norm_backward_weight(const question& q, bool centred) {
  const numbers x = normalise(q.in[1], q.with.number[0], centred).x;
  const std::int64_t n = x.extents[x.rank() - 1];
  std::vector<numbers> all(centred ? 2 : 1, numbers({n}));
  for (std::int64_t i = 0; i < x.size(); ++i) {
    all[0][i % n] += q.in[0][i] * x[i];
    if (centred) {
      all[1][i % n] += q.in[0][i];
    }
  }
  return all;
}

}  // namespace detail

template <>
struct samples<ops::rms_norm> : detail::norm_samples {
  template <class T>
  using arguments = types<T, T>;
  static void list(sample_list& all) { detail::list_norm(all, 1, 1, false); }
  static std::vector<numbers> twin(const question& q) {
    numbers y = detail::normalise(q.in[0], q.with.number[0], false).x;
    for (std::int64_t i = 0; i < y.size(); ++i) {
      y[i] *= q.in[1].at(i, y.extents);
    }
    return {y};
  }
};
template <>
struct samples<ops::layer_norm> : detail::norm_samples {
  template <class T>
  using arguments = types<T, T, T>;
  static void list(sample_list& all) { detail::list_norm(all, 1, 2, false); }
  static std::vector<numbers> twin(const question& q) {
    numbers y = detail::normalise(q.in[0], q.with.number[0], true).x;
    for (std::int64_t i = 0; i < y.size(); ++i) {
      y[i] = y[i] * q.in[1].at(i, y.extents) + q.in[2].at(i, y.extents);
    }
    return {y};
  }
};
template <>
struct samples<ops::rms_norm_backward_x> : detail::norm_samples {
  template <class T>
  using arguments = types<T, T, T>;
  static void list(sample_list& all) { detail::list_norm(all, 2, 1, true); }
  static std::vector<numbers> twin(const question& q) { return detail::norm_backward_x(q, false); }
};
template <>
struct samples<ops::layer_norm_backward_x> : detail::norm_samples {
  template <class T>
  using arguments = types<T, T, T>;
  static void list(sample_list& all) { detail::list_norm(all, 2, 1, true); }
  static std::vector<numbers> twin(const question& q) { return detail::norm_backward_x(q, true); }
};
template <>
struct samples<ops::rms_norm_backward_weight> : detail::norm_samples {
  template <class T>
  using arguments = types<T, T>;
  static void list(sample_list& all) { detail::list_norm(all, 2, 0, true); }
  static std::vector<numbers> twin(const question& q) {
    return detail::norm_backward_weight(q, false);
  }
};
template <>
struct samples<ops::layer_norm_backward_weight> : detail::norm_samples {
  template <class T>
  using arguments = types<T, T>;
  static void list(sample_list& all) { detail::list_norm(all, 2, 0, true); }
  static std::vector<numbers> twin(const question& q) {
    return detail::norm_backward_weight(q, true);
  }
};

// Optimizer steps ---------------------------------------------------------------------------------

template <>
struct samples<ops::adamw_step> {
  template <class T>
  using arguments = types<T, T, T, T>;
  template <class T>
  static constexpr bool takes = std::floating_point<T>;
  using parts = ops::operators<ops::sub, ops::scale, ops::add, ops::square, ops::sqrt, ops::div>;
  static constexpr std::array writes{0, 2, 3};
  static std::tuple<adamw_options, std::int64_t, double> attributes(const settings& s) {
    return {adamw_options{.lr = s.number[0]}, s.integer[0], s.number[1]};
  }
  static void list(sample_list& all) {
    for (const shape& s : {shape{}, {0}, {1}, {65}, {3, 1, 2, 2, 7}}) {
      all.add_written({.in = {{s}, {s}, {s}, {s, values::positive}},
                       .with = {.integer = {3}, .number = {0.1, 0.5}},
                       .allowed = {16, 16}});
    }
    all.add_once({.in = {{{3}}, {{3}}, {{3}}, {{4}, values::positive}},
                  .with = {.integer = {3}, .number = {0.1, 0.5}},
                  .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    numbers p = q.in[0];
    numbers m = q.in[2];
    numbers v = q.in[3];
    const adamw_options o{.lr = q.with.number[0]};
    const auto step = static_cast<double>(q.with.integer[0]);
    for (std::int64_t i = 0; i < p.size(); ++i) {
      const double g = q.in[1][i] * q.with.number[1];
      m[i] = o.beta1 * m[i] + (1 - o.beta1) * g;
      v[i] = o.beta2 * v[i] + (1 - o.beta2) * g * g;
      const double first = m[i] / (1 - std::pow(o.beta1, step));
      const double second = v[i] / (1 - std::pow(o.beta2, step));
      p[i] = p[i] * (1 - o.lr * o.weight_decay) - o.lr * first / (std::sqrt(second) + o.eps);
    }
    return {p, m, v};
  }
};
template <>
struct samples<ops::sgd_step> {
  template <class T>
  using arguments = types<T, T, T>;
  template <class T>
  static constexpr bool takes = std::floating_point<T>;
  using parts = ops::operators<ops::sub, ops::scale, ops::add>;
  static constexpr std::array writes{0, 2};
  static std::tuple<sgd_options, double> attributes(const settings& s) {
    return {sgd_options{
                .lr = 0.1, .momentum = s.number[0], .weight_decay = 0.01, .nesterov = s.flag[0]},
            s.number[1]};
  }
  static void list(sample_list& all) {
    for (const bool nesterov : {false, true}) {
      for (const double momentum : {0.0, 0.9}) {
        for (const shape& s : {shape{}, {0}, {65}, {3, 1, 2, 2, 7}}) {
          all.add_written({.in = {{s}, {s}, {s}},
                           .with = {.number = {momentum, 0.5}, .flag = {nesterov}},
                           .allowed = {8, 8}});
        }
      }
    }
    all.add_once({.in = {{{3}}, {{4}}, {{3}}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    numbers p = q.in[0];
    numbers held = q.in[2];
    const double momentum = q.with.number[0];
    for (std::int64_t i = 0; i < p.size(); ++i) {
      const double d = q.in[1][i] * q.with.number[1] + 0.01 * p[i];
      held[i] = momentum != 0 ? momentum * held[i] + d : held[i];
      p[i] -= 0.1 * (momentum == 0 ? d : q.with.flag[0] ? d + momentum * held[i] : held[i]);
    }
    return {p, held};
  }
};

}  // namespace ashlar::conformance
