// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "ashlar/chip/npu/description.hpp"
#include "ashlar/chip/npu/instruction.hpp"
#include "ashlar/chip/npu/opcodes.hpp"

/// Chip IR of the reference accelerator: its instructions on named buffers, in a tree of regions.
namespace ashlar::chip::npu_codegen {

namespace isa = npu_isa;

/// What may be asked of the compiler beside the program.
struct compile_options {
  int stages = 0;        ///< most rounds of a loop whose tiles are in the scratchpad at a time; 0:
                         ///< as many as the machine needs, see `stages_for`
  bool passes = true;    ///< the tile program is improved first, see `tile::passes::optimise`
  bool compact = false;  ///< buffers share bytes and engines meet, also where there is room
  bool padding = true;   ///< rows are longer where that keeps their columns from meeting in banks
  bool one_dma = false;  ///< transfers keep the order of the program: for views that share memory
};

/// Room in the scratchpad for one tile at a time, or for several of them in turn.
///
/// `region` is the innermost one with all its accesses: each run of the region's body begins with a
/// new tile in it. With more than one slot these take turns, so that engines may be in different
/// rounds.
struct buffer {
  std::string name;
  isa::element type = isa::element::f32;
  std::int64_t bytes = 0;
  // Found out by `analyse`:
  int region = -1;
  int first = -1, last = -1;  ///< steps of the region between which it holds something
  unsigned engines = 0;       ///< those that touch it, as bits
  // Decided by `allocate`:
  int slots = 1;
  std::int64_t address = -1;  ///< of the first slot; the next is `region::slot_bytes` further
};

enum class step_kind : std::uint8_t {
  operation,  ///< one instruction
  loop,       ///< a region that is run again and again; skipped where `code` branches
  choice,     ///< two regions, the second where `code` branches
  again       ///< the last of a loop's body: from the begin where `code` branches
};

/// One instruction, or an instruction with regions.
struct step {
  step_kind kind = step_kind::operation;
  isa::instruction code{};
  std::array<int, 4> buffers{-1, -1, -1, -1};  ///< of dst, a, b, c: their addresses are offsets
  std::array<int, 2> regions{-1, -1};
  int source = -1;  ///< instruction of the tile program
};

enum class region_kind : std::uint8_t { root, loop, arm };

/// Steps that run one after the other.
struct region {
  region_kind kind = region_kind::root;
  int parent = -1;
  int place = -1;  ///< the step of the parent that owns it
  int depth = 0;
  std::vector<step> steps{};
  // Decided by `allocate`:
  int slots = 1;                ///< of its buffers that have several
  std::int64_t slot_bytes = 0;  ///< from one slot to the next
  int slot_register = 0;        ///< holds the offset of the slot in use
  bool fenced = false;          ///< all engines meet before and after each run of the body
};

/// Tokens from one engine to another: given behind step `from`, taken before step `to`.
struct channel {
  int region = 0;
  int from_unit = 0, to_unit = 0;
  int from = 0, to = 0;
  int rounds = 0;     ///< how many runs of the body later they are taken
  int semaphore = 0;  ///< holds `rounds` tokens when the program begins
};

/// What a register, or a word of the argument table, holds when the program begins.
struct argument_word {
  enum class kind : std::uint8_t {
    grid,
    address,  ///< of the element at (0, 0, ...)
    extent,
    stride,
    scalar,
    lowest,  ///< address of the element that is first in memory
    origin,  ///< elements from there to (0, 0, ...)
    reach    ///< elements from there to behind the last
  };
  kind what = kind::grid;
  int parameter = 0;
  int axis = 0;
  friend bool operator==(const argument_word&, const argument_word&) = default;
};

/// A program in chip IR.
struct chip_program {
  std::string name;
  npu_description machine{};
  std::vector<std::string> sources{};  ///< one per instruction of the tile program
  std::vector<buffer> buffers{};
  std::vector<region> regions{};
  std::vector<channel> channels{};
  std::vector<argument_word> words{};
  int registers = 0;            ///< words in r1, r2, ...; the others lie in a table
  int table = -1;               ///< its buffer
  int first_free_register = 0;  ///< registers from here to `last_free_register` have no use yet
  int last_free_register = -1;
  bool one_dma = false;  ///< all transfers in one queue, in the order of the program
};

struct access {
  int buffer;
  bool write;
};

/// The buffers that one instruction touches.
inline std::vector<access> accesses_of(const step& s) {
  std::vector<access> all;
  if (s.kind != step_kind::operation) {
    return all;
  }
  const isa::opcode op = s.code.op;
  const bool sends = (op >= isa::opcode::store && op <= isa::opcode::store_min) ||
                     (op >= isa::opcode::store_rows_add && op <= isa::opcode::store_rows_min);
  for (std::size_t k = 0; k < s.buffers.size(); ++k) {
    if (s.buffers[k] >= 0) {
      all.push_back({s.buffers[k], k == 0 && !sends});
    }
  }
  return all;
}

}  // namespace ashlar::chip::npu_codegen
