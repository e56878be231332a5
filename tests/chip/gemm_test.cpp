// SPDX-License-Identifier: Apache-2.0
#include "ashlar/chip/host/gemm.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "ashlar/chip/host/detail/gemm_layout.hpp"
#include "ashlar/chip/host/detail/gemm_pack.hpp"

namespace {

using ashlar::chip::gemm_args;

template <class T>
T twin_madd(T a, T b, T c) {
  if constexpr (ashlar::simd::fused_madd) {
    return std::fma(a, b, c);
  } else {
    return a * b + c;
  }
}

/// The definition, one element at a time.
template <class T>
void twin(const gemm_args<T>& g) {
  for (std::int64_t i = 0; i < g.m; ++i) {
    for (std::int64_t j = 0; j < g.n; ++j) {
      T acc = g.start == nullptr ? T(0) : g.start[i * g.start_row + j * g.start_col];
      for (std::int64_t p = 0; p < g.k; ++p) {
        acc = twin_madd(g.a[i * g.a_row + p * g.a_col], g.b[p * g.b_row + j * g.b_col], acc);
      }
      g.c[i * g.c_row + j * g.c_col] = acc;
    }
  }
}

template <class T>
std::vector<T> noise(std::int64_t count, std::uint32_t seed) {
  std::vector<T> values(static_cast<std::size_t>(count));
  std::uint32_t state = seed * 2654435761u + 1u;
  for (T& value : values) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<T>(state >> 8) / static_cast<T>(1 << 23) - T(1);
  }
  return values;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

/// Row-major with `gap` unused elements per row, or column-major.
struct layout {
  bool turned;
  std::int64_t gap;

  std::int64_t row(std::int64_t, std::int64_t columns) const { return turned ? 1 : columns + gap; }
  std::int64_t column(std::int64_t rows, std::int64_t) const { return turned ? rows + gap : 1; }
  std::int64_t size(std::int64_t rows, std::int64_t columns) const {
    return turned ? (rows + gap) * columns : (columns + gap) * rows;
  }
};

enum class start_mode { zero, itself, bias };

template <class T>
bool agrees(std::int64_t m, std::int64_t n, std::int64_t k, layout la, layout lb, layout lc,
            start_mode mode) {
  const auto a = noise<T>(la.size(m, k), 1);
  const auto b = noise<T>(lb.size(k, n), 2);
  const auto bias = noise<T>(n, 3);
  std::vector<T> expected = noise<T>(lc.size(m, n), 4);  // gaps must stay as they are
  std::vector<T> actual = expected;
  gemm_args<T> g{.m = m,
                 .n = n,
                 .k = k,
                 .a = a.data(),
                 .a_row = la.row(m, k),
                 .a_col = la.column(m, k),
                 .b = b.data(),
                 .b_row = lb.row(k, n),
                 .b_col = lb.column(k, n),
                 .c_row = lc.row(m, n),
                 .c_col = lc.column(m, n)};
  for (auto* c : {&expected, &actual}) {
    g.c = c->data();
    if (mode == start_mode::itself) {
      g.start = g.c;
      g.start_row = g.c_row;
      g.start_col = g.c_col;
    } else if (mode == start_mode::bias) {
      g.start = bias.data();
      g.start_row = 0;
      g.start_col = 1;
    }
    if (c == &expected) {
      twin(g);
    } else {
      ashlar::chip::gemm(g);
    }
  }
  return same_bits(expected, actual);
}

constexpr std::int64_t sizes[] = {0, 1, 2, 3, 5, 7, 13, 16, 17, 31, 33, 64, 97, 130};
constexpr start_mode modes[] = {start_mode::zero, start_mode::itself, start_mode::bias};

}  // namespace

TEST_CASE_TEMPLATE("chip/gemm: every element is one chain of multiply-adds in the order of k", T,
                   float, double) {
  int mode = 0;
  for (const std::int64_t m : sizes) {
    for (const std::int64_t n : sizes) {
      for (const std::int64_t k : sizes) {
        const start_mode start = modes[mode++ % 3];
        CAPTURE(m);
        CAPTURE(n);
        CAPTURE(k);
        CHECK(agrees<T>(m, n, k, {false, 0}, {false, 0}, {false, 0}, start));
      }
    }
  }
}

TEST_CASE_TEMPLATE("chip/gemm: strides and start values do not change the bits", T, float, double) {
  const std::int64_t shapes[][3] = {{1, 64, 33},  {3, 17, 5},   {8, 130, 97}, {33, 31, 64},
                                    {64, 13, 17}, {97, 130, 7}, {130, 1, 33}, {5, 3, 300}};
  for (const auto& s : shapes) {
    for (int bits = 0; bits < 8; ++bits) {
      for (const std::int64_t gap : {0, 3}) {
        for (const start_mode start : modes) {
          CAPTURE(s[0]);
          CAPTURE(s[1]);
          CAPTURE(s[2]);
          CAPTURE(bits);
          CAPTURE(gap);
          CHECK(agrees<T>(s[0], s[1], s[2], {(bits & 1) != 0, gap}, {(bits & 2) != 0, gap},
                          {(bits & 4) != 0, gap}, start));
        }
      }
    }
  }
}

TEST_CASE("chip/gemm: strides without a unit and negative strides are followed") {
  const std::int64_t m = 19, n = 37, k = 23;
  const auto a = noise<float>(m * k * 2, 1);
  const auto b = noise<float>(k * n * 3, 2);
  std::vector<float> expected(static_cast<std::size_t>(m * n * 2), 0.5f);
  std::vector<float> actual = expected;
  gemm_args<float> g{.m = m,
                     .n = n,
                     .k = k,
                     .a = a.data() + (m - 1) * k * 2,
                     .a_row = -k * 2,
                     .a_col = 2,
                     .b = b.data() + (k - 1) * n * 3,
                     .b_row = -n * 3,
                     .b_col = 3,
                     .c = expected.data(),
                     .c_row = n * 2,
                     .c_col = 2};
  twin(g);
  g.c = actual.data();
  ashlar::chip::gemm(g);
  CHECK(same_bits(expected, actual));
}

TEST_CASE("chip/gemm: blocks of k, of columns and of rows do not change the bits") {
  for (const bool turned : {false, true}) {
    CHECK(agrees<float>(9, 70, 1100, {false, 0}, {turned, 0}, {false, 0}, start_mode::bias));
    CHECK(agrees<float>(40, 1100, 260, {turned, 0}, {false, 0}, {false, 0}, start_mode::itself));
    CHECK(agrees<float>(300, 520, 270, {turned, 0}, {turned, 0}, {false, 0}, start_mode::zero));
    CHECK(agrees<double>(300, 300, 270, {turned, 0}, {turned, 0}, {turned, 0}, start_mode::bias));
  }
}

TEST_CASE("chip/gemm: rows of a B stored by rows, larger than the caches near by") {
  for (const std::int64_t m : {4, 5, 8, 9, 17, 31, 41, 257}) {
    CAPTURE(m);
    CHECK(agrees<float>(m, 523, 517, {false, 0}, {false, 0}, {false, 0}, start_mode::bias));
    CHECK(agrees<float>(m, 1025, 257, {m < 9, 3}, {false, 5}, {false, 1}, start_mode::itself));
  }
}

TEST_CASE("chip/gemm: few rows of a B stored by columns, larger than the caches near by") {
  for (const std::int64_t m : {1, 3, 8}) {
    CAPTURE(m);
    CHECK(agrees<float>(m, 523, 517, {false, 0}, {true, 0}, {false, 0}, start_mode::bias));
    CHECK(agrees<float>(m, 515, 528, {false, 3}, {true, 5}, {false, 1}, start_mode::itself));
  }
}

TEST_CASE("chip/gemm: the number of threads does not change the bits") {
  for (const int threads : {1, 2, 3, 5}) {
    const ashlar::chip::thread_limit limit(threads);
    CAPTURE(threads);
    CHECK(agrees<float>(1, 1500, 1200, {false, 0}, {false, 0}, {false, 0}, start_mode::bias));
    CHECK(agrees<float>(1500, 1, 1200, {false, 0}, {false, 0}, {false, 0}, start_mode::itself));
    CHECK(agrees<float>(130, 170, 150, {false, 1}, {true, 0}, {false, 2}, start_mode::zero));
    CHECK(agrees<double>(170, 130, 150, {true, 0}, {false, 3}, {true, 0}, start_mode::bias));
  }
}

TEST_CASE("chip/gemm: a row of a product has the same bits alone and among others") {
  const std::int64_t m = 67, n = 172, k = 300;
  const auto a = noise<float>(m * k, 1);
  for (const bool turned : {false, true}) {
    const auto b = noise<float>(k * n, 2);
    std::vector<float> all(static_cast<std::size_t>(m * n));
    gemm_args<float> g{.m = m,
                       .n = n,
                       .k = k,
                       .a = a.data(),
                       .a_row = k,
                       .b = b.data(),
                       .b_row = turned ? 1 : n,
                       .b_col = turned ? k : 1,
                       .c = all.data(),
                       .c_row = n};
    ashlar::chip::gemm(g);
    for (const std::int64_t count : {1, 2, 3, 4, 8, 11, 17}) {
      for (std::int64_t i = 0; i + count <= m; i += count) {
        std::vector<float> some(static_cast<std::size_t>(count * n));
        g.m = count;
        g.a = a.data() + i * k;
        g.c = some.data();
        ashlar::chip::gemm(g);
        REQUIRE(std::memcmp(some.data(), all.data() + i * n, some.size() * sizeof(float)) == 0);
      }
    }
  }
}

TEST_CASE("chip/gemm: a batch is its products one by one") {
  const std::int64_t m = 5, n = 33, k = 20, count = 7;
  const auto a = noise<float>(m * k * count, 1);
  const auto b = noise<float>(k * n, 2);
  for (const int threads : {1, 2}) {
    const ashlar::chip::thread_limit limit(threads);
    std::vector<float> expected(static_cast<std::size_t>(m * n * count));
    std::vector<float> actual = expected;
    gemm_args<float> g{.m = m,
                       .n = n,
                       .k = k,
                       .a = a.data(),
                       .a_row = k,
                       .b = b.data(),
                       .b_row = n,
                       .c = actual.data(),
                       .c_row = n};
    ashlar::chip::gemm_batched(g, count, {.a = m * k, .b = 0, .c = m * n});
    for (std::int64_t i = 0; i < count; ++i) {
      g.a = a.data() + i * m * k;
      g.c = expected.data() + i * m * n;
      twin(g);
    }
    CHECK(same_bits(expected, actual));
    ashlar::chip::gemm_batched(g, 0, {});
  }
}

TEST_CASE("chip/gemm: NaN and infinity travel as in the definition") {
  auto a = noise<float>(4 * 20, 1);
  const auto b = noise<float>(20 * 40, 2);
  a[20 + 3] = NAN;
  a[40 + 7] = INFINITY;
  std::vector<float> c(4 * 40);
  ashlar::chip::gemm(gemm_args<float>{.m = 4,
                                      .n = 40,
                                      .k = 20,
                                      .a = a.data(),
                                      .a_row = 20,
                                      .b = b.data(),
                                      .b_row = 40,
                                      .c = c.data(),
                                      .c_row = 40});
  for (int j = 0; j < 40; ++j) {
    CHECK(std::isfinite(c[static_cast<std::size_t>(j)]));
    CHECK(std::isnan(c[static_cast<std::size_t>(40 + j)]));
    CHECK(std::isinf(c[static_cast<std::size_t>(80 + j)]));
  }
}

TEST_CASE_TEMPLATE("chip/gemm: packed operands lie as their layouts say", T, float, double) {
  namespace detail = ashlar::chip::detail;
  constexpr std::int64_t width = ashlar::simd::reg<T>::width;
  constexpr int regs = 2;
  constexpr std::int64_t columns = regs * width;
  const std::int64_t k = 7, n = 3 * columns;
  const auto b = noise<T>(k * n, 1);
  std::vector<T> packed(b.size());
  for (const bool turned : {false, true}) {  // B stored by rows, and by columns
    const std::int64_t row = turned ? 1 : n;
    const std::int64_t column = turned ? k : 1;
    for (std::int64_t strip = 0; strip < 3; ++strip) {
      detail::gemm_pack_b(b.data() + strip * columns * column, row, column, k, regs,
                          (regs - 1) * width, n, packed.data() + strip * k * columns);
    }
    const ashlar::tile::layout where = detail::packed_b(k, n, regs, width);
    for (std::int64_t i = 0; i < k; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        const T from = b[static_cast<std::size_t>(i * row + j * column)];
        REQUIRE(packed[static_cast<std::size_t>(where(i * n + j))] == from);
      }
    }
    // Read in the order of memory, B comes in the order that the inverse says.
    const ashlar::tile::layout back = inverse(where);
    REQUIRE(merged(compose(where, back)) == merged(ashlar::tile::layout{{k * n, 1}}));
  }
  const int rows = 4;
  detail::gemm_pack_a(b.data(), k, std::int64_t{1}, k, rows, packed.data());
  const ashlar::tile::layout where = detail::packed_a(rows, k);
  for (std::int64_t place = 0; place < rows * k; ++place) {
    REQUIRE(packed[static_cast<std::size_t>(where(place))] == b[static_cast<std::size_t>(place)]);
  }
}
