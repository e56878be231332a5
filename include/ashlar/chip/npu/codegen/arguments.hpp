// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "ashlar/chip/npu/codegen/ir.hpp"
#include "ashlar/chip/npu/codegen/layout.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/argument.hpp"
#include "ashlar/tile/opcode.hpp"
#include "ashlar/tile/program.hpp"

/// What a compiled program is told when it begins: grid, addresses, extents, strides, scalars.
namespace ashlar::chip::npu_codegen {

/// Every word that the instructions of a program ask the caller for.
inline std::vector<argument_word> words_of(const tile::program& p) {
  using kind = argument_word::kind;
  std::vector<argument_word> all;
  const auto add = [&](argument_word w) {
    if (std::find(all.begin(), all.end(), w) == all.end()) {
      all.push_back(w);
    }
  };
  for (int a = 0; a < 3; ++a) {
    add({kind::grid, 0, a});
  }
  for (int i = 0; i < p.size; ++i) {
    const tile::instruction& code = p.at(i);
    if (tile::info(code.op).kind == tile::opcode_kind::memory) {
      const bool block = code.op == tile::opcode::load || code.op == tile::opcode::store;
      if (block) {
        add({kind::address, code.index, 0});
      } else {
        add({kind::lowest, code.index, 0});
        add({kind::origin, code.index, 0});
        add({kind::reach, code.index, 0});
      }
      for (int a = 0; a < p.parameter_at(code.index).rank; ++a) {
        add({kind::extent, code.index, a});
        add({kind::stride, code.index, a});
      }
    } else if (code.op == tile::opcode::extent) {
      add({kind::extent, code.index, static_cast<int>(code.value)});
    } else if (code.op == tile::opcode::argument) {
      add({kind::scalar, code.index, 0});
    }
  }
  return all;
}

namespace detail {

/// A word about the elements of a view as one line.
inline std::int64_t span_word(argument_word::kind what, const tile::argument& a) {
  std::int64_t before = 0;
  std::int64_t behind = 1;
  for (std::size_t axis = 0; axis < static_cast<std::size_t>(a.rank); ++axis) {
    const std::int64_t n = a.extents[axis];
    const std::int64_t step = n == 0 ? 0 : (n - 1) * a.strides[axis];
    (step < 0 ? before : behind) += step < 0 ? -step : step;
    behind = n == 0 ? 0 : behind;
  }
  const auto address = static_cast<std::int64_t>(reinterpret_cast<std::intptr_t>(a.data));
  return what == argument_word::kind::lowest
             ? address - before * static_cast<std::int64_t>(ashlar::size_of(a.element))
         : what == argument_word::kind::origin ? before
                                               : before + behind;
}

}  // namespace detail

/// The words that a compiled program reads, in the order in which it wants them.
inline std::vector<std::int64_t> words_for(const chip_program& c, const tile::grid& size,
                                           std::span<const tile::argument> arguments) {
  std::vector<std::int64_t> all;
  for (const argument_word& w : c.words) {
    const auto axis = static_cast<std::size_t>(w.axis);
    if (w.what == argument_word::kind::grid) {
      all.push_back(size[axis]);
      continue;
    }
    const tile::argument& a = arguments[static_cast<std::size_t>(w.parameter)];
    switch (w.what) {
      case argument_word::kind::address:
        all.push_back(static_cast<std::int64_t>(reinterpret_cast<std::intptr_t>(a.data)));
        break;
      case argument_word::kind::extent:
        all.push_back(a.extents[axis]);
        break;
      case argument_word::kind::stride:
        all.push_back(a.strides[axis]);
        break;
      case argument_word::kind::lowest:
      case argument_word::kind::origin:
      case argument_word::kind::reach:
        all.push_back(detail::span_word(w.what, a));
        break;
      default:
        all.push_back(static_cast<std::int64_t>(operand_bits(a.element, a.bits)));
    }
  }
  return all;
}

}  // namespace ashlar::chip::npu_codegen
