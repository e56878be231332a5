// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstdint>
#include <optional>
#include <type_traits>

#include "ashlar/chip/host/codegen/elementwise.hpp"
#include "ashlar/chip/host/codegen/source.hpp"
#include "ashlar/chip/host/codegen/value.hpp"
#include "ashlar/config.hpp"
#include "ashlar/simd/reduce.hpp"
#include "ashlar/tile/program.hpp"

/// Reductions in the IR's order: sixteen lanes, then a tree (see `opcode::reduce`).
namespace ashlar::chip::host_codegen::detail {

/// The one operation of a region that combines its two inputs in order; nothing for other regions.
constexpr std::optional<opcode> single_combine(const tile::program& p, int owner) {
  const int begin = owner + 1;
  const bool plain =
      p.at(owner).count == 1 && begin + 3 < p.size && p.at(begin + 3).op == opcode::yield &&
      info(p.at(begin + 2).op).kind == opcode_kind::binary && p.operand(begin + 2, 0) == begin &&
      p.operand(begin + 2, 1) == begin + 1 && p.operand(begin + 3, 0) == begin + 2;
  return plain ? std::optional(p.at(begin + 2).op) : std::nullopt;
}

/// The extents around an axis: `outer` times `n` times `inner` elements, row-major.
struct axis_extents {
  std::int64_t outer = 1;
  std::int64_t n = 1;
  std::int64_t inner = 1;
};
constexpr axis_extents around(const tile::tile_type& t, int axis) {
  axis_extents e;
  for (int a = 0; a < t.rank; ++a) {
    (a < axis ? e.outer : a == axis ? e.n : e.inner) *= t.extent(a);
  }
  return e;
}

/// The first `n` of sixteen lanes, combined by the tree.
template <class T, class F>
ASHLAR_INLINE T combined_lanes(T* lane, int n, const F& combine) {
  for (int half = lanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half && i + half < n; ++i) {
      lane[i] = combine(lane[i], lane[i + half]);
    }
  }
  return lane[0];
}

/// All sixteen lanes of a packet, combined by the tree.
template <opcode Op, Scalar T>
ASHLAR_INLINE T combined_packet(const packet<T>& x) {
  if constexpr (simd::Lane<T> && Op == opcode::add) {
    return simd::sum(x);
  } else if constexpr (simd::Lane<T> && Op == opcode::max) {
    return simd::max(x);
  } else if constexpr (simd::Lane<T> && Op == opcode::min) {
    return simd::min(x);
  } else {
    elements_of<T> e(x);
    return combined_lanes(e.element, lanes,
                          [](T a, T b) { return apply<Op>(std::type_identity<T>{}, a, b); });
  }
}

/// Sets what a reduction by one operation gives.
template <opcode Op, tile::tile_type Type, int Axis, Scalar T, class Result>
ASHLAR_INLINE void reduce_packets(const tile_value<T, Type.size()>& x, Result& to) {
  constexpr axis_extents e = around(Type, Axis);
  constexpr std::type_identity<T> as{};
  const auto op = [](T a, T b) { return apply<Op>(std::type_identity<T>{}, a, b); };
  if constexpr (e.inner == 1 && (e.n % lanes == 0 || (e.outer == 1 && e.n > lanes))) {
    constexpr int whole = static_cast<int>(e.n / lanes);
    constexpr int rest = static_cast<int>(e.n % lanes);
    const auto row = [&](auto r) __attribute__((always_inline)) {
      packet<T> acc = x.part[r * whole];
      if constexpr (whole <= most_unrolled) {
        unrolled<whole - 1>([&](auto k) __attribute__((always_inline)) {
          acc = apply<Op>(as, acc, x.part[r * whole + k + 1]);
        });
      } else {
        for (int k = 1; k < whole; ++k) {
          acc = apply<Op>(as, acc, x.part[r * whole + k]);
        }
      }
      if constexpr (rest > 0) {
        const packet<bool> there = simd::first_lanes<float>(rest);
        acc = apply_select<T>(there, apply<Op>(as, acc, x.part[whole]), acc);
      }
      return combined_packet<Op, T>(acc);
    };
    if constexpr (Type.rank == 1) {
      to.value = row(std::integral_constant<int, 0>{});
    } else {
      tile_memory<T, Type.size() / e.n> rows;
      for (int r = 0; r < static_cast<int>(e.outer); ++r) {
        rows.element[r] = row(r);
      }
      rows.read_into(to);
    }
  } else if constexpr (e.inner % lanes == 0) {
    constexpr int across = static_cast<int>(e.inner / lanes);
    constexpr int used = static_cast<int>(std::min<std::int64_t>(e.n, lanes));
    for (int o = 0; o < static_cast<int>(e.outer); ++o) {
      for (int c = 0; c < across; ++c) {
        const auto at = [&](std::int64_t i) __attribute__((always_inline)) {
          return x.part[(o * e.n + i) * across + c];
        };
        packet<T> lane[used];
        for (int i = 0; i < used; ++i) {
          lane[i] = at(i);
        }
        for (std::int64_t i = used; i < e.n; ++i) {
          lane[i % lanes] = apply<Op>(as, lane[i % lanes], at(i));
        }
        for (int half = lanes / 2; half > 0; half /= 2) {
          for (int i = 0; i < half && i + half < used; ++i) {
            lane[i] = apply<Op>(as, lane[i], lane[i + half]);
          }
        }
        to.part[o * across + c] = lane[0];
      }
    }
  } else {
    const tile_memory<T, Type.size()> m(x);
    tile_memory<T, std::max<std::int64_t>(Type.size() / e.n, 1)> result;
    for (std::int64_t o = 0; o < e.outer; ++o) {
      for (std::int64_t c = 0; c < e.inner; ++c) {
        T lane[lanes];
        for (std::int64_t i = 0; i < e.n; ++i) {
          const T y = m.element[(o * e.n + i) * e.inner + c];
          lane[i % lanes] = i < lanes ? y : op(lane[i % lanes], y);
        }
        result.element[o * e.inner + c] =
            combined_lanes(lane, static_cast<int>(std::min<std::int64_t>(e.n, lanes)), op);
      }
    }
    if constexpr (Type.rank == 1) {
      to.value = result.element[0];
    } else {
      result.read_into(to);
    }
  }
}

}  // namespace ashlar::chip::host_codegen::detail
