// SPDX-License-Identifier: Apache-2.0
#include "ashlar/ops/conv.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "ashlar/ops/batch_norm.hpp"
#include "ashlar/ops/dropout.hpp"
#include "ops/gradients.hpp"
#include "ops/twins.hpp"

using namespace twins;

namespace {

using real = plain<double>;

struct sample {
  al::shape image;
  al::shape size;
  al::window_options options;
  std::int64_t outputs = 1;
  std::int64_t groups = 1;
};
const sample samples[] = {
    {{1, 1, 1, 1}, {1, 1}, {}},
    {{0, 2, 3, 3}, {2, 2}, {}, 3},
    {{2, 3, 5, 7}, {3, 2}, {}, 4},
    {{2, 4, 7, 5}, {1, 1}, {}, 3},
    {{1, 2, 11, 13}, {3, 5}, {.stride = {2, 3}, .padding = {1, 2}}, 3},
    {{2, 6, 9, 8}, {3, 3}, {.stride = {1, 2}, .padding = {1, 0}, .dilation = {2, 3}}, 4, 2},
    {{1, 3, 6, 6}, {2, 2}, {.padding = {1, 1}}, 3, 3},
};

/// Calls `f(h, w)` for the places of window (i, j) that are in the image.
template <class F>
void each_place(const sample& s, std::int64_t i, std::int64_t j, const F& f) {
  for (std::int64_t a = 0; a < s.size[0]; ++a) {
    for (std::int64_t b = 0; b < s.size[1]; ++b) {
      const std::int64_t h =
          i * s.options.stride[0] - s.options.padding[0] + a * s.options.dilation[0];
      const std::int64_t w =
          j * s.options.stride[1] - s.options.padding[1] + b * s.options.dilation[1];
      if (h >= 0 && h < s.image[2] && w >= 0 && w < s.image[3]) {
        f(h, w, a, b);
      }
    }
  }
}
std::int64_t windows(const sample& s, std::size_t axis) {
  return (s.image[2 + static_cast<int>(axis)] + 2 * s.options.padding[axis] -
          s.options.dilation[axis] * (s.size[static_cast<int>(axis)] - 1) - 1) /
             s.options.stride[axis] +
         1;
}
al::shape filters(const sample& s) {
  return {s.outputs, s.image[1] / s.groups, s.size[0], s.size[1]};
}

}  // namespace

TEST_CASE("ops/conv: convolutions are sums over windows, in all forms") {
  for (const sample& s : samples) {
    const auto x = numbers<real>(s.image, 1);
    const auto weight = numbers<real>(filters(s), 2);
    const auto bias = numbers<real>({s.outputs}, 3);
    const auto y = check_output(al::conv2d, x, weight, bias, s.options, s.groups);
    REQUIRE(al::shape(y.shape()) == al::shape{s.image[0], s.outputs, windows(s, 0), windows(s, 1)});
    const std::int64_t inputs = s.image[1] / s.groups;
    // One chain over at most 54 products of at most 4, whatever the order: 54 roundings of 2^-53.
    const double allowed = 54 * 0x1p-53 * 54 * 4;
    for (std::int64_t n = 0; n < s.image[0]; ++n) {
      for (std::int64_t o = 0; o < s.outputs; ++o) {
        for (std::int64_t i = 0; i < windows(s, 0); ++i) {
          for (std::int64_t j = 0; j < windows(s, 1); ++j) {
            double sum = bias.view()(o);
            const std::int64_t first = o / (s.outputs / s.groups) * inputs;
            for (std::int64_t c = 0; c < inputs; ++c) {
              each_place(s, i, j, [&](auto h, auto w, auto a, auto b) {
                sum += x.view()(n, first + c, h, w) * weight.view()(o, c, a, b);
              });
            }
            CHECK(std::abs(y.view()(n, o, i, j) - sum) <= allowed);
          }
        }
      }
    }
    check_output(al::conv2d, x, weight, s.options, s.groups);
  }
  const auto x = numbers<real>({1, 4, 5, 5});
  CHECK_THROWS_AS(al::conv2d(x, numbers<real>({2, 3, 3, 3})), al::shape_error);
  CHECK_THROWS_AS(al::conv2d(x, numbers<real>({2, 2, 3, 3}), al::window_options{}, 3),
                  al::shape_error);
  CHECK_THROWS_AS(al::conv2d(x, numbers<real>({2, 4, 6, 3})), al::argument_error);
  CHECK_THROWS_AS(al::conv2d(al::select(x, 0, 0), numbers<real>({2, 4, 3, 3})), al::argument_error);
  CHECK_THROWS_AS(al::conv2d(x, numbers<real>({2, 4, 3, 3}), numbers<real>({3})), al::shape_error);
  // Twice as much is -2 where it wraps around.
  const al::window_options wide{.padding = {std::numeric_limits<std::int64_t>::max(), 0}};
  CHECK_THROWS_AS(static_cast<void>(al::ops::avg_pool2d::meta(x.spec(), {2, 2}, wide, true)),
                  al::argument_error);
}

TEST_CASE("ops/conv: pools are the largest and the mean of windows, in all forms") {
  for (const sample& s : samples) {
    if (2 * s.options.padding[0] > s.size[0] || 2 * s.options.padding[1] > s.size[1]) {
      CHECK_THROWS_AS(al::max_pool2d(numbers<real>(s.image), s.size, s.options),
                      al::argument_error);
      continue;
    }
    const auto x = numbers<real>(s.image, 1);
    const auto largest = check_output(al::max_pool2d, x, s.size, s.options);
    const auto mean = check_output(al::avg_pool2d, x, s.size, s.options);
    const auto inside = check_output(al::avg_pool2d, x, s.size, s.options, false);
    for (std::int64_t n = 0; n < s.image[0]; ++n) {
      for (std::int64_t c = 0; c < s.image[1]; ++c) {
        for (std::int64_t i = 0; i < windows(s, 0); ++i) {
          for (std::int64_t j = 0; j < windows(s, 1); ++j) {
            double best = -std::numeric_limits<double>::infinity();
            double sum = 0;
            double count = 0;
            each_place(s, i, j, [&](auto h, auto w, auto, auto) {
              best = std::max(best, x.view()(n, c, h, w));
              sum += x.view()(n, c, h, w);
              ++count;
            });
            const auto area = static_cast<double>(s.size[0] * s.size[1]);
            CHECK(largest.view()(n, c, i, j) == best);
            CHECK(mean.view()(n, c, i, j) == doctest::Approx(sum / area).epsilon(1e-13));
            CHECK(inside.view()(n, c, i, j) == doctest::Approx(sum / count).epsilon(1e-13));
          }
        }
      }
    }
  }
  const auto x = numbers<plain<std::int32_t>>({1, 1, 4, 4});
  CHECK(al::max_pool2d(x, {2, 2}).extent(2) == 2);
  CHECK_THROWS_AS(al::max_pool2d(x, {2}), al::argument_error);
  const auto padded = al::max_pool2d(al::full<plain<al::float8_e4m3>>({1, 1, 2, 2}, -2), {2, 2},
                                     al::window_options{.padding = {1, 1}});
  for (const al::float8_e4m3 y : al::to_vector(padded)) {
    CHECK(static_cast<float>(y) == -2.0F);
  }
}

/// Calls `f` for the samples whose gradients are checked.
template <class F>
void each_small_sample(const F& f) {
  for (const sample& s : samples) {
    if (s.image[0] > 0 && s.image[2] <= 9) {
      f(s);
    }
  }
}

struct checks {
  static constexpr al::window_options edges{.stride = {2, 1}, .padding = {1, 1}};

  static void of(std::type_identity<ops::conv2d>) {
    each_small_sample([](const sample& s) {
      check_gradient([&](const auto& x, const auto& w,
                         const auto& b) { return al::conv2d(x, w, b, s.options, s.groups); },
                     numbers<leaf>(s.image, 1), numbers<leaf>(filters(s), 2),
                     numbers<leaf>({s.outputs}, 3));
    });
    check_second_gradient([](const auto& x, const auto& w) { return al::conv2d(x, w, edges); },
                          numbers<leaf>({1, 2, 4, 3}, 1), numbers<leaf>({2, 2, 3, 3}, 2));
  }
  static void of(std::type_identity<ops::max_pool2d>) {
    each_small_sample([](const sample& s) {
      check_gradient([&](const auto& x) { return al::max_pool2d(x, s.size, s.options); },
                     numbers<leaf>(s.image, 1));
    });
    check_second_gradient(
        [](const auto& x) {
          return al::max_pool2d(x, {2, 3}, edges);
        },
        numbers<leaf>({1, 2, 4, 3}, 1));
  }
  static void of(std::type_identity<ops::avg_pool2d>) {
    each_small_sample([](const sample& s) {
      check_gradient([&](const auto& x) { return al::avg_pool2d(x, s.size, s.options, false); },
                     scattered(numbers<leaf>(s.image, 1)));
    });
    check_second_gradient(
        [](const auto& x) {
          return al::avg_pool2d(x, {2, 3}, edges, false);
        },
        numbers<leaf>({1, 2, 4, 3}, 1));
  }
  static void of(std::type_identity<ops::batch_norm>) {
    check_second_gradient(
        [](const auto& x, const auto& m, const auto& s, const auto& w, const auto& b) {
          return al::batch_norm(x, m, al::square(s), w, b, 0.5);
        },
        numbers<leaf>({2, 3, 2}, 1), numbers<leaf>({3}, 2), numbers<leaf>({3}, 3),
        numbers<leaf>({3}, 4), numbers<leaf>({3}, 5));
  }
  static void of(std::type_identity<ops::batch_norm_train>) {
    const auto f = [](const auto& x, const auto& w, const auto& b) {
      return std::get<0>(al::batch_norm_train(x, w, b, 0.5));
    };
    for (const al::shape& s : {al::shape{4, 3}, {2, 3, 5}, {2, 3, 4, 5}, {1, 3, 1, 1}}) {
      check_gradient(f, numbers<leaf>(s, 1), numbers<leaf>({3}, 2), numbers<leaf>({3}, 3));
    }
    check_second_gradient(f, numbers<leaf>({2, 3, 2}, 1), numbers<leaf>({3}, 2),
                          numbers<leaf>({3}, 3));
  }
  static void of(std::type_identity<ops::dropout>) {
    for (const double p : {0.0, 0.1, 0.5, 0.9}) {
      check_gradient([&](const auto& x) { return al::dropout(x, p, 7); }, numbers<leaf>({3, 5}, 1));
    }
    check_second_gradient([](const auto& x) { return al::dropout(x, 0.5, 7); },
                          numbers<leaf>({3, 5}, 1));
  }
};

TEST_CASE("ops/conv: gradients of windows, channels and dropout, and theirs, equal differences") {
  check_family<checks>(family::windows{});
}

TEST_CASE("ops/conv: the first of equal ones is the largest") {
  const leaf x = al::require_grad(al::zeros<leaf>({1, 1, 2, 4}));
  al::backward(al::sum(al::max_pool2d(x, {2, 2})));
  check_elements(al::gradient(x), [](std::int64_t i) { return i == 0 || i == 2 ? 1.0 : 0.0; });
}

TEST_CASE("ops/batch_norm: channels have the statistics that are given, or their own") {
  for (const al::shape& s : {al::shape{4, 3}, {2, 3, 5}, {2, 3, 4, 5}, {1, 3, 1, 1}}) {
    const auto x = numbers<real>(s, 1);
    const auto weight = numbers<real>({3}, 2);
    const auto bias = numbers<real>({3}, 3);
    const auto mean = numbers<real>({3}, 4);
    const auto variance = al::square(numbers<real>({3}, 5));
    const std::int64_t inner = x.size() / s[0] / 3;
    const auto channel = [&](std::int64_t i) { return i / inner % 3; };
    const auto y = check_output(al::batch_norm, x, mean, variance, weight, bias, 1e-3);
    check_elements(
        y,
        [&](std::int64_t i) {
          const auto c = channel(i);
          return (at(x, i) - at(mean, c)) / std::sqrt(at(variance, c) + 1e-3) * at(weight, c) +
                 at(bias, c);
        },
        1e-12, 1e-12);
    const auto all = check_output(al::batch_norm_train, x, weight, bias, 0.5);
    const auto count = static_cast<double>(x.size()) / 3;
    for (std::int64_t c = 0; c < 3; ++c) {
      double sum = 0;
      double squares = 0;
      for (std::int64_t i = 0; i < x.size(); ++i) {
        sum += channel(i) == c ? at(x, i) / count : 0.0;
      }
      for (std::int64_t i = 0; i < x.size(); ++i) {
        squares += channel(i) == c ? (at(x, i) - sum) * (at(x, i) - sum) / count : 0.0;
      }
      CHECK(at(std::get<1>(all), c) == doctest::Approx(sum).epsilon(1e-12));
      CHECK(at(std::get<2>(all), c) == doctest::Approx(squares).epsilon(1e-12));
    }
    const auto expected = al::batch_norm(x, std::get<1>(all), std::get<2>(all), weight, bias, 0.5);
    check_elements(
        std::get<0>(all), [&](std::int64_t i) { return at(expected, i); }, 1e-12, 1e-12);
  }
  CHECK_THROWS_AS(
      al::batch_norm_train(numbers<real>({2, 4}), numbers<real>({3}), numbers<real>({3})),
      al::shape_error);
}

TEST_CASE("ops/dropout: a share of the places is zero, the same ones again for one seed") {
  const auto x = al::ones<real>({100, 100});
  for (const double p : {0.0, 0.1, 0.5, 0.9}) {
    const auto y = al::dropout(x, p, 7);
    std::int64_t zeros = 0;
    for (std::int64_t i = 0; i < y.size(); ++i) {
      zeros += at(y, i) == 0 ? 1 : 0;
      CHECK_UNARY(at(y, i) == 0 || at(y, i) == 1 / (1 - p));
    }
    // Five deviations of a binomial distribution; the numbers are fixed.
    CHECK(std::abs(static_cast<double>(zeros) - 1e4 * p) <= 5 * std::sqrt(1e4 * p * (1 - p)));
    check_same(al::dropout(x, p, 7), y);
    check_forms(al::dropout, numbers<real>({2, 3, 5}, 1), p, 7, 3);
    const auto offset = al::random_blocks<double>(x.size());
    CHECK((p == 0) == (al::to_vector(al::dropout(x, p, 7, offset)) == al::to_vector(y)));
  }
  check_elements(al::dropout(x, 1.0, 7), [](std::int64_t) { return 0.0; });
  const auto infinite =
      al::dropout(al::full<real>({100}, std::numeric_limits<double>::infinity()), 0.5, 7);
  for (std::int64_t i = 0; i < infinite.size(); ++i) {
    CHECK_FALSE(std::isnan(at(infinite, i)));
  }
  CHECK_THROWS_AS(al::dropout(x, 1.5, 7), al::argument_error);
  CHECK_THROWS_AS(al::dropout(x, std::nan(""), 7), al::argument_error);
}
