// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/passes/rewriter.hpp"
#include "ashlar/tile/passes/row_loops.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/structure.hpp"

namespace ashlar::tile::passes {

namespace detail {

/// Writes a program as versions of which the first have their loops written out.
///
/// There, a block that several loops read is read once, and waits in a value. What is stored is
/// stored last; a block that is read after it was stored is the value that was stored.
class few_rounds_writer : row_loops {
 public:
  constexpr explicit few_rounds_writer(const program& p) : row_loops(p), out_(p) {}

  /// `most`: the rounds of a version, in ascending order.
  template <std::size_t N>
  constexpr program run(const std::array<int, N>& most) {
    if (!is_suitable()) {
      return p_;
    }
    std::array<int, N> chosen{};
    std::size_t n = 0;
    length all{p_.size, p_.operand_count};
    for (const int rounds : most) {
      length more = all;
      more += length_of_version(rounds);
      if (more.instructions <= program::max_instructions &&
          more.operands <= program::max_operands) {
        chosen[n++] = rounds;
        all = more;
      }
    }
    for (int i = 0; i < p_.size; ++i) {
      if (at(early_, i)) {
        out_.copy(i);
      }
    }
    for (std::size_t k = 0; k < n; ++k) {
      out_.emit({.op = opcode::branch}, {fits_in(chosen[k])});
      version(chosen[k]);
      out_.emit({.op = opcode::yield});
    }
    if (n == 0) {
      return p_;
    }
    for (int i = 0; i < p_.size; ++i) {
      if (!at(early_, i)) {
        out_.copy(i);
      }
    }
    for (std::size_t k = 0; k < n; ++k) {
      out_.emit({.op = opcode::yield});
    }
    return out_.finish();
  }

 private:
  static constexpr int most_pending = 32;

  /// A store that is still to be written; `guard` says where it happens, -1 everywhere.
  struct pending_store {
    int old = 0;
    value_id guard = -1;
    value_id stored = -1;
    std::array<value_id, max_rank> places{};
  };

  // --- a version ---------------------------------------------------------------------------------

  constexpr value_id number(std::int64_t n) {
    return out_.emit({.op = opcode::constant, .value = n, .type = scalar_type(dtype::int64)});
  }
  constexpr value_id compare(opcode op, value_id a, value_id b) {
    return out_.emit({.op = op, .type = scalar_type(dtype::boolean)}, {a, b});
  }

  /// Whether each loop has at most so many rounds; those that store have one at least.
  constexpr value_id fits_in(int most) {
    value_id all = -1;
    const auto require = [&](value_id holds) {
      all = all < 0 ? holds
                    : out_.emit({.op = opcode::bit_and, .type = scalar_type(dtype::boolean)},
                                {all, holds});
    };
    for (int i = 0; i < p_.size; ++i) {
      if (!is_top_loop(i)) {
        continue;
      }
      const value_id first = out_[p_.operand(i, 0)];
      const value_id end = out_[p_.operand(i, 1)];
      const std::int64_t rounds = rounds_of(i, most);
      constexpr std::int64_t largest = std::numeric_limits<std::int64_t>::max();
      const std::int64_t room = step_of(i) > largest / rounds ? largest : rounds * step_of(i);
      if (starts_at_constant(i)) {
        const std::int64_t from = p_.at(p_.operand(i, 0)).value;
        require(compare(opcode::less_equal, end,
                        number(from > largest - room ? largest : from + room)));
      } else {
        // From 0 on: the distance to the end does not overflow where it is not negative.
        require(compare(opcode::less_equal, number(0), first));
        const value_id span =
            out_.emit({.op = opcode::sub, .type = scalar_type(dtype::int64)}, {end, first});
        require(compare(opcode::less_equal, span, number(room)));
      }
      if (at(s_.has_write, i)) {
        require(compare(opcode::less, first, end));
      }
    }
    return all;
  }

  /// Whether a loop that stores has the same rounds: then the first of them is certain.
  [[nodiscard]] constexpr bool has_first_round(int loop) const {
    for (int i = 0; i < p_.size; ++i) {
      if (is_top_loop(i) && at(s_.has_write, i) && p_.operand(i, 0) == p_.operand(loop, 0) &&
          p_.operand(i, 1) == p_.operand(loop, 1)) {
        return true;
      }
    }
    return false;
  }

  constexpr void version(int most) {
    begin_ = out_.so_far().size;
    pending_count_ = 0;
    for (int i = 0; i < p_.size;) {
      if (is_top_loop(i)) {
        rounds(i, rounds_of(i, most));
        i = at(s_.last_yield, i) + 1;
      } else if (at(early_, i)) {
        ++i;
      } else {
        one(i++, -1);
      }
    }
    flush();
  }

  constexpr void rounds(int loop, int most) {
    const int carried = p_.at(loop).count - 3;
    const int body = loop + 2 + carried;
    const int end = at(s_.last_yield, loop);
    for (int k = 0; k < carried; ++k) {
      carried_[first_carried(loop, k)] = out_[p_.operand(loop, 3 + k)];
    }
    for (int r = 0; r < most; ++r) {
      // With a constant start: a round that does not come may count further than an int64 holds.
      const value_id counter =
          starts_at_constant(loop)
              ? number(static_cast<std::int64_t>(
                    static_cast<std::uint64_t>(p_.at(p_.operand(loop, 0)).value) +
                    static_cast<std::uint64_t>(r) * static_cast<std::uint64_t>(step_of(loop))))
              : out_[p_.operand(loop, 0)];
      const value_id guard = r == 0 && has_first_round(loop)
                                 ? value_id{-1}
                                 : compare(opcode::less, counter, out_[p_.operand(loop, 1)]);
      out_.replace(loop + 1, counter);
      for (int k = 0; k < carried; ++k) {
        out_.replace(loop + 2 + k, carried_[first_carried(loop, k)]);
      }
      if (!starts_at_constant(loop) && !at(s_.has_write, loop) && guard >= 0) {
        rest(loop, guard);
        continue;
      }
      for (int i = body; i < end; ++i) {
        one(i, guard);
      }
      for (int k = 0; k < carried; ++k) {
        value_id& now = carried_[first_carried(loop, k)];
        now = chosen(guard, out_[p_.operand(end, k)], now);
      }
    }
  }
  /// A loop over what whole blocks leave of a row: often there is nothing, so that it is a branch.
  constexpr void rest(int loop, value_id guard) {
    const int carried = p_.at(loop).count - 3;
    const int end = at(s_.last_yield, loop);
    flush();
    const value_id owner = out_.emit({.op = opcode::branch}, {guard});
    for (int i = loop + 2 + carried; i < end; ++i) {
      const value_id made = out_.copy(i);
      at(hidden_, made) = true;
    }
    std::array<value_id, 256> now{};
    std::array<value_id, 256> before{};
    for (int k = 0; k < carried; ++k) {
      now[static_cast<std::size_t>(k)] = out_[p_.operand(end, k)];
      before[static_cast<std::size_t>(k)] = carried_[first_carried(loop, k)];
    }
    out_.emit({.op = opcode::yield}, std::span(now).first(static_cast<std::size_t>(carried)));
    out_.emit({.op = opcode::yield}, std::span(before).first(static_cast<std::size_t>(carried)));
    for (int k = 0; k < carried; ++k) {
      const tile_type type = p_.type_of(p_.operand(loop, 3 + k));
      carried_[first_carried(loop, k)] =
          out_.emit({.op = opcode::result, .index = k, .type = type}, {owner});
    }
  }
  [[nodiscard]] constexpr std::size_t first_carried(int loop, int k) const {
    return static_cast<std::size_t>(p_.at(loop).first + 3 + k);
  }

  constexpr value_id chosen(value_id guard, value_id yes, value_id no) {
    if (guard < 0 || yes == no) {
      return yes;
    }
    const tile_type type = out_.so_far().type_of(yes);
    const value_id condition =
        type.is_scalar()
            ? guard
            : out_.emit({.op = opcode::broadcast, .type = type.with(dtype::boolean)}, {guard});
    return out_.emit({.op = opcode::select, .type = type}, {condition, yes, no});
  }

  constexpr void one(int i, value_id guard) {
    const instruction& now = p_.at(i);
    if (now.op == opcode::result && is_top_loop(p_.operand(i, 0))) {
      out_.replace(i, carried_[first_carried(p_.operand(i, 0), now.index)]);
    } else if (now.op == opcode::store) {
      postpone(i, guard);
    } else if (now.op == opcode::load) {
      load(i, guard);
    } else {
      if (now.op == opcode::gather) {
        flush();
        begin_ = out_.so_far().size;
      }
      out_.copy(i);
    }
  }

  // --- memory ------------------------------------------------------------------------------------

  /// Whether a block of `type` at `places` has no element of the block that is stored.
  ///
  /// Views are apart or one: blocks of one are apart where the same axis says so. Axes are counted
  /// from the last.
  [[nodiscard]] constexpr bool is_apart(const pending_store& s, const tile_type& type,
                                        const value_id* places, int rank) const {
    const program& q = out_.so_far();
    const tile_type& stored = p_.type_of(p_.operand(s.old, 0));
    if (rank != p_.parameter_at(p_.at(s.old).index).rank || type.element != stored.element) {
      return true;  // of another view
    }
    for (int a = 1; a <= rank; ++a) {
      const instruction& x = q.at(places[rank - a]);
      const instruction& y = q.at(s.places[static_cast<std::size_t>(rank - a)]);
      if (x.op != opcode::constant || y.op != opcode::constant || x.value < 0 || y.value < 0) {
        continue;
      }
      const std::int64_t m = a <= type.rank ? type.extent(type.rank - a) : 1;
      const std::int64_t n = a <= stored.rank ? stored.extent(stored.rank - a) : 1;
      if (x.value < y.value ? y.value - x.value >= m : x.value - y.value >= n) {
        return true;
      }
    }
    return false;
  }

  [[nodiscard]] constexpr bool same_place(const pending_store& s, int parameter,
                                          const tile_type& type, const value_id* places) const {
    const int rank = p_.parameter_at(parameter).rank;
    if (p_.at(s.old).index != parameter || p_.type_of(p_.operand(s.old, 0)) != type) {
      return false;
    }
    for (int a = 0; a < rank; ++a) {
      if (!same_number(s.places[static_cast<std::size_t>(a)], places[a])) {
        return false;
      }
    }
    return true;
  }
  [[nodiscard]] constexpr bool same_number(value_id a, value_id b) const {
    const instruction& x = out_.so_far().at(a);
    const instruction& y = out_.so_far().at(b);
    return a == b || (x.op == opcode::constant && y.op == opcode::constant && x.value == y.value);
  }

  constexpr void postpone(int i, value_id guard) {
    pending_store next{i, guard, out_[p_.operand(i, 0)]};
    const int rank = p_.at(i).count - 1;
    for (int a = 0; a < rank; ++a) {
      next.places[static_cast<std::size_t>(a)] = out_[p_.operand(i, 1 + a)];
    }
    for (int k = 0; k < pending_count_; ++k) {
      const pending_store& before = pending_[static_cast<std::size_t>(k)];
      if (same_place(before, p_.at(i).index, p_.type_of(p_.operand(i, 0)), next.places.data()) &&
          same_guard(before.guard, guard)) {
        for (int m = k + 1; m < pending_count_; ++m) {
          pending_[static_cast<std::size_t>(m - 1)] = pending_[static_cast<std::size_t>(m)];
        }
        --pending_count_;
        break;
      }
    }
    if (pending_count_ == most_pending) {
      flush();
    }
    pending_[static_cast<std::size_t>(pending_count_++)] = next;
  }
  /// Whether two conditions of rounds compare the same.
  [[nodiscard]] constexpr bool same_guard(value_id a, value_id b) const {
    const program& q = out_.so_far();
    return a == b || (a >= 0 && b >= 0 && same_number(q.operand(a, 0), q.operand(b, 0)) &&
                      same_number(q.operand(a, 1), q.operand(b, 1)));
  }

  constexpr void flush() {
    for (int k = 0; k < pending_count_; ++k) {
      const pending_store& s = pending_[static_cast<std::size_t>(k)];
      if (s.guard >= 0) {
        out_.emit({.op = opcode::branch}, {s.guard});
      }
      std::array<value_id, max_rank + 1> operands{s.stored};
      const int n = p_.at(s.old).count;
      for (int a = 1; a < n; ++a) {
        operands[static_cast<std::size_t>(a)] = s.places[static_cast<std::size_t>(a - 1)];
      }
      out_.emit(p_.at(s.old), std::span(operands).first(static_cast<std::size_t>(n)));
      if (s.guard >= 0) {
        out_.emit({.op = opcode::yield});
        out_.emit({.op = opcode::yield});
      }
    }
    if (pending_count_ > 0) {
      begin_ = out_.so_far().size;  // what was read before may be something else now
    }
    pending_count_ = 0;
  }

  constexpr void load(int i, value_id guard) {
    const instruction& now = p_.at(i);
    const tile_type& type = now.type;
    std::array<value_id, max_rank> places{};
    for (int a = 0; a < now.count; ++a) {
      places[static_cast<std::size_t>(a)] = out_[p_.operand(i, a)];
    }
    for (int k = 0; k < pending_count_; ++k) {
      const pending_store& s = pending_[static_cast<std::size_t>(k)];
      if (same_place(s, now.index, type, places.data()) && same_guard(s.guard, guard) &&
          goes_where_it_came_from(i, i)) {
        out_.replace(i, s.stored);
        return;
      }
    }
    for (int k = 0; k < pending_count_; ++k) {
      if (!is_apart(pending_[static_cast<std::size_t>(k)], type, places.data(), now.count)) {
        flush();
        break;
      }
    }
    const program& q = out_.so_far();
    for (int v = begin_; v < q.size; ++v) {
      const instruction& other = q.at(v);
      bool same = !at(hidden_, v) && other.op == opcode::load && other.index == now.index &&
                  other.value == now.value && other.type == type;
      for (int a = 0; a < now.count && same; ++a) {
        same = same_number(q.operand(v, a), places[static_cast<std::size_t>(a)]);
      }
      if (same) {
        out_.replace(i, static_cast<value_id>(v));
        return;
      }
    }
    out_.copy(i);
  }

  /// Whether what a load gives outside of its view is stored nowhere: element by element it goes to
  /// stores at the same place.
  [[nodiscard]] constexpr bool goes_where_it_came_from(int load, int v) const {
    for (int i = v + 1; i < p_.size; ++i) {
      for (int k = 0; k < p_.at(i).count; ++k) {
        if (p_.operand(i, k) != v) {
          continue;
        }
        const instruction& user = p_.at(i);
        const opcode_kind kind = info(user.op).kind;
        const bool elementwise = (kind == opcode_kind::unary || kind == opcode_kind::binary ||
                                  kind == opcode_kind::compare || kind == opcode_kind::ternary) &&
                                 user.type.same_extents(p_.type_of(load)) &&
                                 goes_where_it_came_from(load, i);
        bool back = user.op == opcode::store && user.index == p_.at(load).index && k == 0;
        for (int a = 0; back && a < p_.at(load).count; ++a) {
          back = p_.operand(i, 1 + a) == p_.operand(load, a);
        }
        if (!elementwise && !back) {
          return false;
        }
      }
    }
    return true;
  }

  rewriter out_;
  per_instruction<bool> hidden_{};                         ///< of the new program: in a branch
  std::array<value_id, program::max_operands> carried_{};  ///< by the place of the first
  std::array<pending_store, most_pending> pending_{};
  int pending_count_ = 0;
  int begin_ = 0;  ///< of the version, or after the last that was stored
};

}  // namespace detail

/// A program that chooses by its launch between versions of itself: where its loops have at most so
/// many rounds as `most` says, they are written out, and a block that several of them read is read
/// once; else it is the program as it was.
///
/// For programs of two or more loops, one after the other, over parts of a row: the row stays in
/// registers where there are many. Others stay as they are, and so do those that would get too
/// long.
///
/// Requires: of a launch, that a view that is written shares memory with no other, unless both have
///           the same address, strides and element type.
/// Cost:     O(size) for each round that is written out.
template <std::size_t N>
constexpr program few_rounds(const program& p, const std::array<int, N>& most) {
  return detail::few_rounds_writer(p).run(most);
}

}  // namespace ashlar::tile::passes
