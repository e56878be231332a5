// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstdint>
#include <utility>

#include "ashlar/chip/npu/codegen/elementwise.hpp"
#include "ashlar/chip/npu/codegen/layout.hpp"
#include "ashlar/chip/npu/codegen/lowering.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/type.hpp"

/// Random bits on the vector unit.
namespace ashlar::chip::npu_codegen {

/// Lowers `random_bits`: Philox4x32-10 of every counter, see `ashlar::philox`.
inline place random_bits(lowering& l, int i) {
  constexpr std::array<std::uint32_t, 2> factor{0xD2511F53u, 0xCD9E8D57u};
  constexpr std::array<std::uint32_t, 2> bump{0x9E3779B9u, 0xBB67AE85u};
  const tile::tile_type& t = l.p.type_of(i);
  const tile::tile_type wide = t.with(dtype::int64);
  const auto constant = [&](std::uint32_t c) {
    return constant_place(t, static_cast<std::int32_t>(c));
  };
  const lowering::scope temporaries(l);
  // The key in two registers; their upper halves do not count.
  const isa::value seed = l.scalar(l.operand(i, 0));
  const std::array<isa::value, 2> key{isa::value{l.fresh(), 0}, isa::value{l.fresh(), 0}};
  l.compute_into(key[0], isa::opcode::s_add, seed, 0);
  l.compute_into(key[1], isa::opcode::s_shr, seed, 32);
  std::array<place, 4> counter{};
  std::array<place, 4> next{};
  for (std::size_t k = 0; k < 4; ++k) {
    counter[k] = l.new_tile(t);
    next[k] = l.new_tile(t);
  }
  const isa::instruction low{
      .op = isa::opcode::v_cast, .type = isa::element::i32, .from = isa::element::i64};
  const place given = in_scratch(l, l.operand(i, 1));
  const place upper = l.new_tile(wide);
  vector(l, low, counter[0], {given});
  vector(l, isa::opcode::v_shr, dtype::int64, upper, {given, constant_place(wide, 32)});
  vector(l, low, counter[1], {upper});
  copy(l, counter[2], constant(0));
  copy(l, counter[3], constant(0));
  constexpr dtype e = dtype::int32;
  for (int round = 0; round < 10; ++round) {
    const lowering::scope more(l);
    if (round > 0) {
      for (std::size_t k = 0; k < 2; ++k) {
        const lowering::scope each(l);
        l.compute_into(key[k], isa::opcode::s_add, key[k],
                       l.number(static_cast<std::int64_t>(bump[k])));
      }
    }
    for (std::size_t k = 0; k < 2; ++k) {
      const place& from = counter[2 - 2 * k];  // words 2 and 0 give words 0, 1 and 2, 3
      const place product = constant(factor[1 - k]);
      place word{.where = place::kind::scalar, .type = t};
      word.home = key[k].reg;
      vector(l, isa::opcode::v_mulhu, e, next[2 * k], {from, product});
      vector(l, isa::opcode::v_xor, e, next[2 * k], {next[2 * k], counter[2 * k + 1]});
      vector(l, isa::opcode::v_xor, e, next[2 * k], {next[2 * k], word});
      vector(l, isa::opcode::v_mul, e, next[2 * k + 1], {from, product});
    }
    std::swap(counter, next);
  }
  return counter[0];
}

}  // namespace ashlar::chip::npu_codegen
