// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <source_location>
#include <span>
#include <string>
#include <string_view>

#include "ashlar/core/error.hpp"

/// Layouts: where the elements of a tile lie, as values that can be composed, inverted, divided and
/// multiplied. All of it is constant expressions.
///
/// Source: the algebra is that of CuTe (NVIDIA CUTLASS); here lists are flat and the last axis is
/// the fastest, as everywhere in this library.
namespace ashlar::tile {

/// Layouts that an operation is not defined for. In a constant expression it ends compilation.
struct layout_error final : error {
  std::string_view operation;  ///< `compose`, `inverse`, ...
  std::string_view rule;       ///< what must hold

  layout_error(std::string_view what, std::string_view broken,
               std::source_location where = std::source_location::current())
      : error(where), operation(what), rule(broken) {}

 private:
  [[nodiscard]] std::string message() const override {
    return std::string("ashlar::tile::") + std::string(operation) + ": " + std::string(rule);
  }
};

/// A function from places 0 ... size - 1 to offsets: axes with extents and strides.
///
/// Place i is split into coordinates, the last axis fastest; the offset is the sum of coordinate
/// times stride. No axis at all is the one place 0.
class layout {
 public:
  static constexpr int max_axes = 8;
  static constexpr std::int64_t most = std::int64_t{1} << 40;  ///< places, and size of a stride

  struct axis {
    std::int64_t extent = 1;
    std::int64_t stride = 0;
    friend constexpr bool operator==(const axis&, const axis&) = default;
  };

  constexpr layout() = default;
  constexpr layout(std::initializer_list<axis> axes) {
    for (const axis& a : axes) {
      push(a);
    }
  }

  /// Appends an axis that is faster than all others.
  ///
  /// Throws: `layout_error` for an extent below 1, and where axes or places are too many.
  constexpr void push(const axis& a) {
    if (rank_ == max_axes) {
      throw layout_error("layout", "there are at most 8 axes");
    }
    if (a.extent < 1 || a.extent > most / size_) {
      throw layout_error("layout", "an extent is at least 1, and there are at most 2^40 places");
    }
    if (a.stride > most || a.stride < -most || (a.extent - 1) > most / (magnitude(a.stride) + 1)) {
      throw layout_error("layout", "a stride, and what an axis spans, is at most 2^40");
    }
    axes_[static_cast<std::size_t>(rank_++)] = a;
    size_ *= a.extent;
  }

  [[nodiscard]] constexpr int rank() const { return rank_; }
  [[nodiscard]] constexpr std::int64_t size() const { return size_; }
  [[nodiscard]] constexpr const axis& operator[](int i) const {
    return axes_[static_cast<std::size_t>(i)];
  }
  [[nodiscard]] constexpr std::span<const axis> axes() const {
    return {axes_.data(), static_cast<std::size_t>(rank_)};
  }

  /// The offset of a place. Requires: 0 <= place < size().
  constexpr std::int64_t operator()(std::int64_t place) const {
    std::int64_t offset = 0;
    for (int a = rank_ - 1; a >= 0; --a) {
      offset += place % (*this)[a].extent * (*this)[a].stride;
      place /= (*this)[a].extent;
    }
    return offset;
  }
  /// The offset of coordinates, one for each axis.
  template <class... I>
    requires(sizeof...(I) > 1)
  constexpr std::int64_t operator()(I... coordinates) const {
    const std::array<std::int64_t, sizeof...(I)> c{static_cast<std::int64_t>(coordinates)...};
    std::int64_t offset = 0;
    for (std::size_t a = 0; a < c.size(); ++a) {
      offset += c[a] * axes_[a].stride;
    }
    return offset;
  }

  /// The largest offset, and the smallest.
  [[nodiscard]] constexpr std::int64_t last() const {
    std::int64_t offset = 0;
    for (const axis& a : axes()) {
      offset += std::max<std::int64_t>(a.stride, 0) * (a.extent - 1);
    }
    return offset;
  }
  [[nodiscard]] constexpr std::int64_t first() const {
    std::int64_t offset = 0;
    for (const axis& a : axes()) {
      offset += std::min<std::int64_t>(a.stride, 0) * (a.extent - 1);
    }
    return offset;
  }

  /// The same axes; `merged(a) == merged(b)` says more: that a and b are one function.
  friend constexpr bool operator==(const layout&, const layout&) = default;

 private:
  static constexpr std::int64_t magnitude(std::int64_t x) { return x < 0 ? -x : x; }

  std::array<axis, max_axes> axes_{};
  int rank_ = 0;
  std::int64_t size_ = 1;
};

/// Row-major: `(e0, e1, ..., en)` with the last axis dense.
constexpr layout row_major(std::initializer_list<std::int64_t> extents) {
  std::array<layout::axis, layout::max_axes> axes{};
  std::size_t n = 0;
  for (const std::int64_t e : extents) {
    if (n == axes.size()) {
      throw layout_error("row_major", "there are at most 8 axes");
    }
    axes[n++].extent = e;
  }
  std::int64_t stride = 1;
  for (std::size_t a = n; a-- > 0; stride *= axes[a].extent) {
    axes[a].stride = stride;
    if (axes[a].extent < 1 || axes[a].extent > layout::most / stride) {
      throw layout_error("row_major", "an extent is at least 1, and there are at most 2^40 places");
    }
  }
  layout l;
  for (std::size_t a = 0; a < n; ++a) {
    l.push(axes[a]);
  }
  return l;
}

/// Axes of `a`, then those of `b`, which are faster: `joined(a, b)(i * b.size() + j) = a(i) +
/// b(j)`.
constexpr layout joined(layout a, const layout& b) {
  for (const layout::axis& x : b.axes()) {
    a.push(x);
  }
  return a;
}

/// The same function with as few axes as it takes.
constexpr layout merged(const layout& l) {
  layout reversed;  // from the fastest axis on
  layout::axis now{1, 0};
  for (int a = l.rank() - 1; a >= 0; --a) {
    const layout::axis& x = l[a];
    if (x.extent == 1) {
      continue;
    }
    if (now.extent == 1) {
      now = x;
    } else if (x.stride == now.stride * now.extent) {
      now.extent *= x.extent;
    } else {
      reversed.push(now);
      now = x;
    }
  }
  if (now.extent > 1) {
    reversed.push(now);
  }
  layout m;
  for (int a = reversed.rank() - 1; a >= 0; --a) {
    m.push(reversed[a]);
  }
  return m;
}

namespace detail {

/// Composes with one `outer` after another; carries are looked for over all of them together.
class layout_composer {
 public:
  constexpr explicit layout_composer(const layout& outer) : outer_(merged(outer)) {}

  /// outer(inner(i)), as a layout with at least as many axes as `inner`.
  constexpr layout operator()(const layout& inner) {
    layout composed;
    for (const layout::axis& a : inner.axes()) {
      add(composed, a);
    }
    return composed;
  }

 private:
  [[noreturn]] static void refuse(std::string_view broken) {
    throw layout_error("compose", broken);
  }

  /// Axis (n : step) of the inner layout: which digits of the outer one it runs through.
  constexpr void add(layout& to, const layout::axis& inner) {
    std::int64_t n = inner.extent;
    std::int64_t step = inner.stride;
    if (step < 0) {
      refuse("the inner layout has a negative stride; its offsets are places of the outer one");
    }
    if (n == 1 || step == 0) {
      to.push({n, 0});
      return;
    }
    std::array<layout::axis, layout::max_axes + 1> parts{};  // the fastest first
    std::size_t count = 0;
    for (int a = outer_.rank() - 1; a >= 0 && n > 1; --a) {
      const layout::axis& x = outer_[a];
      if (step >= x.extent) {
        if (step % x.extent != 0) {
          refuse("a stride of the inner layout and an extent of the outer one do not divide");
        }
        step /= x.extent;
        continue;
      }
      if (x.extent % step != 0 && (n - 1) * step >= x.extent) {
        refuse("a stride of the inner layout and an extent of the outer one do not divide");
      }
      const std::int64_t room = (x.extent + step - 1) / step;
      const std::int64_t taken = std::min(room, n);
      if (n % taken != 0) {
        refuse("an extent of the inner layout and one of the outer one do not divide");
      }
      std::int64_t& used = digits_[static_cast<std::size_t>(a)];
      used += (taken - 1) * step;
      if (used >= x.extent) {
        refuse("axes of the inner layout add up to more than an extent of the outer one");
      }
      parts[count++] = {taken, x.stride * step};
      n /= taken;
      step = 1;
    }
    if (n > 1) {
      refuse("the inner layout leads out of the outer one");
    }
    while (count > 0) {
      to.push(parts[--count]);
    }
  }

  layout outer_;
  std::array<std::int64_t, layout::max_axes> digits_{};  ///< largest coordinate so far, by axis
};

/// Axes of extent above 1, by increasing stride.
constexpr layout by_stride(const layout& l, std::string_view operation) {
  std::array<layout::axis, layout::max_axes> axes{};
  std::size_t n = 0;
  for (const layout::axis& a : l.axes()) {
    if (a.extent == 1) {
      continue;
    }
    if (a.stride <= 0) {
      throw layout_error(operation, "two places have one offset, or an offset is negative");
    }
    std::size_t at = n++;
    for (; at > 0 && axes[at - 1].stride > a.stride; --at) {
      axes[at] = axes[at - 1];
    }
    axes[at] = a;
  }
  layout sorted;
  for (std::size_t a = 0; a < n; ++a) {
    sorted.push(axes[a]);
  }
  return sorted;
}

}  // namespace detail

/// `compose(outer, inner)(i) = outer(inner(i))`, for every place of `inner`.
///
/// Throws: `layout_error` where an offset of `inner` is no place of `outer`, and where the result
/// is
///         not a layout: strides and extents must divide, sums of axes must not carry.
constexpr layout compose(const layout& outer, const layout& inner) {
  return detail::layout_composer(outer)(inner);
}

/// `inverse(l)(l(i)) = i`, and `l(inverse(l)(o)) = o`.
///
/// Throws: `layout_error` unless the offsets of `l` are 0 ... size - 1, each once.
constexpr layout inverse(const layout& l) {
  // Axes of the result are those of l by decreasing stride; their strides are steps of places.
  std::array<std::int64_t, layout::max_axes> place_step{};
  std::int64_t step = 1;
  for (int a = l.rank() - 1; a >= 0; step *= l[a].extent, --a) {
    place_step[static_cast<std::size_t>(a)] = step;
  }
  const layout sorted = detail::by_stride(l, "inverse");
  std::int64_t dense = 1;
  layout result;
  for (const layout::axis& a : sorted.axes()) {
    if (a.stride != dense) {
      throw layout_error("inverse", "the offsets are not 0 ... size - 1, each once");
    }
    dense *= a.extent;
  }
  for (int s = sorted.rank() - 1; s >= 0; --s) {
    for (int a = 0; a < l.rank(); ++a) {
      if (l[a].extent > 1 && l[a].stride == sorted[s].stride) {
        result.push({l[a].extent, place_step[static_cast<std::size_t>(a)]});
      }
    }
  }
  return result;
}

/// What `l` leaves out of `n` offsets: `joined(complement(l, n), l)` reaches each of 0 ... n - 1
/// once.
///
/// Throws: `layout_error` where no layout does: strides must divide one another, and n.
constexpr layout complement(const layout& l, std::int64_t n) {
  const layout sorted = detail::by_stride(l, "complement");
  layout reversed;
  std::int64_t covered = 1;
  for (const layout::axis& a : sorted.axes()) {
    if (a.stride % covered != 0) {
      throw layout_error("complement", "a stride is no multiple of what faster axes cover");
    }
    if (a.stride > covered) {
      reversed.push({a.stride / covered, covered});
    }
    covered = a.stride * a.extent;
  }
  if (n < covered || n % covered != 0) {
    throw layout_error("complement", "the number of offsets is no multiple of what axes cover");
  }
  if (n > covered) {
    reversed.push({n / covered, covered});
  }
  layout result;
  for (int a = reversed.rank() - 1; a >= 0; --a) {
    result.push(reversed[a]);
  }
  return result;
}

/// A layout in two parts: the offset of element i of block j is `blocks(j) + each(i)`.
struct layout_parts {
  layout blocks;
  layout each;
  /// Blocks one after the other.
  [[nodiscard]] constexpr layout whole() const { return joined(blocks, each); }
  friend constexpr bool operator==(const layout_parts&, const layout_parts&) = default;
};

/// `l` cut into blocks: `block` says which places of `l` one block takes.
///
/// `each(i) = l(block(i))`, and `blocks(j) + each(i) = l(rest(j) + block(i))` where
/// `rest = complement(block, l.size())`: every place of `l` is in one block.
/// Throws: `layout_error` where `complement` or `compose` does.
constexpr layout_parts divide(const layout& l, const layout& block) {
  detail::layout_composer into(l);
  const layout each = into(block);
  return {into(complement(block, l.size())), each};
}

/// `l` repeated: element i of copy j is at `l(i) + gaps(arrangement(j))`.
///
/// `gaps = complement(l, n)` are the places where a copy of `l` fits without overlap, n just enough
/// for `arrangement`, whose offsets number them.
/// Throws: `layout_error` where `complement` or `compose` does.
constexpr layout_parts product(const layout& l, const layout& arrangement) {
  std::int64_t covered = 1;
  for (const layout::axis& a : l.axes()) {
    covered = a.extent > 1 ? std::max(covered, a.stride * a.extent) : covered;
  }
  const std::int64_t copies = arrangement.last() + 1;
  if (copies > layout::most / covered) {
    throw layout_error("product", "there are more than 2^40 offsets");
  }
  return {compose(complement(l, covered * copies), arrangement), l};
}

}  // namespace ashlar::tile
