// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/chip/npu/codegen/arguments.hpp"
#include "ashlar/chip/npu/codegen/elementwise.hpp"
#include "ashlar/chip/npu/codegen/fold.hpp"
#include "ashlar/chip/npu/codegen/ir.hpp"
#include "ashlar/chip/npu/codegen/layout.hpp"
#include "ashlar/chip/npu/codegen/lowering.hpp"
#include "ashlar/chip/npu/codegen/matrix.hpp"
#include "ashlar/chip/npu/codegen/memory.hpp"
#include "ashlar/chip/npu/codegen/places.hpp"
#include "ashlar/chip/npu/codegen/random.hpp"
#include "ashlar/chip/npu/codegen/scalars.hpp"
#include "ashlar/chip/npu/codegen/shapes.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/structure.hpp"

/// A tile program as chip IR: what each instruction becomes, in the order of the program.
namespace ashlar::chip::npu_codegen {

namespace detail {

class lowerer {
 public:
  lowerer(const tile::program& p, const npu_description& d, std::vector<argument_word> words,
          const compile_options& options)
      : l_(p, d, std::move(words)), p_(l_.p) {
    l_.out.one_dma = options.one_dma || d.dma_engines < 2;
    l_.spreads_columns = options.padding;
    for (int i = 0; i < p.size; ++i) {
      l_.out.sources.push_back("%" + std::to_string(i) + " " +
                               std::string(tile::info(p.at(i).op).name));
    }
  }

  chip_program run() {
    load_table();
    grid(2);
    for (int r = 1 + l_.out.registers; r < lowering::first_temporary; ++r) {
      if (r >= l_.next_home) {
        l_.out.first_free_register =
            l_.out.first_free_register == 0 ? r : l_.out.first_free_register;
        l_.out.last_free_register = r;
      }
    }
    return std::move(l_.out);
  }

 private:
  using word = argument_word::kind;

  /// What the registers do not hold comes from memory once.
  void load_table() {
    const auto count = static_cast<std::int32_t>(l_.out.words.size()) - l_.out.registers;
    if (count <= 0) {
      return;
    }
    l_.out.table = l_.new_buffer(isa::element::i64, count);
    l_.out.buffers.back().name = "arguments";
    isa::instruction code{.op = isa::opcode::load,
                          .unit = static_cast<std::uint8_t>(isa::dma_unit(0)),
                          .type = isa::element::i64,
                          .rows = 1,
                          .cols = count};
    code.dst = {isa::operand_kind::scratch, {}, 0, 1};
    code.base = {static_cast<std::uint8_t>(l_.out.registers + 1), 0};
    code.extents = {1, count};
    code.strides = {1, 1};
    l_.add(code, {l_.out.table, -1, -1, -1});
  }

  /// The programs of the grid, axis 0 fastest.
  void grid(int axis) {
    if (axis < 0) {
      return block(0, p_.size);
    }
    const auto u = static_cast<std::size_t>(axis);
    grid_[u] = l_.new_home(p_.size);
    l_.write_home(grid_[u], 0);
    const isa::value n = l_.argument(word::grid, 0, axis);
    const isa::value id = l_.read_home(grid_[u]);
    const isa::instruction skip{.op = isa::opcode::bge, .x = id, .y = n};
    const int body = l_.open(region_kind::loop);
    grid(axis - 1);
    l_.current = -1;
    l_.compute_into(id, isa::opcode::s_add, id, 1);
    const isa::instruction again{.op = isa::opcode::blt, .x = id, .y = n};
    l_.add_control(step_kind::again, again, {-1, -1});
    l_.close();
    l_.add_control(step_kind::loop, skip, {body, -1});
  }

  place& value(int v) { return l_.places[static_cast<std::size_t>(v)]; }

  void block(int from, int to) {
    for (int i = from; i < to; i = l_.facts.tree().after(p_, i)) {
      l_.current = i;
      l_.release_before(i);
      instruction(i);
      l_.current = i;
      if (value(i).in_scratch() && l_.facts.in_register(i) && p_.type_of(i).is_scalar()) {
        value(i) = loaded_scalar(l_, value(i), l_.facts.last_use(i));
      }
    }
  }

  void instruction(int i) {
    const tile::instruction& code = p_.at(i);
    switch (tile::info(code.op).kind) {
      case tile::opcode_kind::leaf:
        return leaf(i);
      case tile::opcode_kind::memory:
        return memory(i);
      case tile::opcode_kind::unary:
      case tile::opcode_kind::binary:
      case tile::opcode_kind::compare:
      case tile::opcode_kind::ternary:
        return arithmetic(i);
      case tile::opcode_kind::shape:
        value(i) = shape(l_, i);
        return;
      case tile::opcode_kind::matrix:
        value(i) = code.op == tile::opcode::dot ? dot(l_, i) : dot_scaled(l_, i);
        return;
      case tile::opcode_kind::region:
        return regions(i);
      case tile::opcode_kind::other:
        return other(i);
    }
  }

  /// A scalar in a register that holds it for as long as the program runs.
  void keep(int i, isa::value x) {
    place made{.where = place::kind::scalar, .type = p_.type_of(i)};
    if (x.reg <= l_.out.registers) {  // an argument's own register, which nothing else writes
      made.home = x.reg;
    } else {
      made.home = l_.new_home(l_.facts.last_use(i));
      l_.write_home(made.home, x);
    }
    value(i) = made;
  }

  void leaf(int i) {
    const tile::instruction& code = p_.at(i);
    const lowering::scope temporaries(l_);
    switch (code.op) {
      case tile::opcode::constant:
        value(i) = constant_place(code.type, code.value);
        return;
      case tile::opcode::program_id:
        value(i) = {.where = place::kind::scalar, .type = code.type};
        value(i).home = grid_[static_cast<std::size_t>(code.index)];
        return;
      case tile::opcode::grid_size:
        return keep(i, l_.argument(word::grid, 0, code.index));
      case tile::opcode::extent:
        return keep(i, l_.argument(word::extent, code.index, static_cast<int>(code.value)));
      case tile::opcode::argument:
        return keep(i, l_.argument(word::scalar, code.index));
      case tile::opcode::iota:
        return iota(i);
      default:  // region_input: whoever runs the region has set it
        return;
    }
  }

  void iota(int i) {
    const tile::instruction& code = p_.at(i);
    const place to = l_.room_of(i);
    value(i) = to;
    // Along the other axes it repeats: written once, then copied.
    tile::tile_type line = tile::scalar_type(code.type.element);
    line.rank = code.type.rank;
    for (int a = 0; a < line.rank; ++a) {
      line.extents[static_cast<std::size_t>(a)] = a == code.index ? code.type.extent(a) : 1;
    }
    const bool whole = line == code.type;
    const place once = whole ? to : l_.new_tile(line);
    vector(l_, {.op = isa::opcode::v_iota, .type = element_of(code.type.element), .axis = 1}, once,
           {});
    if (!whole) {
      place all = repeated(once, code.type);
      copy(l_, to, all);
    }
  }

  void memory(int i) {
    switch (p_.at(i).op) {
      case tile::opcode::load:
        value(i) = load(l_, i);
        return;
      case tile::opcode::store:
        return store(l_, i);
      case tile::opcode::gather:
        value(i) = gather(l_, i);
        return;
      default:
        return scatter(l_, i);
    }
  }

  void arithmetic(int i) {
    if (is_scalar_code(l_, i)) {
      value(i) = scalar_code(l_, i);
      return;
    }
    std::vector<place> in;
    for (const tile::value_id o : p_.operands(i)) {
      in.push_back(value(o));
    }
    const tile::instruction& code = p_.at(i);
    if (tile::info(code.op).kind == tile::opcode_kind::unary &&
        is_renaming(code, in[0].type.element)) {
      value(i) = elementwise(l_, code, code.type, in);
      return;
    }
    const place to = l_.room_of(i);
    elementwise_into(l_, code, to, in);
    value(i) = to;
  }

  void other(int i) {
    const tile::instruction& code = p_.at(i);
    switch (code.op) {
      case tile::opcode::result:
        value(i) = l_.results[static_cast<std::size_t>(p_.operand(i, 0))]
                             [static_cast<std::size_t>(code.index)];
        return;
      case tile::opcode::print:
        return print(l_, i, grid_);
      case tile::opcode::require:
        return require(l_, i);
      default:
        value(i) = random_bits(l_, i);
        return;
    }
  }

  // --- regions -----------------------------------------------------------------------------------

  void regions(int i) {
    auto& results = l_.results[static_cast<std::size_t>(i)];
    switch (p_.at(i).op) {
      case tile::opcode::reduce:
        results = reduce(l_, i);
        return;
      case tile::opcode::scan:
        results = scan(l_, i);
        return;
      case tile::opcode::loop:
        return loop(i);
      case tile::opcode::repeat:
        return repeat(i);
      default:
        return branch(i);
    }
  }

  static bool is_integer_scalar(const tile::tile_type& t) {
    return t.is_scalar() && is_integral(t.element);
  }

  /// Where a loop keeps what it carries: a register or the buffer of the input's room.
  std::vector<place> variables(int owner) {
    std::vector<place> all;
    const int inputs = l_.facts.first_carried(owner);
    for (int k = 0; k < l_.facts.carried_count(owner); ++k) {
      all.push_back(variable(owner, p_.type_of(inputs + k), inputs + k));
      value(inputs + k) = all.back();
    }
    return all;
  }
  place variable(int owner, const tile::tile_type& t, int v) {
    if (!is_integer_scalar(t)) {
      return v >= 0 ? l_.room_of(v) : l_.new_tile(t);
    }
    place made{.where = place::kind::scalar, .type = t};
    const int end = tile::at(l_.facts.tree().last_yield, owner);
    made.home = l_.new_home(std::max(end, l_.facts.last_use(owner)));
    return made;
  }

  void assign(const place& to, const place& x) {
    if (to.where == place::kind::scalar) {
      const lowering::scope temporaries(l_);
      return l_.write_home(to.home, l_.scalar(x));
    }
    copy(l_, to, x);
  }

  /// `to = given`, all at once: what one of them overwrites another may still read.
  void assign_all(const std::vector<place>& to, std::vector<place> given) {
    const lowering::scope temporaries(l_);
    for (std::size_t k = 0; k < to.size(); ++k) {
      for (std::size_t j = 0; j <= k; ++j) {
        const bool tile = given[k].in_scratch() && given[k].buffer == to[j].buffer &&
                          to[j].in_scratch() && (j < k || given[k].at != to[j].at);
        const bool number = j < k && given[k].where == place::kind::scalar &&
                            to[j].where == place::kind::scalar && given[k].home == to[j].home;
        if (tile) {
          const place kept = l_.new_tile(given[k].type);
          copy(l_, kept, given[k]);
          given[k] = kept;
          break;
        }
        if (number) {
          place kept = given[k];
          kept.home = l_.new_home(l_.current);
          l_.write_home(kept.home, l_.read_home(given[k].home));
          given[k] = kept;
          break;
        }
      }
    }
    for (std::size_t k = 0; k < to.size(); ++k) {
      assign(to[k], given[k]);
    }
  }

  std::vector<place> yielded(int yield) {
    std::vector<place> all;
    for (const tile::value_id o : p_.operands(yield)) {
      all.push_back(value(o));
    }
    return all;
  }

  void loop(int i) {
    const std::vector<place> carried = variables(i);
    std::vector<int> flags(carried.size());
    for (std::size_t k = 0; k < carried.size(); ++k) {
      const place& begin = l_.operand(i, 3 + static_cast<int>(k));
      const int sum = l_.facts.only_sum(i, l_.facts.first_carried(i) + static_cast<int>(k));
      if (sum >= 0 && is_zero(begin) && fits_matrix(l_, carried[k])) {
        const int end = tile::at(l_.facts.tree().last_yield, i);
        flags[k] = l_.new_home(std::max(end, l_.facts.last_use(i)));
        l_.write_home(flags[k], 0);
        l_.begun[static_cast<std::size_t>(sum)] = flags[k];
      } else {
        assign(carried[k], begin);
      }
    }
    place counter = variable(i, tile::index_type, -1);
    value(i + 1) = counter;
    assign(counter, l_.operand(i, 0));
    const place& step = l_.operand(i, 2);
    isa::instruction skip{.op = isa::opcode::bge};
    {
      const lowering::scope temporaries(l_);
      if (step.where != place::kind::constant || step.bits <= 0) {
        l_.add({.op = isa::opcode::check, .x = l_.compute(isa::opcode::s_lt, 0, l_.scalar(step))});
      }
      skip.x = l_.read_home(counter.home);
      skip.y = l_.scalar(l_.operand(i, 1));
    }
    const int body = l_.open(region_kind::loop);
    const int end = tile::at(l_.facts.tree().last_yield, i);
    block(i + 2 + static_cast<int>(carried.size()), end);
    l_.current = end;
    assign_all(carried, yielded(end));
    l_.current = i;
    const lowering::scope temporaries(l_);
    const isa::value now = l_.read_home(counter.home);
    const isa::value next = l_.compute(isa::opcode::s_add, now, l_.scalar(step));
    const isa::value more = l_.compute(isa::opcode::s_lt, next, l_.scalar(l_.operand(i, 1)));
    if (step.where != place::kind::constant || step.bits > isa::max_constant ||
        l_.operand(i, 1).where != place::kind::constant) {
      // Near the largest number the sum wraps around.
      const isa::value larger = l_.compute(isa::opcode::s_lt, now, next);
      l_.compute_into(more, isa::opcode::s_and, more, larger);
    }
    l_.write_home(counter.home, next);
    l_.add_control(step_kind::again, {.op = isa::opcode::bne, .x = more, .y = 0}, {-1, -1});
    l_.close();
    l_.add_control(step_kind::loop, skip, {body, -1});
    for (std::size_t k = 0; k < carried.size(); ++k) {
      if (flags[k] != 0) {
        zeros_unless(flags[k], carried[k]);
      }
    }
    l_.results[static_cast<std::size_t>(i)] = carried;
  }

  /// The sum of a loop that did not run.
  void zeros_unless(int flag, const place& sum) {
    const isa::instruction test{.op = isa::opcode::bne, .x = l_.read_home(flag), .y = 0};
    const int fill = l_.open(region_kind::arm);
    copy(l_, sum, constant_place(sum.type, 0));
    l_.close();
    const int nothing = l_.open(region_kind::arm);
    l_.close();
    l_.add_control(step_kind::choice, test, {fill, nothing});
  }

  /// The condition stands before the loop and again at the end of its body.
  void repeat(int i) {
    const std::vector<place> carried = variables(i);
    const int count = static_cast<int>(carried.size());
    for (int k = 0; k < count; ++k) {
      value(i + 1 + k) = carried[static_cast<std::size_t>(k)];
      assign(carried[static_cast<std::size_t>(k)], l_.operand(i, k));
    }
    const int asked = tile::at(l_.facts.tree().first_yield, i);
    const int end = tile::at(l_.facts.tree().last_yield, i);
    const auto condition = [&](isa::opcode op) {
      block(i + 1 + count, asked);
      l_.current = asked;
      return isa::instruction{.op = op, .x = l_.scalar(value(p_.operand(asked, 0))), .y = 0};
    };
    const lowering::scope temporaries(l_);
    const isa::instruction skip = condition(isa::opcode::beq);
    const int body = l_.open(region_kind::loop);
    block(asked + 1 + count, end);
    l_.current = end;
    assign_all(carried, yielded(end));
    const isa::instruction again = condition(isa::opcode::bne);
    l_.add_control(step_kind::again, again, {-1, -1});
    l_.close();
    l_.current = i;
    l_.add_control(step_kind::loop, skip, {body, -1});
    l_.results[static_cast<std::size_t>(i)] = carried;
  }

  void branch(int i) {
    const int first = tile::at(l_.facts.tree().first_yield, i);
    const int last = tile::at(l_.facts.tree().last_yield, i);
    std::vector<place> given;
    for (const tile::value_id o : p_.operands(first)) {
      given.push_back(variable(i, p_.type_of(o), -1));
    }
    const lowering::scope temporaries(l_);
    const isa::instruction test{.op = isa::opcode::beq, .x = l_.scalar(l_.operand(i, 0)), .y = 0};
    std::array<int, 2> arms{};
    for (int r = 0; r < 2; ++r) {
      const int end = r == 0 ? first : last;
      arms[static_cast<std::size_t>(r)] = l_.open(region_kind::arm);
      block(r == 0 ? i + 1 : first + 1, end);
      l_.current = end;
      assign_all(given, yielded(end));
      l_.close();
    }
    l_.current = i;
    l_.add_control(step_kind::choice, test, arms);
    l_.results[static_cast<std::size_t>(i)] = given;
  }

  lowering l_;
  const tile::program& p_;
  std::array<int, 3> grid_{};
};

}  // namespace detail

/// Returns: the program in chip IR, without synchronisation and addresses.
/// Throws: `unsupported`, `program_error`.
inline chip_program lower(const tile::program& p, const npu_description& d,
                          const compile_options& options = {}) {
  return detail::lowerer(p, d, words_of(p), options).run();
}

}  // namespace ashlar::chip::npu_codegen
