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
#include "ashlar/core/dtype.hpp"
#include "ashlar/simd/memory.hpp"
#include "ashlar/tile/opcode.hpp"
#include "ashlar/tile/scalar.hpp"
#include "ashlar/tile/type.hpp"

/// Blocks and single elements between tiles and bounded views.
namespace ashlar::chip::host_codegen {

/// A block of a view: where its first element would be, and how much of it the view has.
///
/// The tile lies along the view's last axes, as `row_axes` of it and the innermost.
template <class T, tile::tile_type Type>
struct block {
  static constexpr int rank = Type.rank;
  T* data;                                           ///< of the view
  std::int64_t at;                                   ///< where the tile's first element would be
  bool some;                                         ///< the leading offsets are inside
  std::array<std::int64_t, tile::max_rank> begin{};  ///< first place of the tile inside the view
  std::array<std::int64_t, tile::max_rank> end{};    ///< one past the last such place
  std::array<std::int64_t, tile::max_rank> stride{};
  bool whole;  ///< every element is inside

  template <int ViewRank>
  ASHLAR_INLINE static block make(
      const tile::argument& a,
      const std::array<std::int64_t, static_cast<std::size_t>(ViewRank)>& offset) {
    constexpr int lead = ViewRank - rank;
    block b;
    b.some = true;
    b.whole = true;
    b.data = reinterpret_cast<T*>(a.data);
    std::uint64_t at = 0;  // an offset outside the view may be any number
    for (int v = 0; v < ViewRank; ++v) {
      const auto axis = static_cast<std::size_t>(v);
      at += static_cast<std::uint64_t>(offset[axis]) * static_cast<std::uint64_t>(a.strides[axis]);
      if (v < lead) {
        b.some = b.some && offset[axis] >= 0 && offset[axis] < a.extents[axis];
      } else {
        const auto t = static_cast<std::size_t>(v - lead);
        const std::int64_t n = Type.extents[t];
        b.stride[t] = a.strides[axis];
        const std::int64_t o = std::clamp<std::int64_t>(offset[axis], -n, a.extents[axis]);
        b.begin[t] = std::max<std::int64_t>(-o, 0);
        b.end[t] = std::min<std::int64_t>(a.extents[axis] - o, n);
        b.whole = b.whole && b.begin[t] == 0 && b.end[t] == n;
      }
    }
    b.whole = b.whole && b.some;
    b.at = static_cast<std::int64_t>(at);
    return b;
  }

  [[nodiscard]] ASHLAR_INLINE bool unit() const {
    if constexpr (rank == 0) {
      return true;
    } else {
      return stride[rank - 1] == 1;
    }
  }

  /// Calls `f(place in the tile, pointer or null)` for every element in row-major order.
  template <class F>
  void each(const F& f) const {
    std::array<std::int64_t, tile::max_rank> i{};
    for (std::int64_t n = 0; n < Type.size(); ++n) {
      bool inside = some;
      std::int64_t from_first = 0;
      for (std::size_t t = 0; t < static_cast<std::size_t>(rank); ++t) {
        inside = inside && i[t] >= begin[t] && i[t] < end[t];
        from_first += i[t] * stride[t];
      }
      f(n, inside ? data + (at + from_first) : nullptr);
      for (int t = rank - 1; t >= 0; --t) {
        const auto axis = static_cast<std::size_t>(t);
        if (++i[axis] < Type.extents[axis]) {
          break;
        }
        i[axis] = 0;
      }
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

template <tile::tile_type Type, Scalar T, class B>
[[gnu::noinline]] void gather_block(T* to, const B& b, T fill) {
  b.each([&](std::int64_t n, const T* p) { to[n] = p != nullptr ? *p : fill; });
}
template <tile::tile_type Type, Scalar T, class B>
[[gnu::noinline]] void scatter_block(const T* from, const B& b) {
  b.each([&](std::int64_t n, T* p) {
    if (p != nullptr) {
      *p = from[n];
    }
  });
}

}  // namespace detail

/// `load` into packets.
template <tile::tile_type Type, Scalar T, class B>
ASHLAR_INLINE void load_block(tile_value<T, Type.size()>& to, const B& b, T fill) {
  constexpr int packets = tile_value<T, Type.size()>::packets;
  if constexpr (detail::packets_fit_rows<Type> && Type.size() % lanes == 0) {
    if (b.whole && b.unit()) [[likely]] {
      each_vector<packets>([&](auto k) __attribute__((always_inline)) {
        to.part[k] = load_packet<T>(b.data + (b.at + detail::packet_place<Type>(b, k)));
      });
      return;
    }
  }
  if constexpr (Type.rank == 1 && simd::Lane<T>) {
    if (b.some && b.unit() && b.begin[0] == 0) {
      each_vector<packets>([&](auto k) __attribute__((always_inline)) {
        const auto n = static_cast<int>(std::clamp<std::int64_t>(b.end[0] - k * lanes, 0, lanes));
        to.part[k] = simd::load_partial(
            b.data + (b.at + std::min<std::int64_t>(k * lanes, b.end[0])), n, fill);
      });
      return;
    }
  }
  tile_memory<T, Type.size()> buffer;
  detail::gather_block<Type>(buffer.element, b, fill);
  buffer.read_into(to);
}

template <tile::tile_type Type, Scalar T, class B>
ASHLAR_INLINE void store_block(const tile_value<T, Type.size()>& from, const B& b) {
  constexpr int packets = tile_value<T, Type.size()>::packets;
  if constexpr (detail::packets_fit_rows<Type> && Type.size() % lanes == 0) {
    if (b.whole && b.unit()) [[likely]] {
      each_vector<packets>([&](auto k) __attribute__((always_inline)) {
        store_packet<T>(b.data + (b.at + detail::packet_place<Type>(b, k)), from.part[k]);
      });
      return;
    }
  }
  if constexpr (Type.rank == 1 && simd::Lane<T>) {
    if (b.some && b.unit() && b.begin[0] == 0) {
      each_vector<packets>([&](auto k) __attribute__((always_inline)) {
        const auto n = static_cast<int>(std::clamp<std::int64_t>(b.end[0] - k * lanes, 0, lanes));
        simd::store_partial(b.data + (b.at + std::min<std::int64_t>(k * lanes, b.end[0])), n,
                            from.part[k]);
      });
      return;
    }
  }
  const tile_memory<T, Type.size()> buffer(from);
  detail::scatter_block<Type>(buffer.element, b);
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
