// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstdint>
#include <string_view>

#include "ashlar/tile/program.hpp"
#include "ashlar/tile/rules.hpp"

namespace ashlar::tile {

/// The first rule that a program breaks, and where; `rule` is empty for a program that is well.
struct verdict {
  std::string_view rule{};
  int instruction = -1;

  constexpr explicit operator bool() const { return rule.empty(); }
};

namespace detail {

class verifier {
 public:
  constexpr explicit verifier(const program& p) : p_(p) {}

  constexpr verdict run() {
    if (p_.size < 0 || p_.size > program::max_instructions || p_.parameter_count < 0 ||
        p_.parameter_count > program::max_parameters || p_.operand_count < 0 ||
        p_.operand_count > program::max_operands) {
      return {"it says to be longer than a program can be", -1};
    }
    for (int i = 0; i < p_.parameter_count; ++i) {
      const parameter& view = p_.parameter_at(i);
      if (view.rank < -1 || view.rank > max_rank) {
        return {"a view has at most 4 axes", -1};
      }
      if (static_cast<int>(view.element) >= dtype_count) {
        return {"there is no such type", -1};
      }
    }
    for (at_ = 0; at_ < p_.size; ++at_) {
      const rule broken = step(p_.at(at_));
      if (!broken.empty()) {
        return {broken, at_};
      }
    }
    if (depth_ > 0) {
      return {"its regions are not ended by a yield", open_[depth_ - 1].owner};
    }
    return {};
  }

 private:
  static constexpr int max_depth = 16;

  /// A region that has begun: what it must take in and give.
  struct region {
    int owner = -1;
    int number = 0;  ///< which of its owner's regions
    int inputs_seen = 0;
    bool past_inputs = false;
  };

  constexpr rule step(const instruction& i) {
    if (static_cast<int>(i.op) >= opcode_count) {
      return "there is no such operation";
    }
    if (!i.type.well_formed()) {
      return "there is no such type";
    }
    if (i.first + i.count > p_.operand_count) {
      return "its operands lie outside the program's list";
    }
    for (const value_id o : p_.operands(i)) {
      if (o < 0 || o >= at_ || !visible_[static_cast<std::size_t>(o)]) {
        return "it uses a value that is not there: values come before their uses, in the same "
               "region or one around it";
      }
    }
    if (i.op == opcode::region_input) {
      return input(i);
    }
    if (depth_ > 0) {
      open_[depth_ - 1].past_inputs = true;
      if (open_[depth_ - 1].inputs_seen != input_count(open_[depth_ - 1])) {
        return "a region begins with all its inputs";
      }
    }
    if (i.op == opcode::yield) {
      return end_region(i);
    }
    if (const rule broken = broken_rule(p_, i); !broken.empty()) {
      return broken;
    }
    if (i.op == opcode::result) {
      return result(i);
    }
    visible_[static_cast<std::size_t>(at_)] = true;
    return info(i.op).regions > 0 ? begin_regions(i) : rule();
  }

  /// How many of the owner's operands the region carries, and where they begin.
  [[nodiscard]] constexpr int carried(int owner) const {
    const instruction& o = p_.at(owner);
    return o.op == opcode::loop ? o.count - 3 : o.op == opcode::branch ? 0 : o.count;
  }
  [[nodiscard]] constexpr int input_count(const region& r) const {
    const opcode op = p_.at(r.owner).op;
    const int n = carried(r.owner);
    return op == opcode::reduce || op == opcode::scan ? 2 * n : op == opcode::loop ? n + 1 : n;
  }
  [[nodiscard]] constexpr tile_type input_type(const region& r, int k) const {
    const instruction& o = p_.at(r.owner);
    switch (o.op) {
      case opcode::reduce:
      case opcode::scan:
        return scalar_type(p_.type_of(p_.operand(r.owner, k % o.count)).element);
      case opcode::loop:
        return k == 0 ? index_type : p_.type_of(p_.operand(r.owner, k + 2));
      default:
        return p_.type_of(p_.operand(r.owner, k));
    }
  }

  constexpr rule input(const instruction& i) {
    if (depth_ == 0) {
      return "region_input: there is no region here";
    }
    region& r = open_[depth_ - 1];
    if (r.past_inputs || i.index != r.inputs_seen || i.index >= input_count(r)) {
      return "region_input: they come first in a region, in order, as many as it has";
    }
    if (i.type != input_type(r, i.index)) {
      return "region_input: its type is that of what is carried, or the scalar of what is reduced";
    }
    ++r.inputs_seen;
    visible_[static_cast<std::size_t>(at_)] = true;
    return {};
  }

  constexpr rule begin_regions(const instruction& i) {
    const auto operands = p_.operands(i);
    if (i.op == opcode::branch && p_.type_of(operands[0]) != scalar_type(dtype::boolean)) {
      return "branch: it asks a bool scalar";
    }
    if (i.op == opcode::loop) {
      if (i.count < 3 || !is_index(p_, operands[0]) || !is_index(p_, operands[1]) ||
          !is_index(p_, operands[2])) {
        return "loop: first, end and step are int64 scalars";
      }
    }
    if (i.op == opcode::reduce || i.op == opcode::scan) {
      if (i.count == 0 || i.index < 0 || i.index >= p_.type_of(operands[0]).rank) {
        return "reduce, scan: there is no such axis";
      }
      for (const value_id o : operands) {
        if (!p_.type_of(o).same_extents(p_.type_of(operands[0]))) {
          return "reduce, scan: all operands have the same extents";
        }
      }
    }
    return open_region({at_, 0, 0, false});
  }

  constexpr rule open_region(const region& r) {
    if (depth_ == max_depth) {
      return "regions are nested deeper than 16";
    }
    open_[depth_] = r;
    begins_[depth_++] = at_ + 1;
    return {};
  }

  constexpr rule end_region(const instruction& i) {
    if (depth_ == 0) {
      return "yield: there is no region to end";
    }
    if (i.type.is_value()) {
      return "yield: it has no value of its own";
    }
    const region r = open_[--depth_];
    const instruction& owner = p_.at(r.owner);
    const int begin = begins_[depth_];
    const auto given = p_.operands(i);
    if (owner.op == opcode::repeat && r.number == 0) {
      if (given.size() != 1 || p_.type_of(given[0]) != scalar_type(dtype::boolean)) {
        return "repeat: its first region gives one bool scalar";
      }
    } else if (owner.op == opcode::branch) {
      for (const value_id o : given) {
        if (!p_.type_of(o).is_value()) {
          return "yield: an operand has no value";
        }
      }
      if (r.number == 1) {
        const auto first = p_.operands(begin - 1);
        bool same = first.size() == given.size();
        for (std::size_t k = 0; same && k < given.size(); ++k) {
          same = p_.type_of(first[k]) == p_.type_of(given[k]);
        }
        if (!same) {
          return "branch: both regions give the same types";
        }
      }
    } else {
      const int wanted = carried(r.owner);
      bool fits = static_cast<int>(given.size()) == wanted;
      const int skip = owner.op == opcode::loop ? 1 : 0;
      for (int k = 0; fits && k < wanted; ++k) {
        fits = p_.type_of(given[static_cast<std::size_t>(k)]) == input_type(r, k + skip);
      }
      if (!fits) {
        return "yield: it gives one value for each that is carried, of its type";
      }
    }
    for (int k = begin; k < at_; ++k) {
      visible_[static_cast<std::size_t>(k)] = false;
    }
    if (r.number + 1 < info(owner.op).regions) {
      return open_region({r.owner, r.number + 1, 0, false});
    }
    last_yield_[static_cast<std::size_t>(r.owner)] = static_cast<value_id>(at_);
    return {};
  }

  constexpr rule result(const instruction& i) {
    const value_id owner = p_.operands(i)[0];
    const instruction& o = p_.at(owner);
    if (info(o.op).regions == 0 || last_yield_[static_cast<std::size_t>(owner)] == 0) {
      return "result: its operand is an instruction whose regions have ended";
    }
    const auto given = p_.operands(last_yield_[static_cast<std::size_t>(owner)]);
    if (i.index < 0 || static_cast<std::size_t>(i.index) >= given.size()) {
      return "result: there is no such result";
    }
    tile_type wanted = p_.type_of(given[static_cast<std::size_t>(i.index)]);
    if (o.op == opcode::reduce || o.op == opcode::scan) {
      wanted = p_.type_of(p_.operand(owner, i.index));
      wanted = o.op == opcode::reduce ? wanted.without(o.index) : wanted;
    }
    if (i.type != wanted) {
      return "result: its type is that of what was given";
    }
    visible_[static_cast<std::size_t>(at_)] = true;
    return {};
  }

  const program& p_;
  int at_ = 0;
  std::size_t depth_ = 0;
  std::array<region, max_depth> open_{};
  std::array<int, max_depth> begins_{};
  std::array<bool, program::max_instructions> visible_{};
  std::array<value_id, program::max_instructions> last_yield_{};
};

}  // namespace detail

/// Checks every rule of the tile IR.
///
/// Returns: the first rule that is broken and the instruction that breaks it.
/// Cost:    O(size); fixed kernels check it in a `static_assert`.
constexpr verdict verify(const program& p) { return detail::verifier(p).run(); }

/// Throws: `program_error` where `verify` finds something.
constexpr void expect_valid(const program& p) {
  if (const verdict v = verify(p); !v) {
    throw program_error(v.rule, v.instruction);
  }
}

}  // namespace ashlar::tile
