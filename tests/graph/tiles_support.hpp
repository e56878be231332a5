// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/graph/capture.hpp"
#include "ashlar/graph/tiles.hpp"
#include "ashlar/ops/activation.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/comparison.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/math.hpp"
#include "ashlar/ops/norm.hpp"
#include "ashlar/ops/random.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/softmax.hpp"
#include "ashlar/ops/views.hpp"

/// Groups of calls, and checks that they are one kernel with the operators' results on a chip.
namespace tiles_support {

namespace al = ashlar;
namespace graph = ashlar::graph;

template <class T, class C>
using on = al::tensor<T, al::make_key_set<al::keys::backend<C>>>;

// Functions of (x, r, row, column, scalar): x and r alike, a row, a column and one number.

/// Elementwise, with every way to broadcast; one result from the middle.
struct chain {
  auto operator()(const auto& x, const auto& r, const auto& row, const auto& column,
                  const auto& one) const {
    const auto a = al::mul(al::add(x, row), column);
    const auto b = al::sub(al::gelu_tanh(a), al::scale(al::tanh(r), 0.3, 0.1));
    return std::tuple(al::mul(al::maximum(b, al::sigmoid(x)), one), b);
  }
};
/// Conditions, and numbers of another type in between.
struct choice {
  auto operator()(const auto& x, const auto& r, const auto& row, const auto& column,
                  const auto& one) const {
    const auto c = al::logical_not(al::lt(al::add(x, row), r));
    const auto whole = al::cast<std::int32_t>(al::scale(al::mul(r, column), 10.0));
    return std::tuple(al::where(c, al::neg(al::mul(x, one)), r), al::add(whole, whole), c);
  }
};
struct softmaxes {
  auto operator()(const auto& x, const auto& r, const auto& row, const auto& column,
                  const auto& one) const {
    const auto y = al::softmax(al::add(al::mul(x, one), row), -1);
    return std::tuple(al::mul(y, column), al::sub(al::log_softmax(al::add(x, r), -1), y));
  }
};
/// Reductions of rows, used by what follows and given as they are.
struct reductions {
  auto operator()(const auto& x, const auto& r, const auto& row, const auto& column,
                  const auto& one) const {
    const auto z = al::add(al::mul(x, row), r);
    const auto m = al::mean(z, al::shape{-1}, true);
    const auto most = al::max(al::abs(z), al::shape{-1}, true);
    return std::tuple(al::div(al::sub(z, m), al::mul(most, column)),
                      al::sum(al::mul(z, one), al::shape{-1}, false), m);
  }
};
struct norms {
  auto operator()(const auto& x, const auto& r, const auto& row, const auto& column,
                  const auto& one) const {
    const auto flat = al::reshape(row, al::shape{row.extent(-1)});
    const auto y = al::rms_norm(al::add(x, r), flat, 1e-5);
    const auto z = al::layer_norm(al::mul(y, column), flat, flat, 1e-5);
    return std::tuple(al::mul(y, one), al::add(z, x));
  }
};

/// Whether both are the same to the last bit; NaN is NaN.
template <class T>
bool same(T a, T b) {
  if constexpr (al::Floating<T>) {
    const auto x = static_cast<al::compute_type<T>>(a);
    const auto y = static_cast<al::compute_type<T>>(b);
    return (x != x && y != y) || std::memcmp(&a, &b, sizeof(T)) == 0;
  } else {
    return a == b;
  }
}

/// Compares element by element: the bits where `bound` is 0, else up to `bound` times 1 and the
/// largest element.
template <class X>
void check_equal(const X& got, const X& wanted, double bound) {
  using T = typename X::value_type;
  REQUIRE(al::same_shape(got.spec(), wanted.spec()));
  const std::vector<T> a = al::to_vector(got);
  const std::vector<T> b = al::to_vector(wanted);
  double size = 1;
  for (const T x : b) {
    size = std::max(size, std::abs(static_cast<double>(x)));
  }
  for (std::size_t i = 0; i < a.size(); ++i) {
    CAPTURE(i);
    if (bound == 0) {
      REQUIRE(same(a[i], b[i]));
    } else {
      REQUIRE(std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])) <= bound * size);
    }
  }
}

struct expectations {
  std::size_t kernels = 1;  ///< that the calls become
  double bound = 0;         ///< on what a result differs
};

/// Captures and compiles `f` for these arguments, calls it, and compares with the calls.
template <class C, class F, class... X>
void check_group(const F& f, const graph::fusion_options& options, const expectations& e,
                 const X&... x) {
  auto compiled = graph::tiles<C>{.options = options}.compile(graph::capture(f, x...));
  CHECK(compiled.kernels().size() == e.kernels);
  CHECK(compiled.unfused().empty());
  const auto results = compiled(x...);
  const auto wanted = f(x...);
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    (check_equal(std::tuple_element_t<I, decltype(wanted)>(results[I]), std::get<I>(wanted),
                 e.bound),
     ...);
  }(std::make_index_sequence<std::tuple_size_v<std::remove_const_t<decltype(wanted)>>>{});
}

/// `check_group` with tensors of one size: dense, then x from every other column and r turned.
template <class C, class T, class F>
void check_size(const F& f, const graph::fusion_options& options, const expectations& e,
                std::int64_t rows, std::int64_t columns) {
  CAPTURE(rows);
  CAPTURE(columns);
  using X = on<T, C>;
  const auto make = [](const al::shape& s, std::uint64_t seed) {
    return al::to<C>(al::cast<T>(al::randn<on<float, al::chip::host>>(s, seed)));
  };
  const X row = make({1, columns}, 3);
  const X column = make({rows, 1}, 4);
  const X one = make({}, 5);
  check_group<C>(f, options, e, make({rows, columns}, 1), make({rows, columns}, 2), row, column,
                 one);
  const X wide = make({rows, 2 * columns}, 6);
  const X turned = make({columns, rows}, 7);
  check_group<C>(f, options, e, X(al::slice(wide, 1, 0, 2 * columns, 2)),
                 X(al::transpose(turned, 0, 1)), row, column, one);
}

}  // namespace tiles_support
