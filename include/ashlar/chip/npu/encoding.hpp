// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ashlar/chip/npu/errors.hpp"
#include "ashlar/chip/npu/instruction.hpp"
#include "ashlar/chip/npu/opcodes.hpp"
#include "ashlar/chip/npu/validate.hpp"

namespace ashlar::chip::npu_isa {

/// One encoded instruction: 512 bits.
using instruction_words = std::array<std::uint64_t, 8>;

namespace detail {

/// Writes or reads the parts of a word, lowest bits first. The same walk over an instruction
/// encodes it and decodes it, so the two cannot disagree.
class word_writer {
 public:
  explicit constexpr word_writer(std::uint64_t& word) : word_(&word) {}
  template <class T>
  constexpr void bits(const T& v, int count) {
    const std::uint64_t mask = count == 64 ? ~0ull : (1ull << count) - 1;
    *word_ |= (static_cast<std::uint64_t>(v) & mask) << at_;
    at_ += count;
  }
  constexpr void number(std::int32_t v, int count) { bits(static_cast<std::uint32_t>(v), count); }

 private:
  std::uint64_t* word_;
  int at_ = 0;
};

class word_reader {
 public:
  explicit constexpr word_reader(std::uint64_t& word) : word_(&word) {}
  template <class T>
  constexpr void bits(T& v, int count) {
    v = static_cast<T>(take(count));
  }
  constexpr void number(std::int32_t& v, int count) {
    const auto sign = static_cast<std::int64_t>(1) << (count - 1);
    v = static_cast<std::int32_t>((static_cast<std::int64_t>(take(count)) ^ sign) - sign);
  }

 private:
  constexpr std::uint64_t take(int count) {
    const std::uint64_t mask = count == 64 ? ~0ull : (1ull << count) - 1;
    const std::uint64_t part = (*word_ >> at_) & mask;
    *word_ &= ~(mask << at_);  // what is left at the end is a reserved bit that was set
    at_ += count;
    return part;
  }
  std::uint64_t* word_;
  int at_ = 0;
};

template <class Word, class V>
constexpr void walk_value(Word& word, V& v) {
  word.number(v.imm, 24);
  word.bits(v.reg, 6);
}
template <class Word, class V>
constexpr void walk_pair(Word word, V& first, V& second) {
  walk_value(word, first);
  walk_value(word, second);
}
template <class Word, class O>
constexpr void walk_operand(Word word, O& o) {
  walk_value(word, o.base);
  word.number(o.row_stride, 17);
  word.number(o.col_stride, 17);
}

/// Visits every part of the instruction at its place; `op` is known.
template <class Word, class I>
constexpr void walk(instruction_words& w, I& i, opcode op) {
  const auto at = [&](std::size_t n) { return Word(w[n]); };
  const auto has = [&](std::uint32_t f) { return (info_of(op).fields & f) != 0; };
  Word head = at(0);
  head.bits(i.op, 8);
  head.bits(i.unit, 8);
  head.bits(i.type, 4);
  head.bits(i.from, 4);
  head.bits(i.a.kind, 2);
  head.bits(i.b.kind, 2);
  head.bits(i.c.kind, 2);
  head.bits(i.axis, 1);
  head.bits(i.mode, 1);
  head.bits(i.source, 32);
  const bool global = has(field::global);
  if (has(field::shape)) {
    walk_pair(at(1), i.rows, i.cols);
  } else if (has(field::x)) {
    walk_pair(at(1), i.x, i.y);
  }
  if (has(field::dst)) {
    walk_operand(at(2), i.dst);
  } else {
    Word scalar = at(2);
    scalar.bits(i.rd, 6);
    scalar.bits(i.target, 32);
  }
  if (global) {
    Word base = at(3);
    base.number(i.base.imm, 32);
    base.bits(i.base.reg, 6);
    walk_pair(at(5), i.extents[0], i.extents[1]);
    walk_pair(at(7), i.strides[0], i.strides[1]);
  }
  if (has(field::a)) {
    walk_operand(at(3), i.a);
  }
  if (has(field::b)) {
    walk_operand(at(4), i.b);
  }
  if (has(field::origin)) {
    walk_pair(at(4), i.origin[0], i.origin[1]);
  }
  if (has(field::c)) {
    walk_operand(at(5), i.c);
  }
  if (has(field::imm)) {
    at(6).bits(i.imm, 64);
  }
  if (has(field::depth)) {
    Word depth = at(7);
    walk_value(depth, i.depth);
  } else if (has(field::x) && has(field::shape)) {  // iota: its step beside the shape
    Word step = at(7);
    walk_value(step, i.x);
  }
}

inline void append_u32(std::vector<std::byte>& out, std::uint32_t v) {
  for (int i = 0; i < 4; ++i) {
    out.push_back(static_cast<std::byte>((v >> (8 * i)) & 0xffu));
  }
}

inline constexpr std::uint32_t program_magic = 0x55504e41;  // "ANPU"
inline constexpr std::uint32_t program_version = 1;

}  // namespace detail

/// Returns: the instruction's 512 bits.
///
/// Throws: `encoding_error{index, ...}` where the instruction is not well-formed.
inline instruction_words encode(const instruction& i, std::size_t index = 0) {
  if (const auto problem = problem_of(i); !problem.empty()) {
    throw encoding_error(index, std::string(problem));
  }
  instruction_words words{};
  detail::walk<detail::word_writer>(words, i, i.op);
  return words;
}

/// Throws: `encoding_error{index, ...}` where the words are no instruction; bits without a meaning
///   must be 0.
inline instruction decode(instruction_words words, std::size_t index = 0) {
  const auto op = static_cast<opcode>(words[0] & 0xffu);
  if (static_cast<int>(op) >= opcode_count) {
    throw encoding_error(index, "no opcode has the number " + std::to_string(static_cast<int>(op)));
  }
  instruction i;
  detail::walk<detail::word_reader>(words, i, op);
  for (const std::uint64_t rest : words) {
    if (rest != 0) {
      throw encoding_error(index, "a reserved bit is set");
    }
  }
  if (const auto problem = problem_of(i); !problem.empty()) {
    throw encoding_error(index, std::string(problem));
  }
  return i;
}

/// A program as bytes: "ANPU", version, counts, instructions, sources; all little-endian.
///
/// Throws: `encoding_error`.
inline std::vector<std::byte> to_binary(const program& p) {
  std::vector<std::byte> out;
  out.reserve(16 + p.code.size() * 64);
  detail::append_u32(out, detail::program_magic);
  detail::append_u32(out, detail::program_version);
  detail::append_u32(out, static_cast<std::uint32_t>(p.code.size()));
  detail::append_u32(out, static_cast<std::uint32_t>(p.sources.size()));
  for (std::size_t i = 0; i < p.code.size(); ++i) {
    for (const std::uint64_t word : encode(p.code[i], i)) {
      detail::append_u32(out, static_cast<std::uint32_t>(word));
      detail::append_u32(out, static_cast<std::uint32_t>(word >> 32));
    }
  }
  for (const std::string& text : p.sources) {
    detail::append_u32(out, static_cast<std::uint32_t>(text.size()));
    for (const char c : text) {
      out.push_back(static_cast<std::byte>(c));
    }
  }
  return out;
}

/// Throws: `encoding_error`: where the header is wrong or the bytes are too few or too many, its
///   index is that of the first instruction that is not there.
inline program from_binary(std::span<const std::byte> bytes) {
  std::size_t index = 0;
  std::size_t at = 0;
  const auto need = [&](std::size_t count) {
    if (bytes.size() - at < count) {
      throw encoding_error(index, "the binary ends after " + std::to_string(bytes.size()) +
                                      " bytes, in the middle of something");
    }
  };
  const auto u32 = [&] {
    need(4);
    std::uint32_t v = 0;
    for (std::size_t i = 0; i < 4; ++i) {
      v |= static_cast<std::uint32_t>(bytes[at + i]) << (8 * i);
    }
    at += 4;
    return v;
  };
  if (u32() != detail::program_magic || u32() != detail::program_version) {
    throw encoding_error(0, "the binary does not begin with \"ANPU\" and version 1");
  }
  const std::size_t count = u32();
  const std::size_t sources = u32();
  if ((bytes.size() - at) / 64 < count) {
    index = (bytes.size() - at) / 64;
    throw encoding_error(index,
                         "the binary has fewer than " + std::to_string(count) + " instructions");
  }
  program p;
  p.code.reserve(count);
  for (; index < count; ++index) {
    instruction_words words{};
    for (std::uint64_t& word : words) {
      word = u32();
      word |= static_cast<std::uint64_t>(u32()) << 32;
    }
    p.code.push_back(decode(words, index));
  }
  for (std::size_t s = 0; s < sources; ++s) {
    const std::size_t length = u32();
    need(length);
    std::string text(length, '\0');
    for (char& c : text) {
      c = static_cast<char>(bytes[at++]);
    }
    p.sources.push_back(std::move(text));
  }
  if (at != bytes.size()) {
    throw encoding_error(index, "bytes are left after the last source");
  }
  return p;
}

}  // namespace ashlar::chip::npu_isa
