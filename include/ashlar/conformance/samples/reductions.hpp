// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <tuple>
#include <type_traits>
#include <vector>

#include "ashlar/conformance/samples/shapes.hpp"
#include "ashlar/ops/cross_entropy.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/softmax.hpp"

/// Samples of reductions, softmax and what is made of them.
namespace ashlar::conformance {

namespace detail {

inline bool is_reduced(const shape& axes, int axis, int rank) {
  bool found = axes.rank() == 0;
  for (const std::int64_t a : axes) {
    found = found || wrapped(a, rank) == axis;
  }
  return found;
}
/// The extents that a reduction leaves, with ones in place of what is gone.
inline shape kept_shape(const shape& from, const shape& axes) {
  shape to = from;
  for (int i = 0; i < from.rank(); ++i) {
    to[i] = is_reduced(axes, i, from.rank()) ? 1 : from[i];
  }
  return to;
}
inline shape left_shape(const shape& from, const shape& axes, bool keepdim) {
  shape to;
  for (int i = 0; i < from.rank(); ++i) {
    const bool gone = is_reduced(axes, i, from.rank());
    if (!gone || keepdim) {
      to.push_back(gone ? 1 : from[i]);
    }
  }
  return to;
}
/// `fold(sum, x)` over the elements that meet in each result; `kept` broadcasts to `x`.
template <class Fold>
numbers folded(const numbers& x, const shape& kept, double begin, const Fold& fold) {
  numbers y(kept, begin);
  const tensor_spec to = contiguous_spec(dtype::float64, kept.span());
  for (std::int64_t i = 0; i < x.size(); ++i) {
    double& sum = y[place_of(to, i, x.extents.span())];
    sum = fold(sum, x[i]);
  }
  return y;
}

/// `size`: of a term, at most; `terms`: roundings for each.
inline void list_reduction(sample_list& all, double terms, double size, bool smooth, bool of_none) {
  struct one {
    shape extents, axes;
    bool keepdim;
  };
  for (const one& o :
       {one{{}, {}, false}, one{{1}, {0}, true}, one{{67}, {}, false}, one{{3, 1025}, {-1}, false},
        one{{1025, 3}, {0}, true}, one{{2, 3, 17}, {0, 2}, false}, one{{2, 3, 5}, {1}, true},
        one{{2, 3, 2, 3, 5}, {0, 2, 3}, false}, one{{0, 3}, {1}, false}}) {
    const auto n = static_cast<double>(element_count(o.extents.span()));
    all.add({.in = {{o.extents}},
             .with = {.list = o.axes, .flag = {o.keepdim}},
             .allowed = {terms * n, size * n},
             .gradient = smooth && is_small(o.extents)});
  }
  all.add({.in = {{{0, 3}}}, .with = {.list = {0}}, .refused = !of_none});
  all.add_once({.in = {{{7, 5}, values::special}}, .with = {.list = {1}}});
  all.add_once(
      {.in = {{{7, 5}, values::ties}}, .with = {.list = {1}}, .allowed = {terms * 5, size * 5}});
  all.add({.in = {{{2, 3}}}, .with = {.list = {2}}, .refused = true});
  all.add({.in = {{{2, 3}}}, .with = {.list = {1, -1}}, .refused = true});
}

struct reduction_samples : one_tensor {
  static std::tuple<shape, bool> attributes(const settings& s) { return {s.list, s.flag[0]}; }
};
inline std::vector<numbers> left(const question& q, numbers y) {
  y.extents = left_shape(q.in[0].extents, q.with.list, q.with.flag[0]);
  return {y};
}
inline std::vector<numbers> extremum(const question& q, double sign) {
  const numbers& x = q.in[0];
  return left(
      q,
      folded(x, kept_shape(x.extents, q.with.list), -sign * INFINITY, [=](double best, double v) {
        return std::isnan(best) || std::isnan(v) ? best + v : sign * v > sign * best ? v : best;
      }));
}
inline numbers sums(const numbers& x, const shape& kept) {
  return folded(x, kept, 0, [](double sum, double v) { return sum + v; });
}
/// Sums that stand in the elements of a result are rounded to their type after each addition;
/// tolerances count roundings of the type that other sums are kept in.
inline double stored(dtype type, double terms) {
  return is_narrow_floating(type) ? terms * roundoff(type) / roundoff(dtype::float32) : terms;
}

}  // namespace detail

template <>
struct samples<ops::sum> : detail::reduction_samples {
  template <class T>
  static constexpr bool takes = Floating<T> || std::is_same_v<T, std::int64_t>;
  static void list(sample_list& all) { detail::list_reduction(all, 1, 2, true, true); }
  static std::vector<numbers> twin(const question& q) {
    return detail::left(q, detail::sums(q.in[0], detail::kept_shape(q.in[0].extents, q.with.list)));
  }
};
template <>
struct samples<ops::mean> : detail::reduction_samples {
  static void list(sample_list& all) { detail::list_reduction(all, 2, 2, true, true); }
  static std::vector<numbers> twin(const question& q) {
    numbers y = detail::sums(q.in[0], detail::kept_shape(q.in[0].extents, q.with.list));
    for (double& v : y.v) {
      v /= static_cast<double>(q.in[0].size()) / static_cast<double>(y.size());
    }
    return detail::left(q, y);
  }
};
template <>
struct samples<ops::max> : detail::reduction_samples {
  static void list(sample_list& all) { detail::list_reduction(all, 0, 0, true, false); }
  static std::vector<numbers> twin(const question& q) { return detail::extremum(q, 1); }
};
template <>
struct samples<ops::min> : detail::reduction_samples {
  static void list(sample_list& all) { detail::list_reduction(all, 0, 0, true, false); }
  static std::vector<numbers> twin(const question& q) { return detail::extremum(q, -1); }
};
template <>
struct samples<ops::argmax> : detail::reduction_samples {
  static void list(sample_list& all) { detail::list_reduction(all, 0, 0, false, false); }
  /// The first of the largest; a NaN counts as the largest.
  static std::vector<numbers> twin(const question& q) {
    const numbers& x = q.in[0];
    const shape kept = detail::kept_shape(x.extents, q.with.list);
    const tensor_spec to = contiguous_spec(dtype::float64, kept.span());
    numbers best(kept);
    numbers at(kept, -1);
    numbers seen(kept);
    for (std::int64_t i = 0; i < x.size(); ++i) {
      const std::int64_t k = place_of(to, i, x.extents.span());
      if (at[k] < 0 || (!std::isnan(best[k]) && (std::isnan(x[i]) || x[i] > best[k]))) {
        best[k] = x[i];
        at[k] = seen[k];
      }
      seen[k] += 1;
    }
    return detail::left(q, at);
  }
};
template <>
struct samples<ops::sum_to> : detail::one_tensor {
  template <class T>
  static constexpr bool takes = Floating<T>;
  static std::tuple<shape> attributes(const settings& s) { return {s.list}; }
  static void list(sample_list& all) {
    for (const shape& to : {shape{}, {67}, {3, 1}, {5, 1, 67}, {5, 3, 67}}) {
      all.add({.in = {{{5, 3, 67}}}, .with = {.list = to}, .allowed = {1005, 2010}});
    }
    all.add({.in = {{{2, 3, 5}}}, .with = {.list = {3, 1}}, .allowed = {10, 20}, .gradient = true});
    all.add({.in = {{{0, 3}}}, .with = {.list = {3}}});
    all.add({.in = {{{2, 3}}}, .with = {.list = {2}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    return {detail::sums(q.in[0], q.with.list)};
  }
};
template <>
struct samples<ops::sum_squares> : detail::one_tensor {
  static void list(sample_list& all) {
    for (const shape& s : detail::unary_shapes()) {
      const auto n = static_cast<double>(element_count(s.span()));
      all.add({.in = {{s}}, .allowed = {n + 1, 4 * n}, .gradient = detail::is_small(s)});
    }
    all.add_once({.in = {{{7, 5}, values::special}}});
  }
  static std::vector<numbers> twin(const question& q) {
    return {detail::folded(q.in[0], {}, 0, [](double sum, double v) { return sum + v * v; })};
  }
};

// Softmax -----------------------------------------------------------------------------------------

namespace detail {

/// Functions are off by a few places; a sum has as many terms as the axis. `size`: of a result and
/// what it is made of; with a gradient it grows with the axis.
inline void list_softmax(sample_list& all, bool backward, double size = 0) {
  struct one {
    shape extents;
    std::int64_t axis;
  };
  for (const one& o : {one{{}, -1}, one{{0, 3}, 1}, one{{3, 0}, 1}, one{{1}, 0}, one{{2, 3, 7}, -1},
                       one{{7, 2, 3}, 0}, one{{3, 127}, 1}, one{{2, 1025}, 1}, one{{129, 2}, 0}}) {
    const double n =
        o.extents.rank() == 0
            ? 1.0
            : static_cast<double>(o.extents[static_cast<int>(wrapped(o.axis, o.extents.rank()))]);
    sample s{.in = {{o.extents}},
             .with = {.integer = {o.axis}},
             .allowed = {n + 16, backward ? 8 * (n + 1) : size},
             .gradient = is_small(o.extents)};
    if (backward) {
      s.in.push_back(s.in[0]);
    }
    all.add(s);
  }
  sample refused{.in = {{{2, 3}}}, .with = {.integer = {2}}, .refused = true};
  if (backward) {
    refused.in.push_back(refused.in[0]);
  } else {
    all.add_once({.in = {{{5, 9}, values::masked}}, .with = {.integer = {1}}, .allowed = {25, 8}});
    all.add_once({.in = {{{5, 7}, values::special}}, .with = {.integer = {1}}});
  }
  all.add(refused);
}
inline shape axis_of(const question& q) {
  return q.in[0].rank() == 0 ? shape{} : shape{q.with.integer[0]};
}
/// log(sum(exp(x))) along the axis, with the largest taken out.
inline numbers log_of_sum(const numbers& x, const shape& kept) {
  const numbers top = folded(x, kept, -INFINITY, [](double best, double v) {
    return std::isnan(best) || std::isnan(v) ? best + v : std::max(best, v);
  });
  const tensor_spec to = contiguous_spec(dtype::float64, kept.span());
  numbers sum(kept);
  for (std::int64_t i = 0; i < x.size(); ++i) {
    const std::int64_t k = place_of(to, i, x.extents.span());
    sum[k] += std::exp(x[i] - top[k]);
  }
  for (std::int64_t k = 0; k < sum.size(); ++k) {
    sum[k] = top[k] + std::log(sum[k]);
  }
  return sum;
}
inline numbers log_softmax_of(const numbers& x, const shape& axes) {
  const numbers off = log_of_sum(x, kept_shape(x.extents, axes));
  numbers y = x;
  for (std::int64_t i = 0; i < y.size(); ++i) {
    y[i] -= off.at(i, y.extents);
  }
  return y;
}
template <bool Two>
struct softmax_samples {
  template <class T>
  using arguments = std::conditional_t<Two, types<T, T>, types<T>>;
  static std::tuple<std::int64_t> attributes(const settings& s) { return {s.integer[0]}; }
};

}  // namespace detail

template <>
struct samples<ops::softmax> : detail::softmax_samples<false> {
  static void list(sample_list& all) { detail::list_softmax(all, false, 1); }
  static std::vector<numbers> twin(const question& q) {
    numbers y = detail::log_softmax_of(q.in[0], detail::axis_of(q));
    for (double& v : y.v) {
      v = std::exp(v);
    }
    return {y};
  }
};
template <>
struct samples<ops::log_softmax> : detail::softmax_samples<false> {
  static void list(sample_list& all) { detail::list_softmax(all, false, 8); }
  static std::vector<numbers> twin(const question& q) {
    return {detail::log_softmax_of(q.in[0], detail::axis_of(q))};
  }
};
template <>
struct samples<ops::softmax_backward> : detail::softmax_samples<true> {
  static void list(sample_list& all) { detail::list_softmax(all, true); }
  static std::vector<numbers> twin(const question& q) {
    numbers y = q.in[0];
    const numbers& g = q.in[1];
    numbers both = y;
    for (std::int64_t i = 0; i < y.size(); ++i) {
      both[i] = y[i] * g[i];
    }
    const numbers sum = detail::sums(both, detail::kept_shape(y.extents, detail::axis_of(q)));
    for (std::int64_t i = 0; i < y.size(); ++i) {
      y[i] *= g[i] - sum.at(i, y.extents);
    }
    return {y};
  }
};
template <>
struct samples<ops::log_softmax_backward> : detail::softmax_samples<true> {
  static void list(sample_list& all) { detail::list_softmax(all, true); }
  static std::vector<numbers> twin(const question& q) {
    numbers y = q.in[0];
    const numbers& g = q.in[1];
    const numbers sum = detail::sums(g, detail::kept_shape(y.extents, detail::axis_of(q)));
    for (std::int64_t i = 0; i < y.size(); ++i) {
      y[i] = g[i] - std::exp(y[i]) * sum.at(i, y.extents);
    }
    return {y};
  }
};

namespace detail {
inline void list_cross_entropy(sample_list& all, bool backward) {
  for (const std::int64_t rows : {std::int64_t{0}, std::int64_t{1}, std::int64_t{7}}) {
    for (const std::int64_t classes : {std::int64_t{1}, std::int64_t{5}, std::int64_t{129}}) {
      sample s{.in = {{{rows, classes}}, {{rows}, values::ignored, classes}},
               .with = {.integer = {-100}},
               .allowed = {static_cast<double>(rows + classes) + 8, 8},
               .gradient = rows > 0 && rows * classes <= 64};
      if (backward) {
        s.in.insert(s.in.begin(), given{{}});
        s.gradient = false;
      }
      all.add(s);
    }
  }
  sample refused{.in = {{{3, 4}}, {{2}, values::index, 4}}, .refused = true};
  if (backward) {
    refused.in.insert(refused.in.begin(), given{{}});
  }
  all.add(refused);
}
}  // namespace detail

template <>
struct samples<ops::cross_entropy> {
  template <class T>
  using arguments = types<T, std::int64_t>;
  static std::tuple<std::int64_t> attributes(const settings& s) { return {s.integer[0]}; }
  static void list(sample_list& all) { detail::list_cross_entropy(all, false); }
  static std::vector<numbers> twin(const question& q) {
    const numbers p = detail::log_softmax_of(q.in[0], {1});
    double sum = 0;
    double count = 0;
    for (std::int64_t i = 0; i < q.in[1].size(); ++i) {
      if (q.in[1][i] != static_cast<double>(q.with.integer[0])) {
        sum -= p[i * p.extents[1] + static_cast<std::int64_t>(q.in[1][i])];
        count += 1;
      }
    }
    return {numbers({}, sum / count)};
  }
};
template <>
struct samples<ops::cross_entropy_backward> {
  template <class T>
  using arguments = types<T, T, std::int64_t>;
  static std::tuple<std::int64_t> attributes(const settings& s) { return {s.integer[0]}; }
  static void list(sample_list& all) { detail::list_cross_entropy(all, true); }
  static std::vector<numbers> twin(const question& q) {
    numbers y = detail::log_softmax_of(q.in[1], {1});
    const auto ignored = static_cast<double>(q.with.integer[0]);
    const auto count = static_cast<double>(q.in[2].size() -
                                           std::count(q.in[2].v.begin(), q.in[2].v.end(), ignored));
    for (std::int64_t i = 0; i < y.size(); ++i) {
      const std::int64_t row = i / y.extents[1];
      const bool hit = q.in[2][row] == static_cast<double>(i % y.extents[1]);
      y[i] = q.in[2][row] == ignored ? 0.0 : (std::exp(y[i]) - (hit ? 1 : 0)) * q.in[0][0] / count;
    }
    return {y};
  }
};

}  // namespace ashlar::conformance
