// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <vector>

#include "ashlar/ops/embedding.hpp"
#include "ashlar/ops/norm.hpp"
#include "ashlar/ops/rope.hpp"
#include "ops/twins.hpp"

using namespace twins;

namespace {
const std::vector<al::shape> inputs{{1}, {5}, {3, 17}, {2, 3, 33}, {0, 5}, {2, 0, 5}};
}

TEST_CASE("ops/norm: rows are divided by their root mean square") {
  for (const al::shape& s : inputs) {
    const auto x = numbers<plain<float>>(s, 1);
    const std::int64_t n = x.extent(-1);
    const auto w = numbers<plain<float>>({n}, 2);
    const auto y = al::rms_norm(x, w, 1e-3);
    check_elements(
        y,
        [&](std::int64_t i) {
          double squares = 0;
          for (std::int64_t c = 0; c < n; ++c) {
            squares += std::pow(static_cast<double>(at(x, i / n * n + c)), 2);
          }
          return at(x, i) / std::sqrt(squares / static_cast<double>(n) + 1e-3) * at(w, i % n);
        },
        2e-6, 1e-7);  // one sum of 33 squares, a root, three products
    check_same(al::rms_norm(scattered(x), scattered(w), 1e-3), y);
    auto given = scattered(y);
    check_same(al::rms_norm.out(given, x, w, 1e-3), y);
    check_meta(y, al::rms_norm(ghost_of(x), ghost_of(w), 1e-3));
  }
}

TEST_CASE("ops/norm: rows are centred and divided by their deviation") {
  for (const al::shape& s : inputs) {
    const auto x = numbers<plain<float>>(s, 1);
    const std::int64_t n = x.extent(-1);
    const auto w = numbers<plain<float>>({n}, 2);
    const auto b = numbers<plain<float>>({n}, 3);
    const auto y = al::layer_norm(x, w, b, 1e-3);
    check_elements(
        y,
        [&](std::int64_t i) {
          double sum = 0;
          double squares = 0;
          for (std::int64_t c = 0; c < n; ++c) {
            sum += at(x, i / n * n + c);
          }
          const double mean = sum / static_cast<double>(n);
          for (std::int64_t c = 0; c < n; ++c) {
            squares += std::pow(at(x, i / n * n + c) - mean, 2);
          }
          return (at(x, i) - mean) / std::sqrt(squares / static_cast<double>(n) + 1e-3) *
                     at(w, i % n) +
                 at(b, i % n);
        },
        5e-6, 2e-6);
    check_same(al::layer_norm(scattered(x), scattered(w), scattered(b), 1e-3), y);
    check_meta(y, al::layer_norm(ghost_of(x), ghost_of(w), ghost_of(b), 1e-3));
  }
  const auto x = al::zeros<plain<float>>({2, 3});
  CHECK_THROWS_AS(al::rms_norm(x, al::zeros<plain<float>>({2})), al::shape_error);
  CHECK_THROWS_AS(al::rms_norm(al::zeros<plain<float>>({}), al::zeros<plain<float>>({1})),
                  al::shape_error);
  CHECK_THROWS_AS(al::layer_norm(x, al::zeros<plain<float>>({3}), al::zeros<plain<float>>({1, 3})),
                  al::shape_error);
}

TEST_CASE("ops/embedding: rows of the table stand where their ids stood") {
  const auto w = numbers<plain<float>>({6, 5}, 1);
  const auto ids = al::from_values<plain<std::int32_t>>({2, 3}, {5, 0, 3, 3, 1, 5});
  const auto y = al::embedding(w, ids);
  REQUIRE(al::shape(y.shape()) == al::shape{2, 3, 5});
  check_elements(y, [&](std::int64_t i) { return w.view()(at(ids, i / 5), i % 5); });
  check_same(al::embedding(scattered(w), scattered(ids)), y);
  check_meta(y, al::embedding(ghost_of(w), ghost_of(ids)));
  CHECK(al::embedding(w, al::zeros<plain<std::int64_t>>({0})).size() == 0);
  CHECK(al::embedding(w, al::zeros<plain<std::int64_t>>({})).rank() == 1);

  const auto g = numbers<plain<float>>({2, 3, 5}, 2);
  const auto back = al::call<al::ops::embedding_backward>(g, ids, std::int64_t{6});
  check_elements(
      back,
      [&](std::int64_t i) {
        double sum = 0;
        for (std::int64_t k = 0; k < 6; ++k) {
          sum += at(ids, k) == i / 5 ? at(g, k * 5 + i % 5) : 0.0f;
        }
        return sum;
      },
      1e-6, 1e-6);

  CHECK_THROWS_AS(al::embedding(w, al::full<plain<std::int32_t>>({1}, 6)), al::argument_error);
  CHECK_THROWS_AS(al::embedding(w, al::full<plain<std::int32_t>>({1}, -1)), al::argument_error);
  CHECK_THROWS_AS(al::embedding(al::select(w, 0, 0), ids), al::shape_error);
}

TEST_CASE("ops/rope: pairs of channels turn by their position") {
  const auto x = numbers<plain<double>>({2, 3, 2, 8}, 1);
  const auto positions = al::from_values<plain<std::int64_t>>({3}, {4, 0, 1000});
  for (const bool interleaved : {false, true}) {
    const auto y = al::rope(x, positions, 10000.0, interleaved);
    const auto twin = [&](std::int64_t i) {
      const std::int64_t c = i % 8;
      const std::int64_t pair = interleaved ? c / 2 : c % 4;
      const bool second = interleaved ? c % 2 == 1 : c >= 4;
      const std::int64_t other = i + (interleaved ? 1 : 4) * (second ? -1 : 1);
      const double angle = static_cast<double>(at(positions, i / 16 % 3)) *
                           std::pow(10000.0, -static_cast<double>(pair) / 4);
      return at(x, i) * std::cos(angle) + at(x, other) * std::sin(angle) * (second ? 1 : -1);
    };
    check_elements(y, twin, 1e-14, 1e-14);
    check_same(al::rope(scattered(x), scattered(positions), 10000.0, interleaved), y);
    check_elements(
        al::rope(y, positions, 10000.0, interleaved, true),
        [&](std::int64_t i) { return at(x, i); }, 1e-14, 1e-14);
    check_meta(y, al::rope(ghost_of(x), ghost_of(positions), 10000.0, interleaved));
  }
  CHECK(al::rope(al::zeros<plain<float>>({0, 2, 4}), al::zeros<plain<std::int32_t>>({0}), 1e4, true)
            .size() == 0);
  CHECK_THROWS_AS(al::rope(x, al::zeros<plain<std::int32_t>>({2}), 1e4, true), al::shape_error);
  CHECK_THROWS_AS(al::rope(al::narrow(x, -1, 0, 3), positions, 1e4, true), al::argument_error);
}
