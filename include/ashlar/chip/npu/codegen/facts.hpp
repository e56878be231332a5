// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <vector>

#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/lifetime.hpp"
#include "ashlar/tile/opcode.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/structure.hpp"

namespace ashlar::chip::npu_codegen {

/// What lowering asks about the values of a tile program.
///
/// Some values have no elements of their own but read those of their operand in another way. What a
/// loop carries shares one buffer with what it begins with and with what its body yields, wherever
/// nobody still reads the old contents.
class value_facts {
 public:
  explicit value_facts(const tile::program& p) : p_(p), s_(p), room_(size()), last_(size()) {
    const tile::lifetimes life(p, s_);
    for (int i = 0; i < p.size; ++i) {
      uses_.push_back(tile::at(life.uses, i));
      at(room_, i) = i;
      at(last_, i) = tile::at(life.last_use, i);
    }
    for (int i = p.size; i-- > 0;) {
      if (is_view(i)) {
        for (const tile::value_id o : p.operands(i)) {
          at(last_, o) = std::max(at(last_, o), at(last_, i));
        }
      }
    }
    in_register_.assign(size(), false);
    for (int i = 0; i < p.size; ++i) {
      mark_registers(i);
    }
    for (int i = 0; i < p.size; ++i) {
      if (p.at(i).op == tile::opcode::dot) {
        join_sum(i);
      }
    }
    for (int i = 0; i < p.size; ++i) {
      if (p.at(i).op == tile::opcode::loop || p.at(i).op == tile::opcode::repeat) {
        join_carried(i);
      } else if (p.at(i).op == tile::opcode::result) {
        const int owner = p.operand(i, 0);  // what it carries lives as long as its results
        at(last_, owner) = std::max(at(last_, owner), at(last_, i));
      }
    }
    for (int i = 0; i < p.size; ++i) {
      join_operand(i);
    }
    pad_matrices();
    find_read_across();
  }

  [[nodiscard]] const tile::structure& tree() const { return s_; }
  /// The last instruction that reads it, views of it included.
  [[nodiscard]] int last_use(int v) const { return at(last_, v); }
  /// Values of one room share a buffer.
  [[nodiscard]] int room(int v) const {
    while (at(room_, v) != v) {
      v = at(room_, v);
    }
    return v;
  }
  /// Whether a scalar must be in a register, wherever it comes from.
  [[nodiscard]] bool in_register(int v) const { return in_register_[static_cast<std::size_t>(v)]; }
  /// Whether the matrix unit touches it, so that rows begin at aligned addresses.
  [[nodiscard]] bool feeds_matrix(int v) const {
    return feeds_matrix_[static_cast<std::size_t>(room(v))];
  }

  /// Whether somebody reads it across its rows, so that neighbours should lie in different banks.
  [[nodiscard]] bool read_across(int v) const {
    return read_across_[static_cast<std::size_t>(room(v))];
  }

  /// The `dot` that is all that a loop's body does with what it carries, or -1: it can begin the
  /// sum itself where the loop is given zeros.
  [[nodiscard]] int only_sum(int owner, int input) const {
    const int end = tile::at(s_.last_yield, owner);
    if (p_.at(owner).op != tile::opcode::loop || at(uses_, input) != 1) {
      return -1;
    }
    for (int i = input + 1; i < end; ++i) {
      if (p_.at(i).op == tile::opcode::dot && p_.operand(i, 2) == input && room(i) == room(input) &&
          tile::at(s_.owner, i) == owner) {
        return i;
      }
    }
    return -1;
  }

  /// The first of the `region_input`s of a loop that stand for what it carries.
  [[nodiscard]] int first_carried(int owner) const {
    return p_.at(owner).op == tile::opcode::loop ? owner + 2 : tile::at(s_.first_yield, owner) + 1;
  }
  [[nodiscard]] int carried_count(int owner) const {
    return p_.at(owner).count - tile::operands_before_carried(p_.at(owner).op);
  }

 private:
  template <class T>
  static T& at(std::vector<T>& all, int i) {
    return all[static_cast<std::size_t>(i)];
  }
  template <class T>
  static const T& at(const std::vector<T>& all, int i) {
    return all[static_cast<std::size_t>(i)];
  }
  [[nodiscard]] std::size_t size() const { return static_cast<std::size_t>(p_.size); }

  [[nodiscard]] bool is_view(int i) const {
    using tile::opcode;
    const opcode op = p_.at(i).op;
    return op == opcode::broadcast || op == opcode::reshape || op == opcode::transpose ||
           op == opcode::split || op == opcode::bitcast || op == opcode::cast;
  }
  [[nodiscard]] bool is_integer_scalar(int v) const {
    return p_.type_of(v).is_scalar() && is_integral(p_.type_of(v).element);
  }

  void need(int v) {
    if (is_integer_scalar(v)) {
      in_register_[static_cast<std::size_t>(v)] = true;
    }
  }
  void mark_registers(int i) {
    using tile::opcode;
    const tile::instruction& code = p_.at(i);
    const opcode op = code.op;
    const tile::opcode_kind kind = tile::info(op).kind;
    const bool control = op == opcode::loop || op == opcode::repeat || op == opcode::branch ||
                         op == opcode::yield || kind == tile::opcode_kind::memory ||
                         op == opcode::random_bits;
    const bool arithmetic = kind >= tile::opcode_kind::unary &&
                            kind <= tile::opcode_kind::ternary && code.type.is_value() &&
                            is_integer_scalar(i);
    for (int k = 0; k < code.count && (control || arithmetic); ++k) {
      const bool stored = k == 0 && (tile::writes(op));
      if (!stored) {
        need(p_.operand(i, k));
      }
    }
  }

  /// Whether the instruction writes a buffer of its own, which may be one that it shares.
  [[nodiscard]] bool makes_tile(int v) const {
    using tile::opcode;
    const opcode op = p_.at(v).op;
    const tile::opcode_kind kind = tile::info(op).kind;
    if (!p_.type_of(v).is_value() || is_integer_scalar(v) || is_view(v)) {
      return false;
    }
    return kind == tile::opcode_kind::unary || kind == tile::opcode_kind::binary ||
           kind == tile::opcode_kind::compare || kind == tile::opcode_kind::ternary ||
           op == opcode::dot || op == opcode::load || op == opcode::iota;
  }
  /// Whether it is one machine instruction, which may write where it reads.
  [[nodiscard]] bool works_in_place(int v) const {
    using tile::opcode;
    const opcode op = p_.at(v).op;
    const bool single = op == opcode::add || op == opcode::sub || op == opcode::mul ||
                        op == opcode::div || op == opcode::min || op == opcode::max ||
                        op == opcode::fma || (op >= opcode::neg && op <= opcode::floor);
    return single && p_.type_of(v).rank <= 2;
  }

  void join_sum(int i) {
    const int c = p_.operand(i, 2);
    const int owner = tile::at(s_.owner, c);
    // What the condition of a `repeat` reads, its body reads again.
    const bool input = p_.at(c).op == tile::opcode::region_input &&
                       (p_.at(owner).op == tile::opcode::loop ||
                        (p_.at(owner).op == tile::opcode::repeat && c >= first_carried(owner)));
    if (last_use(c) == i && (makes_tile(c) || input) && owner == tile::at(s_.owner, i) &&
        reads(i, c) == 1) {
      at(room_, i) = room(c);
    }
  }
  /// How many operands of `i` are `v` or views of it.
  [[nodiscard]] int reads(int i, int v) const {
    int n = 0;
    for (int o : p_.operands(i)) {
      while (o != v && is_view(o)) {
        o = p_.operand(o, 0);
      }
      n += o == v ? 1 : 0;
    }
    return n;
  }

  void join_carried(int owner) {
    const int inputs = first_carried(owner);
    const int yield = tile::at(s_.last_yield, owner);
    const int before = tile::operands_before_carried(p_.at(owner).op);
    for (int k = 0; k < carried_count(owner); ++k) {
      const int input = inputs + k;
      if (is_integer_scalar(input)) {
        continue;
      }
      // A `repeat` has the same inputs once more, before its condition.
      if (p_.at(owner).op == tile::opcode::repeat) {
        at(room_, owner + 1 + k) = input;
      }
      const int next = p_.operand(yield, k);
      const bool here = tile::at(s_.owner, next) == owner && next > input && room(next) == next;
      const bool free =
          last_use(input) < next || (last_use(input) == next && works_in_place(next) &&
                                     reads(next, input) == uses_by(next, input));
      if (here && free && makes_tile(next) && !yielded_twice(yield, next)) {
        at(room_, next) = input;
      }
      const int begin = p_.operand(owner, before + k);
      if (makes_tile(begin) && room(begin) == begin && last_use(begin) == owner &&
          uses_by(owner, begin) == 1 && tile::at(s_.owner, begin) == tile::at(s_.owner, owner)) {
        at(room_, begin) = input;
      }
    }
    for (int i = yield + 1; i < p_.size; ++i) {
      if (p_.at(i).op == tile::opcode::result && p_.operand(i, 0) == owner) {
        const int input = inputs + p_.at(i).index;
        at(room_, i) = is_integer_scalar(i) ? i : input;
      }
    }
  }
  [[nodiscard]] int uses_by(int i, int v) const {
    int n = 0;
    for (const tile::value_id o : p_.operands(i)) {
      n += o == v ? 1 : 0;
    }
    return n;
  }
  [[nodiscard]] bool yielded_twice(int yield, int v) const { return uses_by(yield, v) > 1; }

  /// Writes where it reads an operand for the last time, but for what transfers have brought: the
  /// next ones shall come meanwhile.
  void join_operand(int i) {
    if (!works_in_place(i) || !makes_tile(i) || room(i) != i) {
      return;
    }
    for (const int o : p_.operands(i)) {
      if (makes_tile(o) && p_.at(o).op != tile::opcode::load && p_.type_of(o) == p_.type_of(i) &&
          last_use(o) == i && reads(i, o) == uses_by(i, o) &&
          tile::at(s_.owner, o) == tile::at(s_.owner, i)) {
        at(room_, i) = room(o);
        return;
      }
    }
  }

  void pad_matrices() {
    feeds_matrix_.assign(size(), false);
    const auto mark = [&](int v) {
      while (is_view(v) && p_.at(v).op != tile::opcode::reshape) {
        v = p_.operand(v, 0);
      }
      feeds_matrix_[static_cast<std::size_t>(room(v))] = true;
    };
    for (int i = 0; i < p_.size; ++i) {
      if (p_.at(i).op == tile::opcode::dot) {
        mark(i);
        mark(p_.operand(i, 0));
        mark(p_.operand(i, 1));
      } else if (p_.at(i).op == tile::opcode::dot_scaled) {
        mark(p_.operand(i, 0));
        mark(p_.operand(i, 2));
      }
    }
  }

  /// What reductions, scans and other uses of a transposed tile read down its columns.
  void find_read_across() {
    using tile::opcode;
    read_across_.assign(size(), false);
    const auto mark = [&](int v, bool across) {
      while (is_view(v) && p_.at(v).op != opcode::reshape) {
        across = across || p_.at(v).op == opcode::transpose;
        v = p_.operand(v, 0);
      }
      if (across && p_.type_of(v).rank >= 2) {
        read_across_[static_cast<std::size_t>(room(v))] = true;
      }
    };
    for (int i = 0; i < p_.size; ++i) {
      const opcode op = p_.at(i).op;
      const bool folds = op == opcode::reduce || op == opcode::scan;
      for (const int o : p_.operands(i)) {
        if (!is_view(i) && p_.type_of(o).is_value()) {
          mark(o, folds && p_.at(i).index < p_.type_of(o).rank - 1);
        }
      }
    }
  }

  const tile::program& p_;
  tile::structure s_;
  std::vector<int> room_;
  std::vector<int> last_;
  std::vector<int> uses_{};
  std::vector<bool> in_register_{};
  std::vector<bool> feeds_matrix_{};
  std::vector<bool> read_across_{};
};

}  // namespace ashlar::chip::npu_codegen
