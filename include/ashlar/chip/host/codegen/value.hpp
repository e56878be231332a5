// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "ashlar/config.hpp"
#include "ashlar/core/ceil_div.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/simd/extra.hpp"
#include "ashlar/simd/memory.hpp"
#include "ashlar/simd/vec.hpp"

/// Code of one program of the grid. All of it has to be inlined, so that its values live in
/// registers. g++ inlines it at once into the function that is `ASHLAR_TILE_PROGRAM`: what is
/// always inlined would be optimised again at every level. clang flattens one level only.
#ifdef __clang__
#define ASHLAR_TILE_STEP [[gnu::always_inline]] inline
#define ASHLAR_TILE_LAMBDA __attribute__((always_inline))
#define ASHLAR_TILE_PROGRAM
#else
#define ASHLAR_TILE_STEP inline
#define ASHLAR_TILE_LAMBDA
#define ASHLAR_TILE_PROGRAM __attribute__((flatten))
#endif

/// Tile IR as native code: how a tile lives while its kernel runs.
namespace ashlar::chip::host_codegen {

using simd::lanes;

/// Calls `f(std::integral_constant<int, k>{})` for k below `N`, written out: an array that is only
/// indexed by constants stays in registers.
template <int N, class F>
ASHLAR_INLINE void unrolled(const F& f) {
  [&]<int... K>(std::integer_sequence<int, K...>) __attribute__((always_inline)) {
    (f(std::integral_constant<int, K>{}), ...);
  }
  (std::make_integer_sequence<int, N>{});
}

/// Up to so many vectors an operation is written out; above, it is a loop over memory.
inline constexpr int most_unrolled = 32;

template <int N, class F>
ASHLAR_INLINE void each_vector(const F& f) {
  if constexpr (N <= most_unrolled) {
    unrolled<N>(f);
  } else {
    for (int k = 0; k < N; ++k) {
      f(k);
    }
  }
}

/// The same for code that is long or stands in a loop that runs often: few registers are enough to
/// keep the units busy, and a loop compiles in a fraction of the time.
inline constexpr int most_in_loops = std::max(8 / simd::vec<float>::parts, 1);

template <int N, class F>
ASHLAR_INLINE void each_vector_in_loop(const F& f) {
  if constexpr (N <= most_in_loops) {
    unrolled<N>(f);
  } else {
    for (int k = 0; k < N; ++k) {
      f(k);
    }
  }
}

/// Sixteen elements, in the form in which they are computed with.
template <class T>
struct packet_of {
  struct type {
    alignas(16) T element[lanes];
  };
};
template <simd::Lane T>
struct packet_of<T> {
  using type = simd::vec<T>;
};
/// Integers that `vec` does not have, as one vector of the compiler's.
template <class T>
concept WideInteger = std::integral<T> && !simd::Lane<T> && !std::same_as<T, bool>;
template <class T>
struct integers {
  typedef T vector __attribute__((vector_size(lanes * sizeof(T))));
  vector v;
};
template <WideInteger T>
struct packet_of<T> {
  using type = integers<T>;
};
template <>
struct packet_of<bool> {
  using type = simd::vec_mask<float>;
};
template <Scalar T>
using packet = typename packet_of<T>::type;

/// A tile in row-major order, sixteen elements to a packet; what fills the last packet is
/// arbitrary.
template <Scalar T, std::int64_t Size>
struct tile_value {
  using value_type = T;
  static constexpr std::int64_t size = Size;
  static constexpr int packets = static_cast<int>(ceil_div(Size, lanes));
  packet<T> part[static_cast<std::size_t>(packets)];
};

/// `to = from`, packet by packet: a structure that is copied whole ends up in memory.
template <class V>
ASHLAR_INLINE void assign(V& to, const V& from) {
  if constexpr (requires { V::packets; }) {
    each_vector<V::packets>([&](auto k)
                                __attribute__((always_inline)) { to.part[k] = from.part[k]; });
  } else {
    to = from;
  }
}

/// A tile of rank 0.
template <Scalar T>
struct scalar_value {
  using value_type = T;
  T value;
};

template <Scalar T>
ASHLAR_INLINE packet<T> load_packet(const T* p) {
  if constexpr (simd::Lane<T>) {
    return simd::load(p);
  } else if constexpr (std::same_as<T, bool>) {
    return simd::load_mask<float>(p);
  } else if constexpr (WideInteger<T>) {
    packet<T> x;
    std::memcpy(&x.v, p, sizeof x.v);
    return x;
  } else {
    packet<T> x;
    for (int i = 0; i < lanes; ++i) {
      x.element[i] = p[i];
    }
    return x;
  }
}

template <Scalar T>
ASHLAR_INLINE void store_packet(T* p, const packet<T>& x) {
  if constexpr (simd::Lane<T>) {
    simd::store(p, x);
  } else if constexpr (std::same_as<T, bool>) {
    simd::store_mask<float>(p, x);
  } else if constexpr (WideInteger<T>) {
    std::memcpy(p, &x.v, sizeof x.v);
  } else {
    for (int i = 0; i < lanes; ++i) {
      p[i] = x.element[i];
    }
  }
}

template <Scalar T>
ASHLAR_INLINE packet<T> full_packet(T value) {
  if constexpr (simd::Lane<T>) {
    return simd::broadcast(value);
  } else if constexpr (std::same_as<T, bool>) {
    return simd::broadcast(value ? 1.0f : 0.0f) != simd::broadcast(0.0f);
  } else if constexpr (WideInteger<T>) {
    return {typename packet<T>::vector{} + value};
  } else {
    packet<T> x;
    for (int i = 0; i < lanes; ++i) {
      x.element[i] = value;
    }
    return x;
  }
}

/// The elements of a tile in memory, for what is not done sixteen by sixteen.
template <Scalar T, std::int64_t Size>
struct tile_memory {
  static constexpr int packets = tile_value<T, Size>::packets;
  alignas(64) T element[static_cast<std::size_t>(packets) * lanes];

  ASHLAR_INLINE tile_memory() {}
  ASHLAR_INLINE explicit tile_memory(const tile_value<T, Size>& v) {
    each_vector<packets>([&](auto k) __attribute__((always_inline)) {
      store_packet<T>(element + k * lanes, v.part[k]);
    });
  }
  ASHLAR_INLINE void read_into(tile_value<T, Size>& v) const {
    each_vector<packets>([&](auto k) __attribute__((always_inline)) {
      v.part[k] = load_packet<T>(element + k * lanes);
    });
  }
};

}  // namespace ashlar::chip::host_codegen
