// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>

#include "ashlar/chip/host/rope.hpp"
#include "host_support.hpp"

namespace hk = ashlar::chip::host_kernels;
using ashlar::shape;
using host_test::array;
using host_test::at;
using host_test::close;
using host_test::random;
using host_test::scattered;

namespace {

template <class P>
array<P> positions_from(std::int64_t tokens, std::int64_t first, std::int64_t step) {
  array<P> positions({tokens});
  for (std::int64_t t = 0; t < tokens; ++t) {
    positions[t] = static_cast<P>(first + t * step);
  }
  return positions;
}

template <class P>
bool agrees(const array<float>& y, const array<float>& x, const array<P>& positions, double theta,
            hk::rope_pairs pairs, double sign) {
  const std::int64_t width = x.spec[-1];
  bool right = true;
  host_test::for_each_index(x.spec, [&](auto index) {
    const std::int64_t c = index.back();
    const bool halves = pairs == hk::rope_pairs::halves;
    const std::int64_t i = halves ? c % (width / 2) : c / 2;
    const bool second = halves ? c >= width / 2 : c % 2 == 1;
    std::vector<std::int64_t> other(index.begin(), index.end());
    other.back() = halves ? (c + width / 2) % width : (c ^ 1);
    const double angle = static_cast<double>(positions[index[index.size() - 3]]) *
                         std::pow(theta, -2.0 * double(i) / double(width)) * sign;
    const double self = static_cast<double>(at(x, index));
    const double twin = static_cast<double>(at(x, other));
    const double expected = second ? self * std::cos(angle) + twin * std::sin(angle)
                                   : self * std::cos(angle) - twin * std::sin(angle);
    // Two products of numbers up to 2, each with three roundings of 2^-24.
    right = right && close(at(y, index), expected, 0.0, 8e-7);
  });
  return right;
}

}  // namespace

TEST_CASE("chip/host/rope: both pairings agree with double in every layout, in place too") {
  const shape shapes[] = {{1, 1, 2}, {3, 2, 8},    {7, 3, 34}, {2, 5, 3, 64},
                          {0, 2, 8}, {2, 0, 1, 8}, {5, 1, 6}};
  for (const shape& extents : shapes) {
    const auto x = random<float>(extents, 1);
    for (const auto pairs : {hk::rope_pairs::interleaved, hk::rope_pairs::halves}) {
      const auto positions = positions_from<std::int64_t>(extents[extents.rank() - 3], 11, 3);
      array<float> y(extents);
      hk::rope(y.out(), x.in(), positions.in(), 10000.0, pairs);
      CHECK_MESSAGE(agrees(y, x, positions, 10000.0, pairs, 1.0), ashlar::to_string(extents));
      auto z = scattered(array<float>(extents));
      hk::rope(z.out(), scattered(x).in(), scattered(positions).in(), 10000.0, pairs);
      CHECK(host_test::same_bits(y, z));
      auto w = x;
      hk::rope(w.out(), w.in(), positions.in(), 10000.0, pairs);
      CHECK(host_test::same_bits(y, w));
      array<float> back(extents);
      hk::rope(back.out(), x.in(), positions.in(), 10000.0, pairs, true);
      CHECK(agrees(back, x, positions, 10000.0, pairs, -1.0));
    }
  }
}

TEST_CASE("chip/host/rope: kept angles equal those made for one call") {
  const auto x = random<float>({2, 3, 16}, 1);
  const auto far = positions_from<std::int32_t>(2, 100, 5000000);  // the second is too far to keep
  const auto near = positions_from<std::int32_t>(1, 100, 0);
  array<float> y({2, 3, 16});
  hk::rope(y.out(), x.in(), far.in(), 500000.0, hk::rope_pairs::halves);
  CHECK(agrees(y, x, far, 500000.0, hk::rope_pairs::halves, 1.0));
  array<float> first({1, 3, 16});
  array<float> x_first({1, 3, 16});
  std::copy_n(x.data(), 48, x_first.data());
  hk::rope(first.out(), x_first.in(), near.in(), 500000.0, hk::rope_pairs::halves);
  CHECK(std::memcmp(first.data(), y.data(), 48 * sizeof(float)) == 0);
  const auto negative = positions_from<std::int32_t>(2, -7, 1);
  hk::rope(y.out(), x.in(), negative.in(), 500000.0, hk::rope_pairs::halves);
  CHECK(agrees(y, x, negative, 500000.0, hk::rope_pairs::halves, 1.0));
}

TEST_CASE("chip/host/rope: many models on one thread take turns in the cache") {
  const auto x = random<float>({1, 1, 8}, 1);
  const auto positions = positions_from<std::int32_t>(1, 9, 1);
  for (int round = 0; round < 2; ++round) {
    for (int model = 1; model <= 6; ++model) {
      array<float> y({1, 1, 8});
      hk::rope(y.out(), x.in(), positions.in(), 100.0 * model, hk::rope_pairs::interleaved);
      CHECK(agrees(y, x, positions, 100.0 * model, hk::rope_pairs::interleaved, 1.0));
    }
  }
}

TEST_CASE("chip/host/rope: an odd head is an error") {
  const auto x = random<float>({1, 1, 7}, 1);
  array<float> y({1, 1, 7});
  const auto positions = positions_from<std::int32_t>(1, 9, 1);
  CHECK_THROWS_AS(hk::rope(y.out(), x.in(), positions.in(), 1e4, hk::rope_pairs::interleaved),
                  ashlar::argument_error);
}

TEST_CASE("chip/host/rope: threads do not change a bit") {
  const auto x = random<float>({600, 4, 64}, 1);
  const auto positions = positions_from<std::int32_t>(600, 0, 1);
  CHECK(host_test::threads_agree([&] {
    array<float> y({600, 4, 64});
    hk::rope(y.out(), x.in(), positions.in(), 1e4, hk::rope_pairs::halves);
    return y;
  }));
}
