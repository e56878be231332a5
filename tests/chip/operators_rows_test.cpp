// SPDX-License-Identifier: Apache-2.0
// `check` compares what a program computes with the host's kernels in double precision, and records
// it; `check_on_every_chip` runs it again everywhere and compares the bits (support/replay.hpp).
#include <cmath>
#include <cstdint>
#include <utility>

#include "ashlar/ops/tile/cross_entropy.hpp"
#include "ashlar/ops/tile/norm.hpp"
#include "ashlar/ops/tile/reduction.hpp"
#include "ashlar/ops/tile/softmax.hpp"
#include "support/replay.hpp"

namespace {

namespace al = ashlar;
namespace ops = ashlar::ops;
using replay::check;
using tile_test::exact;
using tile_test::tolerance;
template <class T>
using plain = twins::plain<T>;

constexpr int block = ops::detail::fold_block<replay::recorder>;
constexpr double eps = 1e-5;  // of norms

template <class Op, class T = float>
void reductions(double terms, double size) {
  const std::pair<al::shape, al::shape> samples[] = {{{}, {}},
                                                     {{67}, {}},
                                                     {{3, block + 1}, {-1}},
                                                     {{block + 1, 3}, {0}},
                                                     {{2, 3, 17}, {0, 2}},
                                                     {{2, 3, 2, 3, 5}, {0, 2, 3}}};
  for (const auto& [extents, axes] : samples) {
    const auto x = twins::numbers<plain<T>>(extents, 1);
    const auto n = static_cast<double>(x.size());
    check<Op>(
        {terms * n, size * n}, [&](const auto& v) { return al::call<Op>(v, axes, false); }, x);
  }
}

}  // namespace

TEST_CASE("chip/operators: reductions are the same on every chip") {
  reductions<ops::sum>(1, 2);
  reductions<ops::sum, al::bfloat16>(1, 2);
  reductions<ops::sum, std::int64_t>(0, 0);
  reductions<ops::mean>(2, 2);
  reductions<ops::max>(0, 0);
  reductions<ops::max, std::int32_t>(0, 0);
  reductions<ops::min>(0, 0);
  reductions<ops::argmax>(0, 0);
  for (const al::shape& s : {al::shape{0}, {1}, {3, block + 1}, {4, 1, 67}}) {
    const auto x = twins::numbers<plain<float>>(s, 1);
    const auto n = static_cast<double>(x.size());
    check<ops::sum_squares>(
        {n + 1, 4 * n}, [](const auto& v) { return al::sum_squares(v); }, x);
  }
  const auto x = twins::numbers<plain<float>>({5, 3, 67}, 1);
  for (const al::shape& s : {al::shape{}, {67}, {3, 1}, {5, 1, 67}}) {
    check<ops::sum_to>(
        {1005, 2010}, [&](const auto& v) { return al::sum_to(v, s); }, x);
  }
  replay::check_on_every_chip();
  replay::check_seen<ops::sum, ops::mean, ops::max, ops::min, ops::argmax, ops::sum_squares,
                     ops::sum_to>();
}

namespace {

template <class T>
void softmaxes() {
  for (const std::int64_t n : {1, 7, block - 1, block + 1, 2 * block + 3}) {
    for (const int axis : {0, 2}) {
      const auto x =
          twins::numbers<plain<T>>(axis == 0 ? al::shape{n, 2, 3} : al::shape{2, 3, n}, 1);
      const auto g = twins::numbers<plain<T>>(al::shape(x.shape()), 2);
      const std::int64_t at = axis;
      const auto length = static_cast<double>(n);
      // Functions are off by a few places; a sum has n terms of at most 1.
      const tolerance near{length + 16, 8};
      check<ops::softmax>(
          near, [&](const auto& v) { return al::softmax(v, at); }, x);
      check<ops::log_softmax>(
          near, [&](const auto& v) { return al::log_softmax(v, at); }, x);
      check<ops::softmax_backward>(
          near,
          [&](const auto& y, const auto& v) { return al::call<ops::softmax_backward>(y, v, at); },
          al::softmax(x, at), g);
      check<ops::log_softmax_backward>(
          {length + 16, 4 * length},
          [&](const auto& y, const auto& v) {
            return al::call<ops::log_softmax_backward>(y, v, at);
          },
          al::log_softmax(x, at), g);
    }
  }
}

}  // namespace

TEST_CASE("chip/operators: softmax and its logarithm, forward and backward, on every chip") {
  softmaxes<float>();
  softmaxes<al::bfloat16>();
  replay::check_on_every_chip();
  replay::check_seen<ops::softmax, ops::log_softmax, ops::softmax_backward,
                     ops::log_softmax_backward>();
}

TEST_CASE("chip/operators: cross entropy, forward and backward, on every chip") {
  for (const std::int64_t rows : {0, 1, 7}) {
    for (const std::int64_t classes : {1, block - 1, block + 1}) {
      const auto logits = twins::numbers<plain<float>>({rows, classes}, 1);
      const auto targets = al::empty<plain<std::int64_t>>({rows});
      for (std::int64_t i = 0; i < rows; ++i) {
        targets.data()[i] = i % 3 == 2 ? -100 : i * 5 % classes;
      }
      const tolerance near{static_cast<double>(rows + classes) + 8, 8};
      check<ops::cross_entropy>(
          near, [](const auto& x, const auto& t) { return al::cross_entropy(x, t); }, logits,
          targets);
      check<ops::cross_entropy_backward>(
          near,
          [](const auto& d, const auto& x, const auto& t) {
            return al::call<ops::cross_entropy_backward>(d, x, t, std::int64_t{-100});
          },
          al::full<plain<float>>({}, 2.0), logits, targets);
    }
  }
  replay::check_on_every_chip();
  replay::check_seen<ops::cross_entropy, ops::cross_entropy_backward>();
}

TEST_CASE("chip/operators: normalisations, forward and backward, on every chip") {
  for (const std::int64_t n : {1, 7, block - 1, block + 1}) {
    for (const al::shape& s : {al::shape{3, n}, {2, 1, 2, 2, n}, {0, n}}) {
      const auto x = twins::numbers<plain<float>>(s, 1);
      const auto g = twins::numbers<plain<float>>(s, 2);
      const auto w = twins::numbers<plain<float>>({n}, 3);
      const auto b = twins::numbers<plain<float>>({n}, 4);
      // A row alone has variance 0, so that rounding is magnified by 1 / sqrt(eps), twice in
      // gradients.
      const double sharp = n == 1 ? 320 : 8;
      const tolerance near{static_cast<double>(n) + 8, sharp};
      const tolerance far{static_cast<double>(n + s.rank()) + 16, sharp * 32};
      check<ops::rms_norm>(
          near, [](const auto& v, const auto& y) { return al::rms_norm(v, y, eps); }, x, w);
      check<ops::layer_norm>(
          near,
          [](const auto& v, const auto& y, const auto& z) { return al::layer_norm(v, y, z, eps); },
          x, w, b);
      check<ops::rms_norm_backward_x>(
          far,
          [](const auto& d, const auto& v, const auto& y) {
            return al::call<ops::rms_norm_backward_x>(d, v, y, eps);
          },
          g, x, w);
      check<ops::layer_norm_backward_x>(
          far,
          [](const auto& d, const auto& v, const auto& y) {
            return al::call<ops::layer_norm_backward_x>(d, v, y, eps);
          },
          g, x, w);
      check<ops::rms_norm_backward_weight>(
          far,
          [](const auto& d, const auto& v) {
            return al::call<ops::rms_norm_backward_weight>(d, v, eps);
          },
          g, x);
      check<ops::layer_norm_backward_weight>(
          far,
          [](const auto& d, const auto& v) {
            return al::call<ops::layer_norm_backward_weight>(d, v, eps);
          },
          g, x);
    }
  }
  replay::check_on_every_chip();
  replay::check_seen<ops::rms_norm, ops::layer_norm, ops::rms_norm_backward_x,
                     ops::layer_norm_backward_x, ops::rms_norm_backward_weight,
                     ops::layer_norm_backward_weight>();
}
