// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>

#include "ashlar/chip/host/softmax.hpp"
#include "host_support.hpp"

namespace hk = ashlar::chip::host_kernels;
using ashlar::shape;
using host_test::array;
using host_test::at;
using host_test::close;
using host_test::random;
using host_test::scattered;

namespace {

/// Calls `body(row)` with the positions of each row along `axis`.
template <class Body>
void for_each_row(const ashlar::tensor_spec& spec, int axis, Body&& body) {
  host_test::for_each_index(spec, [&](auto index) {
    if (index[static_cast<std::size_t>(axis)] == 0) {
      std::vector<std::int64_t> row;
      const std::int64_t first = host_test::place(spec, index);
      for (std::int64_t i = 0; i < spec[axis]; ++i) {
        row.push_back(first + i * spec.stride_of(axis));
      }
      body(row);
    }
  });
}

struct results {
  array<float> y, log_y, dx, log_dx;
};

results compute(const array<float>& x, const array<float>& g, int axis, bool scatter) {
  const shape extents(x.spec.shape());
  const array<float> plain(extents);
  const auto like = scatter ? scattered(plain) : plain;
  results r{like, like, like, like};
  hk::softmax(r.y.out(), x.in(), axis);
  hk::log_softmax(r.log_y.out(), x.in(), axis);
  hk::softmax_backward(r.dx.out(), r.y.in(), g.in(), axis);
  hk::log_softmax_backward(r.log_dx.out(), r.log_y.in(), g.in(), axis);
  return r;
}

void check(const shape& extents, int axis) {
  const auto x = random<float>(extents, 3, -6.0, 6.0);
  const auto g = random<float>(extents, 4);
  const results r = compute(x, g, axis, false);
  bool right = true;
  for_each_row(x.spec, axis, [&](const std::vector<std::int64_t>& row) {
    double total = 0.0;
    double dot = 0.0;
    double sum = 0.0;
    for (const std::int64_t i : row) {
      total += std::exp(static_cast<double>(x[i]));
      sum += static_cast<double>(g[i]);
    }
    for (const std::int64_t i : row) {
      dot += std::exp(static_cast<double>(x[i])) / total * static_cast<double>(g[i]);
    }
    for (const std::int64_t i : row) {
      const double y = std::exp(static_cast<double>(x[i])) / total;
      // x - max rounds at 12 * 2^-24 and exp turns that into a relative error: 1e-6; the sums of
      // gradients reach 600.
      right = right && close(r.y[i], y, 3e-6) && close(r.log_y[i], std::log(y), 1e-6, 2e-6);
      right = right && close(r.dx[i], y * (g[i] - dot), 0.0, 3e-6);
      right = right && close(r.log_dx[i], g[i] - y * sum, 3e-6, 4e-6);
    }
  });
  CHECK_MESSAGE(right, ashlar::to_string(extents), " axis ", axis);
  const results s = compute(scattered(x), scattered(g), axis, true);
  CHECK(host_test::same_bits(r.y, s.y));
  CHECK(host_test::same_bits(r.log_y, s.log_y));
  CHECK(host_test::same_bits(r.dx, s.dx));
  CHECK(host_test::same_bits(r.log_dx, s.log_dx));
}

}  // namespace

TEST_CASE("chip/host/softmax: values and gradients agree with double along every axis") {
  for (const std::int64_t n : {0, 1, 2, 7, 15, 16, 17, 31, 97, 300}) {
    check({n}, 0);
    check({3, n}, 1);
    check({n, 5}, 0);
  }
  check({4, 19, 6}, 1);
  check({0, 5}, 1);
  check({2, 3, 5, 7}, 3);
}

TEST_CASE("chip/host/softmax: a scalar is a row of one") {
  auto x = random<float>(shape{}, 1);
  array<float> y(shape{});
  hk::softmax(y.out(), x.in(), 0);
  CHECK(y[0] == 1.0f);
  hk::log_softmax(y.out(), x.in(), 0);
  CHECK(y[0] == 0.0f);
}

TEST_CASE("chip/host/softmax: infinities and NaN give what PyTorch gives") {
  const float inf = std::numeric_limits<float>::infinity();
  auto x = random<float>({4, 21}, 1);
  std::fill_n(x.data(), 21, -inf);
  x[21 + 20] = inf;
  x[42 + 3] = std::numeric_limits<float>::quiet_NaN();
  x[63 + 17] = -inf;
  array<float> y({4, 21});
  hk::softmax(y.out(), x.in(), 1);
  for (std::int64_t i = 0; i < 21; ++i) {
    CHECK(std::isnan(y[i]));
    CHECK(std::isnan(y[42 + i]));
    CHECK(!std::isnan(y[63 + i]));
  }
  CHECK(std::isnan(y[21 + 20]));
  CHECK(y[63 + 17] == 0.0f);
}

TEST_CASE("chip/host/softmax: a row has the same bits alone, in a batch and with threads") {
  const auto x = random<float>({301, 517}, 1, -5.0, 5.0);
  array<float> batch({301, 517});
  hk::softmax(batch.out(), x.in(), 1);
  array<float> row({1, 517});
  bool same = true;
  for (std::int64_t r = 0; r < 301; ++r) {
    hk::softmax(row.out(), ashlar::view<const float>{x.data() + r * 517, &row.spec}, 1);
    same = same && std::memcmp(row.data(), batch.data() + r * 517, 517 * sizeof(float)) == 0;
  }
  CHECK(same);
  CHECK(host_test::threads_agree([&] {
    array<float> y({301, 517});
    hk::softmax(y.out(), x.in(), 1);
    return y;
  }));
}

TEST_CASE("chip/host/softmax: 16-bit rows are rounded once") {
  const auto x = random<ashlar::float16>({5, 37}, 1);
  array<ashlar::float16> y({5, 37});
  hk::softmax(y.out(), x.in(), 1);
  array<float> wide({5, 37});
  array<float> expected({5, 37});
  for (std::int64_t i = 0; i < x.size(); ++i) {
    wide[i] = x[i];
  }
  hk::softmax(expected.out(), wide.in(), 1);
  for (std::int64_t i = 0; i < x.size(); ++i) {
    CHECK(y[i].bits == ashlar::float16(expected[i]).bits);
  }
}
