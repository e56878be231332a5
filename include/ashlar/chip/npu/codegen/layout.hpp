// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "ashlar/chip/npu/codegen/ir.hpp"
#include "ashlar/chip/npu/validate.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/layout.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/scalar.hpp"
#include "ashlar/tile/type.hpp"

/// Where tiles are: layouts as values, and boxes of two axes from tiles of any rank.
namespace ashlar::chip::npu_codegen {

/// Element (i, j, ...) of a tile is at `offset + i * stride[0] + j * stride[1] + ...`, in elements.
struct layout {
  std::int64_t offset = 0;
  std::array<std::int64_t, tile::max_rank> stride{};
  friend constexpr bool operator==(const layout&, const layout&) = default;
};

/// The same as a value of the layout algebra: from places in row-major order to elements behind
/// `offset`.
constexpr tile::layout algebra_of(const tile::tile_type& t, const layout& l) {
  tile::layout value;
  for (int a = 0; a < t.rank; ++a) {
    value.push({t.extent(a), l.stride[static_cast<std::size_t>(a)]});
  }
  return value;
}

constexpr std::int64_t round_up(std::int64_t n, std::int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

/// Row-major; the strides of the axes in `padded` (bits) are multiples of `multiple` elements, and
/// rows are `more` elements longer.
constexpr layout row_major(const tile::tile_type& t, unsigned padded = 0, std::int64_t multiple = 1,
                           std::int64_t more = 0) {
  layout l;
  std::int64_t step = 1;
  for (int a = t.rank - 1; a >= 0; --a) {
    step = (padded >> a & 1u) != 0 ? round_up(step, multiple) : step;
    step += a == t.rank - 2 ? more : 0;
    l.stride[static_cast<std::size_t>(a)] = step;
    step *= t.extent(a);
  }
  return l;
}

/// Elements from the first to behind the last. Requires: no stride is negative.
constexpr std::int64_t span_of(const tile::tile_type& t, const layout& l) {
  std::int64_t n = 1;
  for (int a = 0; a < t.rank; ++a) {
    n += (t.extent(a) - 1) * l.stride[static_cast<std::size_t>(a)];
  }
  return n;
}

/// Whether row-major order is the order in memory, without gaps.
constexpr bool is_dense(const tile::tile_type& t, const layout& l) {
  std::int64_t step = 1;
  for (int a = t.rank - 1; a >= 0; --a) {
    if (t.extent(a) != 1 && l.stride[static_cast<std::size_t>(a)] != step) {
      return false;
    }
    step *= t.extent(a);
  }
  return true;
}

/// A tile's value: a constant, a scalar that the control engine has, or elements in a buffer.
struct place {
  enum class kind : std::uint8_t { none, constant, scalar, scratch };
  kind where = kind::none;
  tile::tile_type type{};
  std::int64_t bits = 0;  ///< of a constant, see `tile::constant_bits`
  int home = 0;           ///< of a scalar, see `scalar_homes`
  int buffer = -1;
  layout at{};

  [[nodiscard]] bool in_scratch() const { return where == kind::scratch; }
};

constexpr isa::element element_of(dtype e) {
  switch (e) {
    case dtype::boolean:
      return isa::element::boolean;
    case dtype::uint8:
      return isa::element::u8;
    case dtype::int8:
      return isa::element::i8;
    case dtype::int32:
      return isa::element::i32;
    case dtype::int64:
      return isa::element::i64;
    case dtype::float8_e4m3:
      return isa::element::e4m3;
    case dtype::float8_e5m2:
      return isa::element::e5m2;
    case dtype::float16:
      return isa::element::f16;
    case dtype::bfloat16:
      return isa::element::bf16;
    case dtype::float32:
      return isa::element::f32;
    case dtype::float64:
      break;
  }
  return isa::element::f64;
}

/// A constant as an operand or a register holds it: an f32 for the narrow floating types.
inline std::uint64_t operand_bits(dtype e, std::int64_t bits) {
  return tile::eval::with_scalar(e, [&]<class T>(std::type_identity<T>) -> std::uint64_t {
    const T x = tile::constant_value<T>(bits);
    if constexpr (std::is_same_v<T, double>) {
      return std::bit_cast<std::uint64_t>(x);
    } else if constexpr (Floating<T>) {
      return std::bit_cast<std::uint32_t>(static_cast<float>(x));
    } else {
      return static_cast<std::uint64_t>(static_cast<std::int64_t>(x));
    }
  });
}

/// A constant as memory holds it.
inline std::uint64_t memory_bits(dtype e, std::int64_t bits) {
  return tile::eval::with_scalar(e, [&]<class T>(std::type_identity<T>) -> std::uint64_t {
    return tile::eval::detail::raw_bits(tile::constant_value<T>(bits));
  });
}

/// Boxes that cover a tile: all have the same shape and strides, and begin at `offsets`.
struct box_walk {
  std::int64_t rows = 1, cols = 1;
  struct operand {
    std::int64_t row_stride = 0, col_stride = 0;
    std::vector<std::int64_t> offsets{};  ///< one for each box
  };
  std::vector<operand> operands{};
  [[nodiscard]] std::size_t count() const { return operands.front().offsets.size(); }
};

namespace detail {

struct walk_axis {
  std::int64_t extent;
  std::vector<std::int64_t> stride;  // of each operand
};

/// Every combination of the axes that are no rows and no columns.
inline void enumerate(box_walk& w, const std::vector<walk_axis>& outer, std::size_t depth,
                      const std::vector<std::int64_t>& at) {
  if (depth == outer.size()) {
    for (std::size_t k = 0; k < at.size(); ++k) {
      w.operands[k].offsets.push_back(at[k]);
    }
    return;
  }
  std::vector<std::int64_t> next = at;
  for (std::int64_t i = 0; i < outer[depth].extent; ++i) {
    enumerate(w, outer, depth + 1, next);
    for (std::size_t k = 0; k < next.size(); ++k) {
      next[k] += outer[depth].stride[k];
    }
  }
}

}  // namespace detail

/// Covers the extents of `t` with as few boxes as it takes for all `layouts` at once.
///
/// Axes that are one to every operand are joined; of those that remain, the two longest are rows
/// and columns.
inline box_walk walk(const tile::tile_type& t, std::span<const layout> layouts) {
  std::vector<detail::walk_axis> axes;
  for (int a = 0; a < t.rank; ++a) {
    if (t.extent(a) == 1) {
      continue;
    }
    detail::walk_axis axis{t.extent(a), {}};
    for (const layout& l : layouts) {
      axis.stride.push_back(l.stride[static_cast<std::size_t>(a)]);
    }
    bool joins = !axes.empty();
    for (std::size_t k = 0; joins && k < layouts.size(); ++k) {
      joins = axes.back().stride[k] == axis.stride[k] * axis.extent;
    }
    if (joins) {
      axis.extent *= axes.back().extent;
      axes.back() = axis;
    } else {
      axes.push_back(axis);
    }
  }
  const auto encodable = [](const detail::walk_axis& a) {
    return std::all_of(a.stride.begin(), a.stride.end(), [](std::int64_t s) {
      return s <= isa::max_stride && s >= -isa::max_stride - 1;
    });
  };
  // The longest two become columns and rows; the later one of two is the columns.
  std::vector<std::size_t> inner;
  for (int n = 0; n < 2; ++n) {
    std::size_t best = axes.size();
    for (std::size_t a = axes.size(); a-- > 0;) {
      const bool taken = std::find(inner.begin(), inner.end(), a) != inner.end();
      if (!taken && encodable(axes[a]) &&
          (best == axes.size() || axes[a].extent > axes[best].extent)) {
        best = a;
      }
    }
    if (best < axes.size()) {
      inner.push_back(best);
    }
  }
  std::sort(inner.begin(), inner.end());
  box_walk w;
  w.operands.resize(layouts.size());
  std::vector<detail::walk_axis> outer;
  for (std::size_t a = 0; a < axes.size(); ++a) {
    if (std::find(inner.begin(), inner.end(), a) == inner.end()) {
      outer.push_back(axes[a]);
    }
  }
  std::vector<std::int64_t> begin;
  for (std::size_t k = 0; k < layouts.size(); ++k) {
    begin.push_back(layouts[k].offset);
    if (!inner.empty()) {
      w.cols = axes[inner.back()].extent;
      w.operands[k].col_stride = axes[inner.back()].stride[k];
    }
    if (inner.size() == 2) {
      w.rows = axes[inner.front()].extent;
      w.operands[k].row_stride = axes[inner.front()].stride[k];
    }
  }
  detail::enumerate(w, outer, 0, begin);
  return w;
}

}  // namespace ashlar::chip::npu_codegen
