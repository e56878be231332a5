// SPDX-License-Identifier: Apache-2.0
// `check` compares what a program computes with the host's kernels in double precision, and records
// it; `check_on_every_chip` runs it again everywhere and compares the bits (support/replay.hpp).
#include <cmath>
#include <cstdint>

#include "ashlar/ops/tile/batch_norm.hpp"
#include "ashlar/ops/tile/indexing.hpp"
#include "ashlar/ops/tile/windows.hpp"
#include "support/replay.hpp"

namespace {

namespace al = ashlar;
namespace ops = ashlar::ops;
using replay::check;
using tile_test::exact;
template <class T>
using plain = twins::plain<T>;

plain<std::int32_t> picks(const al::shape& s, std::int64_t below) {
  const auto ids = al::empty<plain<std::int32_t>>(s);
  for (std::int64_t i = 0; i < ids.size(); ++i) {
    ids.data()[i] = static_cast<std::int32_t>(i * 7 % below);
  }
  return ids;
}

}  // namespace

TEST_CASE("chip/operators: elements by number are the same on every chip") {
  for (const std::int64_t columns : {1, 67}) {
    const auto x = twins::numbers<plain<float>>({2, 3, 5}, 1);
    const auto index = picks({2, 3, columns}, 5);
    const auto source = twins::numbers<plain<float>>({2, 3, columns}, 2);
    check<ops::gather>(
        exact, [](const auto& v, const auto& i) { return al::gather(v, 2, i); }, x, index);
    check<ops::scatter>(
        exact, [](const auto& v, const auto& i, const auto& s) { return al::scatter(v, 2, i, s); },
        x, index, source);
    check<ops::scatter>(
        {static_cast<double>(columns) + 1, 2 * static_cast<double>(columns) + 2},
        [](const auto& v, const auto& i, const auto& s) { return al::scatter_add(v, 2, i, s); }, x,
        index, source);
  }
  const auto x = twins::numbers<plain<float>>({3, 67}, 1);
  for (const bool down : {false, true}) {
    check<ops::argsort>(
        exact,
        [&](const auto& v) {
          return al::call<ops::argsort>(v, std::int64_t{1}, down, std::int64_t{9});
        },
        x);
    for (const std::int64_t axis : {0, 1}) {
      check<ops::topk>(
          exact, [&](const auto& v) { return al::topk(v, 2, axis, down); }, x);
      check<ops::sort>(
          exact, [&](const auto& v) { return al::sort(v, axis, down); }, x);
      check<ops::cumsum>(
          {68, 2 * 68}, [&](const auto& v) { return al::cumsum(v, axis, down); }, x);
    }
  }
  const auto ids = picks({5}, 3);
  for (const std::int64_t axis : {0, 1, 2}) {
    check<ops::index_select>(
        exact, [&](const auto& v, const auto& i) { return al::index_select(v, axis, i); },
        twins::numbers<plain<float>>({3, 3, 67}, 1), ids);
  }
  check<ops::one_hot<float>>(
      exact, [](const auto& i) { return al::call<ops::one_hot<float>>(i, std::int64_t{67}); }, ids);
  check<ops::unfold_backward>(
      {3, 6},
      [](const auto& g) {
        return al::call<ops::unfold_backward>(g, al::shape{2, 11}, std::int64_t{1}, std::int64_t{3},
                                              std::int64_t{2}, std::int64_t{2});
      },
      twins::numbers<plain<float>>({2, 4, 3}, 1));
  replay::check_on_every_chip();
  replay::check_seen<ops::gather, ops::scatter, ops::argsort, ops::topk, ops::sort, ops::cumsum,
                     ops::index_select, ops::one_hot<float>, ops::unfold_backward>();
}

namespace {

struct window_case {
  al::shape image;
  al::shape size;
  al::window_options options;
  std::int64_t outputs = 1;
  std::int64_t groups = 1;
};

template <class T>
void convolve(const window_case& s) {
  const std::int64_t inputs = s.image[1] / s.groups;
  const auto x = twins::numbers<plain<T>>(s.image, 1);
  const auto w = twins::numbers<plain<T>>({s.outputs, inputs, s.size[0], s.size[1]}, 2);
  const auto b = twins::numbers<plain<T>>({s.outputs}, 3);
  // A chain of products of at most 4 that begins with the bias.
  const auto depth = static_cast<double>(inputs * s.size[0] * s.size[1]);
  const tile_test::tolerance near{depth + 1, 4 * depth + 2};
  const auto f = [&](const auto&... a) { return al::conv2d(a..., s.options, s.groups); };
  if (s.groups > 1) {
    check<ops::conv2d>(near, f, x, w);
  }
  check<ops::conv2d>(near, f, x, w, b);
}

}  // namespace

TEST_CASE("chip/operators: convolutions and pools are the same on every chip") {
  constexpr auto blocks = al::chip::blocks_of<replay::recorder>::product(
      replay::recorder::description, {.element = al::dtype::float32});
  const window_case cases[] = {
      {{1, 1, 1, 1}, {1, 1}, {}},
      {{0, 2, 3, 3}, {2, 2}, {}, 3},
      {{2, 0, 3, 3}, {2, 2}, {}, 3},
      {{1, blocks.k + 1, 1, 3}, {1, 1}, {}, blocks.m + 1},
      {{2, 3, 2, blocks.n + 2}, {2, 2}, {.padding = {0, 1}}, 2},
      {{1, 2, 5, 9}, {3, 2}, {.stride = {2, 3}, .padding = {1, 2}}, 3},
      {{1, 4, 4, 5}, {2, 2}, {.stride = {1, 2}, .padding = {1, 0}, .dilation = {2, 2}}, 4, 2}};
  for (const window_case& s : cases) {
    convolve<float>(s);
    const auto x = twins::numbers<plain<float>>(s.image, 1);
    if (2 * s.options.padding[1] <= s.size[1]) {
      check<ops::max_pool2d>(
          exact, [&](const auto& v) { return al::max_pool2d(v, s.size, s.options); }, x);
    }
    for (const bool count_padding : {false, true}) {
      check<ops::avg_pool2d>(
          {16, 2},
          [&](const auto& v) { return al::avg_pool2d(v, s.size, s.options, count_padding); }, x);
    }
  }
  convolve<al::bfloat16>(cases[5]);
  convolve<al::bfloat16>({{1, 2, 2, 5}, {2, 2}, {.padding = {1, 1}}, 3});
  const auto narrow = twins::numbers<plain<al::float8_e4m3>>({1, 2, 5, 7}, 1);
  const al::window_options apart{.padding = {1, 1}, .dilation = {3, 3}};
  check<ops::max_pool2d>(
      exact,
      [&](const auto& v) {
        return al::max_pool2d(v, {2, 2}, apart);
      },
      narrow);
  const auto ties = al::from_values<plain<float>>({1, 1, 2, 4}, {1, NAN, -0.0F, 0, 2, 1, 0, -0.0F});
  check<ops::max_pool2d>(
      exact,
      [](const auto& v) {
        return al::max_pool2d(v, {2, 2});
      },
      ties);
  replay::check_on_every_chip();
  replay::check_seen<ops::conv2d, ops::max_pool2d, ops::avg_pool2d>();
}

TEST_CASE("chip/operators: normalised channels are the same on every chip") {
  for (const al::shape& s : {al::shape{1, 1},
                             {7, 3},
                             {2, 3, 67},
                             {0, 3},
                             {2, 3, 0, 2},
                             {3, 5, 2, 19},
                             {2, 3, 2, 1, 3}}) {
    const auto x = twins::numbers<plain<float>>(s, 1);
    const auto weight = twins::numbers<plain<float>>({s[1]}, 2);
    const auto bias = twins::numbers<plain<float>>({s[1]}, 3);
    const auto mean = twins::numbers<plain<float>>({s[1]}, 4);
    const auto variance = al::square(twins::numbers<plain<float>>({s[1]}, 5));
    // With eps = 1/2 the factor is at most 3; the mean may cancel.
    check<ops::batch_norm>(
        {8, 14}, [](const auto&... a) { return al::batch_norm(a..., 0.5); }, x, mean, variance,
        weight, bias);
    const auto n = static_cast<double>(x.size()) / static_cast<double>(s[1]);
    check<ops::batch_norm_train>(
        {2 * n + 16, 14}, [](const auto&... a) { return al::batch_norm_train(a..., 0.5); }, x,
        weight, bias);
  }
  replay::check_on_every_chip();
  replay::check_seen<ops::batch_norm, ops::batch_norm_train>();
}
