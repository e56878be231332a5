// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <type_traits>
#include <vector>

#include "ashlar/conformance/samples/creation.hpp"
#include "ashlar/conformance/samples/indexing.hpp"
#include "ashlar/ops/batch_norm.hpp"
#include "ashlar/ops/conv.hpp"
#include "ashlar/ops/dropout.hpp"

/// Samples of convolutions and pools, normalisation of channels, and dropout.
namespace ashlar::conformance {

namespace detail {

/// The settings' list: stride, padding and dilation, each for H and W.
inline window_options window_options_of(const settings& s) {
  return {.stride = {s.list[0], s.list[1]},
          .padding = {s.list[2], s.list[3]},
          .dilation = {s.list[4], s.list[5]}};
}
/// (H, W) to the number of windows along each.
inline shape windows_on(const shape& plane, const shape& size, const settings& s) {
  shape to = plane;
  for (int a = 0; a < 2; ++a) {
    to[a] = (plane[a] + 2 * s.list[2 + a] - s.list[4 + a] * (size[a] - 1) - 1) / s.list[a] + 1;
  }
  return to;
}
/// `visit(window, place in the window, place in the plane)`; the last is -1 outside the image.
template <class Visit>
void each_place_of_windows(const shape& plane, const shape& size, const settings& s,
                           const Visit& visit) {
  const shape to = windows_on(plane, size, s);
  for (std::int64_t i = 0; i < to[0] * to[1] * size[0] * size[1]; ++i) {
    const shape at = indices_of(i, {to[0], to[1], size[0], size[1]});
    const std::int64_t h = at[0] * s.list[0] - s.list[2] + at[2] * s.list[4];
    const std::int64_t w = at[1] * s.list[1] - s.list[3] + at[3] * s.list[5];
    const bool inside = h >= 0 && h < plane[0] && w >= 0 && w < plane[1];
    visit(at[0] * to[1] + at[1], at[2] * size[1] + at[3], inside ? h * plane[1] + w : -1);
  }
}
inline shape last_two(const shape& s) { return {s[s.rank() - 2], s[s.rank() - 1]}; }

}  // namespace detail

// Convolutions ------------------------------------------------------------------------------------

namespace detail {

struct conv_case {
  shape x, weight, windows;
  std::int64_t groups;
};
inline sample conv_sample(const conv_case& o) {
  return {.in = {{o.x}, {o.weight}, {{o.weight[0]}}},
          .with = {.list = o.windows, .integer = {o.groups}}};
}

}  // namespace detail

/// With a bias, and `second` without one. The settings' first integer counts groups.
template <>
struct samples<ops::conv2d> {
  template <class T>
  using arguments = types<T, T, T>;
  template <class T>
  using second = variant<ops::conv2d, types<T, T>>;
  /// The product is rounded before the bias is added.
  template <class T>
  static constexpr bool takes = std::floating_point<T>;
  using parts = ops::operators<ops::slice_backward, ops::reshape, ops::matmul, ops::add>;
  static std::tuple<window_options, std::int64_t> attributes(const settings& s) {
    return {detail::window_options_of(s), s.integer[0]};
  }
  static void list(sample_list& all) {
    using one = detail::conv_case;
    for (const one& o : {one{{1, 1, 1, 1}, {1, 1, 1, 1}, {1, 1, 0, 0, 1, 1}, 1},
                         one{{2, 2, 3, 4}, {4, 1, 2, 2}, {1, 2, 1, 0, 1, 1}, 2},
                         one{{1, 3, 4, 5}, {5, 3, 1, 1}, {1, 1, 0, 0, 1, 1}, 1},
                         one{{1, 2, 5, 4}, {2, 2, 2, 3}, {2, 1, 1, 2, 3, 1}, 1},
                         one{{2, 4, 7, 5}, {6, 2, 3, 2}, {2, 1, 1, 0, 1, 2}, 2},
                         one{{1, 3, 6, 6}, {3, 1, 3, 3}, {1, 1, 1, 1, 1, 1}, 3},
                         one{{1, 5, 7, 33}, {7, 5, 3, 3}, {2, 1, 1, 1, 1, 1}, 1},
                         one{{0, 3, 5, 5}, {4, 3, 3, 3}, {1, 1, 1, 1, 1, 1}, 1},
                         one{{2, 0, 5, 5}, {4, 0, 3, 3}, {1, 1, 1, 1, 1, 1}, 1}}) {
      const std::int64_t depth = o.weight[1] * o.weight[2] * o.weight[3];
      sample s = detail::conv_sample(o);
      s.allowed = {static_cast<double>(depth) + 2, 4.0 * static_cast<double>(depth) + 2};
      s.gradient = detail::is_small(o.x) && detail::is_small(o.weight);
      all.add(s);
      s.in.pop_back();
      s.second = true;
      all.add_once(s);
    }
    for (const one& o : {one{{2, 3, 5}, {4, 3, 3, 3}, {1, 1, 0, 0, 1, 1}, 1},
                         one{{2, 3, 5, 5}, {4, 2, 3, 3}, {1, 1, 0, 0, 1, 1}, 1},
                         one{{2, 3, 5, 5}, {4, 3, 3, 3}, {1, 1, 0, 0, 1, 1}, 0},
                         one{{2, 4, 5, 5}, {3, 2, 3, 3}, {1, 1, 0, 0, 1, 1}, 2},
                         one{{2, 3, 5, 5}, {4, 3, 6, 3}, {1, 1, 0, 0, 1, 1}, 1},
                         one{{2, 3, 5, 5}, {4, 3, 0, 3}, {1, 1, 0, 0, 1, 1}, 1},
                         one{{2, 3, 5, 5}, {4, 3, 3, 3}, {0, 1, 0, 0, 1, 1}, 1},
                         one{{2, 3, 5, 5}, {4, 3, 3, 3}, {1, 1, 0, -1, 1, 1}, 1},
                         one{{2, 3, 5, 5}, {4, 3, 3, 3}, {1, 1, 0, 0, 1, 0}, 1}}) {
      sample s = detail::conv_sample(o);
      s.refused = true;
      all.add(s);
    }
    sample s = detail::conv_sample({{2, 3, 5, 5}, {4, 3, 3, 3}, {1, 1, 0, 0, 1, 1}, 1});
    s.in[2].extents = {3};  // a bias of another size
    s.refused = true;
    all.add(s);
  }
  static std::vector<numbers> twin(const question& q) {
    const numbers& x = q.in[0];
    const numbers& weight = q.in[1];
    const shape plane = detail::last_two(x.extents);
    const shape size = detail::last_two(weight.extents);
    const shape windows = detail::windows_on(plane, size, q.with);
    const std::int64_t outputs = weight.extents[0];
    const std::int64_t depth = weight.extents[1];
    const std::int64_t each = outputs / q.with.integer[0];
    numbers y({x.extents[0], outputs, windows[0], windows[1]});
    for (std::int64_t image = 0; image < x.extents[0] * outputs; ++image) {
      const std::int64_t output = image % outputs;
      double* const to = y.v.data() + image * windows[0] * windows[1];
      for (std::int64_t c = 0; c < depth; ++c) {
        const std::int64_t channel = image / outputs * x.extents[1] + output / each * depth + c;
        detail::each_place_of_windows(
            plane, size, q.with, [&](std::int64_t window, std::int64_t k, std::int64_t at) {
              to[window] += at < 0 ? 0.0
                                   : x[channel * plane[0] * plane[1] + at] *
                                         weight[(output * depth + c) * size[0] * size[1] + k];
            });
      }
    }
    for (std::int64_t i = 0; q.in.size() > 2 && i < y.size(); ++i) {
      y[i] += q.in[2][i / (windows[0] * windows[1]) % outputs];
    }
    return {y};
  }
};

// Pools: the settings' first integers are the window's size -------------------------------------

namespace detail {

inline shape pool_size(const settings& s) { return {s.integer[0], s.integer[1]}; }

struct pool_case {
  shape x, size, windows;
};
inline sample pool_sample(const pool_case& o) {
  return {.in = {{o.x}}, .with = {.list = o.windows, .integer = {o.size[0], o.size[1]}}};
}
inline const std::vector<pool_case>& pool_cases() {
  static const std::vector<pool_case> all{
      {{1, 1, 1, 1}, {1, 1}, {1, 1, 0, 0, 1, 1}},   {{1, 3, 4, 5}, {2, 2}, {2, 2, 0, 0, 1, 1}},
      {{1, 2, 5, 5}, {3, 2}, {2, 1, 1, 0, 1, 1}},   {{2, 1, 7, 9}, {2, 3}, {1, 2, 1, 1, 3, 2}},
      {{1, 1, 33, 65}, {3, 3}, {2, 2, 1, 1, 1, 1}}, {{0, 3, 4, 4}, {2, 2}, {2, 2, 0, 0, 1, 1}},
      {{2, 0, 4, 4}, {2, 2}, {2, 2, 1, 1, 1, 1}}};
  return all;
}
inline void list_pool_refusals(sample_list& all) {
  for (const pool_case& o : {pool_case{{3, 4, 5}, {2, 2}, {2, 2, 0, 0, 1, 1}},
                             pool_case{{2, 3, 4, 5}, {5, 2}, {2, 2, 0, 0, 1, 1}},
                             pool_case{{2, 3, 4, 5}, {0, 2}, {2, 2, 0, 0, 1, 1}},
                             pool_case{{2, 3, 4, 5}, {2, 2}, {2, 0, 0, 0, 1, 1}},
                             pool_case{{2, 3, 4, 5}, {2, 2}, {2, 2, -1, 0, 1, 1}},
                             pool_case{{2, 3, 4, 5}, {2, 2}, {2, 2, 0, 0, 0, 1}}}) {
    sample s = pool_sample(o);
    s.refused = true;
    all.add(s);
  }
}
/// `fold(value, x, inside)` over the places of each window.
template <class Fold>
numbers pooled(const question& q, double begin, const Fold& fold) {
  const numbers& x = q.in[0];
  const shape plane = last_two(x.extents);
  const shape size = pool_size(q.with);
  const shape to = windows_on(plane, size, q.with);
  numbers y({x.extents[0], x.extents[1], to[0], to[1]}, begin);
  for (std::int64_t image = 0; image < x.extents[0] * x.extents[1]; ++image) {
    each_place_of_windows(
        plane, size, q.with, [&](std::int64_t window, std::int64_t, std::int64_t at) {
          double& value = y[image * to[0] * to[1] + window];
          value = fold(value, at < 0 ? 0.0 : x[image * plane[0] * plane[1] + at], at >= 0);
        });
  }
  return y;
}

}  // namespace detail

template <>
struct samples<ops::max_pool2d> : detail::one_tensor {
  template <class T>
  static constexpr bool takes = !std::is_same_v<T, bool>;
  using parts =
      ops::operators<ops::cat, ops::fill, ops::ge, ops::ne, ops::add, ops::where, ops::clone>;
  static std::tuple<shape, window_options> attributes(const settings& s) {
    return {detail::pool_size(s), detail::window_options_of(s)};
  }
  static void list(sample_list& all) {
    for (const detail::pool_case& o : detail::pool_cases()) {
      sample s = detail::pool_sample(o);
      s.gradient = detail::is_small(o.x) && !is_narrow_floating(all.type);  // where none are equal
      all.add(s);
    }
    // The only window has places in the padding alone: less than anything.
    all.add(detail::pool_sample({{1, 1, 2, 2}, {2, 2}, {1, 1, 1, 1, 3, 3}}));
    for (const values v : {values::special, values::edges, values::ties}) {
      sample s = detail::pool_sample({{1, 2, 5, 7}, {2, 3}, {1, 1, 1, 1, 1, 1}});
      s.in[0].what = v;
      all.add_once(s);
    }
    detail::list_pool_refusals(all);
    sample s = detail::pool_sample({{2, 3, 4, 5}, {3, 2}, {1, 1, 2, 0, 1, 1}});
    s.refused = true;
    all.add(s);
  }
  static std::vector<numbers> twin(const question& q) {
    const double least = q.type == dtype::float8_e4m3 ? -448.0 : -INFINITY;
    return {detail::pooled(q, least, [](double best, double x, bool inside) {
      return !inside ? best : std::isnan(best) || std::isnan(x) ? best + x : std::max(best, x);
    })};
  }
};
template <>
struct samples<ops::avg_pool2d> : detail::one_tensor {
  /// Sums are rounded after each addition.
  template <class T>
  static constexpr bool takes = std::floating_point<T>;
  using parts = ops::operators<ops::slice_backward, ops::add, ops::fill, ops::div>;
  static std::tuple<shape, window_options, bool> attributes(const settings& s) {
    return {detail::pool_size(s), detail::window_options_of(s), s.flag[0]};
  }
  static void list(sample_list& all) {
    for (const bool count_padding : {false, true}) {
      const auto add = [&](const detail::pool_case& o, bool smooth) {
        sample s = detail::pool_sample(o);
        s.with.flag[0] = count_padding;
        s.gradient = smooth && detail::is_small(o.x);
        s.allowed = {static_cast<double>(o.size[0] * o.size[1]) + 6, 4};
        all.add(s);
      };
      for (const detail::pool_case& o : detail::pool_cases()) {
        add(o, true);
      }
      // Windows in the padding alone: the mean of zeros, or of nothing.
      add({{1, 1, 2, 2}, {2, 2}, {1, 1, 2, 2, 1, 1}}, false);
    }
    detail::list_pool_refusals(all);
  }
  static std::vector<numbers> twin(const question& q) {
    numbers sum = detail::pooled(q, 0, [](double s, double x, bool) { return s + x; });
    const numbers count = detail::pooled(q, 0, [&](double n, double, bool inside) {
      return n + (inside || q.with.flag[0] ? 1 : 0);
    });
    for (std::int64_t i = 0; i < sum.size(); ++i) {
      sum[i] /= count[i];
    }
    return {sum};
  }
};

// Normalisation of channels -----------------------------------------------------------------------

namespace detail {

inline const std::vector<shape>& channel_shapes() {
  static const std::vector<shape> all{{1, 1}, {7, 3},    {5, 2, 3},    {3, 2, 2, 5},
                                      {0, 3}, {2, 0, 3}, {2, 3, 0, 2}, {3, 5, 7, 19}};
  return all;
}
/// The channel of element `i`.
inline std::int64_t channel_of(std::int64_t i, const shape& x) {
  return i / row_of(x, 1).stride % x[1];
}
struct batch_norm_samples {
  template <class T>
  static constexpr bool takes = std::floating_point<T>;
  static std::tuple<double> attributes(const settings& s) { return {s.number[0]}; }
};
/// `(x - mean) / sqrt(variance + eps) * weight + bias`.
inline numbers normalised_channels(const numbers& x, const numbers& mean, const numbers& variance,
                                   const numbers& weight, const numbers& bias, double eps) {
  numbers y = x;
  for (std::int64_t i = 0; i < y.size(); ++i) {
    const std::int64_t c = channel_of(i, y.extents);
    y[i] = (y[i] - mean[c]) / std::sqrt(variance[c] + eps) * weight[c] + bias[c];
  }
  return y;
}

}  // namespace detail

template <>
struct samples<ops::batch_norm> : detail::batch_norm_samples {
  template <class T>
  using arguments = types<T, T, T, T, T>;
  using parts = ops::operators<ops::rsqrt, ops::scale, ops::mul, ops::sub, ops::add, ops::reshape>;
  static void list(sample_list& all) {
    for (const shape& x : detail::channel_shapes()) {
      const shape c{x[1]};
      // The factor is at most 4 (a variance is at least a quarter) and good to six places; it
      // meets `x` and the mean, which may cancel.
      all.add({.in = {{x}, {c}, {c, values::positive}, {c}, {c}},
               .with = {.number = {1e-5}},
               .allowed = {8, 18},
               .gradient = detail::is_small(x)});
    }
    for (int wrong = 0; wrong < 5; ++wrong) {
      sample s{.in = {{{2, 3, 5}}, {{3}}, {{3}, values::positive}, {{3}}, {{3}}},
               .with = {.number = {1e-5}},
               .refused = true};
      s.in[static_cast<std::size_t>(wrong)].extents = wrong == 0 ? shape{3} : shape{5};
      all.add(s);
    }
  }
  static std::vector<numbers> twin(const question& q) {
    return {
        detail::normalised_channels(q.in[0], q.in[1], q.in[2], q.in[3], q.in[4], q.with.number[0])};
  }
};
template <>
struct samples<ops::batch_norm_train> : detail::batch_norm_samples {
  template <class T>
  using arguments = types<T, T, T>;
  using parts = ops::operators<ops::mean, ops::sub, ops::square, ops::rsqrt, ops::scale, ops::mul,
                               ops::add, ops::reshape>;
  static void list(sample_list& all) {
    for (const shape& x : detail::channel_shapes()) {
      // With eps = 0.1 the factor is at most 6.4, where a channel is nearly constant, and
      // magnifies the roundings of two means.
      const auto n = x[1] == 0
                         ? 0.0
                         : static_cast<double>(element_count(x.span())) / static_cast<double>(x[1]);
      all.add({.in = {{x}, {{x[1]}}, {{x[1]}}},
               .with = {.number = {0.1}},
               .allowed = {2 * n + 16, 16},
               .gradient = n > 0 && detail::is_small(x)});
    }
    all.add({.in = {{{3}}, {{3}}, {{3}}}, .with = {.number = {0.1}}, .refused = true});
    all.add({.in = {{{2, 3}}, {{2}}, {{3}}}, .with = {.number = {0.1}}, .refused = true});
    all.add({.in = {{{2, 3}}, {{3}}, {{3, 1}}}, .with = {.number = {0.1}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    const numbers& x = q.in[0];
    const shape c{x.extents[1]};
    const double n = static_cast<double>(x.size()) / static_cast<double>(c[0]);
    numbers mean(c, x.size() == 0 ? std::nan("") : 0.0);
    numbers variance = mean;
    for (std::int64_t i = 0; i < x.size(); ++i) {
      mean[detail::channel_of(i, x.extents)] += x[i] / n;
    }
    for (std::int64_t i = 0; i < x.size(); ++i) {
      const std::int64_t k = detail::channel_of(i, x.extents);
      variance[k] += (x[i] - mean[k]) * (x[i] - mean[k]) / n;
    }
    return {detail::normalised_channels(x, mean, variance, q.in[1], q.in[2], q.with.number[0]),
            mean, variance};
  }
};

// Dropout -----------------------------------------------------------------------------------------

/// The settings' integers are seed and offset.
template <>
struct samples<ops::dropout> : detail::one_tensor {
  template <class T>
  static constexpr bool takes = samples<ops::uniform>::takes<T>;
  using parts = ops::operators<ops::fill, ops::uniform, ops::ge, ops::scale, ops::where>;
  static std::tuple<double, std::uint64_t, std::uint64_t> attributes(const settings& s) {
    return {s.number[0], static_cast<std::uint64_t>(s.integer[0]),
            static_cast<std::uint64_t>(s.integer[1])};
  }
  static void list(sample_list& all) {
    // A factor of at most 4 is rounded, and a product with it.
    const tolerance allowed{2, 8};
    for (const double p : {0.1, 0.75}) {
      detail::list_unary(all, values::any, allowed, true, {.integer = {42, 5}, .number = {p}});
    }
    for (const double p : {0.0, 1.0}) {
      all.add({.in = {{{37}}}, .with = {.integer = {42}, .number = {p}}, .gradient = true});
      all.add_once({.in = {{{37}, values::special}}, .with = {.integer = {42}, .number = {p}}});
    }
    all.add({.in = {{{5, 13}}},
             .with = {.integer = {-0x123456789abcdef, std::int64_t{7} << 31}, .number = {0.5}},
             .allowed = allowed});
    for (const double p : {-0.1, 1.1, std::nan("")}) {
      all.add({.in = {{{5}}}, .with = {.number = {p}}, .refused = true});
    }
  }
  /// Zeros where `uniform` draws less than p.
  static std::vector<numbers> twin(const question& q) {
    const double p = q.with.number[0];
    const settings draw{.integer = q.with.integer, .number = {0.0, 1.0}};
    const numbers drawn = detail::random_twin({q.type, q.in, draw}, false)[0];
    numbers y = q.in[0];
    for (std::int64_t i = 0; i < y.size(); ++i) {
      y[i] = drawn[i] < p ? 0.0 : y[i] / (1 - p);
    }
    return {y};
  }
};

}  // namespace ashlar::conformance
