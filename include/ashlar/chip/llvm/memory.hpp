// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/chip/llvm/frame.hpp"
#include "ashlar/chip/llvm/target.hpp"
#include "ashlar/tile/analysis.hpp"
#include "ashlar/tile/opcode.hpp"
#include "ashlar/tile/program.hpp"

/// Instructions that reach memory through bounded views.
namespace ashlar::chip::llvm_codegen {

/// Which elements of a block lie inside its view: a range for each axis of the tile.
struct block_bounds {
  std::vector<std::pair<std::string, std::string>> ranges{};
  std::string origin{};         ///< the tile's first element, counted in elements of the view
  std::string inside = "true";  ///< whether all axes but the tile's are
};

/// An offset may be any number: what is added to it is not used where it lies far from the view.
inline block_bounds bounds_of(frame& f, int at, const tile::tile_type& tile) {
  const tile::instruction& i = f.code.at(at);
  const int rank = f.code.parameter_at(i.index).rank;
  const int first = i.op == tile::opcode::load ? 0 : 1;
  const int skip = rank - tile.rank;
  block_bounds b;
  b.origin = "0";
  for (int a = 0; a < rank; ++a) {
    const std::string& o = f.scalar(f.code.operand(at, a + first));
    const std::string n = f.extent_of(i.index, a);
    b.origin = f.t.add(b.origin, f.t.mul(o, f.stride_of(i.index, a)));
    if (a < skip) {
      const std::string in = f.t.let("icmp ult i64 ", o, ", ", n);
      b.inside = b.inside == "true" ? in : f.t.let("and i1 ", b.inside, ", ", in);
      continue;
    }
    const std::int64_t e = tile.extent(a - skip);
    const std::string negative = f.t.let("icmp slt i64 ", o, ", 0");
    const std::string far = f.t.let("icmp slt i64 ", o, ", ", -e);
    const std::string minus = f.t.let("sub i64 0, ", o);
    const std::string cut = f.t.let("select i1 ", far, ", i64 ", e, ", i64 ", minus);
    const std::string low = f.t.let("select i1 ", negative, ", i64 ", cut, ", i64 0");
    const std::string left = f.t.let("sub i64 ", n, ", ", o);
    const std::string less = f.t.let("icmp slt i64 ", left, ", ", e);
    const std::string most = f.t.let("select i1 ", less, ", i64 ", left, ", i64 ", e);
    b.ranges.emplace_back(low, f.t.let("select i1 ", far, ", i64 0, i64 ", most));
  }
  return b;
}

/// Whether all of a block lies inside its view.
inline std::string whole_block(frame& f, const tile::tile_type& tile, const block_bounds& b) {
  std::string whole = b.inside;
  for (std::size_t a = 0; a < b.ranges.size(); ++a) {
    const auto& [low, high] = b.ranges[a];
    const std::string from = f.t.let("icmp eq i64 ", low, ", 0");
    const std::string to = f.t.let("icmp eq i64 ", high, ", ", tile.extent(static_cast<int>(a)));
    whole = f.t.let("and i1 ", whole, ", ", f.t.let("and i1 ", from, ", ", to));
  }
  return whole;
}

/// `dense()` where the stride of a view's last axis is 1, else `strided()`; one of them alone where
/// the launch promises it.
template <class Dense, class Strided>
void if_dense(frame& f, const std::string& stride, const Dense& dense, const Strided& strided) {
  if (f.target.view_alignment > 0) {
    return dense();
  }
  const std::string yes = f.t.fresh_label();
  const std::string no = f.t.fresh_label();
  const std::string after = f.t.fresh_label();
  f.t.jump_if(f.t.let("icmp eq i64 ", stride, ", 1"), yes, no);
  f.t.begin_block(yes);
  dense();
  f.t.jump(after);
  f.t.begin_block(no);
  strided();
  f.t.jump(after);
  f.t.begin_block(after);
}

/// Says in the text how many elements an access takes at once, and what that is a multiple of.
inline void note_width(frame& f, int at, int width, int align) {
  const tile::instruction& i = f.code.at(at);
  f.t.line("; %", at, " ", tile::info(i.op).name, " p", i.index, ": ", width, " at once, align ",
           align * static_cast<int>(size_of(f.code.parameter_at(i.index).element)));
}

/// Copies the part of a block that is inside its view.
inline void copy_block(frame& f, int at, const tile::tile_type& tile, const std::string& array,
                       const block_bounds& b) {
  const tile::instruction& i = f.code.at(at);
  const bool reads = i.op == tile::opcode::load;
  const int skip = f.code.parameter_at(i.index).rank - tile.rank;
  const dtype d = tile.element;
  const std::string data = f.data_of(i.index);
  int width = std::max(1, f.target.vector_bytes / static_cast<int>(size_of(d)));
  while (tile.rank > 0 && width > tile.extent(tile.rank - 1)) {
    width /= 2;
  }
  const int aligned = std::min(width, f.aligned_width(at, f.target.vector_bytes));
  note_width(f, at, width, aligned);
  const auto move = [&](int lanes, const std::string& here, const std::string& there) {
    const std::string x = f.t.at(d, array, here);
    const std::string y = f.t.at(d, data, there);
    const int align = lanes == 1 ? 1 : aligned;
    reads ? f.move(d, lanes, y, x, align, 1) : f.move(d, lanes, x, y, 1, align);
  };
  const auto axis = [&](const auto& self, int a, const std::string& here,
                        const std::string& there) -> void {
    const std::string step = f.stride_of(i.index, a + skip);
    // By name: clang 16 with OpenMP captures no structured bindings.
    const auto& low = b.ranges[static_cast<std::size_t>(a)].first;
    const auto& high = b.ranges[static_cast<std::size_t>(a)].second;
    std::int64_t inner = 1;
    for (int k = a + 1; k < tile.rank; ++k) {
      inner *= tile.extent(k);
    }
    const auto each = [&](const std::string& n) {
      const std::string x = f.t.add(here, f.t.mul(n, inner));
      const std::string y = f.t.add(there, f.t.mul(n, step));
      a + 1 == tile.rank ? move(1, x, y) : self(self, a + 1, x, y);
    };
    if (a + 1 < tile.rank) {
      return f.t.loop(low, high, 1, each);
    }
    const auto dense = [&] {
      f.t.strips(low, high, width, [&](int lanes, const std::string& n) {
        move(lanes, f.t.add(here, n), f.t.add(there, n));
      });
    };
    if_dense(f, step, dense, [&] { f.t.loop(low, high, 1, each); });
  };
  const auto start = [&] {
    tile.rank == 0 ? move(1, "0", b.origin) : axis(axis, 0, "0", b.origin);
  };
  b.inside == "true" ? start() : f.t.when(b.inside, start);
}

/// The same by a team: each thread takes elements of its own, and fills what a load finds outside.
inline void copy_block_in_team(frame& f, int at, const tile::tile_type& tile,
                               const std::string& array, const block_bounds& b) {
  const tile::instruction& i = f.code.at(at);
  const bool reads = i.op == tile::opcode::load;
  const int skip = f.code.parameter_at(i.index).rank - tile.rank;
  const dtype d = tile.element;
  const std::string data = f.data_of(i.index);
  const auto one = [&](const std::string& n) {
    std::string there = b.origin;
    std::string inside = b.inside;
    std::int64_t below = tile.size();
    for (int a = 0; a < tile.rank; ++a) {
      below /= tile.extent(a);
      const std::string p = f.t.place(n, below, tile.extent(a), a == 0);
      there = f.t.add(there, f.t.mul(p, f.stride_of(i.index, a + skip)));
      const auto& [low, high] = b.ranges[static_cast<std::size_t>(a)];
      const std::string from = f.t.let("icmp sge i64 ", p, ", ", low);
      const std::string to = f.t.let("icmp slt i64 ", p, ", ", high);
      inside = f.t.let("and i1 ", inside, ", ", f.t.let("and i1 ", from, ", ", to));
    }
    const std::string here = f.t.at(d, array, n);
    f.t.when(inside, [&] {
      const std::string where = f.t.at(d, data, there);
      f.move(d, 1, reads ? where : here, reads ? here : where);
    });
    if (reads) {
      f.t.when(f.t.let("xor i1 ", inside, ", true"), [&] {
        elements e = f.lanes(1);
        e.store(d, e.constant(d, i.value), here);
      });
    }
  };
  if (tile.is_scalar()) {
    return one("0");
  }
  f.t.parallel(tile.size(), 1, [&](int, const std::string& n) { one(n); });
}

inline void write_load(frame& f, int at) {
  const tile::instruction& i = f.code.at(at);
  const block_bounds b = bounds_of(f, at, i.type);
  const std::string array = f.allocate(i.type);
  if (f.t.in_teams) {
    copy_block_in_team(f, at, i.type, array, b);
    return f.bind(at, array);
  }
  const std::string whole = whole_block(f, i.type, b);
  f.t.when(f.t.let("xor i1 ", whole, ", true"), [&] {
    f.t.strips(i.type.size(), f.width(), [&](int lanes, const std::string& n) {
      elements e = f.lanes(lanes);
      e.store(i.type.element, e.constant(i.type.element, i.value),
              f.t.at(i.type.element, array, n));
    });
  });
  copy_block(f, at, i.type, array, b);
  f.bind(at, array);
}

inline void write_store(frame& f, int at) {
  const int v = f.code.operand(at, 0);
  const tile::tile_type& type = f.type_of(v);
  const std::string array = f.array_of(v);
  const block_bounds b = bounds_of(f, at, type);
  f.t.in_teams ? copy_block_in_team(f, at, type, array, b) : copy_block(f, at, type, array, b);
}

/// One element of an atomic operation, by comparing and exchanging until nobody came between.
inline void write_atomic(frame& f, tile::opcode op, dtype d, const std::string& where,
                         const std::string& x) {
  elements e = f.lanes(1);
  const tile::opcode with = op == tile::opcode::atomic_add   ? tile::opcode::add
                            : op == tile::opcode::atomic_max ? tile::opcode::max
                                                             : tile::opcode::min;
  if (d == dtype::int32 || d == dtype::int64) {
    const std::string_view name = with == tile::opcode::add   ? "add"
                                  : with == tile::opcode::max ? "max"
                                                              : "min";
    f.t.let("atomicrmw ", name, " ptr ", where, ", ", value_type(d), " ", x, " monotonic");
    return;
  }
  const std::string bits = cat("i", bits_of(d));
  const auto as_bits = [&](const std::string& y) {
    return value_type(d) == bits ? y : e.convert("bitcast", value_type(d), y, bits);
  };
  const auto as_value = [&](const std::string& y) {
    return value_type(d) == bits ? y : e.convert("bitcast", bits, y, value_type(d));
  };
  const std::string seen = f.allocate_own(d, 1);
  f.t.line("store ", bits, " ",
           f.t.let("load atomic ", bits, ", ptr ", where, " monotonic, align ", size_of(d)),
           ", ptr ", seen);
  const std::string again = f.t.fresh_label();
  const std::string done = f.t.fresh_label();
  f.t.jump(again);
  f.t.begin_block(again);
  const std::string before = f.t.let("load ", bits, ", ptr ", seen);
  const std::string wanted = as_bits(e.binary(with, d, as_value(before), x));
  const std::string pair = f.t.let("cmpxchg ptr ", where, ", ", bits, " ", before, ", ", bits, " ",
                                   wanted, " monotonic monotonic");
  f.t.line("store ", bits, " ", f.t.let("extractvalue { ", bits, ", i1 } ", pair, ", 0"), ", ptr ",
           seen);
  f.t.jump_if(f.t.let("extractvalue { ", bits, ", i1 } ", pair, ", 1"), done, again);
  f.t.begin_block(done);
}

/// `gather`, `scatter` and the atomics: one place per element, in row-major order; several of a
/// dense view at once where their places are neighbours.
inline void write_places(frame& f, int at) {
  const tile::instruction& i = f.code.at(at);
  const bool reads = i.op == tile::opcode::gather;
  const int first = reads ? 0 : 1;
  const tile::tile_type& type = reads ? i.type : f.type_of(f.code.operand(at, 0));
  const dtype d = type.element;
  if (d == dtype::boolean && !reads && i.op != tile::opcode::scatter) {
    throw llvm_unsupported(i.op, at, "there are no atomics of bool; cast to int32");
  }
  const std::string array = reads ? f.allocate(type) : f.array_of(f.code.operand(at, 0));
  const std::string data = f.data_of(i.index);
  elements e = f.lanes(1);
  const int rank = f.code.parameter_at(i.index).rank;
  // Where the elements from `n` on go, and whether `count` of them along the last axis are inside.
  const auto place = [&](const std::string& n, int count) {
    std::pair<std::string, std::string> to{"0", "true"};
    for (int a = 0; a < rank; ++a) {
      const int v = f.code.operand(at, a + first);
      const std::string p = f.type_of(v).is_scalar()
                                ? f.scalar(v)
                                : e.load(dtype::int64, f.t.at(dtype::int64, f.array(v), n));
      const std::string extent = f.extent_of(i.index, a);
      const std::string in = f.t.let("icmp ult i64 ", p, ", ", extent);
      to.second = to.second == "true" ? in : f.t.let("and i1 ", to.second, ", ", in);
      to.first = f.t.add(to.first, f.t.mul(p, f.stride_of(i.index, a)));
      if (count > 1 && a + 1 == rank) {
        const std::string left = f.t.let("sub i64 ", extent, ", ", p);
        to.second =
            f.t.let("and i1 ", to.second, ", ", f.t.let("icmp sge i64 ", left, ", ", count));
      }
    }
    return to;
  };
  const auto one = [&](const std::string& n) {
    const auto found = place(n, 1);
    const auto& there = found.first;
    const std::string here = f.t.at(d, array, n);
    if (reads) {
      e.store(d, e.constant(d, i.value), here);
    }
    f.t.when(found.second, [&] {
      const std::string where = f.t.at(d, data, there);
      if (reads || i.op == tile::opcode::scatter) {
        f.move(d, 1, reads ? where : here, reads ? here : where);
      } else {
        write_atomic(f, i.op, d, where, e.load(d, here));
      }
    });
  };
  const bool moves = reads || i.op == tile::opcode::scatter;
  const int width = f.t.in_teams || !moves
                        ? 1
                        : tile::access_width(f.code, f.facts, at,
                                             f.target.vector_bytes / static_cast<int>(size_of(d)));
  if (width > 1) {
    const int aligned = std::min(width, f.aligned_width(at, f.target.vector_bytes));
    note_width(f, at, width, aligned);
    if_dense(
        f, f.stride_of(i.index, rank - 1),
        [&] {
          f.t.loop(0, type.size(), width, [&](const std::string& n) {
            const auto [there, inside] = place(n, width);
            const std::string here = f.t.at(d, array, n);
            const std::string all = f.t.fresh_label();
            const std::string some = f.t.fresh_label();
            const std::string after = f.t.fresh_label();
            f.t.jump_if(inside, all, some);
            f.t.begin_block(all);
            const std::string where = f.t.at(d, data, there);
            reads ? f.move(d, width, where, here, aligned, 1)
                  : f.move(d, width, here, where, 1, aligned);
            f.t.jump(after);
            f.t.begin_block(some);
            f.t.loop(0, width, 1, [&](const std::string& k) { one(f.t.add(n, k)); });
            f.t.jump(after);
            f.t.begin_block(after);
          });
        },
        [&] { f.t.loop(0, type.size(), 1, one); });
  } else if (type.is_scalar() && reads) {
    one("0");
  } else if (reads) {
    f.t.parallel(type.size(), 1, [&](int, const std::string& n) { one(n); });
  } else if (f.t.in_teams) {  // in row-major order
    f.t.when(f.t.let("icmp eq i64 %thread, 0"), [&] { f.t.loop(0, type.size(), 1, one); });
  } else {
    f.t.loop(0, type.size(), 1, one);
  }
  if (reads) {
    f.bind(at, array);
  }
}

}  // namespace ashlar::chip::llvm_codegen
