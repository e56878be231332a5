// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <tuple>
#include <vector>

#include "ashlar/conformance/samples/indexing.hpp"
#include "ashlar/conformance/samples/layers.hpp"
#include "ashlar/ops/batch_norm.hpp"
#include "ashlar/ops/conv.hpp"
#include "ashlar/ops/dropout.hpp"
#include "ashlar/ops/unfold.hpp"

/// Samples of windows, images and normalisation over a batch.
namespace ashlar::conformance {

namespace detail {

struct window_case {
  shape image;  ///< (B, C, H, W)
  shape size;   ///< (kh, kw)
  window_options how{};
};
inline const std::vector<window_case>& window_cases() {
  static const std::vector<window_case> all{
      {{1, 2, 1, 1}, {1, 1}, {}},
      {{2, 2, 5, 4}, {2, 3}, {}},
      {{1, 4, 7, 6}, {3, 2}, {.stride = {2, 1}, .padding = {1, 1}}},
      {{1, 2, 7, 9}, {2, 2}, {.stride = {1, 3}, .dilation = {3, 2}}},
      {{0, 2, 3, 3}, {2, 2}, {}},
      {{2, 6, 17, 13}, {3, 3}, {.stride = {2, 2}, .padding = {1, 1}}}};
  return all;
}
/// The window options stand in the settings' integers: stride, padding 0 to 3, dilation in numbers.
inline settings packed(const window_options& o) {
  return {.integer = {o.stride[0], o.stride[1], o.padding[0], o.padding[1]},
          .number = {static_cast<double>(o.dilation[0]), static_cast<double>(o.dilation[1])}};
}
inline window_options unpacked(const settings& s) {
  return {
      .stride = {s.integer[0], s.integer[1]},
      .padding = {s.integer[2], s.integer[3]},
      .dilation = {static_cast<std::int64_t>(s.number[0]), static_cast<std::int64_t>(s.number[1])}};
}
inline shape windows(const shape& image, const shape& size, const window_options& o,
                     std::int64_t channels) {
  const auto count = [&](int i) {
    const auto u = static_cast<std::size_t>(i);
    return (image[2 + i] + 2 * o.padding[u] - o.dilation[u] * (size[i] - 1) - 1) / o.stride[u] + 1;
  };
  return {image[0], channels, count(0), count(1)};
}
/// `use(places of the window, place in the image or -1)` for one place of the result.
template <class Use>
void each_in_window(const shape& image, const shape& size, const window_options& o,
                    std::int64_t row, std::int64_t column, const Use& use) {
  for (std::int64_t k = 0; k < size[0] * size[1]; ++k) {
    const std::int64_t y = row * o.stride[0] - o.padding[0] + k / size[1] * o.dilation[0];
    const std::int64_t x = column * o.stride[1] - o.padding[1] + k % size[1] * o.dilation[1];
    const bool inside = y >= 0 && y < image[2] && x >= 0 && x < image[3];
    use(k, inside ? y * image[3] + x : -1);
  }
}
inline void list_pool(sample_list& all, tolerance allowed) {
  for (const window_case& c : window_cases()) {
    settings with = packed(c.how);
    with.list = c.size;
    for (const bool flag : {false, true}) {
      with.flag = {flag};
      all.add({.in = {{c.image}}, .with = with, .allowed = allowed, .gradient = is_small(c.image)});
    }
  }
  settings with = packed({});
  with.list = {2, 2};
  all.add({.in = {{{2, 3, 4}}}, .with = with, .refused = true});
}
/// `of(sum or largest, number of places inside)` of each window of each channel.
template <class Of>
std::vector<numbers> pooled(const question& q, double begin, const Of& of) {
  const shape& image = q.in[0].extents;
  const window_options o = unpacked(q.with);
  numbers y(windows(image, q.with.list, o, image[1]));
  for (std::int64_t i = 0; i < y.size(); ++i) {
    const shape at = indices_of(i, y.extents);
    const std::int64_t first = (at[0] * image[1] + at[1]) * image[2] * image[3];
    y[i] = begin;
    std::int64_t inside = 0;
    each_in_window(image, q.with.list, o, at[2], at[3], [&](std::int64_t, std::int64_t place) {
      if (place >= 0) {
        ++inside;
        of(y[i], q.in[0][first + place], inside);
      }
    });
    of(y[i], 0, -inside);
  }
  return {y};
}

}  // namespace detail

template <>
struct samples<ops::unfold> : detail::one_tensor {
  static std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t> attributes(
      const settings& s) {
    return {s.integer[0], s.integer[1], s.integer[2], s.integer[3]};
  }
  static void list(sample_list& all) {
    all.add({.in = {{{2, 7, 3}}}, .with = {.integer = {1, 3, 2, 1}}, .gradient = true});
    all.add({.in = {{{2, 9}}}, .with = {.integer = {-1, 3, 1, 4}}, .gradient = true});
    all.add({.in = {{{5}}}, .with = {.integer = {0, 5, 1, 1}}, .gradient = true});
    all.add({.in = {{{5, 0}}}, .with = {.integer = {0, 2, 1, 1}}});
    all.add({.in = {{{5}}}, .with = {.integer = {0, 3, 1, 3}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    shape to = q.in[0].extents;
    const auto axis = static_cast<int>(detail::wrapped(q.with.integer[0], to.rank()));
    const auto [whole, size, step, dilation] = attributes(q.with);
    to[axis] = (to[axis] - dilation * (size - 1) - 1) / step + 1;
    to.push_back(size);
    return {detail::picked(q.in[0], to, [&, step = step, dilation = dilation](const shape& at) {
      shape from(at.span().first(static_cast<std::size_t>(at.rank() - 1)));
      from[axis] = at[axis] * step + at[at.rank() - 1] * dilation;
      return from;
    })};
  }
};
template <>
struct samples<ops::unfold_backward> : detail::one_tensor {
  static std::tuple<shape, std::int64_t, std::int64_t, std::int64_t, std::int64_t> attributes(
      const settings& s) {
    return {s.list, s.integer[0], s.integer[1], s.integer[2], s.integer[3]};
  }
  static void list(sample_list& all) {
    const tolerance allowed{5 * detail::in_memory(all.type), 10};
    all.add({.in = {{{2, 3, 3, 3}}},
             .with = {.list = {2, 7, 3}, .integer = {1, 3, 2, 1}},
             .allowed = allowed,
             .gradient = true});
    all.add({.in = {{{2, 1, 3}}},
             .with = {.list = {2, 9}, .integer = {-1, 3, 1, 4}},
             .allowed = allowed,
             .gradient = true});
    all.add(
        {.in = {{{63, 5}}}, .with = {.list = {67}, .integer = {0, 5, 1, 1}}, .allowed = allowed});
    all.add({.in = {{{2, 2}}}, .with = {.list = {5}, .integer = {0, 3, 1, 1}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    numbers y(q.with.list);
    const auto axis = static_cast<int>(detail::wrapped(q.with.integer[0], y.rank()));
    for (std::int64_t i = 0; i < q.in[0].size(); ++i) {
      const shape at = detail::indices_of(i, q.in[0].extents);
      shape to(at.span().first(static_cast<std::size_t>(at.rank() - 1)));
      to[axis] = at[axis] * q.with.integer[2] + at[at.rank() - 1] * q.with.integer[3];
      y[detail::number_of(to, y.extents)] += q.in[0][i];
    }
    return {y};
  }
};

/// Groups stand in `integer[4]`.
template <>
struct samples<ops::conv2d> : plain_samples {
  template <class T>
  using arguments = types<T, T, T>;
  template <class T>
  static constexpr bool takes = std::floating_point<T>;
  using parts =
      ops::operators<ops::slice_backward, ops::reshape, ops::permute, ops::matmul, ops::add>;
  static std::tuple<window_options, std::int64_t> attributes(const settings& s) {
    return {detail::unpacked(s), s.integer[4]};
  }
  static void list(sample_list& all) {
    for (const detail::window_case& c : detail::window_cases()) {
      for (const std::int64_t groups : {std::int64_t{1}, std::int64_t{2}}) {
        const std::int64_t inputs = c.image[1] / groups;
        const std::int64_t terms = inputs * c.size[0] * c.size[1] + 1;
        settings with = detail::packed(c.how);
        with.integer[4] = groups;
        all.add({.in = {{c.image}, {{2 * groups, inputs, c.size[0], c.size[1]}}, {{2 * groups}}},
                 .with = with,
                 .allowed = detail::chain(terms),
                 .gradient = detail::is_small(c.image)});
      }
    }
    settings with = detail::packed({});
    with.integer[4] = 1;
    all.add({.in = {{{1, 2, 3, 3}}, {{2, 3, 1, 1}}, {{2}}}, .with = with, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    const shape& image = q.in[0].extents;
    const shape& filter = q.in[1].extents;
    const shape size{filter[2], filter[3]};
    const window_options o = detail::unpacked(q.with);
    const std::int64_t outputs = filter[0] / q.with.integer[4];
    numbers y(detail::windows(image, size, o, filter[0]));
    for (std::int64_t i = 0; i < y.size(); ++i) {
      const shape at = detail::indices_of(i, y.extents);
      y[i] = q.in[2][at[1]];
      for (std::int64_t c = 0; c < filter[1]; ++c) {
        const std::int64_t channel = at[0] * image[1] + at[1] / outputs * filter[1] + c;
        detail::each_in_window(image, size, o, at[2], at[3],
                               [&](std::int64_t k, std::int64_t place) {
                                 if (place >= 0) {
                                   y[i] += q.in[0][channel * image[2] * image[3] + place] *
                                           q.in[1][(at[1] * filter[1] + c) * size[0] * size[1] + k];
                                 }
                               });
      }
    }
    return {y};
  }
};
template <>
struct samples<ops::max_pool2d> : detail::one_tensor {
  template <class T>
  static constexpr bool takes = std::floating_point<T>;
  using parts = ops::operators<ops::cat, ops::expand, ops::reshape, ops::argmax, ops::gather>;
  static std::tuple<shape, window_options> attributes(const settings& s) {
    return {s.list, detail::unpacked(s)};
  }
  static void list(sample_list& all) { detail::list_pool(all, {}); }
  static std::vector<numbers> twin(const question& q) {
    return detail::pooled(q, -INFINITY, [](double& best, double x, std::int64_t inside) {
      best = inside > 0 ? std::max(best, x) : best;
    });
  }
};
template <>
struct samples<ops::avg_pool2d> : detail::one_tensor {
  template <class T>
  static constexpr bool takes = std::floating_point<T>;
  using parts = ops::operators<ops::slice_backward, ops::mean, ops::div, ops::expand>;
  static std::tuple<shape, window_options, bool> attributes(const settings& s) {
    return {s.list, detail::unpacked(s), s.flag[0]};
  }
  static void list(sample_list& all) { detail::list_pool(all, {14, 4}); }
  static std::vector<numbers> twin(const question& q) {
    const auto all = static_cast<double>(q.with.list[0] * q.with.list[1]);
    return detail::pooled(q, 0, [&](double& sum, double x, std::int64_t inside) {
      sum = inside > 0 ? sum + x : sum / (q.with.flag[0] ? all : static_cast<double>(-inside));
    });
  }
};

namespace detail {
inline const std::vector<shape>& batch_shapes() {
  static const std::vector<shape> all{{3, 2}, {2, 3, 5}, {2, 3, 2, 4}, {7, 1, 17}, {65, 3}};
  return all;
}
inline std::int64_t channel_of(std::int64_t i, const shape& s) { return indices_of(i, s)[1]; }
}  // namespace detail

template <>
struct samples<ops::batch_norm> : detail::norm_samples {
  template <class T>
  using arguments = types<T, T, T, T, T>;
  template <class T>
  static constexpr bool takes = std::floating_point<T>;
  using parts = ops::operators<ops::mul, ops::rsqrt, ops::scale, ops::sub, ops::add, ops::reshape>;
  static void list(sample_list& all) {
    for (const shape& s : detail::batch_shapes()) {
      const given c{{s[1]}};
      all.add_written({.in = {{s}, c, {{s[1]}, values::positive}, c, c},
                       .with = {.number = {1e-5}},
                       .allowed = {8, 32},
                       .gradient = detail::is_small(s)});
    }
    all.add({.in = {{{2, 3}}, {{3}}, {{3}, values::positive}, {{3}}, {{2}}},
             .with = {.number = {1e-5}},
             .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    numbers y = q.in[0];
    for (std::int64_t i = 0; i < y.size(); ++i) {
      const std::int64_t c = detail::channel_of(i, y.extents);
      y[i] =
          (y[i] - q.in[1][c]) / std::sqrt(q.in[2][c] + q.with.number[0]) * q.in[3][c] + q.in[4][c];
    }
    return {y};
  }
};
template <>
struct samples<ops::batch_norm_train> : detail::norm_samples {
  template <class T>
  using arguments = types<T, T, T>;
  template <class T>
  static constexpr bool takes = std::floating_point<T>;
  using parts = ops::operators<ops::mean, ops::sub, ops::square, ops::mul, ops::rsqrt, ops::scale,
                               ops::add, ops::reshape>;
  static void list(sample_list& all) {
    for (const shape& s : detail::batch_shapes()) {
      all.add({.in = {{s}, {{s[1]}}, {{s[1]}}},
               .with = {.number = {1e-5}},
               .allowed = {static_cast<double>(element_count(s.span()) / s[1]) + 16, 32}});
    }
    all.add({.in = {{{2, 3}}, {{3}}, {{2}}}, .with = {.number = {1e-5}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    numbers y = q.in[0];
    numbers mean(q.in[1].extents);
    numbers variance(q.in[1].extents);
    const double count = static_cast<double>(y.size()) / static_cast<double>(mean.size());
    const auto each = [&](const auto& use) {
      for (std::int64_t i = 0; i < y.size(); ++i) {
        use(i, detail::channel_of(i, y.extents));
      }
    };
    each([&](std::int64_t i, std::int64_t c) { mean[c] += y[i] / count; });
    each([&](std::int64_t i, std::int64_t c) {
      variance[c] += (y[i] - mean[c]) * (y[i] - mean[c]) / count;
    });
    each([&](std::int64_t i, std::int64_t c) {
      y[i] = (y[i] - mean[c]) / std::sqrt(variance[c] + q.with.number[0]) * q.in[1][c] + q.in[2][c];
    });
    return {y, mean, variance};
  }
};

/// Draws as `uniform` does.
template <>
struct samples<ops::dropout> : detail::one_tensor {
  template <class T>
  static constexpr bool takes = std::floating_point<T>;
  using parts = ops::operators<ops::uniform, ops::ge, ops::mul, ops::scale, ops::fill>;
  static std::tuple<double, std::uint64_t, std::uint64_t> attributes(const settings& s) {
    return {s.number[0], static_cast<std::uint64_t>(s.integer[0]),
            static_cast<std::uint64_t>(s.integer[1])};
  }
  static void list(sample_list& all) {
    for (const double p : {0.0, 0.25, 1.0}) {
      for (const shape& s : {shape{}, {0}, {65}, {2, 3, 5}}) {
        all.add({.in = {{s}},
                 .with = {.integer = {42, 5}, .number = {p}},
                 .allowed = {2, 4},
                 .gradient = p < 1 && detail::is_small(s)});
      }
    }
    all.add({.in = {{{3}}}, .with = {.number = {1.5}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    settings draw = q.with;
    draw.number = {0.0, 1.0};
    const numbers drawn = detail::random_twin({q.type, q.in, draw}, false)[0];
    numbers y = q.in[0];
    const double p = q.with.number[0];
    for (std::int64_t i = 0; i < y.size(); ++i) {
      y[i] = drawn[i] >= p && p < 1 ? y[i] / (1 - p) : 0.0;
    }
    return {y};
  }
};

}  // namespace ashlar::conformance
