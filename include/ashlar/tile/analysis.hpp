// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/opcode.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/structure.hpp"
#include "ashlar/tile/type.hpp"

namespace ashlar::tile {

/// What is known of an integer value, scalar or tile, whatever the arguments are.
///
/// Along an axis with a stride, neighbours differ by it. The first element along all of these axes,
/// for each place along the others, is a multiple of `2^zeros`. Strides and multiples hold modulo
/// 2^64 (of narrower types: of their width).
struct index_facts {
  static constexpr std::int64_t lowest = std::numeric_limits<std::int64_t>::min();
  static constexpr std::int64_t highest = std::numeric_limits<std::int64_t>::max();
  static constexpr int all_zeros = 63;  ///< of 0, a multiple of every power of two

  std::int64_t low = lowest;  ///< no element is less
  std::int64_t high = highest;
  std::int8_t zeros = 0;
  bool wraps = false;  ///< an operation on the way may have left the range of its type
  std::array<bool, max_rank> has_stride{};
  std::array<std::int64_t, max_rank> stride{};

  [[nodiscard]] constexpr bool is_constant() const { return low == high; }
  /// Whether all elements along `axis` are the same.
  [[nodiscard]] constexpr bool repeats(int axis) const {
    return has_stride[static_cast<std::size_t>(axis)] &&
           stride[static_cast<std::size_t>(axis)] == 0;
  }
  [[nodiscard]] constexpr bool steps_by_one(int axis) const {
    return has_stride[static_cast<std::size_t>(axis)] &&
           stride[static_cast<std::size_t>(axis)] == 1;
  }
  /// The power of two of which every element is a multiple: its exponent.
  [[nodiscard]] constexpr int zeros_of_all(int rank) const { return zeros_beyond(rank, -1); }
  /// The same for the elements that are the first along `axis`.
  [[nodiscard]] constexpr int zeros_beyond(int rank, int axis) const {
    int n = zeros;
    for (int a = 0; a < rank; ++a) {
      if (a != axis && has_stride[static_cast<std::size_t>(a)]) {
        n = std::min(n, zeros_of(stride[static_cast<std::size_t>(a)]));
      }
    }
    return n;
  }

  static constexpr int zeros_of(std::int64_t x) {
    return std::min(std::countr_zero(static_cast<std::uint64_t>(x)), all_zeros);
  }
};

namespace detail {

class index_analysis {
 public:
  constexpr explicit index_analysis(const program& p) : p_(p), s_(p) {
    for (int i = 0; i < p.size; ++i) {
      if (p.at(i).type.is_value()) {
        at(facts_, i) = settle(p.at(i).type, of(p.at(i), i));
      }
    }
  }
  [[nodiscard]] constexpr const per_instruction<index_facts>& all() const { return facts_; }

 private:
  using facts = index_facts;

  static constexpr std::int64_t least_of(dtype e) {
    switch (e) {
      case dtype::boolean:
      case dtype::uint8:
        return 0;
      case dtype::int8:
        return std::numeric_limits<std::int8_t>::min();
      case dtype::int32:
        return std::numeric_limits<std::int32_t>::min();
      default:
        return facts::lowest;
    }
  }
  static constexpr std::int64_t most_of(dtype e) {
    switch (e) {
      case dtype::boolean:
        return 1;
      case dtype::uint8:
        return std::numeric_limits<std::uint8_t>::max();
      case dtype::int8:
        return std::numeric_limits<std::int8_t>::max();
      case dtype::int32:
        return std::numeric_limits<std::int32_t>::max();
      default:
        return facts::highest;
    }
  }

  /// Bounds by the type; axes of extent 1 have every stride, so 0.
  static constexpr facts settle(const tile_type& t, facts f) {
    const std::int64_t least = least_of(t.element);
    const std::int64_t most = most_of(t.element);
    if (f.low < least || f.high > most) {
      const bool unknown = f.low == facts::lowest && f.high == facts::highest;
      f.wraps = f.wraps || !unknown;
      f.low = least;
      f.high = most;
    }
    for (std::size_t a = 0; a < static_cast<std::size_t>(t.rank); ++a) {
      if (t.extents[a] == 1) {
        f.has_stride[a] = true;
        f.stride[a] = 0;
      }
    }
    return f;
  }

  [[nodiscard]] constexpr const facts& operand(const instruction& i, std::size_t k) const {
    return at(facts_, p_.operands(i)[k]);
  }
  [[nodiscard]] constexpr int rank_of(const instruction& i, std::size_t k) const {
    return p_.type_of(p_.operands(i)[k]).rank;
  }

  static constexpr facts scalar(std::int64_t low, std::int64_t high, int zeros) {
    facts f{.low = low, .high = high};
    f.zeros = static_cast<std::int8_t>(zeros);
    return f;
  }

  constexpr facts of(const instruction& i, int place) const {
    switch (i.op) {
      case opcode::constant:
        return is_floating(i.type.element) ? facts{}
                                           : scalar(i.value, i.value, facts::zeros_of(i.value));
      case opcode::iota: {
        facts f = scalar(0, i.type.extent(i.index) - 1, facts::all_zeros);
        f.has_stride = {true, true, true, true};
        f.stride[static_cast<std::size_t>(i.index)] = 1;
        return f;
      }
      case opcode::program_id:
      case opcode::extent:
        return scalar(0, facts::highest, 0);
      case opcode::grid_size:
        return scalar(1, facts::highest, 0);
      case opcode::region_input:
        return counter(i, place);
      default:
        break;
    }
    switch (info(i.op).kind) {
      case opcode_kind::unary:
      case opcode_kind::binary:
      case opcode_kind::compare:
      case opcode_kind::ternary:
        return elementwise(i);
      case opcode_kind::shape:
        return shape(i);
      default:
        return {};
    }
  }

  /// The counter of a loop starts at `first`, goes on by `step` and stays below `end`.
  constexpr facts counter(const instruction& i, int place) const {
    const value_id owner = at(s_.owner, place);
    if (owner < 0 || p_.at(owner).op != opcode::loop || i.index != 0) {
      return {};
    }
    const facts& first = operand(p_.at(owner), 0);
    const facts& end = operand(p_.at(owner), 1);
    const facts& step = operand(p_.at(owner), 2);
    const std::int64_t last = end.high == facts::lowest ? end.high : end.high - 1;
    return scalar(first.low, std::max(first.low, last), std::min(first.zeros, step.zeros));
  }

  // Elementwise ---------------------------------------------------------------------------------

  constexpr facts elementwise(const instruction& i) const {
    // What any function keeps: equal operands give equal results.
    facts f;
    f.has_stride = {true, true, true, true};
    for (std::size_t k = 0; k < i.count; ++k) {
      f.wraps = f.wraps || operand(i, k).wraps;
      for (int a = 0; a < i.type.rank; ++a) {
        f.has_stride[static_cast<std::size_t>(a)] &= operand(i, k).repeats(a);
      }
    }
    if (!is_integral(i.type.element) || !is_integral(p_.type_of(p_.operands(i)[0]).element)) {
      return f;
    }
    const facts& x = operand(i, 0);
    const facts& y = operand(i, i.count > 1 ? 1 : 0);
    const int rank = i.type.rank;
    const int x_zeros = x.zeros_of_all(rank);
    const int y_zeros = y.zeros_of_all(rank);
    const int both = std::min(x_zeros, y_zeros);
    switch (i.op) {
      case opcode::add:
        return sum(rank, x, y, 1);
      case opcode::sub:
        return sum(rank, x, y, -1);
      case opcode::neg:
        return sum(rank, scaled(x, 0), x, -1);
      case opcode::mul:
        return x.is_constant()   ? scaled(y, x.low)
               : y.is_constant() ? scaled(x, y.low)
                                 : product(f, x, y, x_zeros + y_zeros);
      case opcode::shift_left:
        if (y.is_constant() && y.low >= 0 && y.low < 62) {
          return scaled(x, std::int64_t{1} << y.low);
        }
        return f;
      case opcode::shift_right:
        if (y.is_constant() && y.low >= 0 && y.low < 63) {
          return with(f, x.low >> y.low, x.high >> y.low,
                      std::max(x_zeros - static_cast<int>(y.low), 0));
        }
        return f;
      case opcode::div:
        if (y.is_constant() && y.low > 0) {
          // Exact where the divisor is a power of two of which `x` is a multiple.
          const bool exact = std::has_single_bit(static_cast<std::uint64_t>(y.low)) &&
                             x_zeros >= facts::zeros_of(y.low);
          return with(f, x.low / y.low, x.high / y.low,
                      exact ? x_zeros - facts::zeros_of(y.low) : 0);
        }
        return f;
      case opcode::rem:
        if (y.is_constant() && y.low > 0) {
          return with(f, x.low < 0 ? 1 - y.low : 0, x.high > 0 ? y.low - 1 : 0, both);
        }
        return with(f, facts::lowest, facts::highest, both);
      case opcode::min:
        return with(f, std::min(x.low, y.low), std::min(x.high, y.high), both);
      case opcode::max:
        return with(f, std::max(x.low, y.low), std::max(x.high, y.high), both);
      case opcode::bit_and: {
        const std::int64_t most = y.low >= 0   ? (x.low >= 0 ? std::min(x.high, y.high) : y.high)
                                  : x.low >= 0 ? x.high
                                               : facts::highest;
        return with(f, x.low >= 0 || y.low >= 0 ? 0 : facts::lowest, most,
                    std::max(x_zeros, y_zeros));
      }
      case opcode::bit_or:
      case opcode::bit_xor:
        return with(f, facts::lowest, facts::highest, both);
      case opcode::select: {
        const facts& z = operand(i, 2);
        return with(f, std::min(y.low, z.low), std::max(y.high, z.high),
                    std::min(y_zeros, z.zeros_of_all(rank)));
      }
      case opcode::cast:
        return cast(i, x, f);
      default:
        return f;
    }
  }

  static constexpr facts with(facts f, std::int64_t low, std::int64_t high, int zeros) {
    f.low = low;
    f.high = high;
    f.zeros = static_cast<std::int8_t>(std::min(zeros, facts::all_zeros));
    return f;
  }

  constexpr facts cast(const instruction& i, const facts& x, const facts& f) const {
    const dtype from = p_.type_of(p_.operands(i)[0]).element;
    const dtype to = i.type.element;
    if (to == dtype::boolean) {
      return f;
    }
    if (size_of(to) <= size_of(from) || !x.wraps) {
      facts kept = x;
      if (x.low < least_of(to) || x.high > most_of(to)) {
        kept.wraps = true;
        kept.low = least_of(to);
        kept.high = most_of(to);
      }
      return kept;
    }
    // Where the narrow type may have wrapped, the wide one sees a jump, by a power of two.
    return with(f, x.low, x.high, x.zeros_of_all(i.type.rank));
  }

  /// `x + sign * y`.
  static constexpr facts sum(int rank, const facts& x, const facts& y, std::int64_t sign) {
    facts f;
    f.wraps = x.wraps || y.wraps;
    int zeros = std::min(x.zeros, y.zeros);
    for (std::size_t a = 0; a < static_cast<std::size_t>(rank); ++a) {
      f.has_stride[a] = x.has_stride[a] && y.has_stride[a];
      if (f.has_stride[a]) {
        f.stride[a] = wrapped(x.stride[a], 1, wrapped(y.stride[a], sign, 0));
      } else {  // what is known along this axis of one counts as unknown now
        zeros = std::min(zeros, x.has_stride[a] ? facts::zeros_of(x.stride[a]) : facts::all_zeros);
        zeros = std::min(zeros, y.has_stride[a] ? facts::zeros_of(y.stride[a]) : facts::all_zeros);
      }
    }
    f.zeros = static_cast<std::int8_t>(zeros);
    const std::int64_t y_low = sign > 0 ? y.low : y.high;
    const std::int64_t y_high = sign > 0 ? y.high : y.low;
    const bool over = sign > 0 ? __builtin_add_overflow(x.low, y_low, &f.low) ||
                                     __builtin_add_overflow(x.high, y_high, &f.high)
                               : __builtin_sub_overflow(x.low, y_low, &f.low) ||
                                     __builtin_sub_overflow(x.high, y_high, &f.high);
    return over ? unbounded(f) : f;
  }

  /// `a * b + c`, modulo 2^64.
  static constexpr std::int64_t wrapped(std::int64_t a, std::int64_t b, std::int64_t c) {
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b) +
                                     static_cast<std::uint64_t>(c));
  }

  static constexpr facts unbounded(facts f) {
    f.wraps = true;
    f.low = facts::lowest;
    f.high = facts::highest;
    return f;
  }

  static constexpr facts scaled(facts x, std::int64_t by) {
    if (by == 0) {
      x.wraps = false;
      x.has_stride = {true, true, true, true};
    }
    for (std::int64_t& s : x.stride) {
      s = wrapped(s, by, 0);
    }
    x.zeros = static_cast<std::int8_t>(std::min(x.zeros + facts::zeros_of(by), facts::all_zeros));
    std::int64_t low = 0;
    std::int64_t high = 0;
    if (__builtin_mul_overflow(by < 0 ? x.high : x.low, by, &low) ||
        __builtin_mul_overflow(by < 0 ? x.low : x.high, by, &high)) {
      return unbounded(x);
    }
    x.low = low;
    x.high = high;
    return x;
  }

  static constexpr facts product(const facts& f, const facts& x, const facts& y, int zeros) {
    std::int64_t most = 0;
    if (x.low < 0 || y.low < 0 || __builtin_mul_overflow(x.high, y.high, &most)) {
      return unbounded(with(f, 0, 0, zeros));
    }
    return with(f, wrapped(x.low, y.low, 0), most, zeros);
  }

  // Shape ---------------------------------------------------------------------------------------

  constexpr facts shape(const instruction& i) const {
    const tile_type& from = p_.type_of(p_.operands(i)[0]);
    const facts& x = operand(i, 0);
    facts f = x;
    f.has_stride = {};
    f.stride = {};
    const auto take = [&](int to, int axis) {
      f.has_stride[static_cast<std::size_t>(to)] = x.has_stride[static_cast<std::size_t>(axis)];
      f.stride[static_cast<std::size_t>(to)] = x.stride[static_cast<std::size_t>(axis)];
    };
    const int last = i.type.rank - 1;
    switch (i.op) {
      case opcode::broadcast:
        for (int a = 0; a < i.type.rank; ++a) {
          const int own = a - (i.type.rank - from.rank);
          if (own >= 0 && from.extent(own) == i.type.extent(a)) {
            take(a, own);
          } else {
            f.has_stride[static_cast<std::size_t>(a)] = true;
          }
        }
        return f;
      case opcode::transpose:
        for (int a = 0; a < i.type.rank; ++a) {
          take(a, static_cast<int>((i.value >> (4 * a)) & 15));
        }
        return f;
      case opcode::reshape:
        return reshaped(i, from, x);
      case opcode::split: {
        for (int a = 0; a < last; ++a) {
          take(a, a);
        }
        const auto u = static_cast<std::size_t>(last);
        f.has_stride[u] = x.has_stride[u];
        f.stride[u] = wrapped(x.stride[u], 2, 0);
        if (i.index == 1) {
          f.zeros = static_cast<std::int8_t>(
              std::min<int>(f.zeros, x.has_stride[u] ? facts::zeros_of(x.stride[u]) : 0));
        }
        return f;
      }
      case opcode::join: {
        const facts& y = operand(i, 1);
        return with(f, std::min(x.low, y.low), std::max(x.high, y.high),
                    std::min(x.zeros_of_all(from.rank), y.zeros_of_all(from.rank)));
      }
      default:
        return {};
    }
  }

  /// Axes of extent 1 come and go; any other change is followed only where all elements are equal.
  static constexpr facts reshaped(const instruction& i, const tile_type& from, const facts& x) {
    facts f = x;
    f.has_stride = {};
    f.stride = {};
    int a = 0;
    int b = 0;
    bool all_equal = true;
    for (int k = 0; k < from.rank; ++k) {
      all_equal = all_equal && (from.extent(k) == 1 || x.repeats(k));
    }
    while (true) {
      while (a < from.rank && from.extent(a) == 1) {
        ++a;
      }
      while (b < i.type.rank && i.type.extent(b) == 1) {
        ++b;
      }
      if (a == from.rank || b == i.type.rank || from.extent(a) != i.type.extent(b)) {
        break;
      }
      f.has_stride[static_cast<std::size_t>(b)] = x.has_stride[static_cast<std::size_t>(a)];
      f.stride[static_cast<std::size_t>(b++)] = x.stride[static_cast<std::size_t>(a++)];
    }
    if (a == from.rank && b == i.type.rank) {
      return f;
    }
    f.has_stride = {all_equal, all_equal, all_equal, all_equal};
    f.stride = {};
    f.zeros = static_cast<std::int8_t>(x.zeros_of_all(from.rank));
    return f;
  }

  const program& p_;
  structure s_;
  per_instruction<index_facts> facts_{};
};

}  // namespace detail

/// What is known of each value of a program; of floating-point values, only where they repeat.
///
/// Cost: O(size).
constexpr per_instruction<index_facts> analyse_indices(const program& p) {
  return detail::index_analysis(p).all();
}

/// How many neighbours along the tile's last axis one access may take at once.
///
/// For load, store, gather, scatter and atomics at instruction `i`: a power of two, at most `most`,
/// that divides the tile's last extent, such that each group lies side by side along the view's
/// last axis and begins at a multiple of its size there. Whether that axis is dense in memory, and
/// whether the view's other strides keep the alignment, only the view knows.
constexpr int access_width(const program& p, const per_instruction<index_facts>& facts, int i,
                           int most) {
  const instruction& access = p.at(i);
  const bool blocks = access.op == opcode::load || access.op == opcode::store;
  const int places = reads(access.op) ? 0 : 1;
  const tile_type& tile = places == 0 ? access.type : p.type_of(p.operand(i, 0));
  if (tile.rank < 1 || access.count == places) {
    return 1;
  }
  const int axis = tile.rank - 1;
  for (int k = places; !blocks && k < access.count; ++k) {
    const value_id place = p.operand(i, k);
    const bool is_last = k + 1 == access.count;
    const bool spread = p.type_of(place).rank == tile.rank;
    if (is_last ? !spread || !at(facts, place).steps_by_one(axis)
                : spread && !at(facts, place).repeats(axis)) {
      return 1;
    }
  }
  const value_id last = p.operand(i, access.count - 1);
  const int zeros = std::min(at(facts, last).zeros_beyond(p.type_of(last).rank, axis),
                             index_facts::zeros_of(tile.extent(axis)));
  int width = 1;
  while (2 * width <= most && (zeros > 30 || 2 * width <= (1 << zeros))) {
    width *= 2;
  }
  return width;
}

}  // namespace ashlar::tile
