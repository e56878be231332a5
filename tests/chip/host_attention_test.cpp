// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "ashlar/chip/host/attention.hpp"
#include "ashlar/core/error.hpp"
#include "attention_support.hpp"

namespace {

using namespace attention_test;
namespace kernels = ashlar::chip::host_kernels;

struct problem {
  std::int64_t B, H, Hkv, Tq, Tk, Dh;
};

template <class T>
std::vector<T> run(const array<T>& q, const array<T>& k, const array<T>& v, bool causal,
                   double scale) {
  array<T> out({q.spec[0], q.spec[1], q.spec[2], q.spec[3]}, std::numeric_limits<T>::quiet_NaN());
  kernels::sdpa<T>(out, q, k, v, causal, scale);
  return out.values();
}

// Scores are at most 1 here, so an error of a few hundred roundings of numbers near 1.
template <class T>
constexpr double tolerance = sizeof(T) == 4 ? 4e-6 : 1e-14;

constexpr problem problems[] = {
    {1, 1, 1, 1, 1, 1},    {1, 1, 1, 1, 17, 8},   {2, 2, 1, 3, 3, 5},   {1, 4, 1, 7, 31, 16},
    {2, 4, 2, 16, 16, 20}, {1, 4, 4, 37, 53, 64}, {1, 8, 4, 1, 100, 8}, {3, 3, 3, 5, 2, 33},
    {1, 2, 2, 19, 19, 48}, {0, 2, 1, 3, 3, 4},    {1, 0, 1, 3, 3, 4},   {1, 2, 1, 0, 3, 4},
    {1, 2, 1, 3, 0, 4},    {1, 2, 1, 3, 3, 0},    {1, 0, 0, 3, 3, 2},   {1, 6, 2, 11, 64, 7},
};

TEST_CASE_TEMPLATE("chip/host_attention: sdpa agrees with attention by the book", T, float,
                   double) {
  unsigned seed = 1;
  for (const problem& p : problems) {
    array<T> q({p.B, p.H, p.Tq, p.Dh});
    array<T> k({p.B, p.Hkv, p.Tk, p.Dh});
    array<T> v({p.B, p.Hkv, p.Tk, p.Dh});
    q.randomise(seed++);
    k.randomise(seed++);
    v.randomise(seed++);
    for (const bool causal : {false, true}) {
      CAPTURE(p.Tq);
      CAPTURE(p.Tk);
      CAPTURE(p.Dh);
      CAPTURE(causal);
      const double scale = 0.3;
      CHECK(largest_difference(run(q, k, v, causal, scale),
                               naive_attention(q, k, v, causal, scale)) < tolerance<T>);
    }
  }
}

TEST_CASE_TEMPLATE("chip/host_attention: strides do not change a bit", T, float, double) {
  const problem p{2, 6, 3, 13, 21, 20};
  array<T> q({p.B, p.H, p.Tq, p.Dh});
  array<T> k({p.B, p.Hkv, p.Tk, p.Dh});
  array<T> v({p.B, p.Hkv, p.Tk, p.Dh});
  const auto expected = run(q.randomise(1), k.randomise(2), v.randomise(3), true, 0.25);
  for (const auto& order : {std::initializer_list<int>{0, 2, 1, 3}, {3, 2, 1, 0}, {1, 3, 0, 2}}) {
    for (const std::int64_t gap : {0, 3}) {
      array<T> q2({p.B, p.H, p.Tq, p.Dh}, order, gap);
      array<T> k2({p.B, p.Hkv, p.Tk, p.Dh}, order, gap);
      array<T> v2({p.B, p.Hkv, p.Tk, p.Dh}, order, gap);
      array<T> out({p.B, p.H, p.Tq, p.Dh}, order, gap);
      kernels::sdpa<T>(out, q2.randomise(1), k2.randomise(2), v2.randomise(3), true, 0.25);
      CHECK(same_bits(out.values(), expected));
      const auto gaps =
          std::count_if(out.storage.begin(), out.storage.end(), [](T x) { return std::isnan(x); });
      CHECK(gaps == std::ssize(out.storage) - out.spec.size);
    }
  }
}

TEST_CASE_TEMPLATE("chip/host_attention: a row has the same bits alone, in a batch, in chunks", T,
                   float, double) {
  for (const std::int64_t Dh : {8, 20, 64}) {
    const problem p{3, 4, 2, 45, 45, Dh};
    array<T> q({p.B, p.H, p.Tq, p.Dh});
    array<T> k({p.B, p.Hkv, p.Tk, p.Dh});
    array<T> v({p.B, p.Hkv, p.Tk, p.Dh});
    q.randomise(4, 3);
    k.randomise(5, 3);
    v.randomise(6, 3);
    array<T> whole({p.B, p.H, p.Tq, p.Dh});
    kernels::sdpa<T>(whole, q, k, v, true, 0.2);
    for (std::int64_t b = 0; b < p.B; ++b) {
      for (const std::int64_t chunk : {1, 7, 16, 45}) {
        for (std::int64_t begin = 0; begin < p.Tq; begin += chunk) {
          const std::int64_t end = std::min(p.Tq, begin + chunk);
          ashlar::tensor_spec queries = q.spec;
          queries.extent[0] = 1;
          queries.extent[2] = end - begin;
          ashlar::tensor_spec keys = k.spec;
          keys.extent[0] = 1;
          keys.extent[2] = end;
          array<T> part({1, p.H, end - begin, p.Dh});
          kernels::sdpa<T>(part, {&q(b, 0, begin, 0), &queries}, {&k(b, 0, 0, 0), &keys},
                           {&v(b, 0, 0, 0), &keys}, true, 0.2);
          bool equal = true;
          for (std::int64_t h = 0; h < p.H; ++h) {
            for (std::int64_t i = begin; i < end; ++i) {
              equal = equal && std::memcmp(&part(0, h, i - begin, 0), &whole(b, h, i, 0),
                                           static_cast<std::size_t>(Dh) * sizeof(T)) == 0;
            }
          }
          CHECK(equal);
        }
      }
    }
  }
}

TEST_CASE("chip/host_attention: the number of threads does not change a bit") {
  for (const problem p : {problem{1, 4, 1, 203, 203, 32}, problem{3, 2, 2, 150, 170, 16}}) {
    array<float> q({p.B, p.H, p.Tq, p.Dh});
    array<float> k({p.B, p.Hkv, p.Tk, p.Dh});
    array<float> v({p.B, p.Hkv, p.Tk, p.Dh});
    q.randomise(7);
    k.randomise(8);
    v.randomise(9);
    std::vector<float> expected;
    for (const int threads : {1, 2, 3, 5}) {
      const ashlar::chip::thread_limit limit(threads);
      const auto values = run(q, k, v, true, 0.2);
      if (threads == 1) {
        expected = values;
      }
      CHECK(same_bits(values, expected));
    }
  }
}

TEST_CASE("chip/host_attention: hidden keys are not read as numbers") {
  const problem p{1, 2, 1, 20, 40, 12};
  array<float> q({p.B, p.H, p.Tq, p.Dh});
  array<float> k({p.B, p.Hkv, p.Tk, p.Dh});
  array<float> v({p.B, p.Hkv, p.Tk, p.Dh});
  q.randomise(1);
  k.randomise(2);
  v.randomise(3);
  const auto expected = run(q, k, v, true, 1);
  const std::int64_t first_hidden = 30;  // query 9 is the last that does not see key 30
  for (std::int64_t j = first_hidden; j < p.Tk; ++j) {
    for (std::int64_t d = 0; d < p.Dh; ++d) {
      k(0, 0, j, d) = v(0, 0, j, d) = std::numeric_limits<float>::quiet_NaN();
    }
  }
  const auto poisoned = run(q, k, v, true, 1);
  for (std::int64_t h = 0; h < p.H; ++h) {
    const auto at = static_cast<std::size_t>(h * p.Tq * p.Dh);
    const std::size_t bytes = static_cast<std::size_t>(10 * p.Dh) * sizeof(float);
    CHECK(std::memcmp(&poisoned[at], &expected[at], bytes) == 0);
    CHECK(std::isnan(poisoned[at + static_cast<std::size_t>(10 * p.Dh)]));
  }
}

TEST_CASE("chip/host_attention: large scores do not overflow") {
  array<float> q({1, 1, 4, 16}, 100.0f);
  array<float> k({1, 1, 9, 16});
  array<float> v({1, 1, 9, 16});
  k.randomise(1, 50);
  v.randomise(2);
  // The largest key takes everything but what exp(-50) leaves.
  CHECK(largest_difference(run(q, k, v, false, 1), naive_attention(q, k, v, false, 1)) < 1e-4);
}

TEST_CASE("chip/host_attention: shapes that do not go together are refused") {
  array<float> out({1, 4, 2, 8});
  array<float> q({1, 4, 2, 8});
  array<float> k({1, 2, 3, 8});
  array<float> other({1, 2, 4, 8});
  array<float> three({1, 3, 3, 8});
  array<float> narrow({1, 2, 3, 4});
  array<float> flat({4, 2, 8});
  CHECK_THROWS_AS(kernels::sdpa<float>(out, q, k, other, false, 1), ashlar::shape_error);
  CHECK_THROWS_AS(kernels::sdpa<float>(out, q, three, three, false, 1), ashlar::shape_error);
  CHECK_THROWS_AS(kernels::sdpa<float>(out, q, narrow, narrow, false, 1), ashlar::shape_error);
  CHECK_THROWS_AS(kernels::sdpa<float>(k, q, k, k, false, 1), ashlar::shape_error);
  CHECK_THROWS_AS(kernels::sdpa<float>(flat, flat, k, k, false, 1), ashlar::shape_error);
  kernels::sdpa<float>(out, q, k, k, false, 1);
}

}  // namespace
