// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>

#include "ashlar/chip/host/elementwise.hpp"
#include "host_support.hpp"

namespace hk = ashlar::chip::host_kernels;
namespace fn = ashlar::tile::fn;
using ashlar::shape;
using host_test::array;
using host_test::at;
using host_test::close;
using host_test::random;
using host_test::scattered;

namespace {

const std::vector<std::int64_t> sizes{0, 1, 2, 4, 7, 15, 16, 17, 31, 33, 257, 40009};

/// One functor against a scalar function in double, dense and scattered.
template <class Fn, class Twin>
void check_unary(Twin twin, double relative, double absolute) {
  for (const std::int64_t n : sizes) {
    const auto x = random<float>({n}, static_cast<unsigned>(n), -4.0, 4.0);
    array<float> y({n});
    hk::map<Fn>(y.out(), x.in());
    bool right = true;
    for (std::int64_t i = 0; i < n; ++i) {
      right = right &&
              close(static_cast<double>(y[i]), twin(static_cast<double>(x[i])), relative, absolute);
    }
    CHECK(right);
    auto z = scattered(array<float>({n}));
    hk::map<Fn>(z.out(), scattered(x).in());
    CHECK(host_test::same_bits(y, z));
  }
}

template <class Fn, class Twin>
void check_binary(const shape& a_shape, const shape& b_shape, const shape& out_shape, Twin twin) {
  const auto a = random<float>(a_shape, 1);
  const auto b = random<float>(b_shape, 2);
  for (const bool scatter : {false, true}) {
    array<float> out(out_shape);
    const auto sa = scatter ? scattered(a) : a;
    const auto sb = scatter ? scattered(b) : b;
    hk::map<Fn>(out.out(), sa.in(), sb.in());
    bool right = true;
    host_test::for_each_index(out.spec, [&](auto index) {
      right = right && at(out, index) == twin(at(a, index), at(b, index));
    });
    CHECK(right);
  }
}

}  // namespace

// Tolerances: vector functions stay within 4 ULP (2^-22 relative); what subtracts from 1 gets the
// same, absolute.
TEST_CASE("chip/host/elementwise: functions of one variable agree with double") {
  check_unary<fn::exp>([](double x) { return std::exp(x); }, 3e-7, 0.0);
  check_unary<fn::tanh>([](double x) { return std::tanh(x); }, 3e-7, 0.0);
  check_unary<fn::silu>([](double x) { return x / (1 + std::exp(-x)); }, 5e-7, 1e-12);
  check_unary<fn::gelu>([](double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }, 5e-7,
                        1e-6);
  check_unary<fn::gelu_tanh>(
      [](double x) {
        return 0.5 * x *
               (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x)));
      },
      5e-7, 1e-6);
}

TEST_CASE("chip/host/elementwise: binary functions broadcast as in NumPy") {
  const auto add = [](float a, float b) { return a + b; };
  for (const std::int64_t n : sizes) {
    check_binary<fn::add>({n}, {n}, {n}, add);
    check_binary<fn::add>({n}, {1}, {n}, add);
    check_binary<fn::add>({}, {n}, {n}, add);
  }
  check_binary<fn::add>({}, {}, {}, add);
  check_binary<fn::add>({5, 1, 19}, {7, 1}, {5, 7, 19}, add);
  check_binary<fn::add>({5, 7, 19}, {19}, {5, 7, 19}, add);
  check_binary<fn::add>({5, 0, 19}, {1, 19}, {5, 0, 19}, add);
  check_binary<fn::add>({2, 1, 2, 1, 2, 1, 2, 3}, {1, 2, 1, 2, 1, 2, 1, 3},
                        {2, 2, 2, 2, 2, 2, 2, 3}, add);
  check_binary<fn::add>({130, 257}, {130, 1}, {130, 257}, add);
}

TEST_CASE("chip/host/elementwise: a permuted output is written where it stands") {
  const auto a = random<float>({6, 37}, 1);
  const auto b = random<float>({6, 37}, 2);
  array<float> plain({6, 37});
  auto turned = scattered(plain);
  hk::map<fn::sub>(plain.out(), a.in(), b.in());
  hk::map<fn::sub>(turned.out(), a.in(), b.in());
  CHECK(host_test::same_bits(plain, turned));
}

TEST_CASE("chip/host/elementwise: an input may be the output") {
  auto a = random<float>({1001}, 1);
  const auto b = a;
  hk::map<fn::affine>(a.out(), a.in(), 2.0, 1.0);
  bool right = true;
  for (std::int64_t i = 0; i < a.size(); ++i) {
    right = right && a[i] == b[i] * 2.0f + 1.0f;
  }
  CHECK(right);
}

TEST_CASE("chip/host/elementwise: NaN passes maximum and relu and fails comparisons") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  array<float> a({4});
  array<float> b({4});
  const float as[] = {nan, 1.0f, nan, -3.0f};
  const float bs[] = {1.0f, nan, nan, 2.0f};
  std::copy(as, as + 4, a.data());
  std::copy(bs, bs + 4, b.data());
  array<float> y({4});
  hk::map<fn::maximum>(y.out(), a.in(), b.in());
  CHECK(std::isnan(y[0]));
  CHECK(std::isnan(y[1]));
  CHECK(std::isnan(y[2]));
  CHECK(y[3] == 2.0f);
  hk::map<fn::relu>(y.out(), a.in());
  CHECK(std::isnan(y[0]));
  CHECK(y[3] == 0.0f);
  array<bool> m({4});
  hk::map<fn::less_equal>(m.out(), a.in(), b.in());
  CHECK(!m[0]);
  CHECK(!m[2]);
  CHECK(m[3]);
  hk::map<fn::not_equal>(m.out(), a.in(), b.in());
  CHECK(m[0]);
  CHECK(m[2]);
}

TEST_CASE("chip/host/elementwise: where chooses with a broadcast condition") {
  for (const bool scatter : {false, true}) {
    array<bool> plain({3, 1, 21});
    for (std::int64_t i = 0; i < plain.size(); ++i) {
      plain[i] = i % 3 == 0;
    }
    const auto condition = scatter ? scattered(plain) : plain;
    const auto a = random<float>({3, 5, 21}, 1);
    const auto b = random<float>({21}, 2);
    array<float> y({3, 5, 21});
    hk::where(y.out(), condition.in(), a.in(), b.in());
    bool right = true;
    host_test::for_each_index(y.spec, [&](auto index) {
      right = right && at(y, index) == (at(plain, index) ? at(a, index) : at(b, index));
    });
    CHECK(right);
  }
}

TEST_CASE("chip/host/elementwise: integers wrap around and divide without traps") {
  array<std::int32_t> a({3});
  array<std::int32_t> b({3});
  array<std::int32_t> y({3});
  a[0] = std::numeric_limits<std::int32_t>::max();
  a[1] = std::numeric_limits<std::int32_t>::min();
  a[2] = 7;
  b[0] = 1;
  b[1] = -1;
  b[2] = 0;
  hk::map<fn::add>(y.out(), a.in(), b.in());
  CHECK(y[0] == std::numeric_limits<std::int32_t>::min());
  hk::map<fn::div>(y.out(), a.in(), b.in());
  CHECK(y[1] == std::numeric_limits<std::int32_t>::min());
  CHECK(y[2] == 0);
}

TEST_CASE("chip/host/elementwise: 16-bit elements are computed in float") {
  const auto a = random<ashlar::bfloat16>({37}, 1);
  array<ashlar::bfloat16> y({37});
  hk::map<fn::scale>(y.out(), a.in(), 3.0);
  for (std::int64_t i = 0; i < 37; ++i) {
    CHECK(y[i].bits == ashlar::bfloat16(static_cast<float>(a[i]) * 3.0f).bits);
  }
}

TEST_CASE("chip/host/elementwise: threads do not change a bit") {
  const auto x = random<float>({400009}, 1);
  CHECK(host_test::threads_agree([&] {
    array<float> y({400009});
    hk::map<fn::gelu_tanh>(y.out(), x.in());
    return y;
  }));
}
