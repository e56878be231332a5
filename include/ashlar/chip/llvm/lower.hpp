// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "ashlar/chip/llvm/fold.hpp"
#include "ashlar/chip/llvm/frame.hpp"
#include "ashlar/chip/llvm/group.hpp"
#include "ashlar/chip/llvm/matrix.hpp"
#include "ashlar/chip/llvm/memory.hpp"
#include "ashlar/chip/llvm/shapes.hpp"
#include "ashlar/chip/llvm/target.hpp"
#include "ashlar/chip/llvm/team.hpp"
#include "ashlar/tile/opcode.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/verify.hpp"

namespace ashlar::chip::llvm_codegen {

/// Writes the function of one program.
class lowering {
 public:
  /// `number`: of the function in its module.
  lowering(const tile::program& p, const llvm_target& target, int number = 0)
      : f_(p, target), number_(number) {}

  /// Returns: the definition; what it calls is in `declared()`.
  std::string run(std::string_view symbol) {
    f_.t.begin_block("start");
    write(0, f_.code.size);
    if (f_.t.in_teams) {
      return kernel(symbol);
    }
    f_.t.line("ret i32 0");
    return cat(
        "define i32 @", symbol,
        "(ptr noalias nocapture readonly %args, ptr noalias nocapture %scratch, i64 %place0, "
        "i64 %place1, i64 %place2, i64 %grid0, i64 %grid1, i64 %grid2) #0 {\nentry:\n",
        f_.t.entry, "  br label %start\n", f_.t.body, "}\n");
  }
  [[nodiscard]] const std::set<std::string>& declared() const { return f_.t.declared; }
  [[nodiscard]] std::int64_t scratch_bytes() const { return f_.scratch_used; }
  [[nodiscard]] std::int64_t shared_bytes() const { return f_.shared_used; }
  [[nodiscard]] int threads() const { return f_.t.threads; }
  [[nodiscard]] int blocks() const { return blocks_at_once(f_); }

 private:
  using opcode = tile::opcode;

  /// A kernel of a GPU: a block of threads for each place of the grid.
  std::string kernel(std::string_view symbol) {
    f_.t.line("ret void");
    std::string begin;
    const auto read = [&](std::string_view name, std::string_view from) {
      const std::string symbol_of = cat("@llvm.nvvm.read.ptx.sreg.", from);
      f_.t.declared.insert(cat("declare i32 ", symbol_of, "()"));
      begin += cat("  ", name, "_ = call i32 ", symbol_of, "()\n  ", name, " = zext i32 ", name,
                   "_ to i64\n");
    };
    read("%thread", "tid.x");
    for (int a = 0; a < 3; ++a) {
      const char axis = "xyz"[a];
      read(cat("%place", a), cat("ctaid.", std::string(1, axis)));
      read(cat("%grid", a), cat("nctaid.", std::string(1, axis)));
    }
    begin += cat("  %team_y = mul i64 %place2, %grid1\n  %team_z = add i64 %team_y, %place1\n",
                 "  %team_x = mul i64 %team_z, %grid0\n  %team = add i64 %team_x, %place0\n",
                 "  %team_offset = mul i64 %team, ", f_.scratch_used,
                 "\n  %team_scratch = getelementptr i8, ptr %scratch, i64 %team_offset\n",
                 "  %shared = addrspacecast ptr addrspace(3) @__ashlar_shared to ptr\n");
    // As integers: LLVM 14 stops at kernels that take opaque pointers. Through address space 1, so
    // that LLVM knows where they point. Other threads write scratch memory, too: it is not
    // `noalias`.
    for (const std::string_view name : {"%args", "%scratch", "%status"}) {
      begin = cat("  ", name, "_global = inttoptr i64 ", name, "_number to ptr addrspace(1)\n  ",
                  name, " = addrspacecast ptr addrspace(1) ", name, "_global to ptr\n", begin);
    }
    return cat("define void @", symbol,
               "(i64 %args_number, i64 %scratch_number, i64 %status_number) #0 {\nentry:\n", begin,
               f_.t.entry, "  br label %start\n", f_.t.body, "}\n");
  }

  void write(int from, int to) {
    for (int i = from; i < to;) {
      const int end = group(i, to);
      if (end > i) {
        i = end;
        continue;
      }
      if (f_.t.in_teams && write_in_team(f_, i)) {
        ++i;
        continue;
      }
      if (f_.unsynced) {
        f_.sync();
      }
      step(i);
      // What each thread has for itself needs no barrier before it is read.
      if (f_.code.at(i).op == opcode::reduce && fold_writer(f_, i, region_).gives_scalars()) {
        f_.unsynced = true;
      } else {
        f_.sync();
      }
      i = f_.after(i);
    }
    if (f_.unsynced && to < f_.code.size) {  // what comes after a region need not know of it
      f_.sync();
    }
  }

  [[nodiscard]] bool is_scalar_step(int i) const {
    const opcode op = f_.code.at(i).op;
    return f_.type_of(i).is_scalar() &&
           (is_elementwise(op) || tile::info(op).kind == tile::opcode_kind::leaf) &&
           op != opcode::region_input;
  }

  /// Elementwise instructions of one shape, with the scalar ones between them.
  /// Returns: the instruction after them; `from` where there is none.
  int group(int from, int to) {
    std::vector<int> tiles;
    int i = from;
    for (; i < to; ++i) {
      if (is_scalar_step(i)) {
        scalar(i);
        continue;
      }
      const tile::tile_type& type = f_.type_of(i);
      if (type.rank < 1 || !is_elementwise(f_.code.at(i).op) ||
          (!tiles.empty() && !type.same_extents(f_.type_of(tiles.front())))) {
        break;
      }
      tiles.push_back(i);
    }
    if (!tiles.empty()) {
      f_.pieces_of(f_.type_of(tiles.front())) > 0 ? write_group_in_team(f_, tiles)
                                                  : write_group(f_, tiles);
    }
    return i;
  }

  void scalar(int at) {
    const tile::instruction& i = f_.code.at(at);
    switch (i.op) {
      case opcode::program_id:
        f_.scalar(at) = cat("%place", i.index);
        return;
      case opcode::grid_size:
        f_.scalar(at) = cat("%grid", i.index);
        return;
      case opcode::extent:
        f_.scalar(at) = f_.extent_of(i.index, static_cast<int>(i.value));
        return;
      case opcode::argument: {
        elements e = f_.lanes(1);
        const dtype d = i.type.element;
        const std::string bits = f_.bits_of_scalar(i.index);
        f_.scalar(at) = is_floating(d)
                            ? e.cast(dtype::float64, d, tile::rounding::nearest_even,
                                     e.bitcast(dtype::int64, dtype::float64, bits))
                            : e.cast(dtype::int64, d, tile::rounding::nearest_even, bits);
        return;
      }
      default: {
        element_writer w(f_, 1);
        w.write(at, {});
        f_.scalar(at) = w.known[at];
      }
    }
  }

  void step(int at) {
    const tile::instruction& i = f_.code.at(at);
    switch (i.op) {
      case opcode::load:
        return write_load(f_, at);
      case opcode::store:
        return write_store(f_, at);
      case opcode::gather:
      case opcode::scatter:
      case opcode::atomic_add:
      case opcode::atomic_max:
      case opcode::atomic_min:
        return write_places(f_, at);
      case opcode::reshape:
        return f_.bind(at, f_.array_of(f_.code.operand(at, 0)));
      case opcode::transpose:
        return write_transpose(f_, at);
      case opcode::split:
      case opcode::join:
      case opcode::unpack_nibbles:
        return write_interleaved(f_, at);
      case opcode::dot:
      case opcode::dot_scaled:
        return matrix(at);
      case opcode::reduce:
        return fold_writer(f_, at, region_).reduce();
      case opcode::scan:
        return fold_writer(f_, at, region_).scan();
      case opcode::loop:
        return loop(at);
      case opcode::repeat:
        return repeat(at);
      case opcode::branch:
        return branch(at);
      case opcode::result:
        return f_.bind(at,
                       f_.results_of(f_.code.operand(at, 0))[static_cast<std::size_t>(i.index)]);
      case opcode::require:
        return require(at);
      case opcode::print:
        return print(at);
      default:
        throw llvm_unsupported(i.op, at, "LLVM IR is not written for it here");
    }
  }

  // --- matrices ----------------------------------------------------------------------------------

  /// Where the result of `at` may go so that the loop around it need not copy it: onto the carried
  /// tile that only its operand `c` reads and that it becomes. Else new memory.
  std::string destination(int at, int c) {
    const auto& mine = f_.users[static_cast<std::size_t>(at)];
    const int from = f_.code.operand(at, c);
    const bool only = f_.users[static_cast<std::size_t>(from)].size() == 1 && mine.size() == 1;
    if (only && f_.code.at(from).op == opcode::region_input &&
        f_.code.at(mine[0]).op == opcode::yield && !loops_.empty()) {
      const int owner = loops_.back();
      const int number = f_.code.at(from).index - 1;
      if (from == owner + 2 + number && mine[0] == f_.after(owner) - 1 && number >= 0 &&
          f_.code.operand(mine[0], number) == at) {
        return f_.array(from);
      }
    }
    return f_.allocate(f_.type_of(at));
  }

  void matrix(int at) {
    const auto array = [&](int k) { return f_.array(f_.code.operand(at, k)); };
    const bool scaled = f_.code.at(at).op == opcode::dot_scaled;
    dot_writer w(f_, at);
    const int c = scaled ? 4 : 2;
    const std::string out = destination(at, c);
    scaled ? w.dot_scaled(array(1), array(3), array(c), out) : w.dot(array(c), out);
    f_.bind(at, out);
  }

  // --- control -----------------------------------------------------------------------------------

  /// Memory for what is carried, with the first values.
  void begin_carried(int at, int first) {
    auto& slots = f_.results_of(at);
    for (int k = first; k < f_.code.at(at).count; ++k) {
      const int v = f_.code.operand(at, k);
      if (carries_own(f_, at, k - first)) {
        write_carried(f_, at, k - first, v);
        slots.emplace_back();
        continue;
      }
      slots.push_back(f_.allocate(f_.type_of(v)));
      assign(v, slots.back());
    }
    f_.t.barrier();
  }

  void assign(int v, const std::string& slot) {
    const tile::tile_type& type = f_.type_of(v);
    if (type.is_scalar()) {
      f_.lanes(1).store(type.element, f_.scalar(v), slot);
    } else {
      f_.copy(type.element, type.size(), f_.array(v), slot);
    }
  }

  void bind_inputs(int owner, int first) {
    const auto& slots = f_.results_of(owner);
    for (int k = 0; k < static_cast<int>(slots.size()); ++k) {
      if (carries_own(f_, owner, k)) {
        read_carried(f_, owner, k, first + k);
      } else {
        f_.bind(first + k, slots[static_cast<std::size_t>(k)]);
      }
    }
  }

  /// What a region yields becomes the results so far, all at once.
  void keep(int owner, int yield) {
    keep_all(owner, yield);
    f_.t.barrier();
  }
  void keep_all(int owner, int yield) {
    const auto& slots = f_.results_of(owner);
    std::vector<std::string> from(slots.size());
    for (std::size_t k = 0; k < slots.size(); ++k) {
      const int v = f_.code.operand(yield, static_cast<int>(k));
      const tile::tile_type& type = f_.type_of(v);
      if (type.is_scalar() || slots[k].empty()) {
        continue;
      }
      from[k] = f_.array(v);
      for (std::size_t other = 0; other < k; ++other) {
        if (from[k] == slots[other]) {  // it would be overwritten before it is read
          from[k] = f_.allocate(type);
          f_.copy(type.element, type.size(), f_.array(v), from[k]);
          f_.t.barrier();
          break;
        }
      }
    }
    for (std::size_t k = 0; k < slots.size(); ++k) {
      const int v = f_.code.operand(yield, static_cast<int>(k));
      const tile::tile_type& type = f_.type_of(v);
      if (type.is_scalar()) {
        f_.lanes(1).store(type.element, f_.scalar(v), slots[k]);
      } else if (slots[k].empty()) {
        write_carried(f_, owner, static_cast<int>(k), v);
      } else {
        f_.copy(type.element, type.size(), from[k], slots[k]);
      }
    }
  }

  void loop(int at) {
    const std::string first = f_.scalar(f_.code.operand(at, 0));
    const std::string end = f_.scalar(f_.code.operand(at, 1));
    const std::string by = f_.scalar(f_.code.operand(at, 2));
    f_.fail_unless(f_.t.let("icmp sgt i64 ", by, ", 0"), at);
    begin_carried(at, 3);
    const std::string counter = f_.allocate_own(dtype::int64, 1);
    f_.t.line("store i64 ", first, ", ptr ", counter);
    const std::string head = f_.t.fresh_label();
    const std::string more = f_.t.fresh_label();
    const std::string after = f_.t.fresh_label();
    f_.t.jump_if(f_.t.let("icmp slt i64 ", first, ", ", end), head, after);
    f_.t.begin_block(head);
    const std::string i = f_.t.let("load i64, ptr ", counter);
    f_.scalar(at + 1) = i;
    bind_inputs(at, at + 2);
    loops_.push_back(at);
    write(at + 1 + f_.code.at(at).count - 2, f_.after(at) - 1);
    loops_.pop_back();
    keep(at, f_.after(at) - 1);
    // The counter may come near the largest number.
    const std::string left = f_.t.let("sub i64 ", end, ", ", i);
    f_.t.jump_if(f_.t.let("icmp ule i64 ", left, ", ", by), after, more);
    f_.t.begin_block(more);
    f_.t.line("store i64 ", f_.t.add(i, by), ", ptr ", counter);
    f_.t.jump(head);
    f_.t.begin_block(after);
  }

  void repeat(int at) {
    const int inputs = f_.code.at(at).count;
    const int asked = tile::at(f_.structure.first_yield, at);
    const int end = tile::at(f_.structure.last_yield, at);
    begin_carried(at, 0);
    const std::string rounds = f_.allocate_own(dtype::int64, 1);
    f_.t.line("store i64 0, ptr ", rounds);
    const std::string head = f_.t.fresh_label();
    const std::string more = f_.t.fresh_label();
    const std::string after = f_.t.fresh_label();
    f_.t.jump(head);
    f_.t.begin_block(head);
    loops_.push_back(-1);  // what it carries is read by two regions
    bind_inputs(at, at + 1);
    write(at + 1 + inputs, asked);
    f_.t.jump_if(f_.scalar_of(f_.code.operand(asked, 0)), more, after);
    f_.t.begin_block(more);
    const std::string n = f_.t.let("load i64, ptr ", rounds);
    f_.fail_unless(f_.t.let("icmp slt i64 ", n, ", ", f_.target.repeat_limit), at);
    f_.t.line("store i64 ", f_.t.add(n, "1"), ", ptr ", rounds);
    bind_inputs(at, asked + 1);
    write(asked + 1 + inputs, end);
    keep(at, end);
    loops_.pop_back();
    f_.t.jump(head);
    f_.t.begin_block(after);
  }

  void branch(int at) {
    const int middle = tile::at(f_.structure.first_yield, at);
    const int end = tile::at(f_.structure.last_yield, at);
    auto& slots = f_.results_of(at);
    for (int k = 0; k < f_.code.at(middle).count; ++k) {
      const tile::tile_type& type = f_.type_of(f_.code.operand(middle, k));
      slots.push_back(carries_own(f_, at, k) ? std::string() : f_.allocate(type));
    }
    const std::string yes = f_.t.fresh_label();
    const std::string no = f_.t.fresh_label();
    const std::string after = f_.t.fresh_label();
    f_.t.jump_if(f_.scalar(f_.code.operand(at, 0)), yes, no);
    for (const bool taken : {true, false}) {
      f_.t.begin_block(taken ? yes : no);
      const auto outside = f_.rooms();
      write(taken ? at + 1 : middle + 1, taken ? middle : end);
      keep(at, taken ? middle : end);
      f_.give_back(outside);  // what a region made, nobody reads outside of it
      f_.t.jump(after);
    }
    f_.t.begin_block(after);
  }

  void require(int at) {
    const int v = f_.code.operand(at, 0);
    const tile::tile_type& type = f_.type_of(v);
    if (type.is_scalar()) {
      return f_.fail_unless(f_.scalar(v), at);
    }
    f_.t.loop(0, type.size(), 1, [&](const std::string& i) {
      f_.fail_unless(f_.lanes(1).load(type.element, f_.t.at(type.element, f_.array(v), i)), at);
    });
  }

  /// Calls the module's listener, where somebody has put one there.
  void print(int at) {
    if (f_.t.in_teams) {
      return;
    }
    f_.t.declared.insert(
        {"@__ashlar_print = weak global ptr null", "@__ashlar_print_to = weak global ptr null"});
    const std::string listener = f_.t.let("load ptr, ptr @__ashlar_print");
    f_.t.when(f_.t.let("icmp ne ptr ", listener, ", null"), [&] {
      const std::string elements = f_.array_of(f_.code.operand(at, 0));
      const std::string to = f_.t.let("load ptr, ptr @__ashlar_print_to");
      f_.t.line("call void ", listener, "(ptr ", to, ", i32 ", number_, ", i32 ", at, ", ptr ",
                elements, ", i64 %place0, i64 %place1, i64 %place2)");
    });
  }

  frame f_;
  int number_;
  std::vector<int> loops_{};
  const region_writer region_ = [this](int from, int to) { write(from, to); };
};

}  // namespace ashlar::chip::llvm_codegen
