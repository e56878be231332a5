// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "ashlar/chip/llvm/elements.hpp"
#include "ashlar/chip/llvm/frame.hpp"
#include "ashlar/tile/opcode.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/type.hpp"

/// Instructions that work on each element by itself, many in one loop.
namespace ashlar::chip::llvm_codegen {

/// Whether an instruction makes each element of its result from the same element of its operands,
/// or of nothing.
constexpr bool is_elementwise(tile::opcode op) {
  using k = tile::opcode_kind;
  const k kind = tile::info(op).kind;
  return kind == k::unary || kind == k::binary || kind == k::compare || kind == k::ternary ||
         op == tile::opcode::iota || op == tile::opcode::broadcast ||
         op == tile::opcode::random_bits;
}

/// Writes elementwise instructions for some lanes; remembers what is in registers.
class element_writer {
 public:
  element_writer(frame& f, int lanes) : f_(f), e_(f.lanes(lanes)) {}

  in_registers known{};

  /// Where the lanes begin: the number of the first element; its row and column for broadcasts;
  /// its number among a thread's.
  struct place {
    std::string element = "0", row = "0", column = "0";
    int piece = -1;
  };

  /// Elements of a value: what is in registers, a scalar in each lane, or from its array.
  const std::string& read(int v, const place& at) {
    std::string& name = known[v];
    if (name.empty() && at.piece >= 0 && !f_.pieces_at(v).empty()) {
      name = f_.pieces_at(v)[static_cast<std::size_t>(at.piece)];
    }
    if (name.empty()) {
      const tile::tile_type& type = f_.type_of(v);
      name = type.is_scalar()
                 ? e_.splat(value_type(type.element), f_.scalar(v))
                 : e_.load(type.element, f_.t.at(type.element, f_.array(v), at.element));
    }
    return name;
  }

  void write(int v, const place& at) {
    const tile::instruction& i = f_.code.at(v);
    const dtype d = i.count > 0 ? f_.type_of(f_.code.operand(v, 0)).element : i.type.element;
    const auto operand = [&](int k) -> const std::string& {
      return read(f_.code.operand(v, k), at);
    };
    using tile::opcode;
    std::string made;
    switch (i.op) {
      case opcode::iota:
        made = iota(i, at);
        break;
      case opcode::broadcast:
        made = broadcast(v, at);
        break;
      case opcode::reshape:
        made = operand(0);
        break;
      case opcode::constant:
        made = e_.constant(i.type.element, i.value);
        break;
      case opcode::random_bits: {
        const std::string seed = operand(0);
        made = e_.philox(seed, operand(1));
        break;
      }
      case opcode::cast:
        made = e_.cast(d, i.type.element, static_cast<tile::rounding>(i.index), operand(0));
        break;
      case opcode::bitcast:
        made = e_.bitcast(d, i.type.element, operand(0));
        break;
      case opcode::fma: {
        const std::string a = operand(0);
        const std::string b = operand(1);
        made = e_.fma(d, a, b, operand(2));
        break;
      }
      case opcode::select: {
        const std::string condition = operand(0);
        const std::string yes = operand(1);
        made = e_.choose(i.type.element, condition, yes, operand(2));
        break;
      }
      default:
        if (i.count == 1) {
          made = e_.unary(i.op, d, operand(0));
        } else {
          const std::string a = operand(0);
          made = tile::info(i.op).kind == tile::opcode_kind::compare
                     ? e_.compare(i.op, d, a, operand(1))
                     : e_.binary(i.op, d, a, operand(1));
        }
    }
    known[v] = made;
  }

 private:
  std::string iota(const tile::instruction& i, const place& at) {
    std::int64_t step = 1;
    for (int a = i.index + 1; a < i.type.rank; ++a) {
      step *= i.type.extent(a);
    }
    const std::string_view one = value_type(i.type.element);
    std::string first = at.element;
    if (i.type.element == dtype::int32 && first[0] == '%') {
      first = f_.t.let("trunc i64 ", first, " to i32");
    }
    std::string n = e_.splat(one, first);
    if (e_.lanes() > 1) {
      std::string all = "<";
      for (int l = 0; l < e_.lanes(); ++l) {
        all += cat(l == 0 ? "" : ", ", one, " ", l);
      }
      n = e_.two("add", i.type.element, n, all + ">");
    }
    if (step > 1) {
      n = e_.two("udiv", i.type.element, n, e_.literal(one, step));
    }
    return step * i.type.extent(i.index) < i.type.size()
               ? e_.two("urem", i.type.element, n, e_.literal(one, i.type.extent(i.index)))
               : n;
  }

  /// The lanes lie in one row of the result.
  std::string broadcast(int v, const place& at) {
    const int from = f_.code.operand(v, 0);
    const tile::tile_type& x = f_.type_of(from);
    const tile::tile_type& to = f_.type_of(v);
    if (x.same_extents(to) || x.is_scalar()) {
      return read(from, at);
    }
    std::string element = "0";
    std::int64_t step = x.extent(x.rank - 1);
    std::int64_t rows = 1;
    for (int a = x.rank - 2; a >= 0; --a) {
      const int axis = a + to.rank - x.rank;
      if (x.extent(a) != 1) {
        std::string n = at.row;
        if (n != "0" && rows > 1) {
          n = f_.t.let("udiv i64 ", n, ", ", rows);
        }
        if (n != "0" && axis > 0) {
          n = f_.t.let("urem i64 ", n, ", ", x.extent(a));
        }
        element = f_.t.add(element, f_.t.mul(n, step));
      }
      rows *= to.extent(axis);
      step *= x.extent(a);
    }
    const dtype d = x.element;
    if (x.extent(x.rank - 1) == 1) {
      elements one = f_.lanes(1);
      return e_.splat(value_type(d), one.load(d, f_.t.at(d, f_.array(from), element)));
    }
    return e_.load(d, f_.t.at(d, f_.array(from), f_.t.add(element, at.column)));
  }

  frame& f_;
  elements e_;
};

/// Writes the loop of elementwise instructions whose results have the same extents.
///
/// Only what instructions outside of the group read is kept in memory.
inline void write_group(frame& f, const std::vector<int>& group) {
  const tile::tile_type& type = f.type_of(group.front());
  std::vector<int> kept;
  bool by_rows = false;
  for (const int v : group) {
    for (const int user : f.users[static_cast<std::size_t>(v)]) {
      if (!std::binary_search(group.begin(), group.end(), user)) {
        kept.push_back(v);
        break;
      }
    }
    if (f.code.at(v).op == tile::opcode::broadcast) {
      const tile::tile_type& from = f.type_of(f.code.operand(v, 0));
      by_rows = by_rows || (!from.is_scalar() && !from.same_extents(type));
    }
  }
  if (kept.empty()) {
    return;
  }
  for (const int v : kept) {
    f.array(v) = f.allocate(f.type_of(v));
  }
  const std::int64_t columns = by_rows ? type.extent(type.rank - 1) : type.size();
  const auto write = [&](int lanes, const element_writer::place& at) {
    element_writer w(f, lanes);
    for (const int v : group) {
      w.write(v, at);
    }
    for (const int v : kept) {
      const dtype d = f.type_of(v).element;
      f.lanes(lanes).store(d, w.known[v], f.t.at(d, f.array(v), at.element));
    }
  };
  if (f.t.in_teams) {
    f.t.parallel(type.size(), 1, [&](int lanes, const std::string& i) {
      write(lanes, {i, by_rows ? f.t.place(i, columns, 0, true) : "0",
                    by_rows ? f.t.place(i, 1, columns, false) : i});
    });
    return f.t.barrier();
  }
  f.t.loop(0, type.size() / columns, 1, [&](const std::string& row) {
    const std::string first = f.t.mul(row, columns);
    f.t.strips(columns, f.width(), [&](int lanes, const std::string& column) {
      write(lanes, {f.t.add(first, column), row, column});
    });
  });
}

}  // namespace ashlar::chip::llvm_codegen
