// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#include "ashlar/config.hpp"
#include "ashlar/core/ceil_div.hpp"
#include "ashlar/simd/math.hpp"
#include "ashlar/simd/memory.hpp"
#include "ashlar/simd/reduce.hpp"
#include "ashlar/simd/vec.hpp"

/// The inner loops of attention: a few query rows against all the keys and values of one head.
///
/// Keys and values come in panels of 16 tokens. Scores of R rows are kept panel by panel,
/// `(panel, row, token) -> (panel * R + row) * 16 + token`, so that every loop walks forward.
///
/// The order of every sum is fixed, whatever R, the panels' places or the threads are:
/// a score is a chain of `madd` over d; a row's exponentials add up by token mod 16, then by
/// `simd::sum`; an output is a chain of `madd` over tokens.
namespace ashlar::chip::host_kernels::detail {

inline constexpr std::int64_t panel_tokens = simd::lanes;

constexpr std::int64_t panels_for(std::int64_t tokens) { return ceil_div(tokens, panel_tokens); }

/// Keys and values of one head: where each panel of 16 tokens stands.
template <class T>
struct head_panels {
  const T* keys;                     ///< panel p at `key_offset[p]`, as (Dh, 16)
  const T* values;                   ///< panel p at `value_offset[p]`, as (16, Dh)
  const std::int64_t* key_offset;    ///< [elements]
  const std::int64_t* value_offset;  ///< [elements]
  std::int64_t key_stride;           ///< from one d to the next
  std::int64_t value_stride;         ///< from one token to the next
};

/// Rows of the query heads that share one key-value head: row r is head r % group of token
/// r / group.
template <class T>
struct head_rows {
  T* data;
  std::int64_t token_stride;
  std::int64_t head_stride;
  std::int64_t dim_stride;
  std::int64_t group;  ///< query heads per key-value head

  [[nodiscard]] T* row(std::int64_t r) const {
    return data + r / group * token_stride + r % group * head_stride;
  }
};

/// Calls `f(0) ... f(N - 1)` with the number as a type: arrays indexed by it stay in registers.
template <int N, class F>
ASHLAR_INLINE void unroll(const F& f) {
  [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    (f(std::integral_constant<int, I>{}), ...);
  }
  (std::make_integer_sequence<int, N>{});
}

/// Native registers that may hold sums; the rest is for operands.
template <class T>
inline constexpr int sum_registers = simd::vec<T>::width * sizeof(T) >= 64 ? 16 : 8;

/// Query rows that are worked on at once.
template <class T>
inline constexpr int max_rows = std::max(1, std::min(8, sum_registers<T> / simd::vec<T>::parts));

/// Vectors of sums per row, so that R rows fill the registers.
template <class T, int R>
inline constexpr int sum_columns =
    std::max(1, std::min(8, sum_registers<T> / (simd::vec<T>::parts * R)));

/// R rows as (Dh, R).
template <class T, int R>
void pack_rows(T* to, const head_rows<const T>& from, std::int64_t first, std::int64_t dh) {
  for (int r = 0; r < R; ++r) {
    const T* row = from.row(first + r);
    for (std::int64_t d = 0; d < dh; ++d) {
      to[d * R + r] = row[d * from.dim_stride];
    }
  }
}

/// Scores of C panels from `p` on.
template <class T, int R, int C>
void score_panels(T* scores, const T* rows, const head_panels<T>& kv, std::int64_t p,
                  std::int64_t dh, T scale) {
  simd::vec<T> sum[R][C];
  const T* keys[C];
  unroll<C>([&](auto c)
                __attribute__((always_inline)) { keys[c] = kv.keys + kv.key_offset[p + c]; });
  unroll<R>([&](auto r) __attribute__((always_inline)) {
    unroll<C>([&](auto c) __attribute__((always_inline)) { sum[r][c] = simd::broadcast(T(0)); });
  });
  for (std::int64_t d = 0; d < dh; ++d) {
    simd::vec<T> key[C];
    unroll<C>([&](auto c) __attribute__((always_inline)) {
      key[c] = simd::load(keys[c] + d * kv.key_stride);
    });
    unroll<R>([&](auto r) __attribute__((always_inline)) {
      const simd::vec<T> x = simd::broadcast(rows[d * R + r]);
      unroll<C>([&](auto c) __attribute__((always_inline)) {
        sum[r][c] = simd::madd(x, key[c], sum[r][c]);
      });
    });
  }
  const simd::vec<T> s = simd::broadcast(scale);
  unroll<C>([&](auto c) __attribute__((always_inline)) {
    unroll<R>([&](auto r) __attribute__((always_inline)) {
      simd::store(scores + ((p + c) * R + r) * panel_tokens, sum[r][c] * s);
    });
  });
}

/// `scores(r, j) = scale * sum over d of rows(d, r) * keys(d, j)` for the first `panels` panels.
template <class T, int R>
void score_rows(T* scores, const T* rows, const head_panels<T>& kv, std::int64_t panels,
                std::int64_t dh, T scale) {
  constexpr int columns = sum_columns<T, R>;
  std::int64_t p = 0;
  for (; p + columns <= panels; p += columns) {
    score_panels<T, R, columns>(scores, rows, kv, p, dh, scale);
  }
  for (; p < panels; ++p) {
    score_panels<T, R, 1>(scores, rows, kv, p, dh, scale);
  }
}

/// Largest lane. A NaN may be passed over: it is still in the exponentials and their sum.
template <class T>
T top_lane(const simd::vec<T>& v) {
  alignas(64) T lane[simd::lanes];
  simd::store(lane, v);
  const auto halve = [&](auto half) __attribute__((always_inline)) {
    unroll<half()>([&](auto i) __attribute__((always_inline)) {
      lane[i] = lane[i] > lane[i + half] ? lane[i] : lane[i + half];
    });
  };
  halve(std::integral_constant<int, 8>{});
  halve(std::integral_constant<int, 4>{});
  halve(std::integral_constant<int, 2>{});
  halve(std::integral_constant<int, 1>{});
  return lane[0];
}

/// Turns the first `n` scores of one row into probabilities; zero in the rest of the last panel.
template <class T, int R>
void softmax_row(T* scores, std::int64_t n) {
  constexpr std::int64_t step = R * panel_tokens;
  const std::int64_t full = n / panel_tokens;
  const int rest = static_cast<int>(n % panel_tokens);
  T* const last = scores + full * step;
  simd::vec<T> top = simd::broadcast(-std::numeric_limits<T>::infinity());
  for (std::int64_t p = 0; p < full; ++p) {
    top = simd::max(top, simd::load(scores + p * step));
  }
  if (rest != 0) {
    top = simd::max(top, simd::load_partial(last, rest, -std::numeric_limits<T>::infinity()));
  }
  const T largest = top_lane(top);
  const simd::vec<T> shift = simd::broadcast(largest);
  simd::vec<T> sums = simd::broadcast(T(0));
  for (std::int64_t p = 0; p < full; ++p) {
    const simd::vec<T> e = simd::exp(simd::load(scores + p * step) - shift);
    simd::store(scores + p * step, e);
    sums = sums + e;
  }
  if (rest != 0) {
    // Places after the row's end may hold anything, also what `exp` must not see.
    const simd::vec<T> x = simd::load_partial(last, rest, largest);
    const simd::vec<T> e =
        simd::select(simd::first_lanes<T>(rest), simd::exp(x - shift), simd::broadcast(T(0)));
    simd::store(last, e);
    sums = sums + e;
  }
  const simd::vec<T> total = simd::broadcast(simd::sum(sums));
  for (std::int64_t p = 0; p < panels_for(n); ++p) {
    simd::store(scores + p * step, simd::load(scores + p * step) / total);
  }
}

/// 16 C columns from `column` on of R rows of `weights * values`; row r sees `n[r]` tokens.
///
/// With `Partial`, C is 1 and only the first `width` columns exist.
template <class T, int R, int C, bool Partial>
void weigh_columns(const head_rows<T>& out, std::int64_t first, const T* weights,
                   const head_panels<T>& kv, const std::int64_t* n, std::int64_t column,
                   int width) {
  static_assert(C == 1 || !Partial);
  constexpr std::int64_t step = R * panel_tokens;
  simd::vec<T> sum[R][C];
  unroll<R>([&](auto r) __attribute__((always_inline)) {
    unroll<C>([&](auto c) __attribute__((always_inline)) { sum[r][c] = simd::broadcast(T(0)); });
  });
  const auto value = [&](const T* row, auto c) __attribute__((always_inline)) {
    if constexpr (Partial) {
      return simd::load_partial(row, width);
    } else {
      return simd::load(row + c * simd::lanes);
    }
  };
  const auto add_token = [&](const T* row, const T* weight) __attribute__((always_inline)) {
    simd::vec<T> v[C];
    unroll<C>([&](auto c) __attribute__((always_inline)) { v[c] = value(row, c); });
    unroll<R>([&](auto r) __attribute__((always_inline)) {
      const simd::vec<T> w = simd::broadcast(weight[r * panel_tokens]);
      unroll<C>([&](auto c)
                    __attribute__((always_inline)) { sum[r][c] = simd::madd(w, v[c], sum[r][c]); });
    });
  };
  const T* const values = kv.values + column;
  const std::int64_t shared = *std::min_element(n, n + R);
  const std::int64_t full = shared / panel_tokens;
  for (std::int64_t p = 0; p < full; ++p) {
    const T* row = values + kv.value_offset[p];
    const T* weight = weights + p * step;
    for (std::int64_t t = 0; t < panel_tokens; ++t) {
      add_token(row, weight + t);
      row += kv.value_stride;
    }
  }
  for (std::int64_t t = 0; t < shared % panel_tokens; ++t) {
    add_token(values + kv.value_offset[full] + t * kv.value_stride, weights + full * step + t);
  }
  unroll<R>([&](auto r) __attribute__((always_inline)) {
    for (std::int64_t j = shared; j < n[r]; ++j) {
      const std::int64_t p = j / panel_tokens;
      const std::int64_t t = j % panel_tokens;
      const T* row = values + kv.value_offset[p] + t * kv.value_stride;
      const simd::vec<T> w = simd::broadcast(weights[p * step + r * panel_tokens + t]);
      unroll<C>([&](auto c) __attribute__((always_inline)) {
        sum[r][c] = simd::madd(w, value(row, c), sum[r][c]);
      });
    }
  });
  unroll<R>([&](auto r) __attribute__((always_inline)) {
    T* const row = out.row(first + r);
    unroll<C>([&](auto c) __attribute__((always_inline)) {
      const std::int64_t at = column + c * simd::lanes;
      if (out.dim_stride == 1) {
        if constexpr (Partial) {
          simd::store_partial(row + at, width, sum[r][c]);
        } else {
          simd::store(row + at, sum[r][c]);
        }
      } else {
        alignas(64) T lane[simd::lanes];
        simd::store(lane, sum[r][c]);
        for (int i = 0; i < (Partial ? width : simd::lanes); ++i) {
          row[(at + i) * out.dim_stride] = lane[i];
        }
      }
    });
  });
}

/// `out(r, :) = sum over j < n[r] of weights(r, j) * values(j, :)`.
template <class T, int R>
void weigh_values(const head_rows<T>& out, std::int64_t first, const T* weights,
                  const head_panels<T>& kv, const std::int64_t* n, std::int64_t dh) {
  constexpr int columns = std::min(4, sum_columns<T, R>);
  std::int64_t d = 0;
  for (; d + columns * simd::lanes <= dh; d += columns * simd::lanes) {
    weigh_columns<T, R, columns, false>(out, first, weights, kv, n, d, simd::lanes);
  }
  if constexpr (columns > 1) {
    for (; d + simd::lanes <= dh; d += simd::lanes) {
      weigh_columns<T, R, 1, false>(out, first, weights, kv, n, d, simd::lanes);
    }
  }
  if (d < dh) {
    weigh_columns<T, R, 1, true>(out, first, weights, kv, n, d, static_cast<int>(dh - d));
  }
}

/// Working memory of `attend`, in elements, for at most `panels` panels.
template <class T>
constexpr std::int64_t attend_scratch(std::int64_t panels, std::int64_t dh) {
  return max_rows<T> * (panels * panel_tokens + panels_for(dh) * panel_tokens);
}

/// Rows `first ... first + R - 1`; row r sees the first `limit(token of r)` tokens of `kv`.
template <class T, int R, class Limit>
void attend_block(const head_rows<T>& out, const head_rows<const T>& q, const head_panels<T>& kv,
                  std::int64_t first, std::int64_t dh, T scale, const Limit& limit, T* scratch) {
  std::int64_t n[R];
  for (int r = 0; r < R; ++r) {
    n[r] = std::max<std::int64_t>(0, limit((first + r) / q.group));
  }
  T* const rows = scratch;
  T* const scores = scratch + R * panels_for(dh) * panel_tokens;
  pack_rows<T, R>(rows, q, first, dh);
  score_rows<T, R>(scores, rows, kv, panels_for(*std::max_element(n, n + R)), dh, scale);
  for (int r = 0; r < R; ++r) {
    if (n[r] > 0) {
      softmax_row<T, R>(scores + r * panel_tokens, n[r]);
    }
  }
  weigh_values<T, R>(out, first, scores, kv, n, dh);
}

/// Calls `block(first, integral_constant<int, R>)` for runs of R rows that cover `begin ... end`.
template <int R, class Block>
void for_each_block(std::int64_t begin, std::int64_t end, const Block& block) {
  for (; begin + R <= end; begin += R) {
    block(begin, std::integral_constant<int, R>{});
  }
  if constexpr (R > 1) {
    if (begin < end) {
      for_each_block<R / 2>(begin, end, block);
    }
  }
}

/// Rows `begin ... end - 1` of the query heads of one key-value head.
///
/// Requires: `scratch` has `attend_scratch` elements for the largest limit, aligned to 64 bytes.
template <class T, class Limit>
void attend(const head_rows<T>& out, const head_rows<const T>& q, const head_panels<T>& kv,
            std::int64_t begin, std::int64_t end, std::int64_t dh, T scale, const Limit& limit,
            T* scratch) {
  for_each_block<max_rows<T>>(begin, end, [&](std::int64_t first, auto rows) {
    attend_block<T, rows()>(out, q, kv, first, dh, scale, limit, scratch);
  });
}

}  // namespace ashlar::chip::host_kernels::detail
