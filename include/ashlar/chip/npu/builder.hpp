// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/chip/npu/instruction.hpp"
#include "ashlar/chip/npu/opcodes.hpp"
#include "ashlar/core/error.hpp"

namespace ashlar::chip::npu_isa {

/// A scalar register that a builder handed out.
struct scalar {
  std::uint8_t reg = 0;

  constexpr operator value() const { return {reg, 0}; }
  friend constexpr value operator+(scalar s, std::int32_t more) { return {s.reg, more}; }
  friend constexpr value operator-(scalar s, std::int32_t less) { return {s.reg, -less}; }
};

/// A box in the scratchpad: where it begins, its shape, its strides in elements.
struct scratch_tile {
  element type = element::f32;
  value base = {};  ///< [bytes]
  value rows = 1, cols = 1;
  std::int32_t row_stride = 0, col_stride = 1;

  [[nodiscard]] constexpr operand as_operand() const {
    return {operand_kind::scratch, base, row_stride, col_stride};
  }
  /// The same bytes, read with rows and columns swapped.
  [[nodiscard]] constexpr scratch_tile transposed() const {
    return {type, base, cols, rows, col_stride, row_stride};
  }
  /// The box of `shape` whose first element is (row, col) of this one.
  [[nodiscard]] constexpr scratch_tile part(std::int32_t row, std::int32_t col, value r,
                                            value c) const {
    const std::int32_t offset = (row * row_stride + col * col_stride) * size_of(type);
    return {type, base + offset, r, c, row_stride, col_stride};
  }
  /// One row, or one column, repeated: a stride of 0.
  [[nodiscard]] constexpr scratch_tile repeated_rows(value r) const {
    return {type, base, r, cols, 0, col_stride};
  }
  [[nodiscard]] constexpr scratch_tile repeated_cols(value c) const {
    return {type, base, rows, c, row_stride, 0};
  }
  /// The same shape elsewhere.
  [[nodiscard]] constexpr scratch_tile at(value address) const {
    return {type, address, rows, cols, row_stride, col_stride};
  }
};

/// A matrix in global memory with its bounds.
struct global_view {
  element type = element::f32;
  value base = {};                       ///< [bytes]
  value rows = 1, cols = 1;              ///< beyond them loads fill and stores do nothing
  value row_stride = 1, col_stride = 1;  ///< [elements]
};

/// A source of vector arithmetic: a tile, a scalar register or a constant.
class vector_source {
 public:
  constexpr vector_source(const scratch_tile& t) : operand_(t.as_operand()) {}
  constexpr vector_source(scalar s) : operand_{operand_kind::scalar, s, 0, 0} {}
  constexpr vector_source(float constant)
      : operand_{operand_kind::immediate, {}, 0, 0}, imm_(std::bit_cast<std::uint32_t>(constant)) {}
  constexpr vector_source(std::int32_t constant)
      : operand_{operand_kind::immediate, {}, 0, 0},
        imm_(static_cast<std::uint64_t>(static_cast<std::int64_t>(constant))) {}

  [[nodiscard]] constexpr const operand& as_operand() const { return operand_; }
  [[nodiscard]] constexpr std::uint64_t imm() const { return imm_; }

 private:
  operand operand_;
  std::uint64_t imm_ = 0;
};

/// Writes a program: one call, one instruction; registers, labels and sources are looked after.
///
/// Arguments are r1, r2, ... in the order of `argument`; further registers are handed out behind
/// them and come back at the end of a loop's body. Units are numbered as in `instruction::unit`.
class builder {
 public:
  /// A place in the program that branches may name before it is bound.
  struct label {
    std::size_t id;
  };

  /// `arguments` registers are filled by the caller of the program.
  explicit builder(int arguments = 0, std::source_location where = std::source_location::current())
      : next_register_(1 + arguments), arguments_(arguments) {
    if (arguments < 0 || arguments >= register_count) {
      throw argument_error("ashlar::chip::npu_isa::builder", "0 to 63 arguments fit", where);
    }
  }

  [[nodiscard]] scalar argument(
      int n, std::source_location where = std::source_location::current()) const {
    if (n < 0 || n >= arguments_) {
      throw argument_error("ashlar::chip::npu_isa::builder::argument",
                           "argument " + std::to_string(n) + " of " + std::to_string(arguments_),
                           where);
    }
    return {static_cast<std::uint8_t>(n + 1)};
  }

  /// A register that nothing else uses until the surrounding loop's body ends.
  scalar fresh(std::source_location where = std::source_location::current()) {
    if (next_register_ >= register_count) {
      throw argument_error("ashlar::chip::npu_isa::builder::fresh",
                           "all 64 scalar registers are in use", where);
    }
    return {static_cast<std::uint8_t>(next_register_++)};
  }

  /// What the following instructions are made from; an empty text for nothing.
  void source(std::string_view text) {
    const auto found = std::find(program_.sources.begin(), program_.sources.end(), text);
    source_ = text.empty() ? 0 : static_cast<std::uint32_t>(found - program_.sources.begin()) + 1;
    if (source_ > program_.sources.size()) {
      program_.sources.emplace_back(text);
    }
  }

  instruction& emit(instruction i) {
    i.source = i.source == 0 ? source_ : i.source;
    return program_.code.emplace_back(i);
  }

  // --- scalars ---------------------------------------------------------------------------------

  void load_constant(scalar to, std::int64_t v) {
    emit({.op = opcode::li, .rd = to.reg, .imm = static_cast<std::uint64_t>(v)});
  }
  scalar constant(std::int64_t v) {
    const scalar s = fresh();
    load_constant(s, v);
    return s;
  }
  scalar constant(int v) { return constant(static_cast<std::int64_t>(v)); }
  scalar constant(float v) {
    return constant(static_cast<std::int64_t>(std::bit_cast<std::uint32_t>(v)));
  }
  void scalar_op(opcode op, scalar to, value x, value y, element type = element::i64) {
    emit({.op = op, .type = type, .rd = to.reg, .x = x, .y = y});
  }
  scalar scalar_op(opcode op, value x, value y, element type = element::i64) {
    const scalar s = fresh();
    scalar_op(op, s, x, y, type);
    return s;
  }
  scalar add(value x, value y) { return scalar_op(opcode::s_add, x, y); }
  scalar sub(value x, value y) { return scalar_op(opcode::s_sub, x, y); }
  scalar mul(value x, value y) { return scalar_op(opcode::s_mul, x, y); }
  void assign(scalar to, value v) { scalar_op(opcode::s_add, to, v, 0); }
  /// Reads one element of the scratchpad; the control engine must be ordered after its writer.
  scalar read(const scratch_tile& from) {
    const scalar s = fresh();
    emit({.op = opcode::s_load, .type = from.type, .rd = s.reg, .a = from.as_operand()});
    return s;
  }
  void write(const scratch_tile& to, value v) {
    emit({.op = opcode::s_store, .type = to.type, .x = v, .dst = to.as_operand()});
  }
  void check(value v) { emit({.op = opcode::check, .x = v}); }

  // --- branches --------------------------------------------------------------------------------

  label new_label() {
    labels_.push_back(unbound);
    return {labels_.size() - 1};
  }
  void bind(label l) { labels_[l.id] = static_cast<std::uint32_t>(program_.code.size()); }
  void jump(label l) { branch(opcode::jump, 0, 0, l); }
  /// `op` is beq, bne, blt, bge or jump.
  void branch(opcode op, value x, value y, label l) {
    uses_.push_back({program_.code.size(), l.id});
    emit({.op = op, .x = x, .y = y});
  }
  /// `for (i = begin; i < end; i += step) body(i)`; `step` is above 0.
  template <class Body>
  void loop(value begin, value end, value step, const Body& body) {
    const int before = next_register_;
    const scalar i = fresh();
    const label again = new_label();
    const label done = new_label();
    assign(i, begin);
    branch(opcode::bge, i, end, done);
    bind(again);
    const int inside = next_register_;
    body(i);
    next_register_ = inside;
    scalar_op(opcode::s_add, i, i, step);
    branch(opcode::blt, i, end, again);
    bind(done);
    next_register_ = before;
  }
  /// `if (x op y) body()`; `op` is beq, bne, blt or bge.
  template <class Body>
  void when(opcode op, value x, value y, const Body& body) {
    const label yes = new_label();
    const label no = new_label();
    branch(op, x, y, yes);
    jump(no);
    bind(yes);
    body();
    bind(no);
  }

  // --- order between engines -------------------------------------------------------------------

  /// Adds `count` tokens when everything before on `unit` is done.
  void signal(int unit, value semaphore, value count = 1) {
    emit({.op = opcode::signal, .unit = unit_of(unit), .x = semaphore, .y = count});
  }
  /// Holds `unit` until it can take `count` tokens.
  void wait(int unit, value semaphore, value count = 1) {
    emit({.op = opcode::wait, .unit = unit_of(unit), .x = semaphore, .y = count});
  }
  void barrier(std::initializer_list<int> units) {
    std::uint64_t mask = 0;
    for (const int u : units) {
      mask |= std::uint64_t{1} << unit_of(u);
    }
    emit({.op = opcode::barrier, .imm = mask});
  }

  // --- scratchpad ------------------------------------------------------------------------------

  /// Reserves a box behind the last one; its rows are `row_stride` elements apart.
  scratch_tile allocate(element type, std::int32_t rows, std::int32_t cols,
                        std::int32_t row_stride = 0, std::int64_t alignment = 64,
                        std::source_location where = std::source_location::current()) {
    const std::int32_t stride = row_stride == 0 ? cols : row_stride;
    scratch_used_ = (scratch_used_ + alignment - 1) / alignment * alignment;
    const std::int64_t base = scratch_used_;
    scratch_used_ += static_cast<std::int64_t>(rows) * stride * size_of(type);
    if (rows < 0 || cols < 0 || stride < 0 || scratch_used_ > (1 << 23)) {
      throw argument_error("ashlar::chip::npu_isa::builder::allocate",
                           "the scratchpad's constant addresses end at 8 MiB", where);
    }
    return {type, static_cast<std::int32_t>(base), rows, cols, stride, 1};
  }
  [[nodiscard]] std::int64_t scratch_used() const { return scratch_used_; }

  // --- DMA -------------------------------------------------------------------------------------

  /// Fills `to` from the box of `from` that begins at (row, col); `fill` holds the bits of what is
  /// out of bounds.
  void load(int engine, const scratch_tile& to, const global_view& from, value row, value col,
            std::uint64_t fill = 0) {
    instruction i = transfer(opcode::load, engine, to, from);
    i.imm = fill;
    i.origin = {row, col};
    emit(i);
  }
  /// `op` is store, store_add, store_max or store_min.
  void store(int engine, const scratch_tile& from, const global_view& to, value row, value col,
             opcode op = opcode::store) {
    instruction i = transfer(op, engine, from, to);
    i.origin = {row, col};
    emit(i);
  }
  /// Row i of `to` is row `indices(i)` of `from`; `indices` is a column of i32.
  void load_rows(int engine, const scratch_tile& to, const global_view& from,
                 const scratch_tile& indices, std::uint64_t fill = 0) {
    instruction i = transfer(opcode::load_rows, engine, to, from);
    i.imm = fill;
    i.b = indices.as_operand();
    emit(i);
  }
  /// `op` is store_rows, store_rows_add, store_rows_max or store_rows_min.
  void store_rows(int engine, const scratch_tile& from, const global_view& to,
                  const scratch_tile& indices, opcode op = opcode::store_rows) {
    instruction i = transfer(op, engine, from, to);
    i.b = indices.as_operand();
    emit(i);
  }

  // --- vector ----------------------------------------------------------------------------------

  void unary(opcode op, const scratch_tile& to, const vector_source& a) {
    instruction i = vector(op, to, to.type);
    i.a = a.as_operand();
    emit(i);
  }
  void cast(const scratch_tile& to, const scratch_tile& from) {
    instruction i = vector(opcode::v_cast, to, to.type);
    i.from = from.type;
    i.a = from.as_operand();
    emit(i);
  }
  /// Arithmetic, or a comparison of `type` whose result `to` is bool.
  void binary(opcode op, element type, const scratch_tile& to, const vector_source& a,
              const vector_source& b) {
    instruction i = vector(op, to, type);
    i.a = a.as_operand();
    i.b = b.as_operand();
    i.imm = shared_constant({&a, &b});
    emit(i);
  }
  void binary(opcode op, const scratch_tile& to, const vector_source& a, const vector_source& b) {
    binary(op, to.type, to, a, b);
  }
  /// fma: `a * b + c`; select: `a ? b : c`.
  void ternary(opcode op, const scratch_tile& to, const vector_source& a, const vector_source& b,
               const vector_source& c) {
    instruction i = vector(op, to, to.type);
    i.a = a.as_operand();
    i.b = b.as_operand();
    i.c = c.as_operand();
    i.imm = shared_constant({&a, &b, &c});
    emit(i);
  }
  /// Writes the low bits of `bits` into every element.
  void fill(const scratch_tile& to, std::uint64_t bits) {
    instruction i = vector(opcode::v_fill, to, to.type);
    i.imm = bits;
    emit(i);
  }
  /// Element (i, j) becomes `first` + i or, for axis 1, + j.
  void iota(const scratch_tile& to, int axis, value first = 0) {
    instruction i = vector(opcode::v_iota, to, to.type);
    i.axis = static_cast<std::uint8_t>(axis);
    i.x = first;
    emit(i);
  }
  /// A reduction into a row (axis 0) or a column (axis 1), or a scan.
  void along(opcode op, int axis, const scratch_tile& to, const scratch_tile& from,
             bool sequential = false) {
    instruction i = vector(op, from, from.type);
    i.dst = to.as_operand();
    i.axis = static_cast<std::uint8_t>(axis);
    i.mode = sequential ? 1 : 0;
    i.a = from.as_operand();
    emit(i);
  }
  void transpose(const scratch_tile& to, const scratch_tile& from) {
    unary(opcode::v_transpose, to, from);
  }
  /// Axis 0: `to(i, j) = table(index(i, j), j)`; axis 1: `table(i, index(i, j))`.
  void gather(int axis, const scratch_tile& to, const scratch_tile& table,
              const scratch_tile& indices, std::uint64_t outside = 0) {
    instruction i = vector(opcode::v_gather, to, to.type);
    i.imm = outside;
    i.a = table.as_operand();
    emit(indexed(i, axis, table, indices));
  }
  /// `op` is scatter or scatter_add; the inverse of `gather`.
  void scatter(opcode op, int axis, const scratch_tile& table, const scratch_tile& from,
               const scratch_tile& indices) {
    instruction i = vector(op, from, table.type);
    i.dst = table.as_operand();
    i.a = from.as_operand();
    emit(indexed(i, axis, table, indices));
  }

  // --- matrix ----------------------------------------------------------------------------------

  /// `to (+)= a b`; `a` and `b` have one type, `to` is f32, or i32 for i8.
  void mma(const scratch_tile& to, const scratch_tile& a, const scratch_tile& b, bool accumulate) {
    emit({.op = opcode::mma,
          .unit = matrix_unit,
          .type = a.type,
          .mode = static_cast<std::uint8_t>(accumulate ? 1 : 0),
          .rows = to.rows,
          .cols = to.cols,
          .depth = a.cols,
          .dst = to.as_operand(),
          .a = a.as_operand(),
          .b = b.as_operand()});
  }

  /// Returns: the program, with `halt` behind it; the builder begins anew.
  ///
  /// Throws: `argument_error` where a branch names a label that was not bound.
  program finish(std::source_location where = std::source_location::current()) {
    emit({.op = opcode::halt});
    for (const auto& [at, id] : uses_) {
      if (labels_[id] == unbound) {
        throw argument_error(
            "ashlar::chip::npu_isa::builder::finish",
            "instruction " + std::to_string(at) + " branches to a label that was never bound",
            where);
      }
      program_.code[at].target = labels_[id];
    }
    program done = std::move(program_);
    *this = builder(arguments_);
    return done;
  }

 private:
  static constexpr std::uint32_t unbound = std::numeric_limits<std::uint32_t>::max();

  static std::uint8_t unit_of(int unit) {
    if (unit < 0 || unit >= max_units) {
      throw argument_error("ashlar::chip::npu_isa::builder", "units are numbered from 0 to 15");
    }
    return static_cast<std::uint8_t>(unit);
  }
  /// An instruction has room for one constant.
  static std::uint64_t shared_constant(std::initializer_list<const vector_source*> sources) {
    const vector_source* found = nullptr;
    for (const vector_source* s : sources) {
      if (s->as_operand().kind != operand_kind::immediate) {
        continue;
      }
      if (found != nullptr && found->imm() != s->imm()) {
        throw argument_error("ashlar::chip::npu_isa::builder",
                             "an instruction holds one constant; put the other into a register");
      }
      found = s;
    }
    return found == nullptr ? 0 : found->imm();
  }
  static instruction transfer(opcode op, int engine, const scratch_tile& t, const global_view& g) {
    instruction i{.op = op, .unit = unit_of(dma_unit(engine)), .type = t.type};
    i.rows = t.rows;
    i.cols = t.cols;
    i.dst = t.as_operand();
    i.base = g.base;
    i.extents = {g.rows, g.cols};
    i.strides = {g.row_stride, g.col_stride};
    return i;
  }
  static instruction vector(opcode op, const scratch_tile& shape, element type) {
    instruction i{.op = op, .unit = vector_unit, .type = type};
    i.rows = shape.rows;
    i.cols = shape.cols;
    i.dst = shape.as_operand();
    return i;
  }
  static instruction indexed(instruction i, int axis, const scratch_tile& table,
                             const scratch_tile& indices) {
    i.axis = static_cast<std::uint8_t>(axis);
    i.depth = axis == 0 ? table.rows : table.cols;
    i.b = indices.as_operand();
    return i;
  }

  program program_;
  std::vector<std::uint32_t> labels_;
  std::vector<std::pair<std::size_t, std::size_t>> uses_;
  std::uint32_t source_ = 0;
  int next_register_;
  int arguments_;
  std::int64_t scratch_used_ = 0;
};

}  // namespace ashlar::chip::npu_isa
