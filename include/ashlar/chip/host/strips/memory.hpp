// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "ashlar/chip/host/codegen/memory.hpp"
#include "ashlar/chip/host/strips/kernels.hpp"
#include "ashlar/tile/argument.hpp"
#include "ashlar/tile/detail/tile_value.hpp"
#include "ashlar/tile/type.hpp"

/// Tiles from and to views, and tiles in another shape.
namespace ashlar::chip::strips {

using coordinates = std::array<std::int64_t, tile::max_rank>;

/// Where the block of a view that a tile is lies in memory.
struct located {
  std::byte* first = nullptr;
  bool whole = false;  ///< all of it is inside the view
  bool dense = false;  ///< its elements follow each other
};

inline located locate(const tile::argument& view, const tile::tile_type& t,
                      const coordinates& offset) {
  located at{view.data, true, true};
  const int lead = view.rank - t.rank;
  std::int64_t elements = 0;
  std::int64_t dense = 1;
  for (int a = view.rank - 1; a >= 0; --a) {
    const auto u = static_cast<std::size_t>(a);
    const std::int64_t n = a < lead ? 1 : t.extent(a - lead);
    at.whole = at.whole && offset[u] >= 0 && offset[u] <= view.extents[u] - n;
    at.dense = at.dense && (n == 1 || view.strides[u] == dense);
    dense *= n;
    elements += at.whole ? offset[u] * view.strides[u] : 0;
  }
  at.first += elements * static_cast<std::int64_t>(size_of(view.element));
  return at;
}

namespace detail {

/// Calls `inside(at, first, n, step)` for what of each row of a tile is in the view, and
/// `outside(at, n)` for the rest; `at` counts the tile's elements. Offsets may be any numbers.
template <class T, class Inside, class Outside>
void each_row(const tile::argument& view, const tile::tile_type& t, const coordinates& offset,
              const Inside& inside, const Outside& outside) {
  const int lead = view.rank - t.rank;
  const std::int64_t n = t.rank > 0 ? t.extent(t.rank - 1) : 1;
  bool some = true;
  std::int64_t first = 0;
  const int fixed = t.rank > 0 ? lead : view.rank;
  for (int a = 0; a < fixed; ++a) {
    const auto u = static_cast<std::size_t>(a);
    some = some && offset[u] >= 0 && offset[u] < view.extents[u];
    first += some ? offset[u] * view.strides[u] : 0;
  }
  T* const data = reinterpret_cast<T*>(view.data);
  std::int64_t begin = 0;
  std::int64_t end = 1;
  std::int64_t o = 0;
  std::int64_t step = 1;
  if (t.rank > 0) {
    const auto last = static_cast<std::size_t>(view.rank - 1);
    o = std::clamp<std::int64_t>(offset[last], -n, view.extents[last]);
    begin = std::max<std::int64_t>(-o, 0);
    end = std::max(std::min<std::int64_t>(view.extents[last] - o, n), begin);
    step = view.strides[last];
  }
  const std::int64_t rows = t.size() / n;
  for (std::int64_t r = 0; r < rows; ++r) {
    bool there = some && begin < end;
    std::int64_t at = first;
    std::int64_t rest = r;
    for (int a = t.rank - 2; a >= 0; --a) {
      const auto axis = static_cast<std::size_t>(lead + a);
      const std::int64_t i = rest % t.extent(a);
      // In this order, since the sum of any offset and `i` may not be a number.
      there = there && offset[axis] >= -i && offset[axis] < view.extents[axis] - i;
      at += there ? (offset[axis] + i) * view.strides[axis] : 0;
      rest /= t.extent(a);
    }
    if (!there) {
      outside(r * n, n);
      continue;
    }
    outside(r * n, begin);
    inside(r * n + begin, data + (at + (o + begin) * step), end - begin, step);
    outside(r * n + end, n - end);
  }
}

}  // namespace detail

/// Reads a block; what is outside of the view becomes `fill`, one element.
inline void read_block(std::byte* to, const tile::argument& view, const tile::tile_type& t,
                       const coordinates& offset, const std::byte* fill) {
  detail::with_bytes(size_of(view.element), [&]<class T>(std::type_identity<T>) {
    T* const out = reinterpret_cast<T*>(to);
    const T rest = *reinterpret_cast<const T*>(fill);
    detail::each_row<const T>(
        view, t, offset,
        [&](std::int64_t at, const T* from, std::int64_t n, std::int64_t step) {
          if (step == 1) {
            std::copy_n(from, n, out + at);
          } else {
            for (std::int64_t i = 0; i < n; ++i) {
              out[at + i] = from[i * step];
            }
          }
        },
        [&](std::int64_t at, std::int64_t n) { std::fill_n(out + at, n, rest); });
  });
}

/// Writes what of a block is inside.
inline void write_block(const std::byte* from, const tile::argument& view, const tile::tile_type& t,
                        const coordinates& offset) {
  detail::with_bytes(size_of(view.element), [&]<class T>(std::type_identity<T>) {
    const T* const in = reinterpret_cast<const T*>(from);
    detail::each_row<T>(
        view, t, offset,
        [&](std::int64_t at, T* to, std::int64_t n, std::int64_t step) {
          if (step == 1) {
            std::copy_n(in + at, n, to);
          } else {
            for (std::int64_t i = 0; i < n; ++i) {
              to[i * step] = in[at + i];
            }
          }
        },
        [](std::int64_t, std::int64_t) {});
  });
}

/// Calls `f(k, element)` with the place that each index names, or null outside of the view.
template <class T, class F>
void each_indexed(const tile::argument& view, std::int64_t size,
                  const std::array<const std::int64_t*, tile::max_rank>& indices,
                  const std::array<bool, tile::max_rank>& fixed, const F& f) {
  for (std::int64_t k = 0; k < size; ++k) {
    std::int64_t at = 0;
    bool inside = true;
    for (std::size_t a = 0; a < static_cast<std::size_t>(view.rank); ++a) {
      const std::int64_t n = indices[a][fixed[a] ? 0 : k];
      inside = inside && n >= 0 && n < view.extents[a];
      at += inside ? n * view.strides[a] : 0;
    }
    f(k, inside ? reinterpret_cast<T*>(view.data) + at : nullptr);
  }
}

/// `broadcast` and `transpose`: element (i0, i1 ...) is at the sum of `i` times `steps`.
template <class T>
void read_strided(T* to, const T* from, const tile::tile_type& t, const coordinates& steps) {
  const int last = t.rank - 1;
  const std::int64_t n = t.extent(last);
  const std::int64_t step = steps[static_cast<std::size_t>(last)];
  tile::tile_type rows = t;
  rows.extents[static_cast<std::size_t>(last)] = 1;
  tile::detail::for_each_place(rows, [&](std::int64_t r, const auto& place) {
    const T* x = from;
    for (int a = 0; a < last; ++a) {
      x += place[static_cast<std::size_t>(a)] * steps[static_cast<std::size_t>(a)];
    }
    T* const y = to + r * n;
    if (step == 1) {
      std::copy_n(x, n, y);
    } else if (step == 0) {
      std::fill_n(y, n, *x);
    } else {
      for (std::int64_t i = 0; i < n; ++i) {
        y[i] = x[i * step];
      }
    }
  });
}

/// `split`, `join` and `unpack_nibbles` of tiles of `size` elements afterwards.
inline void reshape_pairs(const tile::instruction& i, const tile::tile_type& from, std::byte* to,
                          const std::byte* x, const std::byte* y) {
  const std::int64_t size = i.type.size();
  if (i.op == opcode::unpack_nibbles) {
    for (std::int64_t k = 0; k < size; ++k) {
      const auto byte = static_cast<std::uint8_t>(x[k / 2]);
      const auto half = static_cast<std::uint8_t>(k % 2 == 0 ? byte & 15 : byte >> 4);
      const bool negative = from.element == dtype::int8 && half > 7;
      to[k] = static_cast<std::byte>(negative ? half | 0xf0 : half);
    }
    return;
  }
  detail::with_bytes(size_of(from.element), [&]<class T>(std::type_identity<T>) {
    T* const out = reinterpret_cast<T*>(to);
    const T* const a = reinterpret_cast<const T*>(x);
    const T* const b = reinterpret_cast<const T*>(y);
    for (std::int64_t k = 0; k < size; ++k) {
      out[k] = i.op == opcode::split ? a[2 * k + i.index] : k % 2 == 0 ? a[k / 2] : b[k / 2];
    }
  });
}

}  // namespace ashlar::chip::strips
