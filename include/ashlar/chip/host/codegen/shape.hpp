// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "ashlar/chip/host/codegen/elementwise.hpp"
#include "ashlar/chip/host/codegen/value.hpp"
#include "ashlar/config.hpp"
#include "ashlar/tile/opcode.hpp"
#include "ashlar/tile/type.hpp"

/// Instructions that move elements without computing.
namespace ashlar::chip::host_codegen::detail {

/// Row-major places of a tile, one axis of coordinates at a time.
template <tile::tile_type Type>
struct coordinates {
  std::array<std::int64_t, tile::max_rank> at{};

  static constexpr coordinates of(std::int64_t place) {
    coordinates c;
    for (int a = Type.rank - 1; a >= 0; --a) {
      c.at[static_cast<std::size_t>(a)] = place % Type.extent(a);
      place /= Type.extent(a);
    }
    return c;
  }
  [[nodiscard]] constexpr std::int64_t place() const {
    std::int64_t n = 0;
    for (int a = 0; a < Type.rank; ++a) {
      n = n * Type.extent(a) + at[static_cast<std::size_t>(a)];
    }
    return n;
  }
};

template <tile::tile_type Type, int Axis, class V>
ASHLAR_INLINE void fill_iota(V& to) {
  using T = typename V::value_type;
  // A constant table, so that the loop that needs it loads it and nothing else.
  static constexpr auto values = [] {
    std::array<T, static_cast<std::size_t>(V::packets) * lanes> t{};
    for (std::int64_t k = 0; k < Type.size(); ++k) {
      t[static_cast<std::size_t>(k)] =
          static_cast<T>(coordinates<Type>::of(k).at[static_cast<std::size_t>(Axis)]);
    }
    return t;
  }();
  each_vector<V::packets>([&](auto k) __attribute__((always_inline)) {
    to.part[k] = load_packet<T>(values.data() + k * lanes);
  });
}

/// Where element `k` of the result comes from.
template <opcode Op, tile::tile_type From, tile::tile_type To, std::int64_t Attribute>
constexpr std::int64_t source_of(std::int64_t k) {
  const auto to = coordinates<To>::of(k);
  coordinates<From> from;
  if constexpr (Op == opcode::broadcast) {
    for (int a = 0; a < From.rank; ++a) {
      from.at[static_cast<std::size_t>(a)] =
          From.extent(a) == 1 ? 0 : to.at[static_cast<std::size_t>(a + To.rank - From.rank)];
    }
  } else if constexpr (Op == opcode::transpose) {
    for (int a = 0; a < To.rank; ++a) {
      from.at[static_cast<std::size_t>((Attribute >> (4 * a)) & 15)] =
          to.at[static_cast<std::size_t>(a)];
    }
  } else {
    static_assert(Op == opcode::split);
    from.at = to.at;
    from.at[static_cast<std::size_t>(To.rank - 1)] =
        to.at[static_cast<std::size_t>(To.rank - 1)] * 2 + Attribute;
  }
  return from.place();
}

template <opcode Op, tile::tile_type From, tile::tile_type To, std::int64_t Attribute, class R,
          class V>
ASHLAR_INLINE void reshaped(R& to, const V& from) {
  using T = typename R::value_type;
  if constexpr (Op == opcode::reshape) {
    if constexpr (From.rank == 0 || To.rank == 0) {
      if constexpr (From.rank == 0) {
        to.part[0] = full_packet<T>(from.value);
      } else {
        to.value = elements_of<T>(from.part[0]).element[0];
      }
    } else {
      assign(to, from);
    }
  } else if constexpr (Op == opcode::broadcast && From.rank == 0) {
    const packet<T> x = full_packet<T>(from.value);
    each_vector<R::packets>([&](auto k) __attribute__((always_inline)) { to.part[k] = x; });
  } else if constexpr (Op == opcode::broadcast && From.size() == 1) {
    const packet<T> x = full_packet<T>(elements_of<T>(from.part[0]).element[0]);
    each_vector<R::packets>([&](auto k) __attribute__((always_inline)) { to.part[k] = x; });
  } else if constexpr (Op == opcode::broadcast && To.extent(To.rank - 1) % lanes == 0 &&
                       From.extent(From.rank - 1) == To.extent(To.rank - 1)) {
    each_vector<R::packets>([&](auto k) __attribute__((always_inline)) {
      to.part[k] = from.part[source_of<Op, From, To, Attribute>(k * lanes) / lanes];
    });
  } else if constexpr (Op == opcode::broadcast && To.extent(To.rank - 1) % lanes == 0) {
    const tile_memory<T, From.size()> memory(from);
    each_vector<R::packets>([&](auto k) __attribute__((always_inline)) {
      to.part[k] = full_packet<T>(memory.element[source_of<Op, From, To, Attribute>(k * lanes)]);
    });
  } else if constexpr (Op == opcode::unpack_nibbles) {
    const tile_memory<T, From.size()> memory(from);
    tile_memory<T, To.size()> result;
    for (std::int64_t k = 0; k < From.size(); ++k) {
      const auto byte = static_cast<std::uint8_t>(memory.element[k]);
      const int low = byte & 15;
      const int high = byte >> 4;
      constexpr bool is_signed = std::is_signed_v<T>;
      result.element[2 * k] = static_cast<T>(is_signed && low > 7 ? low - 16 : low);
      result.element[2 * k + 1] = static_cast<T>(is_signed && high > 7 ? high - 16 : high);
    }
    result.read_into(to);
  } else {
    const tile_memory<T, From.size()> memory(from);
    tile_memory<T, To.size()> result;
    for (std::int64_t k = 0; k < To.size(); ++k) {
      result.element[k] = memory.element[source_of<Op, From, To, Attribute>(k)];
    }
    result.read_into(to);
  }
}

template <tile::tile_type From, class R, class V>
ASHLAR_INLINE void join(R& to, const V& even, const V& odd) {
  using T = typename R::value_type;
  const tile_memory<T, V::size> a(even);
  const tile_memory<T, V::size> b(odd);
  tile_memory<T, R::size> result;
  for (std::int64_t k = 0; k < V::size; ++k) {
    result.element[2 * k] = a.element[k];
    result.element[2 * k + 1] = b.element[k];
  }
  result.read_into(to);
}

}  // namespace ashlar::chip::host_codegen::detail
