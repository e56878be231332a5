// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>

#include "ashlar/chip/host/norm.hpp"
#include "ashlar/ops/norm.hpp"
#include "host_support.hpp"

namespace ops = ashlar::ops;
namespace hk = ashlar::chip::host_kernels;
using ashlar::shape;
using host_test::array;
using host_test::close;
using host_test::random;
using host_test::scattered;

namespace {

using ashlar::chip::host;
using on_host = ashlar::keys::backend<host>;
constexpr double eps = 1e-5;

struct results {
  array<float> rms, rms_dx, rms_dw, layer, layer_dx, layer_dw, layer_db;
};

results compute(const array<float>& x, const array<float>& g, const array<float>& w,
                const array<float>& b, bool scatter) {
  const array<float> plain(shape(x.spec.shape()));
  const auto like = scatter ? scattered(plain) : plain;
  const array<float> row(shape(w.spec.shape()));
  results r{like, like, row, like, like, row, row};
  hk::rms_norm(r.rms.out(), x.in(), w.in(), eps);
  hk::rms_norm_backward_x(r.rms_dx.out(), g.in(), x.in(), w.in(), eps);
  auto& on = ashlar::context<host>::current();
  ashlar::kernel<ops::rms_norm_backward_weight, on_host>::impl(on, r.rms_dw.out(), g.in(), x.in(),
                                                               eps);
  hk::layer_norm(r.layer.out(), x.in(), w.in(), b.in(), eps);
  hk::layer_norm_backward_x(r.layer_dx.out(), g.in(), x.in(), w.in(), eps);
  ashlar::kernel<ops::layer_norm_backward_weight, on_host>::impl(
      on, r.layer_dw.out(), r.layer_db.out(), g.in(), x.in(), eps);
  return r;
}

/// All results against the formulas in double, row by row.
bool agrees(const results& r, const array<float>& x, const array<float>& g, const array<float>& w,
            const array<float>& b) {
  const std::int64_t n = w.size();
  const std::int64_t rows = n == 0 ? 0 : x.size() / n;
  std::vector<double> rms_dw(static_cast<std::size_t>(n));
  auto layer_dw = rms_dw;
  auto layer_db = rms_dw;
  bool right = true;
  for (std::int64_t row = 0; row < rows; ++row) {
    const auto value = [&](const array<float>& a, std::int64_t i) {
      return static_cast<double>(a[row * n + i]);
    };
    double square = 0.0;
    double mean = 0.0;
    for (std::int64_t i = 0; i < n; ++i) {
      square += value(x, i) * value(x, i) / double(n);
      mean += value(x, i) / double(n);
    }
    double variance = 0.0;
    for (std::int64_t i = 0; i < n; ++i) {
      variance += (value(x, i) - mean) * (value(x, i) - mean) / double(n);
    }
    const double rms = 1 / std::sqrt(square + eps);
    const double deviation = 1 / std::sqrt(variance + eps);
    double rms_along = 0.0;
    double flat = 0.0;
    double along = 0.0;
    for (std::int64_t i = 0; i < n; ++i) {
      const double gw = value(g, i) * double(w[i]);
      rms_along += gw * value(x, i) * rms / double(n);
      flat += gw / double(n);
      along += gw * (value(x, i) - mean) * deviation / double(n);
    }
    for (std::int64_t i = 0; i < n; ++i) {
      const double gw = value(g, i) * double(w[i]);
      const double u = value(x, i) * rms;
      const double v = (value(x, i) - mean) * deviation;
      const auto k = static_cast<std::size_t>(i);
      rms_dw[k] += value(g, i) * u;
      layer_dw[k] += value(g, i) * v;
      layer_db[k] += value(g, i);
      // Statistics of up to 300 terms in 16 lanes: relative error about 20 * 2^-24; for n = 1 the
      // deviation is sqrt(eps), which multiplies rounding by 316.
      const double loose = n == 1 ? 1e-3 : 1e-5;
      right = right && close(value(r.rms, i), u * double(w[i]), 4e-6);
      right = right && close(value(r.rms_dx, i), rms * (gw - u * rms_along), 1e-5, 1e-5);
      right = right && close(value(r.layer, i), v * double(w[i]) + double(b[i]), 1e-5, 1e-5);
      right =
          right && close(value(r.layer_dx, i), deviation * (gw - flat - v * along), 1e-5, loose);
    }
  }
  for (std::int64_t i = 0; i < n; ++i) {
    const auto k = static_cast<std::size_t>(i);
    right = right && close(r.rms_dw[i], rms_dw[k], 1e-5, 1e-5 * double(rows));
    right = right && close(r.layer_dw[i], layer_dw[k], 1e-5, 1e-5 * double(rows));
    right = right && close(r.layer_db[i], layer_db[k], 1e-5, 1e-5 * double(rows));
  }
  return right;
}

}  // namespace

TEST_CASE("chip/host/norm: values and gradients agree with double in every layout") {
  const shape shapes[] = {{0},        {1},    {7},           {16},     {300},
                          {0, 5},     {5, 0}, {3, 17},       {1, 64},  {67, 129},
                          {2, 5, 31}, {4, 1}, {2, 3, 4, 33}, {517, 50}};
  for (const shape& extents : shapes) {
    const auto x = random<float>(extents, 1);
    const auto g = random<float>(extents, 2);
    const auto w = random<float>({extents[extents.rank() - 1]}, 3);
    const auto b = random<float>({extents[extents.rank() - 1]}, 4);
    const results r = compute(x, g, w, b, false);
    CHECK_MESSAGE(agrees(r, x, g, w, b), ashlar::to_string(extents));
    const results s = compute(scattered(x), scattered(g), scattered(w), scattered(b), true);
    CHECK(host_test::same_bits(r.rms, s.rms));
    CHECK(host_test::same_bits(r.rms_dx, s.rms_dx));
    CHECK(host_test::same_bits(r.rms_dw, s.rms_dw));
    CHECK(host_test::same_bits(r.layer, s.layer));
    CHECK(host_test::same_bits(r.layer_dx, s.layer_dx));
    CHECK(host_test::same_bits(r.layer_dw, s.layer_dw));
    CHECK(host_test::same_bits(r.layer_db, s.layer_db));
  }
}

TEST_CASE("chip/host/norm: a row has the same bits alone and in a batch") {
  const auto x = random<float>({57, 267}, 1);
  const auto w = random<float>({267}, 2);
  array<float> batch({57, 267});
  hk::rms_norm(batch.out(), x.in(), w.in(), eps);
  array<float> row({267});
  bool same = true;
  for (std::int64_t r = 0; r < 57; ++r) {
    hk::rms_norm(row.out(), ashlar::view<const float>{x.data() + r * 267, &row.spec}, w.in(), eps);
    same = same && std::memcmp(row.data(), batch.data() + r * 267, 267 * sizeof(float)) == 0;
  }
  CHECK(same);
}

TEST_CASE("chip/host/norm: threads do not change a bit") {
  const auto x = random<float>({501, 300}, 1);
  const auto g = random<float>({501, 300}, 2);
  const auto w = random<float>({300}, 3);
  for (int which = 0; which < 7; ++which) {
    CHECK(host_test::threads_agree([&] {
      const results r = compute(x, g, w, w, false);
      const array<float> all[] = {r.rms,      r.rms_dx,   r.rms_dw,  r.layer,
                                  r.layer_dx, r.layer_dw, r.layer_db};
      return all[which];
    }));
  }
}
