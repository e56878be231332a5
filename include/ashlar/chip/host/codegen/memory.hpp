// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "ashlar/chip/host/codegen/source.hpp"
#include "ashlar/chip/host/codegen/value.hpp"
#include "ashlar/config.hpp"
#include "ashlar/core/ceil_div.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/simd/memory.hpp"
#include "ashlar/tile/opcode.hpp"
#include "ashlar/tile/scalar.hpp"
#include "ashlar/tile/type.hpp"

/// Blocks and single elements between tiles and bounded views.
namespace ashlar::chip::host_codegen {

/// A block of a view, seen from where it is wholly inside.
///
/// The tile lies along the view's last axes, as `row_axes` of it and the innermost.
template <class T, tile::tile_type Type, int ViewRank>
struct block {
  static constexpr int rank = Type.rank;
  static constexpr int lead = ViewRank - rank;
  using offsets = std::array<std::int64_t, static_cast<std::size_t>(ViewRank)>;
  T* data;          ///< of the view
  std::int64_t at;  ///< where the tile's first element would be
  std::array<std::int64_t, tile::max_rank> stride;
  bool whole;  ///< every element is inside

  // No branches and no loops: what does not change in a loop of the kernel then leaves it.
  ASHLAR_INLINE static block make(const view_in_frame& v, const offsets& offset) {
    block b;
    b.data = reinterpret_cast<T*>(v.data);
    std::uint64_t at = 0;  // an offset outside the view may be any number
    unsigned whole = 1;
    unrolled<ViewRank>([&](auto k) __attribute__((always_inline)) {
      constexpr auto axis = static_cast<std::size_t>(k());
      at += static_cast<std::uint64_t>(offset[axis]) * static_cast<std::uint64_t>(v.strides[axis]);
      constexpr std::int64_t n = k() < lead ? 1 : Type.extents[k() < lead ? 0 : axis - lead];
      whole &= static_cast<unsigned>(offset[axis] >= 0);
      whole &= static_cast<unsigned>(offset[axis] <= v.extents[axis] - n);
      if constexpr (k() >= lead) {
        b.stride[axis - lead] = v.strides[axis];
      }
    });
    b.at = static_cast<std::int64_t>(at);
    b.whole = whole != 0;
    return b;
  }

  [[nodiscard]] ASHLAR_INLINE bool unit() const {
    if constexpr (rank == 0) {
      return true;
    } else {
      return stride[rank - 1] == 1;
    }
  }
};

namespace detail {

/// Elements along the innermost axis, and whether packets never leave a row.
template <tile::tile_type Type>
inline constexpr std::int64_t row_length = Type.rank == 0 ? 1 : Type.extents[Type.rank - 1];
template <tile::tile_type Type>
inline constexpr bool packets_fit_rows = row_length<Type> % lanes == 0 || Type.rank == 1;

/// Where packet `k` of a block begins, from the first element.
template <tile::tile_type Type, class B>
ASHLAR_INLINE std::int64_t packet_place(const B& b, std::int64_t k) {
  std::int64_t row = k * lanes / row_length<Type>;
  std::int64_t at = (k * lanes % row_length<Type>)*b.stride[Type.rank - 1];
  for (int t = Type.rank - 2; t >= 0; --t) {
    const auto axis = static_cast<std::size_t>(t);
    at += row % Type.extents[axis] * b.stride[axis];
    row /= Type.extents[axis];
  }
  return at;
}

/// The part of a block that lies inside, row by row.
///
/// Calls `inside(place in the tile, from, n, step)` for the elements of a row that the view has,
/// and `outside(place, n)` for the others.
template <tile::tile_type Type, int ViewRank, class T, class Inside, class Outside>
ASHLAR_INLINE void each_row(const tile::argument& a,
                            const std::array<std::int64_t, ViewRank>& offset, const Inside& inside,
                            const Outside& outside) {
  constexpr int lead = ViewRank - Type.rank;
  constexpr std::int64_t n = row_length<Type>;
  constexpr std::int64_t rows = Type.size() / n;
  T* const data = reinterpret_cast<T*>(a.data);
  std::int64_t first = 0;
  bool some = true;
  for (std::size_t k = 0; k < static_cast<std::size_t>(lead); ++k) {
    some = some && offset[k] >= 0 && offset[k] < a.extents[k];
    first += some ? offset[k] * a.strides[k] : 0;
  }
  constexpr auto last = static_cast<std::size_t>(ViewRank - 1);
  const std::int64_t o = std::clamp<std::int64_t>(offset[last], -n, a.extents[last]);
  const std::int64_t begin = std::max<std::int64_t>(-o, 0);
  const std::int64_t end = std::max(std::min<std::int64_t>(a.extents[last] - o, n), begin);
  for (std::int64_t r = 0; r < rows; ++r) {
    bool there = some && begin < end;
    std::int64_t at = first;
    std::int64_t rest = r;
    for (int t = Type.rank - 2; t >= 0; --t) {
      const auto axis = static_cast<std::size_t>(lead + t);
      const std::int64_t e = Type.extents[static_cast<std::size_t>(t)];
      // In this order, since the sum of any offset and `e` may not be a number.
      const std::int64_t i = rest % e;
      there = there && offset[axis] >= -i && offset[axis] < a.extents[axis] - i;
      at += there ? (offset[axis] + i) * a.strides[axis] : 0;
      rest /= e;
    }
    if (!there) {
      outside(r * n, n);
      continue;
    }
    outside(r * n, begin);
    inside(r * n + begin, data + (at + (o + begin) * a.strides[last]), end - begin,
           a.strides[last]);
    outside(r * n + end, n - end);
  }
}

/// The elements of a line that a view has, where they are the line's first and stand side by side.
template <class T>
struct front_of_line {
  T* data;
  std::int64_t n = 0;  ///< none: the line is not so

  template <tile::tile_type Type, int ViewRank>
  ASHLAR_INLINE static front_of_line find(const tile::argument& a,
                                          const std::array<std::int64_t, ViewRank>& offset) {
    constexpr auto last = static_cast<std::size_t>(ViewRank - 1);
    std::uint64_t at = static_cast<std::uint64_t>(offset[last]);
    bool so = a.strides[last] == 1 && offset[last] >= 0 && offset[last] < a.extents[last];
    for (std::size_t k = 0; k < last; ++k) {
      so = so && offset[k] >= 0 && offset[k] < a.extents[k];
      at += static_cast<std::uint64_t>(offset[k]) * static_cast<std::uint64_t>(a.strides[k]);
    }
    return so ? front_of_line{reinterpret_cast<T*>(a.data) + static_cast<std::int64_t>(at),
                              std::min(Type.size(), a.extents[last] - offset[last])}
              : front_of_line{};
  }
};

/// Calls `whole(i)` for the packets of the first `n` elements of a line, and `part(i, m)` for the
/// `m` elements after them.
template <class Whole, class Part>
ASHLAR_INLINE void each_packet(std::int64_t n, const Whole& whole, const Part& part) {
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    whole(i);
  }
  if (i < n) {
    part(i, static_cast<int>(n - i));
  }
}

/// Reads a block of any place and strides into whole packets.
template <tile::tile_type Type, int ViewRank, Scalar T>
[[gnu::noinline]] void gather_block(T* to, const tile::argument& a,
                                    const std::array<std::int64_t, ViewRank>& offset, T fill) {
  if constexpr (Type.rank == 1 && simd::Lane<T>) {
    const auto front = front_of_line<const T>::template find<Type, ViewRank>(a, offset);
    if (front.n > 0) [[likely]] {
      each_packet(
          front.n, [&](std::int64_t i) { simd::store(to + i, simd::load(front.data + i)); },
          [&](std::int64_t i, int m) {
            simd::store(to + i, simd::load_partial(front.data + i, m, fill));
          });
      for (std::int64_t i = ceil_div(front.n, lanes) * lanes; i < Type.size(); i += lanes) {
        simd::store(to + i, simd::broadcast(fill));
      }
      return;
    }
  }
  each_row<Type, ViewRank, const T>(
      a, offset,
      [&](std::int64_t at, const T* from, std::int64_t n, std::int64_t step) {
        if (step == 1) {
          std::copy_n(from, n, to + at);
        } else {
          for (std::int64_t i = 0; i < n; ++i) {
            to[at + i] = from[i * step];
          }
        }
      },
      [&](std::int64_t at, std::int64_t n) { std::fill_n(to + at, n, fill); });
}

/// Writes what of a block is inside.
template <tile::tile_type Type, int ViewRank, Scalar T>
[[gnu::noinline]] void scatter_block(const T* from, const tile::argument& a,
                                     const std::array<std::int64_t, ViewRank>& offset) {
  if constexpr (Type.rank == 1 && simd::Lane<T>) {
    const auto front = front_of_line<T>::template find<Type, ViewRank>(a, offset);
    if (front.n > 0) [[likely]] {
      each_packet(
          front.n, [&](std::int64_t i) { simd::store(front.data + i, simd::load(from + i)); },
          [&](std::int64_t i, int m) {
            simd::store_partial(front.data + i, m, simd::load(from + i));
          });
      return;
    }
  }
  each_row<Type, ViewRank, T>(
      a, offset,
      [&](std::int64_t at, T* to, std::int64_t n, std::int64_t step) {
        if (step == 1) {
          std::copy_n(from + at, n, to);
        } else {
          for (std::int64_t i = 0; i < n; ++i) {
            to[i * step] = from[at + i];
          }
        }
      },
      [](std::int64_t, std::int64_t) {});
}

}  // namespace detail

/// `load` into packets.
template <tile::tile_type Type, int ViewRank, Scalar T>
ASHLAR_INLINE void load_block(tile_value<T, Type.size()>& to,
                              const block<const T, Type, ViewRank>& b, const tile::argument& a,
                              const std::array<std::int64_t, ViewRank>& offset, T fill) {
  constexpr int packets = tile_value<T, Type.size()>::packets;
  if constexpr (detail::packets_fit_rows<Type> && Type.size() % lanes == 0) {
    if (b.whole && b.unit()) [[likely]] {
      const T* const first = b.data + b.at;
      each_vector<packets>([&](auto k) __attribute__((always_inline)) {
        to.part[k] = load_packet<T>(first + detail::packet_place<Type>(b, k));
      });
      return;
    }
  }
  tile_memory<T, Type.size()> buffer;
  detail::gather_block<Type, ViewRank>(buffer.element, a, offset, fill);
  buffer.read_into(to);
}

template <bool MayStream, tile::tile_type Type, int ViewRank, Scalar T>
ASHLAR_INLINE void store_block(const tile_value<T, Type.size()>& from,
                               const block<T, Type, ViewRank>& b, const tile::argument& a,
                               const std::array<std::int64_t, ViewRank>& offset, bool streams) {
  constexpr int packets = tile_value<T, Type.size()>::packets;
  if constexpr (detail::packets_fit_rows<Type> && Type.size() % lanes == 0) {
    if (b.whole && b.unit()) [[likely]] {
      T* const first = b.data + b.at;
      if constexpr (MayStream && Type.rank == 1 && simd::Lane<T>) {
        if (streams && reinterpret_cast<std::uintptr_t>(first) % 64 == 0) {
          each_vector<packets>([&](auto k) __attribute__((always_inline)) {
            simd::stream(first + k * lanes, from.part[k]);
          });
          return;
        }
      }
      each_vector<packets>([&](auto k) __attribute__((always_inline)) {
        store_packet<T>(first + detail::packet_place<Type>(b, k), from.part[k]);
      });
      return;
    }
  }
  const tile_memory<T, Type.size()> buffer(from);
  detail::scatter_block<Type, ViewRank>(buffer.element, a, offset);
}

/// The element at `index`, or null outside the view.
template <class T, std::size_t Rank>
ASHLAR_INLINE T* element_at(const tile::argument& a, const std::array<std::int64_t, Rank>& index) {
  std::int64_t at = 0;
  for (std::size_t v = 0; v < Rank; ++v) {
    if (index[v] < 0 || index[v] >= a.extents[v]) {
      return nullptr;
    }
    at += index[v] * a.strides[v];
  }
  return reinterpret_cast<T*>(a.data) + at;
}

/// Changes one element as `scatter` or an atomic does; other threads may be at it.
template <tile::opcode Op, Scalar T>
ASHLAR_INLINE void change(T* p, T x) {
  if constexpr (Op == tile::opcode::scatter) {
    *p = x;
  } else {
    constexpr tile::opcode combine = Op == tile::opcode::atomic_add   ? tile::opcode::add
                                     : Op == tile::opcode::atomic_max ? tile::opcode::max
                                                                      : tile::opcode::min;
    std::atomic_ref<T> target(*p);
    T before = target.load(std::memory_order_relaxed);
    while (!target.compare_exchange_weak(before, tile::eval::binary(combine, before, x),
                                         std::memory_order_relaxed)) {
    }
  }
}

}  // namespace ashlar::chip::host_codegen
