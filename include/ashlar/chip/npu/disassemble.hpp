// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "ashlar/chip/npu/instruction.hpp"
#include "ashlar/chip/npu/opcodes.hpp"

namespace ashlar::chip::npu_isa {

/// `control`, `vector`, `matrix`, `dma0`, ...
inline std::string unit_name(int unit) {
  switch (kind_of(unit)) {
    case unit_kind::control:
      return "control";
    case unit_kind::vector:
      return "vector";
    case unit_kind::matrix:
      return "matrix";
    default:
      return "dma" + std::to_string(unit - first_dma_unit);
  }
}

/// `128`, `r5`, `r5+128`, `r5-4`
inline std::string to_string(const value& v) {
  if (v.reg == 0) {
    return std::to_string(v.imm);
  }
  std::string text = "r" + std::to_string(v.reg);
  if (v.imm != 0) {
    text += (v.imm > 0 ? "+" : "") + std::to_string(v.imm);
  }
  return text;
}

/// `[r3+4096:136,1]` (address : row stride, column stride), `r7`, `#`
inline std::string to_string(const operand& o) {
  switch (o.kind) {
    case operand_kind::scalar:
      return "r" + std::to_string(o.base.reg);
    case operand_kind::immediate:
      return "#";
    default:
      return "[" + to_string(o.base) + ":" + std::to_string(o.row_stride) + "," +
             std::to_string(o.col_stride) + "]";
  }
}

namespace detail {
inline std::string hexadecimal(std::uint64_t v) {
  std::string digits;
  do {
    digits.insert(digits.begin(), "0123456789abcdef"[v & 15u]);
    v >>= 4;
  } while (v != 0);
  return "0x" + digits;
}

/// A branch target is printed as `label + number`.
inline std::string disassemble(const instruction& i, const std::string& label) {
  const opcode_info& info = info_of(i.op);
  const auto has = [&](std::uint32_t f) { return (info.fields & f) != 0; };
  std::string text = unit_name(i.unit) + "." + std::string(info.name);
  if (has(field::type)) {
    text += "." + std::string(name_of(i.type));
  }
  if (has(field::from)) {
    text += "." + std::string(name_of(i.from));
  }
  const auto put = [&](const char* key, const std::string& shown) {
    text += std::string(" ") + key + "=" + shown;
  };
  const auto pair = [&](const char* key, const value& first, const value& second) {
    put(key, to_string(first) + "," + to_string(second));
  };
  if (has(field::rd)) {
    put("rd", "r" + std::to_string(i.rd));
  }
  const bool semaphore = info.unit == unit_kind::any;
  if (has(field::x)) {
    put(semaphore ? "sem" : "x", to_string(i.x));
  }
  if (has(field::y)) {
    put(semaphore ? "count" : "y", to_string(i.y));
  }
  if (has(field::target)) {
    put("target", label + std::to_string(i.target));
  }
  if (has(field::shape)) {
    pair("shape", i.rows, i.cols);
  }
  if (has(field::depth)) {
    put("depth", to_string(i.depth));
  }
  if (has(field::axis)) {
    put("axis", std::to_string(i.axis));
  }
  if (has(field::dst)) {
    put("dst", to_string(i.dst));
  }
  if (has(field::a)) {
    put("a", to_string(i.a));
  }
  if (has(field::b)) {
    put("b", to_string(i.b));
  }
  if (has(field::c)) {
    put("c", to_string(i.c));
  }
  if (has(field::global)) {
    put("base", to_string(i.base));
    pair("strides", i.strides[0], i.strides[1]);
    pair("extents", i.extents[0], i.extents[1]);
  }
  if (has(field::origin)) {
    pair("origin", i.origin[0], i.origin[1]);
  }
  if (i.imm != 0) {
    put("imm", hexadecimal(i.imm));
  }
  if (i.mode != 0) {
    put("mode", std::to_string(i.mode));
  }
  if (i.source != 0) {
    text += " @" + std::to_string(i.source);
  }
  return text;
}
}  // namespace detail

/// One instruction as text; a branch target is the index of an instruction.
///
/// Requires: `i` is well-formed.
inline std::string disassemble(const instruction& i) { return detail::disassemble(i, ""); }

/// A program as text that `assemble` reads back: sources first, labels `L<index>` at targets.
///
/// Requires: the instructions are well-formed.
inline std::string disassemble(const program& p) {
  std::string text;
  for (std::size_t s = 0; s < p.sources.size(); ++s) {
    text += ".source " + std::to_string(s + 1) + " \"";
    for (const char c : p.sources[s]) {
      if (c == '\n') {
        text += "\\n";
      } else {
        text += (c == '"' || c == '\\') ? std::string("\\") + c : std::string(1, c);
      }
    }
    text += "\"\n";
  }
  std::vector<bool> labelled(p.code.size() + 1);
  for (const instruction& i : p.code) {
    if (uses(i.op, field::target) && i.target < labelled.size()) {
      labelled[i.target] = true;
    }
  }
  for (std::size_t n = 0; n <= p.code.size(); ++n) {
    if (labelled[n]) {
      text += "L" + std::to_string(n) + ":\n";
    }
    if (n < p.code.size()) {
      const bool inside = p.code[n].target < labelled.size();
      text += "  " + detail::disassemble(p.code[n], inside ? "L" : "") + "\n";
    }
  }
  return text;
}

}  // namespace ashlar::chip::npu_isa
