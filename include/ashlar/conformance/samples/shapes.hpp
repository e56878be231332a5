// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <tuple>
#include <utility>
#include <vector>

#include "ashlar/conformance/samples/elementwise.hpp"
#include "ashlar/ops/views.hpp"

/// Samples of views, and what other samples say about places in a shape.
namespace ashlar::conformance {

namespace detail {

inline std::int64_t wrapped(std::int64_t axis, int rank) { return axis < 0 ? axis + rank : axis; }

/// Indices of element `i` of a shape, counted row by row.
inline shape indices_of(std::int64_t i, const shape& extents) {
  shape at = extents;
  for (int axis = extents.rank() - 1; axis >= 0; --axis) {
    at[axis] = i % extents[axis];
    i /= extents[axis];
  }
  return at;
}
inline std::int64_t number_of(const shape& at, const shape& extents) {
  std::int64_t i = 0;
  for (int axis = 0; axis < extents.rank(); ++axis) {
    i = i * extents[axis] + at[axis];
  }
  return i;
}
/// Result element `i` is the element at `from(indices)` of `x`.
template <class From>
numbers picked(const numbers& x, const shape& to, const From& from) {
  numbers y(to);
  for (std::int64_t i = 0; i < y.size(); ++i) {
    y[i] = x[number_of(from(indices_of(i, to)), x.extents)];
  }
  return y;
}

/// One tensor; `samples<Op>` adds attributes where there are some.
struct one_tensor : plain_samples {
  template <class T>
  using arguments = types<T>;
};

/// Python's bounds: from the back where negative, clipped.
inline std::int64_t clipped(std::int64_t at, std::int64_t n) {
  at = at < 0 ? at + n : at;
  return at < 0 ? 0 : at > n ? n : at;
}

}  // namespace detail

// Views -------------------------------------------------------------------------------------------

template <>
struct samples<ops::slice> : detail::one_tensor {
  static std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t> attributes(
      const settings& s) {
    return {s.integer[0], s.integer[1], s.integer[2], s.integer[3]};
  }
  static void list(sample_list& all) {
    all.add({.in = {{{2, 7, 3}}}, .with = {.integer = {1, 1, 6, 2}}, .gradient = true});
    all.add({.in = {{{2, 7, 3}}}, .with = {.integer = {-1, -2, 99, 1}}, .gradient = true});
    all.add({.in = {{{5}}}, .with = {.integer = {0, 3, 2, 1}}});
    all.add({.in = {{{0, 3}}}, .with = {.integer = {0, 0, 4, 3}}});
    all.add({.in = {{{5}}}, .with = {.integer = {0, 0, 4, 0}}, .refused = true});
    all.add({.in = {{{5}}}, .with = {.integer = {1, 0, 4, 1}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    shape to = q.in[0].extents;
    const auto axis = static_cast<int>(detail::wrapped(q.with.integer[0], to.rank()));
    const std::int64_t begin = detail::clipped(q.with.integer[1], to[axis]);
    const std::int64_t end = detail::clipped(q.with.integer[2], to[axis]);
    const std::int64_t step = q.with.integer[3];
    to[axis] = end > begin ? (end - begin + step - 1) / step : 0;
    return {detail::picked(q.in[0], to, [&](shape at) {
      at[axis] = begin + at[axis] * step;
      return at;
    })};
  }
};
template <>
struct samples<ops::narrow> : detail::one_tensor {
  static std::tuple<std::int64_t, std::int64_t, std::int64_t> attributes(const settings& s) {
    return {s.integer[0], s.integer[1], s.integer[2]};
  }
  static void list(sample_list& all) {
    all.add({.in = {{{2, 7, 3}}}, .with = {.integer = {1, 2, 4}}, .gradient = true});
    all.add({.in = {{{5}}}, .with = {.integer = {-1, 5, 0}}});
    all.add({.in = {{{5}}}, .with = {.integer = {0, 3, 3}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    shape to = q.in[0].extents;
    const auto axis = static_cast<int>(detail::wrapped(q.with.integer[0], to.rank()));
    to[axis] = q.with.integer[2];
    return {detail::picked(q.in[0], to, [&](shape at) {
      at[axis] += q.with.integer[1];
      return at;
    })};
  }
};
template <>
struct samples<ops::select> : detail::one_tensor {
  static std::tuple<std::int64_t, std::int64_t> attributes(const settings& s) {
    return {s.integer[0], s.integer[1]};
  }
  static void list(sample_list& all) {
    all.add({.in = {{{2, 7, 3}}}, .with = {.integer = {1, 5}}, .gradient = true});
    all.add({.in = {{{2, 7, 3}}}, .with = {.integer = {-1, -1}}, .gradient = true});
    all.add({.in = {{{1}}}, .with = {.integer = {0, 0}}, .gradient = true});
    all.add({.in = {{{5}}}, .with = {.integer = {0, 5}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    const shape from = q.in[0].extents;
    const auto axis = static_cast<int>(detail::wrapped(q.with.integer[0], from.rank()));
    shape to;
    for (int i = 0; i < from.rank(); ++i) {
      if (i != axis) {
        to.push_back(from[i]);
      }
    }
    return {detail::picked(q.in[0], to, [&](const shape& at) {
      shape all = from;
      for (int i = 0; i < from.rank(); ++i) {
        all[i] = i == axis ? detail::wrapped(q.with.integer[1], static_cast<int>(from[axis]))
                           : at[i < axis ? i : i - 1];
      }
      return all;
    })};
  }
};

namespace detail {
inline numbers permuted(const numbers& x, const shape& order) {
  shape to = x.extents;
  for (int i = 0; i < to.rank(); ++i) {
    to[i] = x.extents[static_cast<int>(wrapped(order[i], to.rank()))];
  }
  return picked(x, to, [&](const shape& at) {
    shape from = at;
    for (int i = 0; i < to.rank(); ++i) {
      from[static_cast<int>(wrapped(order[i], to.rank()))] = at[i];
    }
    return from;
  });
}
}  // namespace detail

template <>
struct samples<ops::transpose> : detail::one_tensor {
  static std::tuple<std::int64_t, std::int64_t> attributes(const settings& s) {
    return {s.integer[0], s.integer[1]};
  }
  static void list(sample_list& all) {
    all.add({.in = {{{2, 7, 3}}}, .with = {.integer = {0, 2}}, .gradient = true});
    all.add({.in = {{{5, 7}}}, .with = {.integer = {-1, -2}}, .gradient = true});
    all.add({.in = {{{0, 3}}}, .with = {.integer = {0, 1}}});
    all.add({.in = {{{5}}}, .with = {.integer = {0, 1}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    shape order = q.in[0].extents;
    for (int i = 0; i < order.rank(); ++i) {
      order[i] = i;
    }
    const auto a = static_cast<int>(detail::wrapped(q.with.integer[0], order.rank()));
    const auto b = static_cast<int>(detail::wrapped(q.with.integer[1], order.rank()));
    std::swap(order[a], order[b]);
    return {detail::permuted(q.in[0], order)};
  }
};
template <>
struct samples<ops::permute> : detail::one_tensor {
  static std::tuple<shape> attributes(const settings& s) { return {s.list}; }
  static void list(sample_list& all) {
    all.add({.in = {{{2, 7, 3}}}, .with = {.list = {2, 0, 1}}, .gradient = true});
    all.add({.in = {{{2, 1, 3, 5}}}, .with = {.list = {-1, 1, 0, 2}}, .gradient = true});
    all.add({.in = {{{}}}, .gradient = true});
    all.add({.in = {{{5, 2}}}, .with = {.list = {0, 0}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    return {detail::permuted(q.in[0], q.with.list)};
  }
};
template <>
struct samples<ops::expand> : detail::one_tensor {
  static std::tuple<shape> attributes(const settings& s) { return {s.list}; }
  static void list(sample_list& all) {
    all.add({.in = {{{3, 1}}}, .with = {.list = {2, 3, 4}}, .gradient = true});
    all.add({.in = {{{}}}, .with = {.list = {5}}, .gradient = true});
    all.add({.in = {{{1, 3}}}, .with = {.list = {0, 3}}});
    all.add({.in = {{{2, 3}}}, .with = {.list = {2, 4}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    numbers y(q.with.list);
    for (std::int64_t i = 0; i < y.size(); ++i) {
      y[i] = q.in[0].at(i, y.extents);
    }
    return {y};
  }
};

namespace detail {
inline std::vector<numbers> reshaped(const question& q, const shape& to) {
  numbers y = q.in[0];
  y.extents = to;
  return {y};
}
/// The extents of `size` elements, where -1 stands for what is left.
inline shape inferred(const shape& to, std::int64_t size) {
  shape all = to;
  std::int64_t known = 1;
  for (const std::int64_t n : to) {
    known *= n == -1 ? 1 : n;
  }
  for (int i = 0; i < all.rank(); ++i) {
    all[i] = all[i] == -1 ? size / known : all[i];
  }
  return all;
}
}  // namespace detail

template <>
struct samples<ops::squeeze> : detail::one_tensor {
  static std::tuple<std::int64_t> attributes(const settings& s) { return {s.integer[0]}; }
  static void list(sample_list& all) {
    all.add({.in = {{{3, 1, 2}}}, .with = {.integer = {1}}, .gradient = true});
    all.add({.in = {{{1}}}, .with = {.integer = {-1}}, .gradient = true});
    all.add({.in = {{{3, 2}}}, .with = {.integer = {0}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    shape to;
    const std::int64_t axis = detail::wrapped(q.with.integer[0], q.in[0].rank());
    for (int i = 0; i < q.in[0].rank(); ++i) {
      if (i != axis) {
        to.push_back(q.in[0].extents[i]);
      }
    }
    return detail::reshaped(q, to);
  }
};
template <>
struct samples<ops::unsqueeze> : detail::one_tensor {
  static std::tuple<std::int64_t> attributes(const settings& s) { return {s.integer[0]}; }
  static void list(sample_list& all) {
    all.add({.in = {{{3, 2}}}, .with = {.integer = {1}}, .gradient = true});
    all.add({.in = {{{}}}, .with = {.integer = {0}}, .gradient = true});
    all.add({.in = {{{3, 0}}}, .with = {.integer = {-1}}});
    all.add({.in = {{{3}}}, .with = {.integer = {3}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    shape to;
    const std::int64_t axis = detail::wrapped(q.with.integer[0], q.in[0].rank() + 1);
    for (int i = 0; i <= q.in[0].rank(); ++i) {
      if (i == axis) {
        to.push_back(1);
      }
      if (i < q.in[0].rank()) {
        to.push_back(q.in[0].extents[i]);
      }
    }
    return detail::reshaped(q, to);
  }
};
template <>
struct samples<ops::reshape> : detail::one_tensor {
  template <class T>
  static constexpr bool takes = true;
  using parts = ops::operators<ops::view_as, ops::clone>;
  static std::tuple<shape> attributes(const settings& s) { return {s.list}; }
  static void list(sample_list& all) {
    all.add({.in = {{{2, 3, 4}}}, .with = {.list = {4, -1}}, .gradient = true});
    all.add({.in = {{{6}}}, .with = {.list = {2, 1, 3}}, .gradient = true});
    all.add({.in = {{{1, 1}}}, .gradient = true});
    all.add({.in = {{{0, 3}}}, .with = {.list = {3, 0}}});
    all.add({.in = {{{5}}}, .with = {.list = {2, -1}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    return detail::reshaped(q, detail::inferred(q.with.list, q.in[0].size()));
  }
};
template <>
struct samples<ops::view_as> : samples<ops::reshape> {
  using parts = ops::operators<>;
  static void list(sample_list& all) {
    all.add_once({.in = {{{2, 3, 4}}}, .with = {.list = {4, -1}}, .gradient = true});
    all.add_once({.in = {{{6}, values::any, 0, layout::gaps}}, .with = {.list = {2, 1, 3}}});
    all.add_once({.in = {{{0, 3}}}, .with = {.list = {3, 0}}});
    all.add_once({.in = {{{3, 4}, values::any, 0, layout::turned}},
                  .with = {.list = {12}},
                  .refused = true});
  }
};
template <>
struct samples<ops::slice_backward> : detail::one_tensor {
  static std::tuple<shape, std::int64_t, std::int64_t, std::int64_t, std::int64_t> attributes(
      const settings& s) {
    return {s.list, s.integer[0], s.integer[1], s.integer[2], s.integer[3]};
  }
  static void list(sample_list& all) {
    all.add({.in = {{{2, 3, 5}}},
             .with = {.list = {2, 9, 5}, .integer = {1, 1, 7, 2}},
             .gradient = true});
    all.add({.in = {{{0}}}, .with = {.list = {7}, .integer = {0, 3, 3, 1}}});
    all.add({.in = {{{4}}}, .with = {.list = {7}, .integer = {-1, -4, 99, 1}}, .gradient = true});
    all.add({.in = {{{4}}}, .with = {.list = {7}, .integer = {0, 0, 3, 1}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    numbers y(q.with.list);
    const auto axis = static_cast<int>(detail::wrapped(q.with.integer[0], y.rank()));
    const std::int64_t begin = detail::clipped(q.with.integer[1], y.extents[axis]);
    for (std::int64_t i = 0; i < q.in[0].size(); ++i) {
      shape at = detail::indices_of(i, q.in[0].extents);
      at[axis] = begin + at[axis] * q.with.integer[3];
      y[detail::number_of(at, y.extents)] = q.in[0][i];
    }
    return {y};
  }
};

}  // namespace ashlar::conformance
