// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>

#include "ashlar/chip/host/cross_entropy.hpp"
#include "host_support.hpp"

namespace hk = ashlar::chip::host_kernels;
using ashlar::shape;
using host_test::array;
using host_test::close;
using host_test::random;
using host_test::scattered;

namespace {

constexpr std::int64_t ignored = -100;

array<std::int64_t> targets_for(std::int64_t rows, std::int64_t classes) {
  array<std::int64_t> targets({rows});
  for (std::int64_t i = 0; i < rows; ++i) {
    targets[i] = i % 4 == 3 ? ignored : (i * 7919) % classes;
  }
  return targets;
}

void check(std::int64_t rows, std::int64_t classes, hk::loss_reduction reduction) {
  const auto logits = random<float>({rows, classes}, 5, -8.0, 8.0);
  const auto targets = targets_for(rows, classes);
  array<float> loss(shape{});
  array<float> g(shape{});
  g[0] = 0.75f;
  array<float> d({rows, classes});
  hk::cross_entropy(loss.out(), logits.in(), targets.in(), ignored, reduction);
  hk::cross_entropy_backward(d.out(), g.in(), logits.in(), targets.in(), ignored, reduction);

  double total = 0.0;
  double count = 0.0;
  for (std::int64_t i = 0; i < rows; ++i) {
    count += targets[i] == ignored ? 0.0 : 1.0;
  }
  const double weight = reduction == hk::loss_reduction::sum ? 1.0 : 1.0 / count;
  bool right = true;
  for (std::int64_t i = 0; i < rows; ++i) {
    double sum = 0.0;
    for (std::int64_t c = 0; c < classes; ++c) {
      sum += std::exp(static_cast<double>(logits[i * classes + c]));
    }
    const bool counts = targets[i] != ignored;
    if (counts) {
      total += std::log(sum) - static_cast<double>(logits[i * classes + targets[i]]);
    }
    for (std::int64_t c = 0; c < classes; ++c) {
      const double p = std::exp(static_cast<double>(logits[i * classes + c])) / sum;
      const double expected = counts ? (p - (c == targets[i] ? 1.0 : 0.0)) * 0.75 * weight : 0.0;
      // exp of a difference up to 16 that is rounded to 2^-21: 1e-6 relative, 1e-6 of p near 1.
      right = right && close(d[i * classes + c], expected, 3e-6, 2e-6 * weight);
    }
  }
  // For one class every loss is 0 up to the rounding of x - max.
  right = right && (rows == 0 && reduction == hk::loss_reduction::mean
                        ? std::isnan(loss[0])
                        : close(loss[0], total * weight, 2e-6, 1e-6));
  CHECK_MESSAGE(right, rows, " rows, ", classes, " classes");

  array<float> again(shape{});
  auto scattered_d = scattered(array<float>({rows, classes}));
  hk::cross_entropy(again.out(), scattered(logits).in(), scattered(targets).in(), ignored,
                    reduction);
  hk::cross_entropy_backward(scattered_d.out(), g.in(), scattered(logits).in(),
                             scattered(targets).in(), ignored, reduction);
  CHECK(host_test::same_bits(loss, again));
  CHECK(host_test::same_bits(d, scattered_d));
}

}  // namespace

TEST_CASE("chip/host/cross_entropy: loss and gradient agree with double") {
  for (const auto reduction : {hk::loss_reduction::mean, hk::loss_reduction::sum}) {
    check(0, 5, reduction);
    check(1, 1, reduction);
    check(3, 1, reduction);
    check(7, 13, reduction);
    check(33, 16, reduction);
    check(130, 257, reduction);
  }
}

TEST_CASE("chip/host/cross_entropy: the mean over nothing is NaN, the sum is 0") {
  const auto logits = random<float>({2, 5}, 1);
  array<std::int32_t> targets({2});
  targets[0] = targets[1] = static_cast<std::int32_t>(ignored);
  array<float> loss(shape{});
  hk::cross_entropy(loss.out(), logits.in(), targets.in(), ignored, hk::loss_reduction::mean);
  CHECK(std::isnan(loss[0]));
  hk::cross_entropy(loss.out(), logits.in(), targets.in(), ignored, hk::loss_reduction::sum);
  CHECK(loss[0] == 0.0f);
}

TEST_CASE("chip/host/cross_entropy: a target out of range is named and nothing is written") {
  const auto logits = random<float>({3, 5}, 1);
  array<std::int32_t> targets({3});
  targets[1] = 5;
  array<float> loss(shape{});
  loss[0] = 42.0f;
  try {
    hk::cross_entropy(loss.out(), logits.in(), targets.in(), ignored, hk::loss_reduction::mean);
    FAIL("no error");
  } catch (const ashlar::argument_error& e) {
    CHECK(std::strstr(e.what(), "target 5 of row 1") != nullptr);
  }
  CHECK(loss[0] == 42.0f);
  targets[1] = -1;
  array<float> d({3, 5});
  CHECK_THROWS_AS(hk::cross_entropy_backward(d.out(), loss.in(), logits.in(), targets.in(), ignored,
                                             hk::loss_reduction::mean),
                  ashlar::argument_error);
}

TEST_CASE("chip/host/cross_entropy: threads do not change a bit") {
  const auto logits = random<float>({200, 999}, 1);
  const auto targets = targets_for(200, 999);
  array<float> g(shape{});
  g[0] = 1.0f;
  CHECK(host_test::threads_agree([&] {
    array<float> loss(shape{});
    hk::cross_entropy(loss.out(), logits.in(), targets.in(), ignored, hk::loss_reduction::mean);
    return loss;
  }));
  CHECK(host_test::threads_agree([&] {
    array<float> d({200, 999});
    hk::cross_entropy_backward(d.out(), g.in(), logits.in(), targets.in(), ignored,
                               hk::loss_reduction::mean);
    return d;
  }));
}
