// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/chip/llvm/elements.hpp"
#include "ashlar/chip/llvm/target.hpp"
#include "ashlar/chip/llvm/text.hpp"
#include "ashlar/core/ceil_div.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/analysis.hpp"
#include "ashlar/tile/opcode.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/structure.hpp"
#include "ashlar/tile/type.hpp"

namespace ashlar::chip::llvm_codegen {

/// One element by name in each lane, of the values that are in registers.
using in_registers = std::map<int, std::string>;

/// What is known of a program while its function is written: where each value lies.
///
/// A scalar is a register, a tile an array in row-major order. Of a team's tiles each thread also
/// has every `t.threads`th element in registers, where those are few; an array is then written only
/// for what reads elements of other threads.
struct frame {
  const tile::program& code;
  const llvm_target& target;
  tile::structure structure;
  text t{};
  std::vector<std::string> scalars;               ///< registers
  std::vector<std::string> arrays;                ///< of tiles
  std::vector<std::vector<std::string>> pieces;   ///< a thread's elements of a team's tiles
  std::vector<std::vector<std::string>> results;  ///< arrays of what owners of regions give
  /// Where a thread keeps its elements of what a loop carries, by the loop and its number there.
  std::map<std::pair<int, int>, std::vector<std::string>> carried{};
  std::vector<std::vector<int>> users;
  tile::per_instruction<tile::index_facts> facts;  ///< of the places of accesses
  std::int64_t stack_used = 0;
  std::int64_t scratch_used = 0;
  std::int64_t shared_used = 0;
  static constexpr int forever = std::numeric_limits<int>::max();
  bool unsynced = false;  ///< a thread of the team may still read what another would overwrite

  frame(const tile::program& p, const llvm_target& to)
      : code(p),
        target(to),
        structure(p),
        scalars(static_cast<std::size_t>(p.size)),
        arrays(static_cast<std::size_t>(p.size)),
        pieces(static_cast<std::size_t>(p.size)),
        results(static_cast<std::size_t>(p.size)),
        users(static_cast<std::size_t>(p.size)),
        facts(tile::analyse_indices(p)) {
    t.in_teams = to.in_teams();
    t.threads = to.in_teams() ? threads_for(p) : 1;
    for (int i = 0; i < p.size; ++i) {
      for (const tile::value_id o : p.operands(i)) {
        users[static_cast<std::size_t>(o)].push_back(i);
      }
      if (p.at(i).op == tile::opcode::load || p.at(i).op == tile::opcode::store) {
        most_at_once_ = std::max(most_at_once_, aligned_width(i, 16));
      }
    }
  }

  [[nodiscard]] const tile::tile_type& type_of(int v) const { return code.type_of(v); }
  [[nodiscard]] int after(int i) const { return structure.after(code, i); }
  [[nodiscard]] std::string& scalar(int v) { return scalars[static_cast<std::size_t>(v)]; }
  [[nodiscard]] std::string& array(int v) { return arrays[static_cast<std::size_t>(v)]; }
  [[nodiscard]] std::vector<std::string>& results_of(int owner) {
    return results[static_cast<std::size_t>(owner)];
  }
  /// Lanes of a vector of elements that are not wider than 32 bits.
  [[nodiscard]] int width() const { return std::max(1, target.vector_bytes / 4); }
  [[nodiscard]] elements lanes(int n) { return {t, target, n}; }

  /// Elements that an access may take at once, `bytes` at most: they lie side by side, and begin at
  /// a multiple of their size as far as the view does. 1 where the launch promises nothing.
  [[nodiscard]] int aligned_width(int access, int bytes) const {
    const tile::instruction& i = code.at(access);
    const dtype d = (tile::reads(i.op) ? i.type : type_of(code.operand(access, 0))).element;
    const int power = target.view_alignment & -target.view_alignment;  // of two: 24 is 3 times 8
    const int most = std::min(bytes, power) / static_cast<int>(size_of(d));
    return tile::access_width(code, facts, access, std::max(most, 1));
  }

  /// How many threads share a program's tiles: each has eight elements of the largest.
  static int threads_for(const tile::program& p) {
    std::int64_t most = 1;
    for (int i = 0; i < p.size; ++i) {
      most = p.type_of(i).is_value() ? std::max(most, p.type_of(i).size()) : most;
    }
    int threads = 32;
    while (threads < 256 && threads * 8 < most) {
      threads *= 2;
    }
    return threads;
  }
  /// How many neighbours of such a tile a thread has: what accesses may take at once, where that
  /// leaves no thread without any.
  [[nodiscard]] int neighbours_of(const tile::tile_type& type) const {
    int n = most_at_once_;
    while (n > 1 && (type.size() % n != 0 || type.size() < std::int64_t{n} * t.threads)) {
      n /= 2;
    }
    return n;
  }
  /// How many elements of such a tile a thread has in registers; 0 where it lies in memory only.
  [[nodiscard]] int pieces_of(const tile::tile_type& type) const {
    constexpr std::int64_t most = 32;
    const int side = neighbours_of(type);
    const std::int64_t n = ceil_div(type.size(), std::int64_t{side} * t.threads) * side;
    return t.in_teams && type.is_value() && type.rank > 0 && n <= most ? static_cast<int>(n) : 0;
  }
  [[nodiscard]] std::vector<std::string>& pieces_at(int v) {
    return pieces[static_cast<std::size_t>(v)];
  }
  /// What the team did until here is seen by all of it afterwards.
  void sync() {
    t.barrier();
    unsynced = false;
  }

  /// Memory for `n` elements, not initialised; of the team, where there is one.
  std::string allocate(dtype d, std::int64_t n) {
    const std::int64_t bytes = n * static_cast<std::int64_t>(size_of(d));
    const std::int64_t room = (bytes + 63) / 64 * 64;
    if (t.in_teams) {
      return allocate_in_team(room, forever, 0);
    }
    if (bytes <= 8 || stack_used + room <= target.stack_bytes) {
      stack_used += bytes <= 8 ? 0 : room;
      return n == 1 ? t.let_in_entry("alloca ", storage_type(d))
                    : t.let_in_entry("alloca [", n, " x ", storage_type(d), "], align 64");
    }
    scratch_used += room;
    return t.let_in_entry("getelementptr i8, ptr %scratch, i64 ", scratch_used - room);
  }
  /// Shared memory that is in use until an instruction has been written.
  struct shared_room {
    std::int64_t offset, bytes;
    int last;
  };
  [[nodiscard]] const std::vector<shared_room>& rooms() const { return rooms_; }
  /// What was allocated since the rooms were those is free again.
  void give_back(const std::vector<shared_room>& before) { rooms_ = before; }

  /// Memory for a tile of a team that is made at `now`; others have its room after `last`.
  std::string allocate_until(int v, int now, int last) {
    const std::int64_t bytes =
        type_of(v).size() * static_cast<std::int64_t>(size_of(type_of(v).element));
    return allocate_in_team((bytes + 63) / 64 * 64, last, now);
  }
  /// Every thread has its own scalars.
  std::string allocate(const tile::tile_type& type) {
    return type.is_scalar() ? allocate_own(type.element, 1) : allocate(type.element, type.size());
  }
  /// Memory of one thread.
  std::string allocate_own(dtype d, std::int64_t n) {
    return t.in_teams ? t.let_in_entry("alloca [", n, " x ", storage_type(d), "], align 64")
                      : allocate(d, n);
  }

  /// The one element of a value, in a register.
  std::string scalar_of(int v) {
    return type_of(v).is_scalar() ? scalar(v) : lanes(1).load(type_of(v).element, array(v));
  }
  /// A value in memory.
  std::string array_of(int v) {
    if (!type_of(v).is_scalar()) {
      return array(v);
    }
    std::string here = allocate(type_of(v));
    lanes(1).store(type_of(v).element, scalar(v), here);
    return here;
  }
  /// Makes a value of what lies in an array that nobody writes as long as the value is there.
  void bind(int v, const std::string& from) {
    if (type_of(v).is_scalar()) {
      scalar(v) = lanes(1).load(type_of(v).element, from);
    } else {
      array(v) = from;
    }
  }

  /// Copies `n` elements as they lie in memory; of bytes, 2, 4 or 8 each.
  void copy(dtype d, std::int64_t n, const std::string& from, const std::string& to) {
    if (from == to) {
      return;
    }
    t.parallel(n, width(), [&](int count, const std::string& i) {
      move(d, count, t.at(d, from, i), t.at(d, to, i));
    });
  }
  /// The alignments are in elements.
  void move(dtype d, int count, const std::string& from, const std::string& to, int from_align = 1,
            int to_align = 1) {
    const std::string type = lanes(count).type(storage_type(d));
    const auto bytes = static_cast<std::int64_t>(size_of(d));
    const std::string x = t.let("load ", type, ", ptr ", from, ", align ", from_align * bytes);
    t.line("store ", type, " ", x, ", ptr ", to, ", align ", to_align * bytes);
  }

  // --- what arguments say: see `llvm_argument` ---------------------------------------------------

  std::string data_of(int parameter) {
    if (!t.in_teams) {
      return field("ptr", parameter, 0);
    }
    std::string& known = data_[parameter];
    if (known.empty()) {  // views lie in the GPU's memory: address space 1
      const std::string global =
          t.let_in_entry("inttoptr i64 ", field("i64", parameter, 0), " to ptr addrspace(1)");
      known = t.let_in_entry("addrspacecast ptr addrspace(1) ", global, " to ptr");
    }
    return known;
  }
  std::string extent_of(int parameter, int axis) { return field("i64", parameter, 8 + 8 * axis); }
  std::string stride_of(int parameter, int axis) { return field("i64", parameter, 40 + 8 * axis); }
  std::string bits_of_scalar(int parameter) { return field("i64", parameter, 72); }

  /// Leaves the function with the number of the instruction that failed, plus 1.
  void fail_unless(const std::string& holds, int at) {
    const std::string bad = t.fresh_label();
    const std::string good = t.fresh_label();
    t.jump_if(holds, good, bad);
    t.begin_block(bad);
    if (t.in_teams) {
      t.line("store i32 ", at + 1, ", ptr %status");
      t.line("ret void");
    } else {
      t.line("ret i32 ", at + 1);
    }
    t.begin_block(good);
  }

 private:
  std::string allocate_in_team(std::int64_t bytes, int last, int now) {
    std::int64_t offset = 0;
    std::erase_if(rooms_, [&](const shared_room& r) { return r.last < now; });
    for (const shared_room& r : rooms_) {  // in the order of their offsets
      if (offset + bytes <= r.offset) {
        break;
      }
      offset = std::max(offset, r.offset + r.bytes);
    }
    if (offset + bytes > target.stack_bytes) {
      scratch_used += bytes;
      return t.let_in_entry("getelementptr i8, ptr %team_scratch, i64 ", scratch_used - bytes);
    }
    const auto before = std::find_if(rooms_.begin(), rooms_.end(),
                                     [&](const shared_room& r) { return r.offset > offset; });
    rooms_.insert(before, {offset, bytes, last});
    shared_used = std::max(shared_used, offset + bytes);
    return t.let_in_entry("getelementptr i8, ptr %shared, i64 ", offset);
  }

  std::vector<shared_room> rooms_{};
  int most_at_once_ = 1;  ///< elements, in a load or store of a thread

  std::string field(const char* type, int parameter, int offset) {
    std::string& known = fields_[{parameter, offset}];
    if (known.empty()) {
      const std::string at =
          t.let_in_entry("getelementptr i8, ptr %args, i64 ", parameter * 80 + offset);
      known = t.let_in_entry("load ", type, ", ptr ", at, ", align 8");
    }
    return known;
  }

  std::map<std::pair<int, int>, std::string> fields_{};
  std::map<int, std::string> data_{};  ///< of a team's views
};

}  // namespace ashlar::chip::llvm_codegen
