// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <limits>

#include "ashlar/chip/host/copy.hpp"
#include "host_support.hpp"

namespace hk = ashlar::chip::host_kernels;
using ashlar::shape;
using host_test::array;
using host_test::random;
using host_test::scattered;

TEST_CASE("chip/host/copy: every pair of layouts holds the same elements") {
  const shape shapes[] = {{},       {0},         {1},          {17},     {5, 7},
                          {64, 65}, {3, 33, 70}, {2, 3, 4, 5}, {4, 0, 3}};
  for (const shape& extents : shapes) {
    const auto a = random<float>(extents, 1);
    const auto turned = scattered(a);
    array<float> plain(extents);
    auto other = scattered(plain);
    hk::copy(plain.out(), turned.in());
    CHECK(host_test::same_bits(plain, a));
    hk::copy(other.out(), a.in());
    CHECK(host_test::same_bits(other, a));
    auto third = scattered(array<float>(extents));
    hk::copy(third.out(), turned.in());
    CHECK(host_test::same_bits(third, a));
  }
}

TEST_CASE("chip/host/copy: a transposed view is copied in blocks") {
  for (const bool batched : {false, true}) {
    const auto a = batched ? random<float>({3, 45, 131}, 1) : random<float>({45, 131}, 1);
    auto t = a;
    t.spec = ashlar::geometry::transpose(a.spec, -1, -2);
    array<float> out(shape(t.spec.shape()));
    hk::copy(out.out(), t.in());
    CHECK(host_test::same_bits(out, t));
    array<double> wide(shape(t.spec.shape()));
    hk::cast(wide.out(), t.in());
    bool right = true;
    host_test::for_each_index(wide.spec, [&](auto index) {
      right = right && host_test::at(wide, index) == static_cast<double>(host_test::at(t, index));
    });
    CHECK(right);
  }
}

TEST_CASE("chip/host/copy: an input is broadcast") {
  const auto row = random<float>({7}, 1);
  const auto column = random<float>({5, 1}, 1);
  array<float> out({5, 7});
  hk::copy(out.out(), row.in());
  CHECK(out[8] == row[1]);
  hk::copy(out.out(), column.in());
  CHECK(out[8] == column[1]);
}

TEST_CASE("chip/host/copy: conversions out of range are defined") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double inf = std::numeric_limits<double>::infinity();
  CHECK(hk::convert<std::int32_t>(1e20) == std::numeric_limits<std::int32_t>::max());
  CHECK(hk::convert<std::int32_t>(-inf) == std::numeric_limits<std::int32_t>::min());
  CHECK(hk::convert<std::int32_t>(2147483647.0) == 2147483647);
  CHECK(hk::convert<std::int32_t>(2147483648.0) == 2147483647);
  CHECK(hk::convert<std::int32_t>(-2147483648.9) == std::numeric_limits<std::int32_t>::min());
  CHECK(hk::convert<std::int32_t>(-1.9f) == -1);
  CHECK(hk::convert<std::int32_t>(nan) == 0);
  CHECK(hk::convert<std::int64_t>(9.3e18f) == std::numeric_limits<std::int64_t>::max());
  CHECK(hk::convert<std::uint8_t>(255.9f) == 255);
  CHECK(hk::convert<std::uint8_t>(-3.0f) == 0);
  CHECK(hk::convert<std::int8_t>(std::int32_t{300}) == 44);
  CHECK(hk::convert<bool>(0.25f));
  CHECK(hk::convert<bool>(nan));
  CHECK(!hk::convert<bool>(-0.0f));
  CHECK(hk::convert<bool>(ashlar::float16(0.5f)));
  CHECK(hk::convert<std::int32_t>(ashlar::bfloat16(-7.5f)) == -7);
  CHECK(static_cast<float>(hk::convert<ashlar::float16>(std::int64_t{2049})) == 2048.0f);
  CHECK(hk::convert<float>(true) == 1.0f);
}

TEST_CASE("chip/host/copy: fill and arange reach every element of any layout") {
  for (const std::int64_t n : {0, 1, 17, 40009}) {
    array<float> a({n});
    hk::fill(a.out(), 2.5f);
    array<float> b({n});
    hk::arange(b.out(), 1.0, 0.5);
    bool right = true;
    for (std::int64_t i = 0; i < n; ++i) {
      right = right && a[i] == 2.5f && b[i] == static_cast<float>(1.0 + 0.5 * double(i));
    }
    CHECK(right);
  }
  auto turned = scattered(array<std::int64_t>({5, 7}));
  hk::arange(turned.out(), -3, 2);
  std::int64_t i = 0;
  bool right = true;
  host_test::for_each_index(turned.spec, [&](auto index) {
    right = right && host_test::at(turned, index) == -3 + 2 * i++;
  });
  CHECK(right);
}
