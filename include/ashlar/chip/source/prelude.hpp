// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string_view>

/// What every emitted source file begins with: memory blocks, integers that wrap, casts, and
/// functions with the bits of `ashlar::simd`. One text, as the compiler of such a file reads it.
namespace ashlar::chip::source {

/// Flags that the source is made for: without the first one bits differ, without the others it is
/// slower.
inline constexpr std::string_view flags = "-std=c++20 -ffp-contract=off -O3 -fno-math-errno";

inline constexpr std::string_view prelude = R"cpp(
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#if defined(__clang__)
#pragma clang diagnostic ignored "-Wpass-failed"
#pragma clang diagnostic ignored "-Wunused-function"
#endif

  /// A view (data, extents, strides in elements), or the bits of a scalar.
  struct tile_argument {
    void* data;
    std::int64_t extents[4];
    std::int64_t strides[4];
    std::int64_t bits;
  };

  namespace {

  using i64 = std::int64_t;
  /// One more than the number of a `require` that did not hold; 0 where all did.
  [[maybe_unused]] std::atomic<i64> broken{0};

  template <class To, class From>
  inline To as_bits(From x) {
    static_assert(sizeof(To) == sizeof(From));
    To y;
    std::memcpy(&y, &x, sizeof y);
    return y;
  }

  struct bf16 {
    std::uint16_t bits;
    bf16() = default;
    explicit bf16(float x) {
      const auto b = as_bits<std::uint32_t>(x);
      bits = static_cast<std::uint16_t>((b & 0x7fffffffu) > 0x7f800000u
                                            ? (b >> 16) | 0x40u
                                            : (b + 0x7fffu + ((b >> 16) & 1u)) >> 16);
    }
    operator float() const { return as_bits<float>(static_cast<std::uint32_t>(bits) << 16); }
  };

  struct f16 {
    std::uint16_t bits;
    f16() = default;
    explicit f16(float x) {
      const auto b = as_bits<std::uint32_t>(x);
      const std::uint32_t sign = (b >> 16) & 0x8000u;
      const std::uint32_t size = b & 0x7fffffffu;
      std::uint32_t half = 0;
      std::uint32_t rest = 0;
      if (size > 0x7f800000u) {
        half = 0x7e00u | ((size >> 13) & 0x3ffu);
      } else if (size >= 0x477ff000u) {
        half = 0x7c00u;
      } else if (size >= 0x38800000u) {
        half = (size - 0x38000000u) >> 13;
        rest = size << 19;
      } else if (size >= 0x33000000u) {
        const std::uint32_t mantissa = (size & 0x7fffffu) | 0x800000u;
        const std::uint32_t shift = 126u - (size >> 23);
        half = mantissa >> shift;
        rest = mantissa << (32u - shift);
      }
      half += rest > 0x80000000u || (rest == 0x80000000u && (half & 1u) != 0u) ? 1u : 0u;
      bits = static_cast<std::uint16_t>(sign | half);
    }
    operator float() const {
      const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
      const std::uint32_t size = bits & 0x7fffu;
      const std::uint32_t normal =
          size >= 0x7c00u ? 0x7f800000u | ((size & 0x3ffu) << 13) : (size << 13) + 0x38000000u;
      return as_bits<float>(
          sign |
          (size >= 0x400u ? normal : as_bits<std::uint32_t>(static_cast<float>(size) * 0x1p-24f)));
    }
  };

  template <class T>
  [[maybe_unused]] inline constexpr bool is_narrow =
      std::is_same_v<T, bf16> || std::is_same_v<T, f16>;

  // --- arithmetic: integers wrap
  // -------------------------------------------------------------------

  template <class T, class F>
  inline T wrapped(T a, T b, F f) {
    return static_cast<T>(f(static_cast<std::uint64_t>(a), static_cast<std::uint64_t>(b)));
  }
  template <class T>
  inline T op_add(T a, T b) {
    if constexpr (std::is_integral_v<T>) {
      return wrapped(a, b, [](auto x, auto y) { return x + y; });
    } else {
      return a + b;
    }
  }
  template <class T>
  inline T op_sub(T a, T b) {
    if constexpr (std::is_integral_v<T>) {
      return wrapped(a, b, [](auto x, auto y) { return x - y; });
    } else {
      return a - b;
    }
  }
  template <class T>
  inline T op_mul(T a, T b) {
    if constexpr (std::is_integral_v<T>) {
      return wrapped(a, b, [](auto x, auto y) { return x * y; });
    } else {
      return a * b;
    }
  }
  template <class T>
  inline T op_div(T a, T b) {
    if constexpr (std::is_integral_v<T>) {
      if (b == T(0)) {
        return T(0);
      }
      if (std::is_signed_v<T> && b == static_cast<T>(-1)) {
        return op_sub(T(0), a);
      }
      return static_cast<T>(a / b);
    } else {
      return a / b;
    }
  }
  template <class T>
  inline T op_rem(T a, T b) {
    return op_sub(a, op_mul(op_div(a, b), b));
  }
  template <class T>
  inline T op_min(T a, T b) {
    return a != a ? a : a < b ? a : b;
  }
  template <class T>
  inline T op_max(T a, T b) {
    return a != a ? a : a > b ? a : b;
  }
  template <class T>
  inline T op_shift_left(T a, T b) {
    constexpr int width = 8 * static_cast<int>(sizeof(T));
    const bool out = b < T(0) || static_cast<i64>(b) >= width;
    return out ? T(0) : static_cast<T>(static_cast<std::uint64_t>(a) << static_cast<int>(b));
  }
  template <class T>
  inline T op_shift_right(T a, T b) {
    constexpr int width = 8 * static_cast<int>(sizeof(T));
    const bool out = b < T(0) || static_cast<i64>(b) >= width;
    return out ? (a < T(0) ? static_cast<T>(-1) : T(0)) : static_cast<T>(a >> static_cast<int>(b));
  }
  template <class T>
  inline T op_neg(T a) {
    if constexpr (std::is_integral_v<T>) {
      return op_sub(T(0), a);
    } else {
      return -a;
    }
  }
  template <class T>
  inline T op_abs(T a) {
    if constexpr (std::is_integral_v<T>) {
      return a < T(0) ? op_neg(a) : a;
    } else {
      return std::fabs(a);
    }
  }
  template <class T>
  inline T op_bit_not(T a) {
    if constexpr (std::is_same_v<T, bool>) {
      return !a;
    } else {
      return static_cast<T>(~a);
    }
  }

  /// Towards zero for integers, which saturate; NaN gives 0.
  template <class To, class From>
  inline To op_cast(From x) {
    if constexpr (std::is_same_v<To, From>) {
      return x;
    } else if constexpr (is_narrow<From>) {
      return op_cast<To>(static_cast<float>(x));
    } else if constexpr (std::is_same_v<To, bool>) {
      return x != From(0);
    } else if constexpr (is_narrow<To>) {
      return To(static_cast<float>(x));
    } else if constexpr (std::is_integral_v<To> && std::is_floating_point_v<From>) {
      constexpr From above = static_cast<From>(std::numeric_limits<To>::max() / 2 + 1) * From(2);
      const bool below = std::is_signed_v<To> ? x <= -above : x <= From(0);
      return x != x       ? To(0)
             : x >= above ? std::numeric_limits<To>::max()
             : below      ? std::numeric_limits<To>::min()
                          : static_cast<To>(x);
    } else {
      return static_cast<To>(x);
    }
  }

  /// One rounding where the machine has it, as everywhere in the library.
  template <class T>
  inline T madd(T a, T b, T c) {
    if constexpr (std::is_integral_v<T>) {
      return op_add(op_mul(a, b), c);
    } else {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
      return std::fma(a, b, c);
#else
      return a * b + c;
#endif
    }
  }

  // --- functions
  // -----------------------------------------------------------------------------------

  // No loops and no branches: what calls these in a loop is to become vectors.
  template <int I = 0, class T, int N>
  inline T polynomial(T x, const T (&c)[N]) {
    if constexpr (I == N - 1) {
      return c[I];
    } else {
      return madd(polynomial<I + 1>(x, c), x, c[I]);
    }
  }

  template <class T>
  inline T pick(bool which, T a, T b) {
    using bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
    const bits mask = bits(0) - static_cast<bits>(which);
    return as_bits<T>((as_bits<bits>(a) & mask) | (as_bits<bits>(b) & ~mask));
  }

  template <class T>
  inline T op_exp(T x) {
    constexpr bool single = sizeof(T) == 4;
    using bits = std::conditional_t<single, std::uint32_t, std::uint64_t>;
    constexpr int mantissa = std::numeric_limits<T>::digits - 1;
    constexpr T shifter = T(1.5) * static_cast<T>(i64(1) << mantissa);
    const T t = madd(x, T(1.44269504088896340736), shifter);
    const T n = t - shifter;
    const T r0 = madd(n, single ? T(-0.693359375) : T(-6.93145751953125e-1), x);
    const T r = madd(n, single ? T(2.12194440e-4) : T(-1.42860682030941723212e-6), r0);
    T p;
    if constexpr (single) {
      constexpr float c[] = {5.0000001201e-1f, 1.6666665459e-1f, 4.1665795894e-2f,
                             8.3334519073e-3f, 1.3981999507e-3f, 1.9875691500e-4f};
      p = madd(polynomial(r, c), r * r, r) + T(1);
    } else {
      constexpr double c[] = {1.0 / 2,          1.0 / 6,           1.0 / 24,
                              1.0 / 120,        1.0 / 720,         1.0 / 5040,
                              1.0 / 40320,      1.0 / 362880,      1.0 / 3628800.0,
                              1.0 / 39916800.0, 1.0 / 479001600.0, 1.0 / 6227020800.0};
      p = madd(polynomial(r, c), r * r, r) + T(1);
    }
    const T y = as_bits<T>(static_cast<bits>(as_bits<bits>(p) + (as_bits<bits>(t) << mantissa)));
    constexpr T low = single ? T(-87.33654) : T(-708.396418532264);
    constexpr T high = single ? T(88.72283) : T(709.782712893384);
    const T above = x > high ? std::numeric_limits<T>::infinity() : y;
    const T below = x < low ? T(0) : above;
    return x == x ? below : x;
  }

  template <class T>
  inline T op_tanh(T x) {
    const T size = std::fabs(x);
    const T z = x * x;
    T near;
    if constexpr (sizeof(T) == 4) {
      constexpr float c[] = {-3.33332819422e-1f, 1.33314422036e-1f, -5.37397155531e-2f,
                             2.06390887954e-2f, -5.70498872745e-3f};
      near = madd(polynomial(z, c) * z, x, x);
    } else {
      constexpr double p[] = {-1.61468768441708447952e3, -9.92877231001918586564e1,
                              -9.64399179425052238628e-1};
      constexpr double q[] = {4.84406305325125486048e3, 2.23548839060100448583e3,
                              1.12811678491632931402e2, 1.0};
      near = madd(polynomial(z, p) / polynomial(z, q) * z, x, x);
    }
    const T far = std::copysign(T(1) - T(2) / (op_exp(size + size) + T(1)), x);
    return pick(size < T(0.625), near, far);
  }

  [[maybe_unused]] inline float op_erf(float x) {
    constexpr float q[] = {1.2837915e-1f,  -3.7612525e-1f, 1.12821415e-1f,
                           -2.6778933e-2f, 5.0119907e-3f,  -6.0904847e-4f};
    constexpr float c[] = {-1.6643877e-4f, -1.1277972f,    -6.36976e-1f, -1.0411375e-1f,
                           2.2315249e-2f,  -3.0655002e-3f, 1.9822075e-4f};
    const float a = std::fabs(x);
    const float small = madd(polynomial(x * x, q), x, x);
    const float large = 1.0f - op_exp(polynomial(op_min(a, 4.0f), c));
    return pick(a < 0.9f, small, pick(x < 0.0f, -large, large));
  }
  [[maybe_unused]] inline double op_erf(double x) { return std::erf(x); }
  template <class T>
  inline T op_log(T x) {
    return std::log(x);
  }
  template <class T>
  inline T op_sqrt(T x) {
    return std::sqrt(x);
  }
  template <class T>
  inline T op_rsqrt(T x) {
    return T(1) / std::sqrt(x);
  }
  template <class T>
  inline T op_sigmoid(T x) {
    return T(1) / (T(1) + op_exp(-x));
  }
  template <class T>
  inline T op_floor(T x) {
    return std::floor(x);
  }

  // --- memory
  // --------------------------------------------------------------------------------------

  /// Where a block of a view lies, if all of it is inside and its elements follow each other.
  template <class T, int Rank>
  inline T* block_of(const tile_argument& v, int view_rank, const i64 (&extents)[Rank],
                     const i64* offsets) {
    i64 at = 0;
    i64 dense = 1;
    for (int a = view_rank - 1; a >= 0; --a) {
      const int t = a - (view_rank - (Rank - 1));
      const i64 n = t < 0 ? 1 : extents[t];
      if (offsets[a] < 0 || offsets[a] > v.extents[a] - n || (n != 1 && v.strides[a] != dense)) {
        return nullptr;
      }
      dense *= n;
      at += offsets[a] * v.strides[a];
    }
    return static_cast<T*>(v.data) + at;
  }

  /// Calls `f(k, elements, n, step)` for runs of `n` elements of a block along its last axis, from
  /// the one with number `k` on; `elements` is null for what is outside of the view.
  template <class T, int Rank, class F>
  inline void each_run(const tile_argument& v, int view_rank, const i64 (&extents)[Rank],
                       const i64* offsets, F f) {
    if (view_rank == 0) {
      return f(0, static_cast<T*>(v.data), 1, 1);
    }
    i64 rows = 1;
    for (int t = 0; t < Rank - 2; ++t) {
      rows *= extents[t];
    }
    const i64 columns = Rank > 1 ? extents[Rank > 1 ? Rank - 2 : 0] : 1;
    const int last = view_rank - 1;
    const i64 first = offsets[last];
    const i64 begin = first >= 0 ? 0 : first <= -columns ? columns : -first;
    const i64 room = begin == columns ? 0 : v.extents[last] - first;
    const i64 end = room < begin ? begin : room < columns ? room : columns;
    for (i64 r = 0; r < rows; ++r) {
      i64 rest = r;
      i64 at = 0;
      bool inside = true;
      for (int a = last - 1; a >= 0; --a) {
        const int t = a - (view_rank - (Rank - 1));
        const i64 i = t < 0 ? 0 : rest % extents[t];
        rest = t < 0 ? rest : rest / extents[t];
        inside = inside && offsets[a] >= -i && offsets[a] < v.extents[a] - i;
        at += inside ? (offsets[a] + i) * v.strides[a] : 0;
      }
      const i64 k = r * columns;
      const i64 from = inside ? begin : columns;
      const i64 to = inside ? end : columns;
      if (from > 0) {
        f(k, static_cast<T*>(nullptr), from, 1);
      }
      if (to > from) {
        const i64 step = v.strides[last];
        f(k + from, static_cast<T*>(v.data) + at + (first + from) * step, to - from, step);
      }
      if (to < columns) {
        f(k + to, static_cast<T*>(nullptr), columns - to, 1);
      }
    }
  }
  template <class T>
  inline void read_run(T* to, const T* from, i64 n, i64 step, T outside) {
    if (from == nullptr) {
      for (i64 i = 0; i < n; ++i) {
        to[i] = outside;
      }
    } else if (step == 1) {
      std::memcpy(static_cast<void*>(to), from, static_cast<std::size_t>(n) * sizeof(T));
    } else {
      for (i64 i = 0; i < n; ++i) {
        to[i] = from[i * step];
      }
    }
  }

  template <class T, int Rank>
  inline void write_block(const tile_argument& v, int view_rank, const i64 (&extents)[Rank],
                          const i64* offsets, const T* from) {
    T* const there = block_of<T>(v, view_rank, extents, offsets);
    if (there == nullptr) {
      each_run<T>(v, view_rank, extents, offsets, [&](i64 k, T* p, i64 n, i64 step) {
        for (i64 i = 0; p != nullptr && i < n; ++i) {
          p[i * step] = from[k + i];
        }
      });
    } else if (there != from) {
      i64 size = 1;
      for (int t = 0; t < Rank - 1; ++t) {
        size *= extents[t];
      }
      std::memmove(static_cast<void*>(there), from, static_cast<std::size_t>(size) * sizeof(T));
    }
  }

  /// Whether no view that is written shares memory with another one.
  [[maybe_unused]] inline bool lie_apart(const tile_argument* a, int count, const int* sizes,
                                         const bool* written, const int* ranks) {
    const auto reach = [&](int k, bool last) {
      auto at = reinterpret_cast<std::intptr_t>(a[k].data) + (last ? sizes[k] : 0);
      for (int axis = 0; axis < ranks[k]; ++axis) {
        const i64 step = (a[k].extents[axis] - 1) * a[k].strides[axis] * sizes[k];
        at += (step < 0) == last ? 0 : step;
      }
      return at;
    };
    const auto empty = [&](int k) {
      for (int axis = 0; axis < ranks[k]; ++axis) {
        if (a[k].extents[axis] == 0) {
          return true;
        }
      }
      return ranks[k] < 0;
    };
    for (int k = 0; k < count; ++k) {
      for (int j = 0; j < count; ++j) {
        if (j != k && written[k] && !empty(j) && !empty(k) && reach(k, false) < reach(j, true) &&
            reach(j, false) < reach(k, true)) {
          return false;
        }
      }
    }
    return true;
  }

  template <class T>
  inline T scalar_of(i64 bits) {
    if constexpr (std::is_integral_v<T>) {
      return static_cast<T>(bits);
    } else {
      return T(static_cast<std::conditional_t<is_narrow<T>, float, T>>(as_bits<double>(bits)));
    }
  }

  }  // namespace
)cpp";

}  // namespace ashlar::chip::source
