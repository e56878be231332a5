// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstdint>
#include <type_traits>

#include "ashlar/simd/detail/native.hpp"

namespace ashlar::simd {

/// Lanes of every `vec`, on every machine.
///
/// Fixed, so that a loop written with `vec` adds up in the same order whatever the registers are.
inline constexpr int lanes = 16;

/// Element types of `vec`.
template <class T>
concept Lane = std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, std::int32_t>;

/// Sixteen values of type `T` in as many native registers as that takes.
template <Lane T>
struct vec {
  using value_type = T;
  using native = detail::native<T>;
  static constexpr int width = static_cast<int>(native::size);
  static constexpr int parts = lanes / width;
  static_assert(lanes % width == 0, "ashlar::simd::vec: a native register must divide 16 lanes");

  native part[parts];
};

/// One truth value per lane of a `vec<T>`.
template <Lane T>
struct vec_mask {
  using value_type = T;
  using native = detail::native_mask<T>;
  static constexpr int width = vec<T>::width;
  static constexpr int parts = vec<T>::parts;

  native part[parts];
};

namespace detail {

/// `{f(0), f(1), ...}`, written out: an array that no loop runs over stays in registers, and
/// compiles faster than an expansion of an index sequence.
template <class R, class F>
ASHLAR_INLINE R by_part(const F& f) {
  if constexpr (R::parts == 1) {
    return R{{f(0)}};
  } else if constexpr (R::parts == 2) {
    return R{{f(0), f(1)}};
  } else if constexpr (R::parts == 4) {
    return R{{f(0), f(1), f(2), f(3)}};
  } else {
    static_assert(R::parts == 8, "ashlar::simd::vec: a native register holds 2, 4, 8 or 16 lanes");
    return R{{f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7)}};
  }
}

/// Applies `f` to the native registers of `v...` one by one.
template <class R, class F, class... V>
ASHLAR_INLINE R each(const F& f, const V&... v) {
  return by_part<R>([&](int i) __attribute__((always_inline)) { return f(v.part[i]...); });
}

}  // namespace detail

template <Lane T>
ASHLAR_INLINE vec<T> broadcast(T value) {
  const detail::native<T> x(value);
  return detail::by_part<vec<T>>([&](int) __attribute__((always_inline)) { return x; });
}

// --- arithmetic --------------------------------------------------------------------------------

template <Lane T>
ASHLAR_INLINE vec<T> operator+(const vec<T>& a, const vec<T>& b) {
  return detail::each<vec<T>>(
      [](const auto& x, const auto& y) __attribute__((always_inline)) { return x + y; }, a, b);
}
template <Lane T>
ASHLAR_INLINE vec<T> operator-(const vec<T>& a, const vec<T>& b) {
  return detail::each<vec<T>>(
      [](const auto& x, const auto& y) __attribute__((always_inline)) { return x - y; }, a, b);
}
template <Lane T>
ASHLAR_INLINE vec<T> operator*(const vec<T>& a, const vec<T>& b) {
  return detail::each<vec<T>>(
      [](const auto& x, const auto& y) __attribute__((always_inline)) { return x * y; }, a, b);
}
template <Lane T>
  requires std::is_floating_point_v<T>
ASHLAR_INLINE vec<T> operator/(const vec<T>& a, const vec<T>& b) {
  return detail::each<vec<T>>(
      [](const auto& x, const auto& y) __attribute__((always_inline)) { return x / y; }, a, b);
}
template <Lane T>
ASHLAR_INLINE vec<T> operator-(const vec<T>& a) {
  if constexpr (std::is_floating_point_v<T>) {  // xsimd subtracts from +0 on AVX-512: -0 gets lost
    return detail::each<vec<T>>(
        [](const auto& x) __attribute__((always_inline)) { return x ^ detail::native<T>(-T(0)); },
        a);
  } else {
    return detail::each<vec<T>>(
        [](const auto& x) __attribute__((always_inline)) { return -x; }, a);
  }
}
template <Lane T>
ASHLAR_INLINE vec<T>& operator+=(vec<T>& a, const vec<T>& b) {
  return a = a + b;
}
template <Lane T>
ASHLAR_INLINE vec<T>& operator-=(vec<T>& a, const vec<T>& b) {
  return a = a - b;
}
template <Lane T>
ASHLAR_INLINE vec<T>& operator*=(vec<T>& a, const vec<T>& b) {
  return a = a * b;
}

/// True where `madd` rounds once; the same for `vec` and for scalars.
inline constexpr bool fused_madd = detail::fused_madd;

/// `a * b + c`, rounded once where the machine can (see `fused_madd`), else twice.
template <Lane T>
ASHLAR_INLINE vec<T> madd(const vec<T>& a, const vec<T>& b, const vec<T>& c) {
  return detail::each<vec<T>>(
      [](const auto& x, const auto& y, const auto& z)
          __attribute__((always_inline)) { return detail::native_madd(x, y, z); },
      a, b, c);
}
template <class T>
  requires std::is_floating_point_v<T>
ASHLAR_INLINE T madd(T a, T b, T c) {
  return detail::scalar_madd(a, b, c);
}

// --- comparison: a NaN makes every comparison but `!=` false -----------------------------------

template <Lane T>
ASHLAR_INLINE vec_mask<T> operator==(const vec<T>& a, const vec<T>& b) {
  return detail::each<vec_mask<T>>(
      [](const auto& x, const auto& y) __attribute__((always_inline)) { return x == y; }, a, b);
}
template <Lane T>
ASHLAR_INLINE vec_mask<T> operator!=(const vec<T>& a, const vec<T>& b) {
  return detail::each<vec_mask<T>>(
      [](const auto& x, const auto& y) __attribute__((always_inline)) { return ~(x == y); }, a, b);
}
template <Lane T>
ASHLAR_INLINE vec_mask<T> operator<(const vec<T>& a, const vec<T>& b) {
  return detail::each<vec_mask<T>>(
      [](const auto& x, const auto& y) __attribute__((always_inline)) { return x < y; }, a, b);
}
template <Lane T>
ASHLAR_INLINE vec_mask<T> operator<=(const vec<T>& a, const vec<T>& b) {
  return detail::each<vec_mask<T>>(
      [](const auto& x, const auto& y) __attribute__((always_inline)) { return x <= y; }, a, b);
}
template <Lane T>
ASHLAR_INLINE vec_mask<T> operator>(const vec<T>& a, const vec<T>& b) {
  return b < a;
}
template <Lane T>
ASHLAR_INLINE vec_mask<T> operator>=(const vec<T>& a, const vec<T>& b) {
  return b <= a;
}

template <Lane T>
ASHLAR_INLINE vec_mask<T> operator&(const vec_mask<T>& a, const vec_mask<T>& b) {
  return detail::each<vec_mask<T>>(
      [](const auto& x, const auto& y) __attribute__((always_inline)) { return x & y; }, a, b);
}
template <Lane T>
ASHLAR_INLINE vec_mask<T> operator|(const vec_mask<T>& a, const vec_mask<T>& b) {
  return detail::each<vec_mask<T>>(
      [](const auto& x, const auto& y) __attribute__((always_inline)) { return x | y; }, a, b);
}
template <Lane T>
ASHLAR_INLINE vec_mask<T> operator!(const vec_mask<T>& a) {
  return detail::each<vec_mask<T>>(
      [](const auto& x) __attribute__((always_inline)) { return ~x; }, a);
}

template <Lane T>
ASHLAR_INLINE bool any_of(const vec_mask<T>& m) {
  bool any = xsimd::any(m.part[0]);
  for (int i = 1; i < vec<T>::parts; ++i) {
    any = any || xsimd::any(m.part[i]);
  }
  return any;
}
template <Lane T>
ASHLAR_INLINE bool all_of(const vec_mask<T>& m) {
  bool all = xsimd::all(m.part[0]);
  for (int i = 1; i < vec<T>::parts; ++i) {
    all = all && xsimd::all(m.part[i]);
  }
  return all;
}

/// Lane by lane: `m ? a : b`.
template <Lane T>
ASHLAR_INLINE vec<T> select(const vec_mask<T>& m, const vec<T>& a, const vec<T>& b) {
  return detail::each<vec<T>>(
      [](const auto& c, const auto& x, const auto& y)
          __attribute__((always_inline)) { return xsimd::select(c, x, y); },
      m, a, b);
}

template <Lane T>
  requires std::is_floating_point_v<T>
ASHLAR_INLINE vec_mask<T> isnan(const vec<T>& a) {
  return a != a;
}

/// The larger of each pair, and NaN where either is NaN (as PyTorch's `maximum`).
template <Lane T>
ASHLAR_INLINE vec<T> max(const vec<T>& a, const vec<T>& b) {
  return detail::each<vec<T>>(
      [](const auto& x, const auto& y)
          __attribute__((always_inline)) { return detail::native_max(x, y); },
      a, b);
}
/// The smaller of each pair, and NaN where either is NaN (as PyTorch's `minimum`).
template <Lane T>
ASHLAR_INLINE vec<T> min(const vec<T>& a, const vec<T>& b) {
  return detail::each<vec<T>>(
      [](const auto& x, const auto& y)
          __attribute__((always_inline)) { return detail::native_min(x, y); },
      a, b);
}

}  // namespace ashlar::simd
