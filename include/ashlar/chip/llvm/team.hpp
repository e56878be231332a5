// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/chip/llvm/elements.hpp"
#include "ashlar/chip/llvm/frame.hpp"
#include "ashlar/chip/llvm/group.hpp"
#include "ashlar/chip/llvm/memory.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/opcode.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/type.hpp"

/// Tiles in the registers of a team: thread `t` of `T` has the elements t, t + T, t + 2 T ..., or
/// as many neighbours in place of each as an access may take at once.
///
/// Neighbours in memory are neighbours in the team, so that loads and stores are coalesced; what
/// works element by element needs neither shared memory nor a barrier.
namespace ashlar::chip::llvm_codegen {

inline bool reads_own(const frame& f, int v, int user);

/// Whether the `k`th tile that a loop carries, or that a branch gives, stays in the threads'
/// registers: each thread makes its own elements, and reads no others until the loop has ended.
inline bool carries_own(const frame& f, int owner, int k) {
  const tile::opcode op = f.code.at(owner).op;
  if (!f.t.in_teams || (op != tile::opcode::loop && op != tile::opcode::branch)) {
    return false;
  }
  const auto in_pieces = [&](int v) {
    const tile::instruction& i = f.code.at(v);
    return f.pieces_of(i.type) > 0 &&
           (is_elementwise(i.op) || i.op == tile::opcode::load ||
            (i.op == tile::opcode::result && carries_own(f, f.code.operand(v, 0), i.index)));
  };
  if (!in_pieces(f.code.operand(tile::at(f.structure.last_yield, owner), k))) {
    return false;
  }
  if (op == tile::opcode::branch) {
    return in_pieces(f.code.operand(tile::at(f.structure.first_yield, owner), k));
  }
  const int input = owner + 2 + k;
  const auto& users = f.users[static_cast<std::size_t>(input)];
  return in_pieces(f.code.operand(owner, 3 + k)) &&
         std::all_of(users.begin(), users.end(),
                     [&](int user) { return reads_own(f, input, user); });
}

/// Whether an instruction reads of a tile only what each thread has itself.
inline bool reads_own(const frame& f, int v, int user) {
  const tile::opcode op = f.code.at(user).op;
  const tile::tile_type& to = f.type_of(user);
  if (op == tile::opcode::store) {
    return true;
  }
  if (op == tile::opcode::loop || op == tile::opcode::yield) {
    const int owner = op == tile::opcode::loop ? user : tile::at(f.structure.owner, user);
    const int before = op == tile::opcode::loop ? 3 : 0;
    for (int k = 0; k + before < f.code.at(user).count; ++k) {
      if (f.code.operand(user, k + before) == v && !carries_own(f, owner, k)) {
        return false;
      }
    }
    return true;
  }
  if (op == tile::opcode::reshape && to.rank > 0) {
    const auto& users = f.users[static_cast<std::size_t>(user)];
    return std::all_of(users.begin(), users.end(),
                       [&](int next) { return reads_own(f, user, next); });
  }
  return is_elementwise(op) && to.rank > 0 && to.same_extents(f.type_of(v));
}

/// Whether an instruction may run more than once, or in an order that its place does not tell.
inline bool is_in_rounds(const frame& f, int i) {
  for (int around = tile::at(f.structure.owner, i); around >= 0;
       around = tile::at(f.structure.owner, around)) {
    if (f.code.at(around).op != tile::opcode::branch) {
      return true;
    }
  }
  return false;
}

/// The last instruction that reads elements of a tile that other threads have; -1 where none does,
/// `forever` where the flow of the program does not make it plain.
inline int last_shared_use(const frame& f, int v) {
  int last = -1;
  for (const int user : f.users[static_cast<std::size_t>(v)]) {
    if (reads_own(f, v, user)) {
      continue;
    }
    const tile::opcode op = f.code.at(user).op;
    const bool lives_on = op == tile::opcode::reshape || op == tile::opcode::loop ||
                          op == tile::opcode::repeat || op == tile::opcode::yield;
    const bool nested = is_in_rounds(f, user) || is_in_rounds(f, v);
    last = lives_on || nested ? frame::forever : std::max(last, user);
  }
  return last;
}

/// The first of a thread's elements from the `k`th on; whether some threads have none there.
inline std::pair<std::string, bool> nth_element(frame& f, const tile::tile_type& type, int k) {
  const int side = f.neighbours_of(type);
  const std::int64_t first = std::int64_t{k / side} * side * f.t.threads;
  // thread, k -> element
  const std::string element = f.t.add(f.t.mul("%thread", side), std::to_string(first + k % side));
  return {element, first + std::int64_t{side} * f.t.threads > type.size()};
}

/// `inside(k, element)` for each `width` elements of a thread; `element` is 0 where there are
/// fewer.
template <class F>
void each_piece(frame& f, const tile::tile_type& type, int width, F&& inside) {
  for (int k = 0; k < f.pieces_of(type); k += width) {
    auto [element, may_lack] = nth_element(f, type, k);
    if (may_lack) {
      const std::string there = f.t.let("icmp slt i64 ", element, ", ", type.size());
      element = f.t.let("select i1 ", there, ", i64 ", element, ", i64 0");
    }
    inside(static_cast<std::size_t>(k), element);
  }
}

/// `inside(k, element)` where the thread has `width` elements from `k` on.
template <class F>
void each_piece_there(frame& f, const tile::tile_type& type, int width, F&& inside) {
  for (int k = 0; k < f.pieces_of(type); k += width) {
    // By name: clang 16 with OpenMP captures no structured bindings.
    const auto nth = nth_element(f, type, k);
    const auto& element = nth.first;
    const auto body = [&] { inside(static_cast<std::size_t>(k), element); };
    if (nth.second) {
      f.t.when(f.t.let("icmp slt i64 ", element, ", ", type.size()), body);
    } else {
      body();
    }
  }
}

/// A thread's elements of a tile from the `k`th on.
inline std::span<std::string> from_piece(frame& f, int v, std::size_t k) {
  return std::span(f.pieces_at(v)).subspan(k);
}

/// Writes those tiles to shared memory of which other threads read elements.
inline void share_pieces(frame& f, const std::vector<int>& made) {
  std::vector<int> shared;
  std::copy_if(made.begin(), made.end(), std::back_inserter(shared),
               [&](int v) { return last_shared_use(f, v) >= 0; });
  if (shared.empty()) {
    f.unsynced = true;
    return;
  }
  if (f.unsynced) {
    f.sync();
  }
  for (const int v : shared) {
    const tile::tile_type& type = f.type_of(v);
    f.array(v) = f.allocate_until(v, made.front(), last_shared_use(f, v));
    const int width = std::min(f.neighbours_of(type), 16 / static_cast<int>(size_of(type.element)));
    each_piece_there(f, type, width, [&](std::size_t k, const std::string& element) {
      elements e = f.lanes(width);
      e.store(type.element, e.pack(type.element, from_piece(f, v, k)),
              f.t.at(type.element, f.array(v), element), width);
    });
  }
  f.sync();
}

/// Elementwise instructions whose results have the same extents.
inline void write_group_in_team(frame& f, const std::vector<int>& group) {
  const tile::tile_type& type = f.type_of(group.front());
  const std::int64_t columns = type.extent(type.rank - 1);
  const auto n = static_cast<std::size_t>(f.pieces_of(type));
  for (const int v : group) {
    f.pieces_at(v).resize(n);
  }
  each_piece(f, type, 1, [&](std::size_t k, const std::string& element) {
    element_writer w(f, 1);
    const element_writer::place at{element, f.t.place(element, columns, 0, true),
                                   f.t.place(element, 1, columns, false), static_cast<int>(k)};
    for (const int v : group) {
      w.write(v, at);
      f.pieces_at(v)[k] = w.known[v];
    }
  });
  share_pieces(f, group);
}

/// The place in memory of an element of a block, and whether it and the `width - 1` after it lie
/// inside the view.
struct element_place {
  std::string offset, inside;
};
inline element_place place_of(frame& f, int parameter, const tile::tile_type& tile,
                              const block_bounds& b, const std::string& element, int width = 1) {
  const int skip = f.code.parameter_at(parameter).rank - tile.rank;
  element_place at{b.origin, b.inside};
  std::int64_t below = tile.size();
  for (int a = 0; a < tile.rank; ++a) {
    below /= tile.extent(a);
    const std::string p = f.t.place(element, below, tile.extent(a), a == 0);
    at.offset = f.t.add(at.offset, f.t.mul(p, f.stride_of(parameter, a + skip)));
    const auto& [low, high] = b.ranges[static_cast<std::size_t>(a)];
    const std::string from = f.t.let("icmp sge i64 ", p, ", ", low);
    const std::string last = a + 1 == tile.rank ? f.t.add(p, std::to_string(width - 1)) : p;
    const std::string to = f.t.let("icmp slt i64 ", last, ", ", high);
    at.inside = f.t.let("and i1 ", at.inside, ", ", f.t.let("and i1 ", from, ", ", to));
  }
  return at;
}

/// How many of a thread's elements a load or store takes at once.
inline int team_width(frame& f, int at, const tile::tile_type& tile) {
  const int width = std::min(f.aligned_width(at, 16), f.neighbours_of(tile));
  note_width(f, at, width, width);
  return width;
}

/// Each thread loads its own elements; all are asked for before the first is waited for.
inline void write_load_in_team(frame& f, int at) {
  const tile::instruction& i = f.code.at(at);
  const dtype d = i.type.element;
  const std::string data = f.data_of(i.index);
  const block_bounds b = bounds_of(f, at, i.type);
  const std::string whole = whole_block(f, i.type, b);
  const int width = team_width(f, at, i.type);
  elements e = f.lanes(width);
  const std::string fast = f.t.fresh_label();
  const std::string slow = f.t.fresh_label();
  const std::string after = f.t.fresh_label();
  std::vector<std::string> all, some;
  f.t.jump_if(whole, fast, slow);
  f.t.begin_block(fast);
  each_piece(f, i.type, width, [&](std::size_t, const std::string& element) {
    const element_place p = place_of(f, i.index, i.type, b, element);
    all.push_back(e.load(d, f.t.at(d, data, p.offset), width));
  });
  f.t.jump(after);
  f.t.begin_block(slow);
  const std::string fill = f.lanes(1).constant(d, i.value);
  std::string last = slow;
  // `otherwise()` is what is taken where not all `width` elements from `element` on are inside.
  const auto load_some = [&](const std::string& element, int lanes, const auto& otherwise) {
    const element_place p = place_of(f, i.index, i.type, b, element, lanes);
    const std::string yes = f.t.fresh_label();
    const std::string no = f.t.fresh_label();
    const std::string both = f.t.fresh_label();
    f.t.jump_if(p.inside, yes, no);
    f.t.begin_block(yes);
    const std::string x = f.lanes(lanes).load(d, f.t.at(d, data, p.offset), lanes);
    f.t.jump(both);
    f.t.begin_block(no);
    last = no;
    const std::string y = otherwise();
    const std::string from = last;
    f.t.jump(both);
    f.t.begin_block(both);
    last = both;
    return f.t.let("phi ", f.lanes(lanes).type(d), " [ ", x, ", %", yes, " ], [ ", y, ", %", from,
                   " ]");
  };
  each_piece(f, i.type, width, [&](std::size_t, const std::string& element) {
    some.push_back(load_some(element, width, [&] {
      if (width == 1) {
        return fill;
      }
      std::vector<std::string> each;
      for (int k = 0; k < width; ++k) {
        each.push_back(load_some(f.t.add(element, std::to_string(k)), 1, [&] { return fill; }));
      }
      return e.pack(d, each);
    }));
  });
  f.t.jump(after);
  f.t.begin_block(after);
  std::vector<std::string>& pieces = f.pieces_at(at);
  pieces.resize(all.size() * static_cast<std::size_t>(width));
  std::vector<std::string> loaded;
  for (std::size_t k = 0; k < all.size(); ++k) {  // first all phis of the block
    loaded.push_back(f.t.let("phi ", e.type(d), " [ ", all[k], ", %", fast, " ], [ ", some[k],
                             ", %", last, " ]"));
  }
  for (std::size_t k = 0; k < loaded.size(); ++k) {
    e.unpack(d, loaded[k], from_piece(f, at, k * static_cast<std::size_t>(width)));
  }
  share_pieces(f, {at});
}

/// Each thread stores its own elements, once all have read what may lie there.
inline void write_store_in_team(frame& f, int at) {
  const tile::instruction& i = f.code.at(at);
  const int v = f.code.operand(at, 0);
  const tile::tile_type& type = f.type_of(v);
  const dtype d = type.element;
  const std::string data = f.data_of(i.index);
  const block_bounds b = bounds_of(f, at, type);
  if (f.unsynced) {
    f.sync();
  }
  const int width = team_width(f, at, type);
  const auto store = [&](std::size_t k, int lanes, const std::string& offset) {
    elements e = f.lanes(lanes);
    e.store(d, e.pack(d, from_piece(f, v, k)), f.t.at(d, data, offset), lanes);
  };
  const std::string fast = f.t.fresh_label();
  const std::string slow = f.t.fresh_label();
  const std::string after = f.t.fresh_label();
  f.t.jump_if(whole_block(f, type, b), fast, slow);
  f.t.begin_block(fast);
  each_piece_there(f, type, width, [&](std::size_t k, const std::string& element) {
    store(k, width, place_of(f, i.index, type, b, element).offset);
  });
  f.t.jump(after);
  f.t.begin_block(slow);
  each_piece_there(f, type, width, [&](std::size_t k, const std::string& element) {
    const element_place p = place_of(f, i.index, type, b, element, width);
    f.t.when(p.inside, [&] { store(k, width, p.offset); });
    if (width > 1) {
      f.t.when(f.t.let("xor i1 ", p.inside, ", true"), [&] {
        for (int n = 0; n < width; ++n) {
          const element_place one =
              place_of(f, i.index, type, b, f.t.add(element, std::to_string(n)));
          f.t.when(one.inside, [&] { store(k + static_cast<std::size_t>(n), 1, one.offset); });
        }
      });
    }
  });
  f.t.jump(after);
  f.t.begin_block(after);
  if (at + 1 < f.code.size) {  // later instructions may read it
    f.sync();
  }
}

/// A thread's elements of what a loop carries or a branch gives, as they are now.
inline void read_carried(frame& f, int owner, int k, int v) {
  const dtype d = f.type_of(v).element;
  std::vector<std::string> now;
  for (const std::string& place : f.carried[{owner, k}]) {
    now.push_back(f.lanes(1).load(d, place));
  }
  f.pieces_at(v) = now;
}
/// They become those of `v`.
inline void write_carried(frame& f, int owner, int k, int v) {
  const dtype d = f.type_of(v).element;
  std::vector<std::string>& places = f.carried[{owner, k}];
  for (std::size_t n = 0; n < f.pieces_at(v).size(); ++n) {
    if (places.size() == n) {
      places.push_back(f.allocate_own(d, 1));
    }
    f.lanes(1).store(d, f.pieces_at(v)[n], places[n]);
  }
}

/// Writes an instruction other than elementwise ones whose tiles stay in registers.
/// Returns: whether it is one.
inline bool write_in_team(frame& f, int at) {
  const tile::instruction& i = f.code.at(at);
  if (i.op == tile::opcode::load && f.pieces_of(i.type) > 0) {
    write_load_in_team(f, at);
    return true;
  }
  if (i.op == tile::opcode::store && !f.pieces_at(f.code.operand(at, 0)).empty()) {
    write_store_in_team(f, at);
    return true;
  }
  if (i.op == tile::opcode::result && carries_own(f, f.code.operand(at, 0), i.index)) {
    read_carried(f, f.code.operand(at, 0), i.index, at);
    share_pieces(f, {at});
    return true;
  }
  if (i.op == tile::opcode::reshape && i.type.rank > 0 &&
      !f.pieces_at(f.code.operand(at, 0)).empty()) {
    f.pieces_at(at) = f.pieces_at(f.code.operand(at, 0));
    f.array(at) = f.array(f.code.operand(at, 0));
    return true;
  }
  return false;
}

/// Blocks that should run on a processor of a GPU at once; 0 where that is left to the machine.
///
/// What chooses between versions of itself by the launch (`tile::passes::few_rounds`) waits for
/// memory and has sixteen elements of each view in a thread: 64 registers, 85 for four views.
inline int blocks_at_once(const frame& f) {
  const auto has = [&](tile::opcode op) {
    const auto begin = f.code.code.begin();
    return std::any_of(begin, begin + f.code.size,
                       [&](const tile::instruction& i) { return i.op == op; });
  };
  if (!f.t.in_teams || !f.target.views_apart || !has(tile::opcode::branch) ||
      !has(tile::opcode::reduce)) {
    return 0;
  }
  const auto views =
      std::count_if(f.code.parameters.begin(), f.code.parameters.begin() + f.code.parameter_count,
                    [](const tile::parameter& p) { return p.is_view(); });
  return (views < 4 ? 1024 : 768) / f.t.threads;
}

}  // namespace ashlar::chip::llvm_codegen
