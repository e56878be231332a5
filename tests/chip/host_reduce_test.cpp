// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>

#include "ashlar/chip/host/reduce.hpp"
#include "host_support.hpp"

namespace hk = ashlar::chip::host_kernels;
using ashlar::shape;
using host_test::array;
using host_test::at;
using host_test::close;
using host_test::random;
using host_test::scattered;

namespace {

shape without(const shape& extents, hk::axis_set axes) {
  shape left;
  for (int i = 0; i < extents.rank(); ++i) {
    if ((axes >> i & 1u) == 0u) {
      left.push_back(extents[i]);
    }
  }
  return left;
}

/// The elements of each output in row-major order over the reduced axes.
template <class T>
std::vector<std::vector<T>> groups(const array<T>& a, hk::axis_set axes) {
  const array<T> out(without(shape(a.spec.shape()), axes));
  std::vector<std::vector<T>> found(static_cast<std::size_t>(out.size()));
  host_test::for_each_index(a.spec, [&](auto index) {
    std::vector<std::int64_t> kept;
    for (std::size_t i = 0; i < index.size(); ++i) {
      if ((axes >> i & 1u) == 0u) {
        kept.push_back(index[i]);
      }
    }
    found[static_cast<std::size_t>(host_test::place(out.spec, kept))].push_back(at(a, index));
  });
  return found;
}

/// The order that the header promises, element by element.
float promised_sum(const std::vector<float>& x) {
  float lane[16] = {};
  float total[16] = {};
  const auto fold = [&] {
    for (int k = 0; k < 16; ++k) {
      total[k] += lane[k];
      lane[k] = 0.0f;
    }
  };
  for (std::size_t i = 0; i < x.size(); ++i) {
    lane[i % 16] += x[i];
    if ((i + 1) % 4096 == 0) {
      fold();
    }
  }
  fold();
  for (int half = 8; half > 0; half /= 2) {
    for (int k = 0; k < half; ++k) {
      total[k] += total[k + half];
    }
  }
  return total[0];
}

void check_all(const array<float>& a, hk::axis_set axes) {
  const shape left = without(shape(a.spec.shape()), axes);
  const auto expected = groups(a, axes);
  const bool empty = a.size() == 0 && !expected.empty();
  array<float> sum(left);
  array<float> mean(left);
  array<float> largest(left);
  array<float> smallest(left);
  array<std::int64_t> where(left);
  hk::sum(sum.out(), a.in(), axes);
  hk::mean(mean.out(), a.in(), axes);
  if (empty) {
    CHECK_THROWS_AS(hk::max(largest.out(), a.in(), axes), ashlar::argument_error);
    CHECK_THROWS_AS(hk::argmax(where.out(), a.in(), axes), ashlar::argument_error);
  } else {
    hk::max(largest.out(), a.in(), axes);
    hk::min(smallest.out(), a.in(), axes);
    hk::argmax(where.out(), a.in(), axes);
  }
  bool right = true;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const auto& x = expected[i];
    const auto at = static_cast<std::int64_t>(i);
    const float total = promised_sum(x);
    right = right && sum[at] == total;
    right = right && close(mean[at], total / static_cast<float>(x.size()), 0.0);
    if (!empty) {
      const auto best = std::max_element(x.begin(), x.end());
      right =
          right && largest[at] == *best && smallest[at] == *std::min_element(x.begin(), x.end());
      right = right && where[at] == best - x.begin();
    }
  }
  CHECK_MESSAGE(right, ashlar::to_string(a.spec.shape()), " axes ", axes);
}

}  // namespace

TEST_CASE("chip/host/reduce: every set of axes follows the promised order in every layout") {
  const shape shapes[] = {{0},     {1},        {5},       {16},        {37},        {9001},
                          {0, 3},  {3, 0},     {1, 1},    {7, 13},     {33, 47},    {4100, 3},
                          {3, 67}, {5, 1, 29}, {4, 9, 6}, {17, 3, 34}, {2, 3, 5, 7}};
  for (const shape& extents : shapes) {
    const auto a = random<float>(extents, 7);
    const auto b = scattered(a);
    for (hk::axis_set axes = 0; axes < (1u << extents.rank()); ++axes) {
      check_all(a, axes);
      check_all(b, axes);
    }
  }
  check_all(random<float>({}, 1), 0);
}

TEST_CASE("chip/host/reduce: column sums equal row sums of the transposed matrix bit for bit") {
  const auto a = random<float>({9000, 150}, 3);
  auto t = array<float>({150, 9000});
  hk::copy(t.out(), [&] {
    static ashlar::tensor_spec turned;
    turned = ashlar::geometry::transpose(a.spec, 0, 1);
    return ashlar::view<const float>{a.data(), &turned};
  }());
  array<float> columns({150});
  array<float> rows({150});
  hk::sum(columns.out(), a.in(), 0b01);
  hk::sum(rows.out(), t.in(), 0b10);
  CHECK(host_test::same_bits(columns, rows));
}

TEST_CASE("chip/host/reduce: NaN wins, the first of equals is found") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  auto a = random<float>({3, 40}, 1);
  a[5] = nan;
  a[25] = nan;
  a[40 + 7] = 9.0f;
  a[40 + 30] = 9.0f;
  std::fill_n(a.data() + 80, 40, -std::numeric_limits<float>::infinity());
  array<float> largest({3});
  array<std::int64_t> where({3});
  hk::max(largest.out(), a.in(), 0b10);
  hk::argmax(where.out(), a.in(), 0b10);
  CHECK(std::isnan(largest[0]));
  CHECK(where[0] == 5);
  CHECK(where[1] == 7);
  CHECK(where[2] == 0);
  array<float> smallest({40});
  hk::min(smallest.out(), a.in(), 0b01);
  CHECK(std::isnan(smallest[5]));
}

TEST_CASE("chip/host/reduce: sum_to undoes broadcasting") {
  const auto a = random<float>({4, 5, 6}, 1);
  for (const shape& to : {shape{}, shape{6}, shape{1, 6}, shape{5, 1}, shape{4, 1, 1},
                          shape{1, 1, 1}, shape{4, 5, 6}}) {
    array<float> out(to);
    hk::sum_to(out.out(), a.in());
    array<double> expected(to);
    host_test::for_each_index(a.spec, [&](auto index) {
      expected.data()[host_test::place(expected.spec, index)] += at(a, index);
    });
    bool right = true;
    for (std::int64_t i = 0; i < out.size(); ++i) {
      // At most 120 terms of size 2: 120 * 2 * 2^-24 each way.
      right = right && close(out[i], expected[i], 0.0, 2e-5);
    }
    CHECK(right);
  }
}

TEST_CASE("chip/host/reduce: integers and bool are counted exactly") {
  array<bool> flags({3, 50});
  array<std::int32_t> numbers({3, 50});
  for (std::int64_t i = 0; i < 150; ++i) {
    flags[i] = i % 4 == 0;
    numbers[i] = 2000000000 - static_cast<std::int32_t>(i);
  }
  array<std::int64_t> count(shape{});
  hk::sum(count.out(), flags.in(), hk::all_axes(2));
  CHECK(count[0] == 38);
  hk::sum(count.out(), numbers.in(), hk::all_axes(2));
  CHECK(count[0] == 150 * 2000000000LL - 149 * 75);
  array<std::int32_t> smallest({3});
  hk::min(smallest.out(), numbers.in(), 0b10);
  CHECK(smallest[0] == 2000000000 - 49);
  array<double> share(shape{});
  hk::mean(share.out(), flags.in(), hk::all_axes(2));
  CHECK(share[0] == 38.0 / 150.0);
}

TEST_CASE("chip/host/reduce: the sum of squares agrees with double") {
  const auto a = random<float>({313, 57}, 1);
  array<double> out(shape{});
  double expected = 0.0;
  for (std::int64_t i = 0; i < a.size(); ++i) {
    expected += static_cast<double>(a[i]) * static_cast<double>(a[i]);
  }
  hk::sum_squares(out.out(), a.in());
  // About 1115 additions per lane, each within 2^-24 of the running sum.
  CHECK(close(out[0], expected, 1115 * 6e-8));
}

TEST_CASE("chip/host/reduce: threads do not change a bit") {
  const auto a = random<float>({700, 300}, 1);
  CHECK(host_test::threads_agree([&] {
    array<float> y({700});
    hk::sum(y.out(), a.in(), 0b10);
    return y;
  }));
  CHECK(host_test::threads_agree([&] {
    array<float> y({300});
    hk::sum(y.out(), a.in(), 0b01);
    return y;
  }));
}
