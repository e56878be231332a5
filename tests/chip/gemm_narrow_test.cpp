// SPDX-License-Identifier: Apache-2.0
#include "ashlar/chip/host/gemm_narrow.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <type_traits>
#include <vector>

#include "ashlar/chip/host/parallel.hpp"
#include "ashlar/chip/host/product.hpp"

namespace {

namespace al = ashlar;
using al::chip::gemm_args;
using al::chip::product_order;
using al::chip::sum_of;

template <class T>
std::vector<T> noise(std::int64_t count, unsigned seed) {
  std::vector<T> values(static_cast<std::size_t>(count));
  std::mt19937 random(seed);
  for (T& x : values) {
    if constexpr (std::is_integral_v<T>) {
      x = static_cast<T>(static_cast<int>(random() % 256) - 128);
    } else {
      x = T(std::uniform_real_distribution<float>(-1, 1)(random));
    }
  }
  return values;
}

/// Where the operands of one product lie.
template <class T>
struct problem {
  std::int64_t m, n, k;
  bool turned_a, turned_b, turned_c;
  int start;  ///< 0: zero, 1: a row of bias, 2: C itself
  std::vector<T> a, b;
  std::vector<sum_of<T>> bias, before;

  problem(std::int64_t rows, std::int64_t columns, std::int64_t depth, int kind)
      : m(rows),
        n(columns),
        k(depth),
        turned_a(kind % 2 != 0),
        turned_b(kind / 2 % 2 != 0),
        turned_c(kind / 4 % 2 != 0),
        start(kind % 3),
        a(noise<T>(m * k, 1)),
        b(noise<T>(k * n, 2)),
        bias(noise<sum_of<T>>(n, 3)),
        before(noise<sum_of<T>>(m * n, 4)) {}

  /// Into `c`, which holds `before`.
  gemm_args<T, sum_of<T>> into(std::vector<sum_of<T>>& c) const {
    gemm_args<T, sum_of<T>> g{.m = m,
                              .n = n,
                              .k = k,
                              .a = a.data(),
                              .a_row = turned_a ? 1 : k,
                              .a_col = turned_a ? m : 1,
                              .b = b.data(),
                              .b_row = turned_b ? 1 : n,
                              .b_col = turned_b ? k : 1,
                              .c = c.data(),
                              .c_row = turned_c ? 1 : n,
                              .c_col = turned_c ? m : 1};
    if (start == 1) {
      g.start = bias.data();
      g.start_col = 1;
    } else if (start == 2) {
      g.start = c.data();
      g.start_row = g.c_row;
      g.start_col = g.c_col;
    }
    return g;
  }
};

/// Calls `f(args, i, j, what the sum starts from)` for every element.
template <class T, class F>
void each_element(const problem<T>& p, const F& f) {
  std::vector<sum_of<T>> before = p.before;
  const auto g = p.into(before);
  for (std::int64_t i = 0; i < p.m; ++i) {
    for (std::int64_t j = 0; j < p.n; ++j) {
      f(g, i, j, g.start == nullptr ? sum_of<T>(0) : g.start[i * g.start_row + j * g.start_col]);
    }
  }
}

/// The chain in the order of K; int8 wraps around.
template <class T>
std::vector<sum_of<T>> chain_of(const problem<T>& p) {
  std::vector<sum_of<T>> c = p.before;
  each_element(p, [&](const auto& g, std::int64_t i, std::int64_t j, sum_of<T> sum) {
    for (std::int64_t q = 0; q < p.k; ++q) {
      const T x = g.a[i * g.a_row + q * g.a_col];
      const T y = g.b[q * g.b_row + j * g.b_col];
      if constexpr (std::is_integral_v<T>) {
        sum = static_cast<std::int32_t>(static_cast<std::uint32_t>(sum) +
                                        static_cast<std::uint32_t>(int{x} * int{y}));
      } else if constexpr (al::simd::fused_madd) {
        sum = std::fma(static_cast<float>(x), static_cast<float>(y), sum);
      } else {
        sum = static_cast<float>(x) * static_cast<float>(y) + sum;
      }
    }
    c[static_cast<std::size_t>(i * g.c_row + j * g.c_col)] = sum;
  });
  return c;
}

template <class R>
bool same_bits(const std::vector<R>& a, const std::vector<R>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(R)) == 0);
}

/// Elements that are further from the product in extended precision than `roundings` roundoffs of
/// the sum of magnitudes, and what numbers below the normal ones can lose.
template <class T>
int far_from_exact(const problem<T>& p, const std::vector<sum_of<T>>& c, std::int64_t roundings) {
  using operand = std::conditional_t<std::is_same_v<T, double>, double, float>;
  using limits = std::numeric_limits<sum_of<T>>;
  using exact = long double;
  int far = 0;
  each_element(p, [&](const auto& g, std::int64_t i, std::int64_t j, sum_of<T> start) {
    exact sum = start;
    exact size = std::abs(sum);
    for (std::int64_t q = 0; q < p.k; ++q) {
      const exact term = exact{static_cast<operand>(g.a[i * g.a_row + q * g.a_col])} *
                         exact{static_cast<operand>(g.b[q * g.b_row + j * g.b_col])};
      sum += term;
      size += std::abs(term);
    }
    const exact bound = static_cast<exact>(roundings) * (limits::epsilon() / 2) * size +
                        static_cast<exact>(2 * p.k + 1) * limits::min();
    const exact is = c[static_cast<std::size_t>(i * g.c_row + j * g.c_col)];
    far += std::abs(is - sum) <= bound ? 0 : 1;
  });
  return far;
}

template <class T, class F>
void each_problem(const F& f) {
  int kind = 0;
  for (const std::int64_t m : {1, 2, 16, 17, 33}) {
    for (const std::int64_t n : {1, 15, 16, 49, 97}) {
      for (const std::int64_t k : {0, 1, 3, 31, 32, 65, 130}) {
        CAPTURE(m);
        CAPTURE(n);
        CAPTURE(k);
        CAPTURE(kind);
        f(problem<T>(m, n, k, kind));
        kind = (kind + 1) % 24;
      }
    }
  }
  for (kind = 0; kind < 12; ++kind) {  // several blocks along every axis, and every layout
    CAPTURE(kind);
    f(problem<T>(37, kind == 7 ? 530 : 53, kind == 5 ? 2100 : 1030, kind));
  }
  for (const int start : {0, 1, 8}) {  // one row, in pieces of columns and of whole rows of B
    CAPTURE(start);
    f(problem<T>(1, 4145, 21, start));
    f(problem<T>(1, 160, 85, start));
    for (const std::int64_t rows : {2, 5, 8}) {
      f(problem<T>(rows, 96, 85, start));
      f(problem<T>(rows, 101, 85, start));
    }
  }
}

}  // namespace

TEST_CASE_TEMPLATE("chip/gemm_narrow: in the order of K a product has the bits of the chain", T,
                   al::bfloat16, al::float16, al::float8_e5m2, std::int8_t) {
  each_problem<T>([](const problem<T>& p) {
    auto c = p.before;
    al::chip::product<product_order::chain, T>(p.into(c));
    CHECK(same_bits(c, chain_of(p)));
  });
}

TEST_CASE(
    "chip/gemm_narrow: bfloat16 in groups is within its rounding errors of the exact product") {
  each_problem<al::bfloat16>([](const problem<al::bfloat16>& p) {
    auto c = p.before;
    al::chip::product<product_order::unit, al::bfloat16>(p.into(c));
    // Products are exact in float. One rounding for each term and, by a unit that adds up a step of
    // its own first, one for each step; zeros fill up the last step.
    CHECK(far_from_exact(p, c, p.k + p.k / 32 + 2) == 0);
  });
}

TEST_CASE("chip/gemm_narrow: int8 is exact in every order, also where sums wrap around") {
  each_problem<std::int8_t>([](const problem<std::int8_t>& p) {
    auto c = p.before;
    al::chip::product<product_order::unit, std::int8_t>(p.into(c));
    CHECK(same_bits(c, chain_of(p)));
    c = p.before;
    auto g = p.into(c);
    if (p.k > 0 && p.start != 1) {  // without groups, as machines that have none
      al::chip::detail::widened_multiply(g);
      CHECK(same_bits(c, chain_of(p)));
    }
  });
  problem<std::int8_t> p(3, 17, 1500, 2);
  std::fill(p.a.begin(), p.a.end(), std::int8_t{-128});
  std::fill(p.b.begin(), p.b.end(), std::int8_t{-128});
  std::fill(p.before.begin(), p.before.end(), std::numeric_limits<std::int32_t>::max());
  auto c = p.before;
  al::chip::product<product_order::unit, std::int8_t>(p.into(c));
  CHECK(same_bits(c, chain_of(p)));
}

TEST_CASE_TEMPLATE(
    "chip/gemm_narrow: a row, a column and a thread's part have the bits of the whole", T,
    al::bfloat16, std::int8_t) {
  for (const int kind : {0, 3, 6}) {
    CAPTURE(kind);
    const problem<T> p(45, 70, 700, kind);
    auto whole = p.before;
    {
      const al::chip::thread_limit one(1);
      al::chip::product<product_order::unit, T>(p.into(whole));
    }
    auto parted = p.before;
    {
      const al::chip::thread_limit two(2);
      al::chip::product<product_order::unit, T>(p.into(parted));
    }
    CHECK(same_bits(whole, parted));
    auto alone = p.before;
    const auto g = p.into(alone);
    for (std::int64_t i = 0; i < p.m; ++i) {
      auto row = g;
      row.m = 1;
      row.a += i * g.a_row;
      row.c += i * g.c_row;
      al::chip::product<product_order::unit, T>(row);
    }
    CHECK(same_bits(whole, alone));
    alone = p.before;
    for (std::int64_t j = 0; j < p.n; ++j) {
      auto column = g;
      column.n = 1;
      column.b += j * g.b_col;
      column.c += j * g.c_col;
      al::chip::product<product_order::unit, T>(column);
    }
    CHECK(same_bits(whole, alone));
  }
}

TEST_CASE_TEMPLATE("chip/product: lanes along K are near the exact product, and else the chain", T,
                   float, double) {
  for (const std::int64_t m : {1, 2, 3, 4, 5}) {
    for (const std::int64_t n : {1, 3, 4, 21}) {
      for (const std::int64_t k : {1, 15, 16, 31, 33, 100}) {
        for (int kind = 0; kind < 6; ++kind) {
          CAPTURE(m);
          CAPTURE(n);
          CAPTURE(k);
          CAPTURE(kind);
          const problem<T> p(m, n, k, kind);
          auto c = p.before;
          al::chip::product<product_order::lanes, T>(p.into(c));
          CHECK(far_from_exact(p, c, p.k + 1) == 0);
          if (m == 5 || !p.turned_b || (p.turned_a && m > 1)) {
            auto chain = p.before;
            al::chip::gemm(p.into(chain));
            CHECK(same_bits(c, chain));
          }
        }
      }
    }
  }
}
