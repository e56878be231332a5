// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "ashlar/chip/host/codegen/reduce.hpp"
#include "ashlar/chip/host/strips/errors.hpp"
#include "ashlar/chip/host/strips/kernels.hpp"
#include "ashlar/chip/host/strips/steps.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/plan/arena.hpp"
#include "ashlar/tile/lifetime.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/structure.hpp"

/// A program as steps over memory: what runs together, in which kernels, and where values lie.
namespace ashlar::chip::strips {

/// How a program is run: made once, read by all threads. One class, because which instructions run
/// together and where values lie are decided in turns.
class plan {
 public:
  /// Requires: `verify` accepts the program.
  /// Throws:   `unsupported`.
  explicit plan(const tile::program& p, const options& how = {})
      : code(p),
        strip(std::max<std::int64_t>(how.strip, 1)),
        structure_(p),
        lifetimes_(p, structure_),
        first_result_(static_cast<std::size_t>(p.size), -1),
        group_(static_cast<std::size_t>(p.size), std::pair(-1, -1)) {
    rooms_.resize(static_cast<std::size_t>(p.size));
    for (int i = 0; i < p.size; ++i) {
      declare(i);
    }
    blocks.emplace_back();
    top = build(0, p.size);
    arrange();
  }

  tile::program code;
  std::int64_t strip;
  std::vector<std::vector<step>> blocks{};
  std::vector<fold_plan> folds{};
  std::vector<std::int64_t> offsets{};  ///< by value; -1 for what has no room of its own
  std::vector<int> kept{};              ///< constants and iotas: set once
  std::int64_t bytes = 0;
  int top = 0;

  [[nodiscard]] place at(tile::value_id v) const { return rooms_[index(v)].is; }
  /// Result `k` of an instruction with regions.
  [[nodiscard]] int result_of(int owner, int k) const { return first_result_[index(owner)] + k; }
  [[nodiscard]] const tile::structure& structure() const { return structure_; }
  [[nodiscard]] int yield_of(int owner, int region) const {
    return region == 0 ? tile::at(structure_.first_yield, owner)
                       : tile::at(structure_.last_yield, owner);
  }

 private:
  struct room {
    place is{};
    std::int64_t bytes = 0;  ///< 0 for what lies in another's room
    int first = 0, last = 0;
  };

  static std::size_t index(int i) { return static_cast<std::size_t>(i); }
  static bool is_elementwise(opcode op) {
    const opcode_kind kind = tile::info(op).kind;
    return kind == opcode_kind::unary || kind == opcode_kind::binary ||
           kind == opcode_kind::compare || kind == opcode_kind::ternary;
  }
  [[nodiscard]] bool is_elementwise(int i) const { return is_elementwise(code.at(i).op); }

  // --- values ------------------------------------------------------------------------------------

  int add_room(const tile::tile_type& t, int first, int last, std::int64_t size) {
    const auto element = static_cast<std::int64_t>(size_of(t.element));
    const int id = static_cast<int>(rooms_.size());
    rooms_.push_back({{id, false, false, element}, size * element, first, last});
    return id;
  }
  /// Keeps the room of `v` until `last`.
  void keep_until(int v, int last) {
    room& r = rooms_[index(rooms_[index(v)].is.value)];
    r.last = std::max(r.last, last);
  }

  [[nodiscard]] bool only_elementwise_uses(int v) const {
    for (int j = v + 1; j < code.size; ++j) {
      for (const tile::value_id o : code.operands(j)) {
        if (o == v && !is_elementwise(j)) {
          return false;
        }
      }
    }
    return true;
  }

  /// Gives the value of an instruction a room, or says in which other one it lies.
  void declare(int i) {
    const tile::instruction& x = code.at(i);
    const auto element = static_cast<std::int64_t>(size_of(x.type.element));
    const int last = tile::at(lifetimes_.last_use, i);
    room& mine = rooms_[index(i)];
    mine = {{i, false, false, element}, x.type.size() * element, i, last};
    if (tile::info(x.op).regions > 0) {
      const int yield = yield_of(i, 1);
      mine.bytes = 0;
      first_result_[index(i)] = static_cast<int>(rooms_.size());
      const int count = code.at(yield_of(i, x.op == opcode::branch ? 0 : 1)).count;
      for (int k = 0; k < count; ++k) {
        const bool folded = x.op == opcode::reduce || x.op == opcode::scan;
        tile::tile_type t = code.type_of(folded ? code.operand(i, k) : code.operand(yield, k));
        t = x.op == opcode::reduce ? t.without(x.index) : t;
        add_room(t, i, yield, t.size());
      }
      return;
    }
    if (!x.type.is_value()) {
      mine.bytes = 0;
      return;
    }
    const auto lies_in = [&](int v, bool fixed) {
      rooms_[index(i)].bytes = 0;
      rooms_[index(i)].is = {rooms_[index(v)].is.value, fixed, false, element};
      keep_until(v, last);
    };
    switch (x.op) {
      case opcode::constant:
        mine.bytes = lanes * element;
        [[fallthrough]];
      case opcode::iota:
        mine.first = 0;
        mine.last = code.size;
        kept.push_back(i);
        return;
      case opcode::reshape:
        return lies_in(code.operand(i, 0), rooms_[index(code.operand(i, 0))].is.fixed);
      case opcode::result:
        return lies_in(result_of(code.operand(i, 0), x.index), false);
      case opcode::region_input:
        mine.last = std::max(
            last, static_cast<int>(tile::at(structure_.last_yield, tile::at(structure_.owner, i))));
        return;
      case opcode::broadcast: {
        const int from = code.operand(i, 0);
        if (code.type_of(from).size() == x.type.size()) {
          return lies_in(from, rooms_[index(from)].is.fixed);
        }
        if (code.type_of(from).size() == 1 && only_elementwise_uses(i)) {
          if (code.at(from).op == opcode::constant) {
            return lies_in(from, true);
          }
          mine.is.fixed = true;
          mine.bytes = lanes * element;
        }
        return;
      }
      default:
        return;
    }
  }

  // --- calls -------------------------------------------------------------------------------------

  /// The kernels of an elementwise instruction, `size` elements of them at a time, to `out`.
  /// `where(v)` says where operand `v` lies.
  template <class Where>
  void add_calls(std::vector<call>& calls, int i, const place& out, std::int64_t size, bool local,
                 const Where& where) {
    const tile::instruction& x = code.at(i);
    const dtype from = code.type_of(code.operand(i, x.op == opcode::select ? 1 : 0)).element;
    const bool one = size == 1 && x.type.rank == 0;
    call c;
    c.op = x.op;
    c.count = x.count;
    c.out = out;
    for (int k = 0; k < x.count; ++k) {
      c.in[index(k)] = where(code.operand(i, k));
    }
    const auto temporary = [&] {
      const int id = add_room(tile::scalar_type(dtype::float32), i, i, size);
      rooms_[index(id)].is.local = local;
      return rooms_[index(id)].is;
    };
    const auto add = [&](const call& made) {
      if (made.run == nullptr) {
        throw unsupported(x.op, i);
      }
      calls.push_back(made);
    };
    const auto convert = [&](const place& to, const place& of, dtype a, dtype b,
                             tile::rounding how) {
      add({cast_kernel(a, b), opcode::cast, how, 1, to, {of}});
    };
    constexpr auto nearest = tile::rounding::nearest_even;
    if (x.op == opcode::bitcast) {
      c.run = bitcast_kernel(x.type.element);
      return add(c);
    }
    if (x.op == opcode::cast) {
      // Narrow formats by way of float, as `eval::cast` goes.
      const auto how = static_cast<tile::rounding>(x.index);
      place at = c.in[0];
      dtype now = from;
      if (is_narrow_floating(now) && now != x.type.element) {
        const bool ends = x.type.element == dtype::float32;
        const place wide = ends ? out : temporary();
        convert(wide, at, now, dtype::float32, how);
        if (ends) {
          return;
        }
        at = wide;
        now = dtype::float32;
      }
      if (is_narrow_floating(x.type.element) && now != x.type.element && now != dtype::float32) {
        const place wide = temporary();
        convert(wide, at, now, dtype::float32, how);
        return convert(out, wide, dtype::float32, x.type.element, is_floating(now) ? how : nearest);
      }
      return convert(out, at, now, x.type.element, how);
    }
    if (!is_narrow_floating(from) || x.op == opcode::select) {
      c.run = kernel_of(x.op, from, one);
      return add(c);
    }
    for (int k = 0; k < x.count; ++k) {
      const place wide = temporary();
      convert(wide, c.in[index(k)], from, dtype::float32, nearest);
      c.in[index(k)] = wide;
    }
    c.run = kernel_of(x.op, dtype::float32, one);
    if (tile::info(x.op).kind == opcode_kind::compare) {
      return add(c);
    }
    c.out = temporary();
    add(c);
    convert(out, c.out, dtype::float32, x.type.element, nearest);
  }

  // --- blocks ------------------------------------------------------------------------------------

  int build(int begin, int end) {
    block_builder made(*this);
    for (int i = begin; i < end; i = structure_.after(code, i)) {
      made.add(i);
    }
    made.close();
    const int id = static_cast<int>(blocks.size());
    blocks.push_back(std::move(made.steps));
    return id;
  }

  /// Collects elementwise instructions of one size that may run strip by strip. What they need is
  /// put before them, and what stores them behind.
  class block_builder {
   public:
    explicit block_builder(plan& owner) : p_(owner) {}
    std::vector<step> steps{};

    void add(int i) {
      const tile::instruction& x = p_.code.at(i);
      switch (x.op) {
        case opcode::constant:
        case opcode::iota:
        case opcode::region_input:
        case opcode::yield:
          return;
        default:
          break;
      }
      if (p_.is_elementwise(i) && x.type.rank > 0) {
        if (size_ != x.type.size()) {
          close();
        }
        size_ = x.type.size();
        members_.push_back(i);
        return;
      }
      if (x.op == opcode::store && !members_.empty()) {
        stores_.push_back(i);
        return;
      }
      if (!members_.empty() && !may_go_before(i)) {
        close();
      }
      if (!members_.empty()) {
        before_.push_back(i);
      }
      single(i);
    }

    void close() {
      if (members_.empty()) {
        return;
      }
      const int first = std::min(members_.front(), before_.empty() ? members_.front() : before_[0]);
      const int last = std::max({members_.back(), stores_.empty() ? -1 : stores_.back(),
                                 before_.empty() ? -1 : before_.back()});
      for (const auto* list : {&members_, &before_, &stores_}) {
        for (const int i : *list) {
          p_.group_[index(i)] = {first, last};
        }
      }
      step g{step_kind::group, members_.front(), size_};
      const bool in_strips = members_.size() > 1 && size_ > p_.strip;
      for (const int i : members_) {
        room& r = p_.rooms_[index(i)];
        r.is.local = in_strips && is_local(i);
        if (r.is.local) {
          r.bytes = p_.strip * r.is.element;
        }
      }
      for (const int i : members_) {
        p_.add_calls(g.calls, i, p_.rooms_[index(i)].is, in_strips ? p_.strip : size_, in_strips,
                     [&](int v) { return p_.rooms_[index(v)].is; });
      }
      for (const int s : stores_) {
        if (may_go_through(s)) {
          g.through.push_back(s);
        }
      }
      steps.push_back(std::move(g));
      for (const int s : stores_) {
        steps.push_back({step_kind::store, s});
      }
      members_.clear();
      before_.clear();
      stores_.clear();
      size_ = 0;
    }

   private:
    [[nodiscard]] bool is_member(int v) const {
      return std::find(members_.begin(), members_.end(), v) != members_.end();
    }
    /// Whether nothing outside of the group reads it.
    [[nodiscard]] bool is_local(int v) const {
      for (int j = v + 1; j < p_.code.size; ++j) {
        for (const tile::value_id o : p_.code.operands(j)) {
          if (o == v && !is_member(j)) {
            return false;
          }
        }
      }
      return true;
    }
    /// Pure, of nothing that the group computes, and no reading behind a write.
    [[nodiscard]] bool may_go_before(int i) const {
      const tile::instruction& x = p_.code.at(i);
      const tile::opcode_info& about = tile::info(x.op);
      if (about.effect || about.regions > 0 || (tile::reads(x.op) && !stores_.empty())) {
        return false;
      }
      for (const tile::value_id o : p_.code.operands(i)) {
        // What lies in a member's room is one.
        if (is_member(p_.rooms_[index(o)].is.value)) {
          return false;
        }
      }
      return true;
    }
    /// Whether the tile of a store is a member that only the group reads, and whose view no other
    /// store of the group writes.
    [[nodiscard]] bool may_go_through(int s) const {
      const int v = p_.code.operand(s, 0);
      if (!is_member(v)) {
        return false;
      }
      for (const int other : stores_) {
        if (other != s && p_.code.at(other).index == p_.code.at(s).index) {
          return false;
        }
      }
      for (int j = v + 1; j < p_.code.size; ++j) {
        for (const tile::value_id o : p_.code.operands(j)) {
          if (o == v && j != s && !is_member(j)) {
            return false;
          }
        }
      }
      return true;
    }

    void single(int i) {
      const tile::instruction& x = p_.code.at(i);
      const auto push = [&](step_kind kind) {
        steps.push_back({kind, i, x.type.is_value() ? x.type.size() : 0});
      };
      const auto regions = [&](step_kind kind) {
        step s{kind, i};
        const int first = p_.yield_of(i, 0);
        s.blocks[0] = p_.build(i + 1, first);
        if (tile::info(x.op).regions > 1) {
          s.blocks[1] = p_.build(first + 1, p_.yield_of(i, 1));
        }
        steps.push_back(std::move(s));
      };
      switch (x.op) {
        case opcode::program_id:
        case opcode::grid_size:
        case opcode::extent:
        case opcode::argument:
          return push(step_kind::leaf);
        case opcode::load:
          return push(step_kind::load);
        case opcode::store:
          return push(step_kind::store);
        case opcode::gather:
          return push(step_kind::gather);
        case opcode::scatter:
        case opcode::atomic_add:
        case opcode::atomic_max:
        case opcode::atomic_min:
          return push(step_kind::scatter);
        case opcode::reshape:
        case opcode::result:
          return;
        case opcode::broadcast:
          if (p_.rooms_[index(i)].bytes > 0) {
            push(p_.rooms_[index(i)].is.fixed ? step_kind::splat : step_kind::shape);
          }
          return;
        case opcode::transpose:
        case opcode::split:
        case opcode::join:
        case opcode::unpack_nibbles:
          return push(step_kind::shape);
        case opcode::dot:
        case opcode::dot_scaled: {
          const bool scaled = x.op == opcode::dot_scaled;
          step s{scaled ? step_kind::dot_scaled : step_kind::dot, i};
          for (const int k : {0, scaled ? 2 : 1}) {
            const tile::tile_type& t = p_.code.type_of(p_.code.operand(i, k));
            const int v = p_.code.operand(i, k);
            if (t.element == x.type.element) {
              continue;
            }
            s.wide.push_back(p_.add_room(t.with(x.type.element), i, i, t.size()));
            s.calls.push_back({cast_kernel(t.element, x.type.element),
                               opcode::cast,
                               tile::rounding::nearest_even,
                               1,
                               p_.rooms_[index(s.wide.back())].is,
                               {p_.rooms_[index(v)].is}});
          }
          steps.push_back(std::move(s));
          return;
        }
        case opcode::random_bits:
          return push(step_kind::random_bits);
        case opcode::reduce:
        case opcode::scan: {
          step s{step_kind::fold, i};
          s.more = p_.add_fold(i);
          if (p_.folds[index(s.more)].by_element) {
            s.blocks[0] = p_.build(i + 1, p_.yield_of(i, 0));
          }
          steps.push_back(std::move(s));
          return;
        }
        case opcode::loop:
          return regions(step_kind::loop);
        case opcode::repeat:
          return regions(step_kind::repeat);
        case opcode::branch:
          return regions(step_kind::branch);
        case opcode::print:
        case opcode::require:
          return push(step_kind::say);
        default:
          break;
      }
      if (!p_.is_elementwise(i)) {
        throw unsupported(x.op, i);
      }
      step one{step_kind::group, i, 1};
      p_.add_calls(one.calls, i, p_.rooms_[index(i)].is, 1, false,
                   [&](int v) { return p_.rooms_[index(v)].is; });
      steps.push_back(std::move(one));
    }

    plan& p_;
    std::vector<int> members_{}, before_{}, stores_{};
    std::int64_t size_ = 0;
  };

  // --- reductions and scans ----------------------------------------------------------------------

  int add_fold(int i) {
    const tile::instruction& x = code.at(i);
    const int yield = yield_of(i, 0);
    const int inputs = 2 * x.count;
    if (x.count > max_folded) {
      throw unsupported(x.op, i);
    }
    fold_plan f;
    f.extents = host_codegen::detail::around(code.type_of(code.operand(i, 0)), x.index);
    const std::int64_t across = f.extents.inner == 1 ? f.extents.outer : f.extents.inner;
    for (int k = 0; k < x.count; ++k) {
      const tile::tile_type& t = code.type_of(code.operand(i, k));
      const std::int64_t rows = x.op == opcode::scan ? 1 : std::min<std::int64_t>(f.extents.n, 16);
      f.sums.push_back(add_room(t, i, yield, rows * across));
      f.blocks.push_back(add_room(t, i, yield, rows * across));
      f.results.push_back(result_of(i, k));
    }
    for (int j = i + 1 + inputs; j < yield; ++j) {
      const tile::opcode_kind kind = tile::info(code.at(j).op).kind;
      const bool plain = (is_elementwise(j) || kind == opcode_kind::leaf) &&
                         code.type_of(j).rank == 0 && code.at(j).op != opcode::iota;
      f.by_element = f.by_element || !plain;
    }
    if (const auto op = host_codegen::detail::single_combine(code, i)) {
      const dtype d = code.type_of(code.operand(i, 0)).element;
      f.op = *op;
      f.single = is_narrow_floating(d) ? nullptr : kernel_of(*op, d, false);
    }
    if (!f.by_element && f.single == nullptr) {
      add_body(f, i, inputs, yield);
    }
    folds.push_back(std::move(f));
    return static_cast<int>(folds.size()) - 1;
  }

  void add_body(fold_plan& f, int i, int inputs, int yield) {
    const auto inside = [&](int v) { return v > i && is_elementwise(v); };
    const auto where = [&](int v) -> place {
      if (inside(v) || (v > i && v <= i + inputs)) {
        return rooms_[index(v)].is;
      }
      const place outer = rooms_[index(v)].is;
      if (outer.value < code.size && code.at(outer.value).op == opcode::constant) {
        return {outer.value, true, false, outer.element};
      }
      for (const auto& [known, splat] : f.captured) {
        if (known.value == outer.value) {
          return {splat, true, false, outer.element};
        }
      }
      const int splat = add_room(code.type_of(v), i, yield, lanes);
      keep_until(v, yield);
      f.captured.emplace_back(outer, splat);
      return {splat, true, false, outer.element};
    };
    for (int j = i + 1; j < yield; ++j) {
      room& r = rooms_[index(j)];
      if (j <= i + inputs) {
        r.bytes = 0;  // whoever runs the region says where they are
      } else {
        if (code.at(j).op == opcode::constant) {
          continue;
        }
        r.first = i;
        r.last = yield;
        if (inside(j)) {
          r.bytes = fold_plan::most * r.is.element;
        } else {
          f.leaves.push_back(j);
        }
      }
    }
    for (int j = i + 1 + inputs; j < yield; ++j) {
      if (is_elementwise(j)) {
        const std::size_t before = rooms_.size();
        add_calls(f.body, j, rooms_[index(j)].is, fold_plan::most, false, where);
        for (std::size_t t = before; t < rooms_.size(); ++t) {
          rooms_[t].first = i;
          rooms_[t].last = yield;
        }
      }
    }
    for (const tile::value_id o : code.operands(yield)) {
      f.given.push_back(where(o));
    }
  }

  // --- memory ------------------------------------------------------------------------------------

  /// Where values lie: what a group reads or writes as a whole is there while the group runs.
  void arrange() {
    const auto span_of = [&](int i) {
      return i >= 0 && i < code.size && group_[index(i)].first >= 0 ? group_[index(i)]
                                                                    : std::pair(i, i);
    };
    std::vector<ashlar::plan::lifetime> lives;
    for (std::size_t v = 0; v < rooms_.size(); ++v) {
      room& r = rooms_[v];
      const bool local = r.is.local;
      lives.push_back({local ? r.first : span_of(r.first).first,
                       local ? r.last : span_of(r.last).second, r.bytes});
      lives.back().last = std::max(lives.back().last, lives.back().first);
    }
    const auto arena = ashlar::plan::plan_arena(lives, 64);
    offsets = arena.offsets;
    for (std::size_t v = 0; v < rooms_.size(); ++v) {
      offsets[v] = rooms_[v].bytes > 0 ? offsets[v] : -1;
    }
    bytes = arena.bytes;
  }

  tile::structure structure_;
  tile::lifetimes lifetimes_;
  std::vector<room> rooms_{};
  std::vector<int> first_result_;
  std::vector<std::pair<int, int>> group_;  ///< the first and the last instruction of its group
};

}  // namespace ashlar::chip::strips
