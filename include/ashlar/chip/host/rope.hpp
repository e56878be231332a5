// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "ashlar/chip/host/detail/lanes.hpp"
#include "ashlar/chip/host/detail/nest.hpp"
#include "ashlar/chip/host/detail/scratch.hpp"
#include "ashlar/chip/host/detail/threads.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/core/view.hpp"

namespace ashlar::chip::host_kernels {

/// Which channels of a head rotate together.
enum class rope_pairs : std::uint8_t {
  interleaved,  ///< (2i, 2i + 1): Llama's own checkpoints, GGUF
  halves        ///< (i, i + Dh/2): Hugging Face
};

namespace detail {

struct rope_scratch;

/// Writes `half` cosines, then `half` sines, of `position * theta^(-i / half)`.
template <class C>
void rope_row(C* to, double theta, std::int64_t half, std::int64_t position) {
  for (std::int64_t i = 0; i < half; ++i) {
    const double angle = static_cast<double>(position) *
                         std::pow(theta, -static_cast<double>(i) / static_cast<double>(half));
    to[i] = static_cast<C>(std::cos(angle));
    to[half + i] = static_cast<C>(std::sin(angle));
  }
}

/// Rows of `rope_row` for the positions from 0 on, kept by each thread between calls: decoding asks
/// for the same few numbers in every layer.
template <class C>
class rope_cache {
 public:
  static constexpr std::int64_t most_numbers = std::int64_t{1} << 20;

  /// Positions below this one can be kept.
  static std::int64_t most_rows(std::int64_t half) {
    return most_numbers / (2 * std::max<std::int64_t>(half, 1));
  }

  /// Returns: the rows of positions 0 to `rows`, valid until the next call.
  static const C* rows(double theta, std::int64_t half, std::int64_t rows) {
    thread_local std::array<rope_cache, 4> tables;
    thread_local std::size_t oldest = 0;
    for (rope_cache& t : tables) {
      if (t.half_ == half && t.theta_ == theta) {
        return t.grow(rows);
      }
    }
    rope_cache& t = tables[oldest];
    oldest = (oldest + 1) % tables.size();
    t.numbers_.clear();
    t.rows_ = 0;
    t.half_ = half;
    t.theta_ = theta;
    return t.grow(rows);
  }

 private:
  const C* grow(std::int64_t rows) {
    if (rows > rows_) {
      const std::int64_t more = std::min(std::max(rows, 2 * rows_), most_rows(half_));
      numbers_.resize(static_cast<std::size_t>(more * 2 * half_));
      for (; rows_ < more; ++rows_) {
        rope_row(numbers_.data() + rows_ * 2 * half_, theta_, half_, rows_);
      }
    }
    return numbers_.data();
  }

  std::vector<C> numbers_;
  std::int64_t rows_ = 0;
  std::int64_t half_ = -1;
  double theta_ = 0.0;
};

/// Rotates one head. `sign` is -1 for the inverse rotation.
template <class C, class T>
ASHLAR_INLINE void rotate_halves(T* y, std::int64_t y_step, const T* x, std::int64_t x_step,
                                 std::int64_t half, const C* angles, C sign) {
  const simd::vec<C> turn = simd::broadcast(sign);
  std::int64_t i = 0;
  for (; i + lanes <= half; i += lanes) {
    const auto a = get<C>(x + i * x_step, x_step, lanes);
    const auto b = get<C>(x + (half + i) * x_step, x_step, lanes);
    const auto c = get<C>(angles + i, 1, lanes);
    const auto s = get<C>(angles + half + i, 1, lanes) * turn;
    put(y + i * y_step, y_step, lanes, a * c - b * s);
    put(y + (half + i) * y_step, y_step, lanes, b * c + a * s);
  }
  // One by one: products and sums round alike in vectors and scalars.
  for (; i < half; ++i) {
    const auto a = static_cast<C>(x[i * x_step]);
    const auto b = static_cast<C>(x[(half + i) * x_step]);
    const C c = angles[i];
    const C s = angles[half + i] * sign;
    y[i * y_step] = static_cast<T>(a * c - b * s);
    y[(half + i) * y_step] = static_cast<T>(b * c + a * s);
  }
}

template <class C, class T>
ASHLAR_INLINE void rotate_pairs(T* y, std::int64_t y_step, const T* x, std::int64_t x_step,
                                std::int64_t half, const C* angles, C sign) {
  for (std::int64_t i = 0; i < half; ++i) {
    const auto a = static_cast<C>(x[2 * i * x_step]);
    const auto b = static_cast<C>(x[(2 * i + 1) * x_step]);
    const C c = angles[i];
    const C s = angles[half + i] * sign;
    y[2 * i * y_step] = static_cast<T>(a * c - b * s);
    y[(2 * i + 1) * y_step] = static_cast<T>(b * c + a * s);
  }
}

}  // namespace detail

/// Rotary position embedding: turns pair `i` of each head by `position * theta^(-2i / Dh)`.
///
/// Angles are computed in double and rounded once as cosine and sine. May work in place.
/// `inverse`: turns back, which is also the gradient.
/// Shapes:  `out`, `x`: (..., T, H, Dh) alike, Dh even; `positions`: (T).
/// Throws:  `argument_error` for an odd Dh.
template <Scalar T, class S, class P>
  requires std::integral<P>
void rope(view<T> out, view<S> x, view<P> positions, double theta, rope_pairs pairs,
          bool inverse = false) {
  using C = compute_type<T>;
  const int rank = x.rank();
  const std::int64_t width = x.extent(rank - 1);
  const std::int64_t half = width / 2;
  if (width % 2 != 0) {
    throw argument_error("ashlar::rope",
                         "heads of " + std::to_string(width) + " channels; give an even number");
  }
  if (x.size() == 0) {
    return;
  }
  // Operand 2 steps through the positions.
  detail::loop_nest<3> nest;
  for (int i = 0; i < rank - 1; ++i) {
    nest.size *= x.extent(i);
    nest.push(x.extent(i), {out.stride(i), x.stride(i), i == rank - 3 ? 1 : 0});
  }
  nest.close();

  const std::int64_t tokens = x.extent(rank - 3);
  const std::int64_t most = detail::rope_cache<C>::most_rows(half);
  const std::int64_t p_step = positions.stride(0);
  std::int64_t rows = 0;
  bool cached = true;
  for (std::int64_t t = 0; t < tokens; ++t) {
    const auto p = static_cast<std::int64_t>(positions.data[t * p_step]);
    rows = std::max(rows, p + 1);
    cached = cached && p >= 0 && p < most;
  }
  const C* table = nullptr;
  if (cached) {
    table = detail::rope_cache<C>::rows(theta, half, rows);
  } else {
    C* const made = static_cast<C*>(detail::thread_scratch<detail::rope_scratch>(
        static_cast<std::size_t>(tokens * width) * sizeof(C)));
    for (std::int64_t t = 0; t < tokens; ++t) {
      detail::rope_row(made + t * width, theta, half,
                       static_cast<std::int64_t>(positions.data[t * p_step]));
    }
    table = made;
  }
  const C sign = inverse ? C(-1) : C(1);
  const std::int64_t y_step = out.stride(rank - 1);
  const std::int64_t x_step = x.stride(rank - 1);
  const auto& step = nest.inner_stride();
  detail::parallel(nest.size, width, [&](std::int64_t begin, std::int64_t end) {
    detail::for_each_run(nest, begin, end, [&](const auto& at, std::int64_t n) {
      for (std::int64_t i = 0; i < n; ++i) {
        const std::int64_t t = at[2] + i * step[2];
        const C* const angles =
            table + (cached ? static_cast<std::int64_t>(positions.data[t * p_step]) : t) * width;
        T* const to = out.data + at[0] + i * step[0];
        const T* const from = x.data + at[1] + i * step[1];
        if (pairs == rope_pairs::halves) {
          detail::rotate_halves<C, T>(to, y_step, from, x_step, half, angles, sign);
        } else {
          detail::rotate_pairs<C, T>(to, y_step, from, x_step, half, angles, sign);
        }
      }
    });
  });
}

}  // namespace ashlar::chip::host_kernels
