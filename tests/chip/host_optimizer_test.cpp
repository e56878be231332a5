// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>

#include "ashlar/chip/host/optimizer.hpp"
#include "host_support.hpp"

namespace hk = ashlar::chip::host_kernels;
using host_test::array;
using host_test::close;
using host_test::random;
using host_test::scattered;

TEST_CASE("chip/host/optimizer: AdamW follows the paper's update in double for 20 steps") {
  const hk::adamw_options o{
      .lr = 1e-2, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1};
  for (const std::int64_t n : {0, 1, 15, 16, 17, 101}) {
    auto p = random<float>({n}, 1);
    array<float> m({n});
    array<float> v({n});
    auto ps = scattered(p);
    auto ms = scattered(m);
    auto vs = scattered(v);
    std::vector<double> p2(p.data(), p.data() + n);
    std::vector<double> m2(static_cast<std::size_t>(n));
    std::vector<double> v2(m2);
    for (int step = 1; step <= 20; ++step) {
      const auto g = random<float>({n}, static_cast<unsigned>(step + 10));
      hk::adamw_step(p.out(), g.in(), m.out(), v.out(), o, step, 0.5);
      hk::adamw_step(ps.out(), scattered(g).in(), ms.out(), vs.out(), o, step, 0.5);
      for (std::size_t i = 0; i < m2.size(); ++i) {
        const double gi = 0.5 * static_cast<double>(g[static_cast<std::int64_t>(i)]);
        m2[i] = o.beta1 * m2[i] + (1 - o.beta1) * gi;
        v2[i] = o.beta2 * v2[i] + (1 - o.beta2) * gi * gi;
        const double mh = m2[i] / (1 - std::pow(o.beta1, step));
        const double vh = v2[i] / (1 - std::pow(o.beta2, step));
        p2[i] = p2[i] * (1 - o.lr * o.weight_decay) - o.lr * mh / (std::sqrt(vh) + o.eps);
      }
    }
    bool right = true;
    for (std::int64_t i = 0; i < n; ++i) {
      // Twenty steps, each rounding a parameter up to 2 in 2^-24 a few times.
      right = right && close(p[i], p2[static_cast<std::size_t>(i)], 1e-5, 1e-5);
    }
    CHECK(right);
    CHECK(host_test::same_bits(p, ps));
    CHECK(host_test::same_bits(m, ms));
    CHECK(host_test::same_bits(v, vs));
  }
  array<float> one({1});
  CHECK_THROWS_AS(hk::adamw_step(one.out(), one.in(), one.out(), one.out(), o, 0),
                  ashlar::argument_error);
}

TEST_CASE("chip/host/optimizer: SGD follows PyTorch's update with and without momentum") {
  for (const double momentum : {0.0, 0.9}) {
    for (const bool nesterov : {false, true}) {
      const hk::sgd_options o{
          .lr = 0.1, .momentum = momentum, .weight_decay = 0.01, .nesterov = nesterov};
      auto p = random<float>({37}, 1);
      array<float> buffer({37});
      std::vector<double> p2(p.data(), p.data() + 37);
      std::vector<double> b2(37);
      for (int step = 0; step < 10; ++step) {
        const auto g = random<float>({37}, static_cast<unsigned>(step + 10));
        hk::sgd_step(p.out(), g.in(), buffer.out(), o, 2.0);
        for (std::size_t i = 0; i < 37; ++i) {
          double d = 2.0 * static_cast<double>(g[static_cast<std::int64_t>(i)]) + 0.01 * p2[i];
          if (momentum != 0.0) {
            b2[i] = step == 0 ? d : momentum * b2[i] + d;
            d = nesterov ? d + momentum * b2[i] : b2[i];
          }
          p2[i] -= o.lr * d;
        }
      }
      bool right = true;
      for (std::int64_t i = 0; i < 37; ++i) {
        right = right && close(p[i], p2[static_cast<std::size_t>(i)], 1e-5, 1e-5);
      }
      CHECK(right);
    }
  }
}

TEST_CASE("chip/host/optimizer: threads do not change a bit") {
  const auto g = random<float>({70001}, 2);
  CHECK(host_test::threads_agree([&] {
    auto p = random<float>({70001}, 1);
    array<float> m({70001});
    array<float> v({70001});
    hk::adamw_step(p.out(), g.in(), m.out(), v.out(), {}, 1);
    return p;
  }));
}
