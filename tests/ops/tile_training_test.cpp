// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "ashlar/ops/tile/cross_entropy.hpp"
#include "ashlar/ops/tile/optimizer.hpp"
#include "ashlar/ops/tile/random.hpp"
#include "support/tile_chip.hpp"

using namespace tile_test;

TEST_CASE_TEMPLATE("ops/tile_training: cross entropy and its gradient", T, float, al::bfloat16) {
  for (const std::int64_t rows : {0, 1, 3, 65}) {
    for (const std::int64_t classes : {1, 63, 65, 131}) {
      const auto logits = twins::numbers<twins::plain<T>>({rows, classes}, 1);
      const auto targets = al::empty<twins::plain<std::int64_t>>({rows});
      for (std::int64_t i = 0; i < rows; ++i) {
        targets.data()[i] = i % 3 == 2 ? -100 : i * 5 % classes;
      }
      const auto g = al::full<twins::plain<T>>({}, 2.0);
      const tolerance near{static_cast<double>(rows + classes) + 8, 8};
      check_both(
          near, [](const auto& x, const auto& t) { return al::cross_entropy(x, t); }, logits,
          targets);
      check_both(
          near,
          [](const auto& d, const auto& x, const auto& t) {
            return al::call<al::ops::cross_entropy_backward>(d, x, t, std::int64_t{-100});
          },
          g, logits, targets);
    }
  }
}

TEST_CASE("ops/tile_training: a target that is no class stops the kernel") {
  const auto logits = moved(twins::numbers<twins::plain<float>>({2, 3}, 1));
  const auto targets = moved(al::from_values<twins::plain<std::int32_t>>({2}, {1, 3}));
  CHECK_THROWS_AS(al::cross_entropy(logits, targets), al::tile::execution_error);
}

TEST_CASE_TEMPLATE("ops/tile_training: uniform numbers have the host's bits", T, float, double,
                   al::float16, al::bfloat16) {
  for (const al::shape& s : {al::shape{}, {0}, {1}, {63}, {65}, {3, 43}}) {
    const auto x = al::empty<twins::plain<T>>(s);
    const auto fill = [](const auto& v) {
      return al::uniform(v, 0xFEDCBA9876543210u, (1u << 31) * 7ull, -1.0, 3.0);
    };
    check_both(exact, fill, x);
    auto given = twins::scattered(x);
    auto there = moved(given);
    al::uniform.in_place(given, 7);
    al::uniform.in_place(there, 7);
    check_close(there, given, exact);
  }
}

TEST_CASE_TEMPLATE("ops/tile_training: normal numbers are the host's to a few last places", T,
                   float, double, al::bfloat16) {
  const auto x = al::empty<twins::plain<T>>({3, 67});
  // log, sqrt, sine and cosine are each right to about two places of double.
  check_both(
      tolerance{8, 8}, [](const auto& v) { return al::normal(v, 42, 5, 0.5, 2.0); }, x);
}

TEST_CASE_TEMPLATE("ops/tile_training: optimizer steps", T, float, al::bfloat16) {
  using X = twins::plain<T>;
  using F = twins::plain<float>;
  for (const al::shape& s : {al::shape{}, {0}, {65}, {3, 1, 2, 2, 7}}) {
    auto p = twins::numbers<X>(s, 1);
    const auto g = twins::scattered(twins::numbers<X>(s, 2));
    auto m = al::zeros<F>(s);
    auto v = al::zeros<F>(s);
    auto tp = moved(p);
    const auto tg = moved(g);
    auto tm = moved(m);
    auto tv = moved(v);
    const tolerance near{8, 4};
    for (std::int64_t step = 1; step <= 3; ++step) {
      al::adamw_step(p, g, m, v, {.lr = 0.1}, step, 0.5);
      al::adamw_step(tp, tg, tm, tv, {.lr = 0.1}, step, 0.5);
    }
    check_close(tm, m, near);
    check_close(tv, v, near);
    check_close(tp, p, tolerance{16, 4});
    auto held = al::zeros<X>(s);
    auto there = moved(held);
    for (const bool nesterov : {false, true}) {
      for (const double momentum : {0.0, 0.9}) {
        const al::sgd_options options{
            .lr = 0.1, .momentum = momentum, .weight_decay = 0.01, .nesterov = nesterov};
        al::sgd_step(p, g, held, options);
        al::sgd_step(tp, tg, there, options);
        check_close(there, held, tolerance{16, 4});
        check_close(tp, p, tolerance{32, 8});
      }
    }
  }
}
