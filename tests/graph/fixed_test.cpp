// SPDX-License-Identifier: Apache-2.0
#include "ashlar/graph/fixed.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <tuple>

#include "ashlar/chip/npu.hpp"
#include "ashlar/graph/fixed_kernel.hpp"
#include "ashlar/ops/activation.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/norm.hpp"
#include "ashlar/ops/random.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/softmax.hpp"
#include "ashlar/ops/tile/copies.hpp"
#include "ashlar/ops/views.hpp"

namespace al = ashlar;
namespace graph = ashlar::graph;
using real = al::tensor<float, al::make_key_set<al::keys::backend<al::chip::host>>>;

namespace {
struct gated {
  constexpr auto operator()(const auto& x, const auto& w) const {
    return al::mul(al::softmax(al::scale(x, 0.125)), w);
  }
};
constexpr graph::fixed_graph g = graph::capture_fixed(gated{}, graph::fixed_argument<float>{6, 37},
                                                      graph::fixed_argument<float>{37});
static_assert(graph::to_text(g) ==
              "%0 = placeholder : float32[6, 37]\n"
              "%1 = placeholder : float32[37]\n"
              "%2 = scale %0, 0.125, 0.0 : float32[6, 37]\n"
              "%3 = softmax %2, -1 : float32[6, 37]\n"
              "%4 = mul %3, %1 : float32[6, 37]\n"
              "return %4\n");

struct chain {
  constexpr auto operator()(const auto& x, const auto& y) const {
    return al::add(al::gelu(al::mul(x, y)), al::square(x));
  }
};
constexpr graph::fixed_graph elementwise = graph::capture_fixed(
    chain{}, graph::fixed_argument<float>{3, 1, 101}, graph::fixed_argument<float>{7, 1});

struct moments {
  constexpr auto operator()(const auto& x) const {
    const auto centred = al::sub(x, al::mean(x, -1, true));
    return std::tuple(centred, al::mean(al::square(centred), -1));
  }
};
constexpr graph::fixed_graph reduced =
    graph::capture_fixed(moments{}, graph::fixed_argument<float>{5, 2, 129});

struct normed {
  constexpr auto operator()(const auto& x, const auto& w, const auto& b) const {
    return std::tuple(al::rms_norm(x, w, 1e-5), al::layer_norm(x, w, b, 1e-5));
  }
};
constexpr graph::fixed_graph norms =
    graph::capture_fixed(normed{}, graph::fixed_argument<float>{9, 64},
                         graph::fixed_argument<float>{64}, graph::fixed_argument<float>{64});
static_assert(graph::to_text(norms) ==
              "%0 = placeholder : float32[9, 64]\n"
              "%1 = placeholder : float32[64]\n"
              "%2 = placeholder : float32[64]\n"
              "%3 = rms_norm %0, %1, 1e-5 : float32[9, 64]\n"
              "%4 = layer_norm %0, %1, %2, 1e-5 : float32[9, 64]\n"
              "return %3, %4\n");

constexpr graph::fixed_graph nothing = graph::capture_fixed(
    chain{}, graph::fixed_argument<float>{0, 3}, graph::fixed_argument<float>{3});
}  // namespace

TEST_CASE("graph/fixed: a graph that is a constant runs as one kernel with the operators' bits") {
  const real x = al::randn<real>({6, 37}, 1);
  const real w = al::randn<real>({37}, 2);
  CHECK(al::to_vector(graph::fixed_kernel<g>{}(x, w)) == al::to_vector(gated{}(x, w)));

  const real a = al::randn<real>({3, 1, 101}, 3);
  const real b = al::randn<real>({7, 1}, 4);
  const auto y = graph::fixed_kernel<elementwise>{}(a, b);
  CHECK(al::shape(y.shape()) == al::shape{3, 7, 101});
  CHECK(al::to_vector(y) == al::to_vector(chain{}(a, b)));

  const real m = al::randn<real>({5, 2, 129}, 5);
  const auto [centred, squares] = graph::fixed_kernel<reduced>{}(m);
  const auto [centred_by_calls, squares_by_calls] = moments{}(m);
  CHECK(al::to_vector(centred) == al::to_vector(centred_by_calls));
  CHECK(al::to_vector(squares) == al::to_vector(squares_by_calls));

  CHECK(graph::fixed_kernel<nothing>{}(al::ones<real>({0, 3}), al::ones<real>({3})).size() == 0);
}

TEST_CASE("graph/fixed: norms differ from the operators by the order of their sums alone") {
  const real x = al::randn<real>({9, 64}, 1);
  const real w = al::randn<real>({64}, 2);
  const real b = al::randn<real>({64}, 3);
  const auto all = graph::fixed_kernel<norms>{}(x, w, b);
  const auto by_calls = normed{}(x, w, b);
  // A sum of 64 squares: 64 roundings in either order, halved by the root, and a few around it.
  const auto close = [](const real& one, const real& other) {
    const auto u = al::to_vector(one);
    const auto v = al::to_vector(other);
    double worst = 0;
    for (std::size_t i = 0; i < u.size(); ++i) {
      worst = std::max(worst, std::abs(double{u[i]} - v[i]) / (1 + std::abs(double{v[i]})));
    }
    return worst;
  };
  CHECK(close(std::get<0>(all), std::get<0>(by_calls)) <= 72 * 0x1p-24);
  CHECK(close(std::get<1>(all), std::get<1>(by_calls)) <= 144 * 0x1p-24);
}

TEST_CASE("graph/fixed: another chip runs the same constant program") {
  using npu = al::chip::npu<al::chip::npu_description{}>;
  const real x = al::randn<real>({6, 37}, 1);
  const real w = al::randn<real>({37}, 2);
  const auto there = graph::fixed_kernel<g, npu>{}(al::to<npu>(x), al::to<npu>(w));
  CHECK(al::to_vector(there) == al::to_vector(graph::fixed_kernel<g>{}(x, w)));
}

TEST_CASE("graph/fixed: views are made dense, other shapes are refused") {
  const real x = al::randn<real>({37, 6}, 1);
  const real w = al::randn<real>({37}, 2);
  const auto turned = al::transpose(x, 0, 1);
  CHECK(al::to_vector(graph::fixed_kernel<g>{}(turned, w)) ==
        al::to_vector(gated{}(al::contiguous(turned), w)));
  CHECK_THROWS_WITH_AS(static_cast<void>(graph::fixed_kernel<g>{}(x, w)),
                       "ashlar::graph: the graph was not captured for these arguments: argument 0 "
                       "is float32[6, 37]",
                       graph::guard_error);
}
