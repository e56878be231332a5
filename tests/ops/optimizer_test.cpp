// SPDX-License-Identifier: Apache-2.0
#include "ashlar/ops/optimizer.hpp"

#include <cmath>
#include <vector>

#include "ashlar/ops/reduction.hpp"
#include "ops/twins.hpp"

using namespace twins;

namespace {

const al::adamw_options adam{
    .lr = 0.01, .beta1 = 0.8, .beta2 = 0.95, .eps = 1e-6, .weight_decay = 0.1};

struct adam_twin {
  double p, m = 0, v = 0;
  void step(double g, int number) {
    p -= adam.lr * adam.weight_decay * p;
    m = adam.beta1 * m + (1 - adam.beta1) * g;
    v = adam.beta2 * v + (1 - adam.beta2) * g * g;
    const double first = m / (1 - std::pow(adam.beta1, number));
    const double second = v / (1 - std::pow(adam.beta2, number));
    p -= adam.lr * first / (std::sqrt(second) + adam.eps);
  }
};

template <class X, class Step>
void check_adam(const Step& step, const X& start) {
  const X p = start;
  const X m = al::zeros<X>(al::shape(p.shape()));
  const X v = al::zeros<X>(al::shape(p.shape()));
  std::vector<adam_twin> twin;
  for (std::int64_t i = 0; i < p.size(); ++i) {
    twin.push_back({at(p, i)});
  }
  for (int number = 1; number <= 3; ++number) {
    const X g = numbers<X>(al::shape(p.shape()), number);
    step(p, g, m, v, number);
    for (std::int64_t i = 0; i < p.size(); ++i) {
      twin[static_cast<std::size_t>(i)].step(0.5 * at(g, i), number);
    }
  }
  check_elements(
      p, [&](std::int64_t i) { return twin[static_cast<std::size_t>(i)].p; }, 1e-13);
  check_elements(
      v, [&](std::int64_t i) { return twin[static_cast<std::size_t>(i)].v; }, 1e-13);
}

}  // namespace

TEST_CASE("ops/optimizer: AdamW steps equal the formula, fused and in operators") {
  const auto fused = [](const auto& p, const auto& g, const auto& m, const auto& v, int number) {
    al::adamw_step(p, g, m, v, adam, number, 0.5);
  };
  const auto composed = [](const auto& p, const auto& g, const auto& m, const auto& v, int number) {
    al::ops::adamw_step::composite{}(p, g, m, v, adam, number, 0.5);
  };
  for (const al::shape& s : {al::shape{}, {0}, {1}, {3, 17}}) {
    check_adam(fused, numbers<plain<double>>(s, 9));
    check_adam(fused, scattered(numbers<plain<double>>(s, 9)));
    check_adam(composed, numbers<plain<double>>(s, 9));
  }
}

TEST_CASE("ops/optimizer: SGD steps equal the formula, fused and in operators") {
  for (const double momentum : {0.0, 0.9}) {
    for (const bool nesterov : {false, true}) {
      const al::sgd_options o{
          .lr = 0.1, .momentum = momentum, .weight_decay = 0.01, .nesterov = nesterov};
      const auto p = numbers<plain<double>>({23}, 1);
      const auto q = al::clone(p);
      const auto held = al::zeros<plain<double>>({23});
      const auto other = al::zeros<plain<double>>({23});
      std::vector<double> want = al::to_vector(p);
      std::vector<double> buffer(23);
      for (int number = 0; number < 3; ++number) {
        const auto g = numbers<plain<double>>({23}, 5 + number);
        al::sgd_step(p, g, held, o);
        al::ops::sgd_step::composite{}(q, g, other, o, 1.0);
        for (std::size_t i = 0; i < 23; ++i) {
          double d = g.data()[i] + 0.01 * want[i];
          buffer[i] = momentum * buffer[i] + d;
          d = momentum == 0.0 ? d : nesterov ? d + momentum * buffer[i] : buffer[i];
          want[i] -= 0.1 * d;
        }
      }
      const auto twin = [&](std::int64_t i) { return want[static_cast<std::size_t>(i)]; };
      check_elements(p, twin, 1e-13, 1e-15);
      check_elements(q, twin, 1e-13, 1e-15);
    }
  }
}

TEST_CASE("ops/optimizer: the momentum of SGD may have another element type than the parameter") {
  for (const double momentum : {0.0, 0.9}) {
    const al::sgd_options o{.lr = 0.1, .momentum = momentum};
    const auto p = numbers<plain<float>>({23}, 1);
    const auto q = al::clone(p);
    const auto g = numbers<plain<float>>({23}, 2);
    const auto start = al::to_vector(p);
    const auto held = al::full<plain<double>>({23}, 0.5);
    const auto other = al::clone(held);
    al::sgd_step(p, g, held, o);
    al::ops::sgd_step::composite{}(q, g, other, o, 1.0);
    const auto moved = [&](std::int64_t i) { return momentum * 0.5 + at(g, i); };
    const auto twin = [&](std::int64_t i) {
      return static_cast<float>(start[static_cast<std::size_t>(i)] - 0.1 * moved(i));
    };
    // Three roundings of numbers below 4.
    check_elements(p, twin, 1e-6, 1e-6);
    check_elements(q, twin, 1e-6, 1e-6);
    if (momentum != 0.0) {
      check_elements(held, moved, 1e-6, 1e-6);
      check_elements(other, moved, 1e-6, 1e-6);
    }
  }
}

TEST_CASE("ops/optimizer: steps count as changes, run on the meta chip, and refuse bad arguments") {
  const auto p = al::zeros<leaf>({3});
  const auto m = al::zeros<leaf>({3});
  const auto before = p.body()->version;
  al::require_grad(p);
  al::adamw_step(p, m, m, al::zeros<leaf>({3}), adam, 1);
  CHECK(p.body()->version == before + 1);
  const auto g = al::zeros<ghost<float>>({3});
  al::adamw_step(g, g, g, g, adam, 1);
  al::sgd_step(g, g, g, {});
  CHECK_THROWS_AS(al::adamw_step(p, m, m, m, adam, 0), al::argument_error);
  CHECK_THROWS_AS(al::adamw_step(p, al::zeros<leaf>({2}), m, m, adam, 1), al::shape_error);
  CHECK_THROWS_AS(al::sgd_step(p, leaf{}, m, {}), al::undefined_tensor);
}
