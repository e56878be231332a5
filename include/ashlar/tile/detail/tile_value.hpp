// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/scalar.hpp"
#include "ashlar/tile/type.hpp"

namespace ashlar::tile::detail {

/// Element `i` of an array in memory; any byte but 0 is true.
template <class T>
T element_at(const std::byte* data, std::int64_t i) {
  if constexpr (std::same_as<T, bool>) {
    return data[i] != std::byte{0};
  } else {
    T x;
    std::memcpy(&x, data + i * static_cast<std::int64_t>(sizeof(T)), sizeof(T));
    return x;
  }
}

template <class T>
void set_element(std::byte* data, std::int64_t i, T x) {
  std::memcpy(data + i * static_cast<std::int64_t>(sizeof(T)), &x, sizeof(T));
}

/// A tile's elements in row-major order, with the memory of the tile that was here before.
struct tile_value {
  tile_type type{};
  std::vector<std::byte> bytes{};

  void become(const tile_type& t) {
    type = t;
    bytes.resize(static_cast<std::size_t>(t.size()) * size_of(t.element));
  }
  [[nodiscard]] const std::byte* data() const { return bytes.data(); }
  [[nodiscard]] std::byte* data() { return bytes.data(); }

  template <class T>
  [[nodiscard]] T at(std::int64_t i) const {
    return element_at<T>(data(), i);
  }
  template <class T>
  void set(std::int64_t i, T x) {
    set_element(data(), i, x);
  }
  /// Copies one element, of the same element type.
  void take(std::int64_t i, const tile_value& from, std::int64_t k) {
    const auto n = static_cast<std::int64_t>(size_of(type.element));
    std::memcpy(data() + i * n, from.data() + k * n, static_cast<std::size_t>(n));
  }
};

/// `f(i, place)` for each element in row-major order: its number and its place on each axis.
template <class F>
void for_each_place(const tile_type& t, F&& f) {
  std::array<std::int64_t, max_rank> place{};
  const std::int64_t n = t.size();
  for (std::int64_t i = 0; i < n; ++i) {
    f(i, place);
    for (int a = t.rank - 1; a >= 0; --a) {
      auto& here = place[static_cast<std::size_t>(a)];
      if (++here < t.extent(a)) {
        break;
      }
      here = 0;
    }
  }
}

/// Row-major strides of a tile.
inline std::array<std::int64_t, max_rank> strides_of(const tile_type& t) {
  std::array<std::int64_t, max_rank> strides{};
  std::int64_t step = 1;
  for (int a = t.rank - 1; a >= 0; --a) {
    strides[static_cast<std::size_t>(a)] = step;
    step *= t.extent(a);
  }
  return strides;
}

// --- what instructions make of whole tiles -------------------------------------------------------

/// `cast`. Narrow formats go by way of `float`, here tile by tile: that spares the compiler loops.
inline void apply_cast(const instruction& i, const tile_value& x, tile_value& out) {
  const std::int64_t n = out.type.size();
  if (is_narrow_floating(x.type.element) && out.type.element != x.type.element) {
    tile_value wide;
    wide.become(x.type.with(dtype::float32));
    eval::with_scalar(x.type.element, [&]<class T>(std::type_identity<T>) {
      if constexpr (NarrowFloating<T>) {
        for (std::int64_t k = 0; k < n; ++k) {
          wide.set(k, static_cast<float>(x.at<T>(k)));
        }
      }
    });
    apply_cast(i, wide, out);
    return;
  }
  eval::with_scalar(x.type.element, [&]<class T>(std::type_identity<T>) {
    eval::with_scalar(out.type.element, [&]<class To>(std::type_identity<To>) {
      if constexpr (!NarrowFloating<T> || std::same_as<T, To>) {
        for (std::int64_t k = 0; k < n; ++k) {
          out.set(k, eval::cast<To>(x.at<T>(k), static_cast<rounding>(i.index)));
        }
      }
    });
  });
}

/// `bitcast`: bytes, but for bool.
inline void apply_bitcast(const tile_value& x, tile_value& out) {
  const std::int64_t n = out.type.size();
  eval::with_scalar(x.type.element, [&]<class T>(std::type_identity<T>) {
    eval::with_scalar(out.type.element, [&]<class To>(std::type_identity<To>) {
      if constexpr (sizeof(To) == sizeof(T)) {
        for (std::int64_t k = 0; k < n; ++k) {
          out.set(k, eval::bitcast<To>(x.at<T>(k)));
        }
      }
    });
  });
}

template <class Math>
void apply_unary(const instruction& i, const tile_value& x, tile_value& out) {
  eval::with_scalar(x.type.element, [&]<class T>(std::type_identity<T>) {
    for (std::int64_t k = 0; k < out.type.size(); ++k) {
      out.set(k, eval::unary<Math>(i.op, x.at<T>(k)));
    }
  });
}

inline void apply_binary(opcode op, const tile_value& a, const tile_value& b, tile_value& out) {
  const bool compares = info(op).kind == opcode_kind::compare;
  const std::int64_t n = out.type.size();
  eval::with_scalar(a.type.element, [&]<class T>(std::type_identity<T>) {
    for (std::int64_t k = 0; k < n; ++k) {
      if (compares) {
        out.set(k, eval::compare(op, a.at<T>(k), b.at<T>(k)));
      } else {
        out.set(k, eval::binary(op, a.at<T>(k), b.at<T>(k)));
      }
    }
  });
}

template <class Math>
void apply_fma(const tile_value& a, const tile_value& b, const tile_value& c, tile_value& out) {
  eval::with_scalar(a.type.element, [&]<class T>(std::type_identity<T>) {
    if constexpr (Floating<T>) {
      for (std::int64_t k = 0; k < out.type.size(); ++k) {
        out.set(k, eval::fma<Math>(a.at<T>(k), b.at<T>(k), c.at<T>(k)));
      }
    }
  });
}

inline void apply_shape(const instruction& i, const tile_value& x, const tile_value* y,
                        tile_value& out) {
  const auto from = strides_of(x.type);
  switch (i.op) {
    case opcode::broadcast:
      for_each_place(out.type, [&](std::int64_t k, const auto& place) {
        std::int64_t source = 0;
        const int skip = out.type.rank - x.type.rank;
        for (int a = 0; a < x.type.rank; ++a) {
          const auto u = static_cast<std::size_t>(a);
          source += x.type.extent(a) == 1 ? 0 : place[u + static_cast<std::size_t>(skip)] * from[u];
        }
        out.take(k, x, source);
      });
      break;
    case opcode::transpose:
      for_each_place(out.type, [&](std::int64_t k, const auto& place) {
        std::int64_t source = 0;
        for (int a = 0; a < out.type.rank; ++a) {
          const auto axis = static_cast<std::size_t>((i.value >> (4 * a)) & 15);
          source += place[static_cast<std::size_t>(a)] * from[axis];
        }
        out.take(k, x, source);
      });
      break;
    case opcode::split:
      for (std::int64_t k = 0; k < out.type.size(); ++k) {
        out.take(k, x, 2 * k + i.index);  // rows have an even length
      }
      break;
    case opcode::join:
      for (std::int64_t k = 0; k < out.type.size(); ++k) {
        out.take(k, k % 2 == 0 ? x : *y, k / 2);
      }
      break;
    case opcode::unpack_nibbles:
      for (std::int64_t k = 0; k < out.type.size(); ++k) {
        const auto byte = x.at<std::uint8_t>(k / 2);
        const auto half = static_cast<std::uint8_t>(k % 2 == 0 ? byte & 15 : byte >> 4);
        const bool negative = x.type.element == dtype::int8 && half > 7;
        out.set(k, static_cast<std::uint8_t>(negative ? half | 0xf0 : half));
      }
      break;
    default:  // reshape
      out.bytes = x.bytes;
      break;
  }
}

/// Products of `T` added up in `A`, sequentially in K, each with one `madd`.
template <class Math, class T, class A>
void apply_dot(const tile_value& a, const tile_value& b, const tile_value& c, tile_value& out) {
  const int r = a.type.rank;
  const std::int64_t batch = r == 3 ? a.type.extent(0) : 1;
  const std::int64_t rows = a.type.extent(r - 2);
  const std::int64_t depth = a.type.extent(r - 1);
  const std::int64_t columns = b.type.extent(r - 1);
  for (std::int64_t row = 0; row < batch * rows; ++row) {
    const std::int64_t first = row / rows * depth * columns;
    for (std::int64_t n = 0; n < columns; ++n) {
      A sum = c.at<A>(row * columns + n);
      for (std::int64_t k = 0; k < depth; ++k) {
        const A x = static_cast<A>(a.at<T>(row * depth + k));
        const A y = static_cast<A>(b.at<T>(first + k * columns + n));
        if constexpr (std::integral<A>) {
          sum = fn::add{}(sum, fn::mul{}(x, y));
        } else {
          sum = Math::madd(x, y, sum);
        }
      }
      out.set(row * columns + n, sum);
    }
  }
}

/// Each group of 32 adds up from 0; then its sum, times both scales, is added to the result.
template <class Math, class T>
void apply_dot_scaled(const tile_value& a, const tile_value& sa, const tile_value& b,
                      const tile_value& sb, const tile_value& c, tile_value& out) {
  const std::int64_t depth = a.type.extent(1);
  const std::int64_t columns = b.type.extent(1);
  for (std::int64_t m = 0; m < a.type.extent(0); ++m) {
    for (std::int64_t n = 0; n < columns; ++n) {
      auto sum = c.at<float>(m * columns + n);
      for (std::int64_t g = 0; g < depth / 32; ++g) {
        float group = 0;
        for (std::int64_t k = 32 * g; k < 32 * (g + 1); ++k) {
          group = Math::madd(static_cast<float>(a.at<T>(m * depth + k)),
                             static_cast<float>(b.at<T>(k * columns + n)), group);
        }
        const float scale = sa.at<float>(m * (depth / 32) + g) * sb.at<float>(g * columns + n);
        sum = Math::madd(group, scale, sum);
      }
      out.set(m * columns + n, sum);
    }
  }
}

}  // namespace ashlar::tile::detail
