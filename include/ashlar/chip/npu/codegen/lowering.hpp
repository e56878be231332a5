// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/chip/npu/codegen/errors.hpp"
#include "ashlar/chip/npu/codegen/facts.hpp"
#include "ashlar/chip/npu/codegen/ir.hpp"
#include "ashlar/chip/npu/codegen/layout.hpp"
#include "ashlar/chip/npu/validate.hpp"
#include "ashlar/tile/banks.hpp"
#include "ashlar/tile/layout.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/type.hpp"

namespace ashlar::chip::npu_codegen {

/// What lowering of one program knows so far: the chip IR, where values are, which registers are
/// free. Each of the headers beside this one lowers a family of instructions by it.
struct lowering {
  static constexpr int first_temporary = 48;  ///< r48 to r60 hold what one instruction needs
  static constexpr int last_temporary = 60;   ///< r61 to r63 belong to `emit`
  static constexpr int most_argument_registers = 26;

  const tile::program& p;
  value_facts facts;
  chip_program out{};
  int region = 0;                           ///< steps are added to it
  int current = -1;                         ///< instruction that is being lowered
  std::vector<place> places;                ///< of every value
  std::vector<std::vector<place>> results;  ///< of instructions with regions
  /// By instruction: the home of a flag that is 0 until a `dot` has begun its sum; 0 where none.
  std::vector<int> begun;
  std::vector<int> rooms;  ///< the buffer of a room, -1 where none yet
  int temporary = first_temporary;
  int next_home;                             ///< the lowest register that was never a home
  std::vector<int> free_homes{};             ///< registers that are homes no more
  std::vector<std::pair<int, int>> homes{};  ///< in use: home, last instruction that reads it
  std::vector<int> free_slots{};
  int slots = 0;
  bool spreads_columns = true;  ///< pads rows against bank conflicts
  int loads = 0;                ///< transfers to the scratchpad so far
  int frame = -1;               ///< buffer of the scalars that found no register

  lowering(const tile::program& program, const npu_description& d, std::vector<argument_word> words)
      : p(program),
        facts(program),
        places(static_cast<std::size_t>(program.size)),
        results(static_cast<std::size_t>(program.size)),
        begun(static_cast<std::size_t>(program.size)),
        rooms(static_cast<std::size_t>(program.size), -1) {
    out.name = std::string(program.name());
    out.machine = d;
    out.regions.push_back({});
    out.words = std::move(words);
    const auto count = static_cast<int>(out.words.size());
    out.registers = count <= most_argument_registers ? count : most_argument_registers;
    next_home = out.registers + 1 + (count > out.registers ? 1 : 0);
  }

  [[noreturn]] void refuse(std::string why) const {
    throw unsupported(out.name, current, std::string(tile::info(p.at(current).op).name),
                      std::move(why));
  }

  // --- steps -------------------------------------------------------------------------------------

  [[nodiscard]] npu_codegen::region& here() {
    return out.regions[static_cast<std::size_t>(region)];
  }

  step& add(isa::instruction code, const std::array<int, 4>& buffers = {-1, -1, -1, -1}) {
    const isa::opcode_info& info = isa::info_of(code.op);
    if ((info.fields & isa::field::type) != 0 && (info.types & isa::types::bit(code.type)) == 0) {
      refuse("the machine does not compute in that element type; cast to a wider one first");
    }
    here().steps.push_back({.code = code, .buffers = buffers, .source = current});
    return here().steps.back();
  }
  /// Opens a region of the step that is added next to the current region.
  int open(region_kind kind) {
    const int child = static_cast<int>(out.regions.size());
    out.regions.push_back({.kind = kind,
                           .parent = region,
                           .place = static_cast<int>(here().steps.size()),
                           .depth = here().depth + 1});
    region = child;
    return child;
  }
  void close() { region = here().parent; }
  void add_control(step_kind kind, const isa::instruction& test, std::array<int, 2> regions) {
    here().steps.push_back({.kind = kind, .code = test, .regions = regions, .source = current});
  }

  // --- scalar registers --------------------------------------------------------------------------

  /// Registers for one instruction come back when this goes out of scope.
  class scope {
   public:
    explicit scope(lowering& l) : l_(l), before_(l.temporary) {}
    ~scope() { l_.temporary = before_; }
    scope(const scope&) = delete;
    scope& operator=(const scope&) = delete;

   private:
    lowering& l_;
    int before_;
  };

  std::uint8_t fresh() {
    if (temporary > last_temporary) {
      refuse("it needs more scalar registers than there are");
    }
    return static_cast<std::uint8_t>(temporary++);
  }

  /// A register, or, below 0, a word of the frame, until `last` has been lowered.
  int new_home(int last) {
    int home = 0;
    if (!free_homes.empty()) {
      home = free_homes.back();
      free_homes.pop_back();
    } else if (next_home < first_temporary) {
      home = next_home++;
    } else if (!free_slots.empty()) {
      home = free_slots.back();
      free_slots.pop_back();
    } else {
      home = -1 - slots++;
    }
    homes.emplace_back(home, last);
    return home;
  }
  /// Gives back the homes that nothing from instruction `now` on reads.
  void release_before(int now) {
    std::erase_if(homes, [&](const std::pair<int, int>& h) {
      if (h.second >= now) {
        return false;
      }
      (h.first > 0 ? free_homes : free_slots).push_back(h.first);
      return true;
    });
  }

  [[nodiscard]] isa::operand frame_word(int home) {
    if (frame < 0) {
      frame = static_cast<int>(out.buffers.size());
      out.buffers.push_back({"scalars", isa::element::i64, 0});
    }
    out.buffers[static_cast<std::size_t>(frame)].bytes = 8 * slots;
    return {isa::operand_kind::scratch, 8 * (-1 - home), 0, 0};
  }

  /// Reads a home: the register itself, or a temporary.
  isa::value read_home(int home) {
    if (home >= 0) {
      return {static_cast<std::uint8_t>(home), 0};
    }
    const std::uint8_t r = fresh();
    const isa::operand word = frame_word(home);
    add({.op = isa::opcode::s_load, .type = isa::element::i64, .rd = r, .a = word},
        {-1, frame, -1, -1});
    return {r, 0};
  }
  void write_home(int home, isa::value v) {
    if (home >= 0) {
      add({.op = isa::opcode::s_add,
           .type = isa::element::i64,
           .rd = static_cast<std::uint8_t>(home),
           .x = v});
      return;
    }
    const isa::operand word = frame_word(home);
    add({.op = isa::opcode::s_store, .type = isa::element::i64, .x = v, .dst = word},
        {frame, -1, -1, -1});
  }

  /// A number as a value: a constant where it is short.
  isa::value number(std::int64_t n) {
    if (n >= -isa::max_constant - 1 && n <= isa::max_constant) {
      return static_cast<std::int32_t>(n);
    }
    const std::uint8_t r = fresh();
    add({.op = isa::opcode::li, .rd = r, .imm = static_cast<std::uint64_t>(n)});
    return {r, 0};
  }
  /// `x op y` in a temporary.
  isa::value compute(isa::opcode op, isa::value x, isa::value y) {
    const std::uint8_t r = fresh();
    add({.op = op, .type = isa::element::i64, .rd = r, .x = x, .y = y});
    return {r, 0};
  }
  void compute_into(isa::value to, isa::opcode op, isa::value x, isa::value y) {
    add({.op = op, .type = isa::element::i64, .rd = to.reg, .x = x, .y = y});
  }

  /// An integer scalar of the program as a value.
  isa::value scalar(const place& s) {
    if (s.where == place::kind::constant) {
      return number(s.bits);
    }
    if (s.where != place::kind::scalar) {
      refuse("an index that is not in a register");
    }
    return read_home(s.home);
  }

  /// A word that the caller of the program gives.
  isa::value argument(argument_word::kind what, int parameter, int axis = 0) {
    const argument_word wanted{what, parameter, axis};
    const auto found = std::find(out.words.begin(), out.words.end(), wanted) - out.words.begin();
    if (found < out.registers) {
      return {static_cast<std::uint8_t>(found + 1), 0};
    }
    const std::uint8_t r = fresh();
    const auto at = static_cast<std::int32_t>(8 * (found - out.registers));
    add({.op = isa::opcode::s_load,
         .type = isa::element::i64,
         .rd = r,
         .a = {isa::operand_kind::scratch, at, 0, 0}},
        {-1, out.table, -1, -1});
    return {r, 0};
  }

  // --- transfers ---------------------------------------------------------------------------------

  /// The last DMA engine stores; the others load in turn, so that one moves while another waits.
  int load_engine() { return out.one_dma ? 0 : loads++ % (out.machine.dma_engines - 1); }
  [[nodiscard]] int store_engine() const { return out.one_dma ? 0 : out.machine.dma_engines - 1; }

  // --- buffers -----------------------------------------------------------------------------------

  int new_buffer(isa::element type, std::int64_t elements) {
    out.buffers.push_back({"%" + std::to_string(current), type, elements * isa::size_of(type)});
    return static_cast<int>(out.buffers.size()) - 1;
  }
  /// A tile of its own; `padded` axes have aligned strides, and rows are longer where that keeps
  /// columns that are read `across` from meeting in banks.
  place new_tile(const tile::tile_type& t, unsigned padded = 0, bool across = false) {
    const isa::element e = element_of(t.element);
    const std::int64_t multiple =
        std::max<std::int64_t>(1, out.machine.scratchpad_alignment / isa::size_of(e));
    place made{.where = place::kind::scratch, .type = t, .at = row_major(t, padded, multiple)};
    if (across && spreads_columns && t.rank >= 2) {
      const auto rows = static_cast<std::size_t>(t.rank - 2);
      const std::int64_t pad =
          padding(t, made.at.stride[rows], (padded >> rows & 1u) != 0 ? multiple : 1);
      made.at = row_major(t, padded, multiple, pad);
    }
    made.buffer = new_buffer(e, span_of(t, made.at));
    return made;
  }
  /// How many elements to add to rows of `row` elements, so that columns of the tile go through all
  /// banks; rows stay multiples of `multiple`.
  [[nodiscard]] std::int64_t padding(const tile::tile_type& t, std::int64_t row,
                                     std::int64_t multiple) const {
    constexpr int most_banks = 256;  // that `bank_conflicts` counts
    constexpr std::int64_t most_lanes = 1024;
    const std::int64_t size = isa::size_of(element_of(t.element));
    const std::int64_t lanes =
        std::clamp<std::int64_t>(out.machine.vector_bytes / size, 1, most_lanes);
    if (out.machine.scratchpad_banks > most_banks) {
      return 0;
    }
    const std::int64_t rows = std::min<std::int64_t>(lanes, t.extent(t.rank - 2));
    const std::array<tile::layout, 1> column{tile::layout{{rows, row}}};
    const tile::placement best = tile::place_matrix(
        rows, row, static_cast<int>(size), {out.machine.scratchpad_banks, out.machine.bank_bytes},
        column, {.swizzles = false, .row_bytes = static_cast<int>(multiple * size)});
    return best.where.plain[0].stride - row;
  }

  /// The tile that instruction `v` writes: that of its room.
  place room_of(int v, unsigned padded = 0) {
    const int room = facts.room(v);
    const tile::tile_type& t = p.type_of(v);
    if (facts.feeds_matrix(v) && t.rank >= 2) {
      padded |= 1u << (t.rank - 2);
    }
    if (rooms[static_cast<std::size_t>(room)] < 0) {
      const place made = new_tile(t, padded, facts.read_across(v));
      rooms[static_cast<std::size_t>(room)] = made.buffer;
      places[static_cast<std::size_t>(room)] = made;
    }
    return places[static_cast<std::size_t>(room)];
  }

  [[nodiscard]] const place& operand(int i, int k) const {
    return places[static_cast<std::size_t>(p.operand(i, k))];
  }
};

}  // namespace ashlar::chip::npu_codegen
