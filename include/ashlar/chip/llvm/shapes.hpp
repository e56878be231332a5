// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "ashlar/chip/llvm/elements.hpp"
#include "ashlar/chip/llvm/frame.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/opcode.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/type.hpp"

/// Instructions that move a tile's elements to other places.
namespace ashlar::chip::llvm_codegen {

inline void write_transpose(frame& f, int at) {
  const tile::instruction& i = f.code.at(at);
  const tile::tile_type& from = f.type_of(f.code.operand(at, 0));
  const std::string source = f.array(f.code.operand(at, 0));
  const std::string out = f.allocate(i.type);
  const dtype d = i.type.element;
  if (f.t.in_teams && !i.type.is_scalar()) {
    f.t.parallel(i.type.size(), 1, [&](int, const std::string& n) {
      std::string there = "0";
      std::int64_t below = i.type.size();
      for (int a = 0; a < i.type.rank; ++a) {
        std::int64_t from_step = 1;
        for (int k = static_cast<int>((i.value >> (4 * a)) & 15) + 1; k < from.rank; ++k) {
          from_step *= from.extent(k);
        }
        below /= i.type.extent(a);
        there = f.t.add(there, f.t.mul(f.t.place(n, below, i.type.extent(a), a == 0), from_step));
      }
      f.move(d, 1, f.t.at(d, source, there), f.t.at(d, out, n));
    });
    return f.bind(at, out);
  }
  const auto axis = [&](const auto& self, int a, const std::string& here,
                        const std::string& there) -> void {
    if (a == i.type.rank) {
      return f.move(d, 1, f.t.at(d, source, there), f.t.at(d, out, here));
    }
    std::int64_t to_step = 1;
    for (int k = a + 1; k < i.type.rank; ++k) {
      to_step *= i.type.extent(k);
    }
    std::int64_t from_step = 1;
    for (int k = static_cast<int>((i.value >> (4 * a)) & 15) + 1; k < from.rank; ++k) {
      from_step *= from.extent(k);
    }
    f.t.loop(0, i.type.extent(a), 1, [&](const std::string& n) {
      self(self, a + 1, f.t.add(here, f.t.mul(n, to_step)), f.t.add(there, f.t.mul(n, from_step)));
    });
  };
  i.type.is_scalar() ? f.bind(at, f.array_of(f.code.operand(at, 0)))
                     : (axis(axis, 0, "0", "0"), f.bind(at, out));
}

/// `split`, `join` and `unpack_nibbles`.
inline void write_interleaved(frame& f, int at) {
  const tile::instruction& i = f.code.at(at);
  const dtype d = i.type.element;
  const std::string x = f.array(f.code.operand(at, 0));
  const std::string out = f.allocate(i.type);
  elements e = f.lanes(1);
  const std::int64_t n = i.op == tile::opcode::split ? i.type.size() : i.type.size() / 2;
  f.t.parallel(n, 1, [&](int, const std::string& k) {
    const std::string even = f.t.mul(k, 2);
    const std::string odd = f.t.add(even, "1");
    if (i.op == tile::opcode::split) {
      f.move(d, 1, f.t.at(d, x, i.index == 0 ? even : odd), f.t.at(d, out, k));
    } else if (i.op == tile::opcode::join) {
      f.move(d, 1, f.t.at(d, x, k), f.t.at(d, out, even));
      f.move(d, 1, f.t.at(d, f.array(f.code.operand(at, 1)), k), f.t.at(d, out, odd));
    } else {
      const std::string_view shift = d == dtype::int8 ? "ashr" : "lshr";
      const std::string both = e.load(d, f.t.at(d, x, k));
      const std::string low = e.two(shift, d, e.two("shl", d, both, "4"), "4");
      e.store(d, low, f.t.at(d, out, even));
      e.store(d, e.two(shift, d, both, "4"), f.t.at(d, out, odd));
    }
  });
  f.bind(at, out);
}

}  // namespace ashlar::chip::llvm_codegen
