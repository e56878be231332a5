// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

/// The reference accelerator's instructions as values. docs/npu_isa.md is their manual.
namespace ashlar::chip::npu_isa {

/// Type of the elements that an instruction works on; the 8-bit floats are storage for `cast`.
enum class element : std::uint8_t { boolean, u8, i8, i32, i64, f16, bf16, f32, e4m3, e5m2, f64 };
inline constexpr int element_count = 11;

constexpr int size_of(element e) {
  constexpr std::array<int, element_count> bytes{1, 1, 1, 4, 8, 2, 2, 4, 1, 1, 8};
  return bytes[static_cast<std::size_t>(e)];
}
constexpr std::string_view name_of(element e) {
  constexpr std::array<std::string_view, element_count> names{
      "bool", "u8", "i8", "i32", "i64", "f16", "bf16", "f32", "e4m3", "e5m2", "f64"};
  return names[static_cast<std::size_t>(e)];
}
constexpr bool is_floating(element e) { return e >= element::f16; }
/// Types that the vector unit computes in; the others are only copied, moved and cast.
constexpr bool is_arithmetic(element e) { return e < element::e4m3 || e == element::f64; }

/// Engines by number: 0 control, 1 vector, 2 matrix, 3 and up DMA.
enum class unit_kind : std::uint8_t { control, vector, matrix, dma, any };
inline constexpr int control_unit = 0;
inline constexpr int vector_unit = 1;
inline constexpr int matrix_unit = 2;
inline constexpr int first_dma_unit = 3;
inline constexpr int max_units = 16;
constexpr int dma_unit(int engine) { return first_dma_unit + engine; }
constexpr unit_kind kind_of(int unit) {
  return unit >= first_dma_unit ? unit_kind::dma : static_cast<unit_kind>(unit);
}

inline constexpr int register_count = 64;

/// What an instruction does; the order is that of the encoding.
enum class opcode : std::uint8_t {
  // control: scalar registers, branches
  halt,
  li,
  s_add,
  s_sub,
  s_mul,
  s_div,
  s_rem,
  s_min,
  s_max,
  s_and,
  s_or,
  s_xor,
  s_shl,
  s_shr,
  s_eq,
  s_ne,
  s_lt,
  s_le,
  s_cast,
  s_load,
  s_store,
  jump,
  beq,
  bne,
  blt,
  bge,
  check,
  barrier,
  // any engine
  signal,
  wait,
  // DMA
  load,
  load_rows,
  store,
  store_rows,
  store_add,
  store_max,
  store_min,
  // vector: one source
  v_copy,
  v_neg,
  v_abs,
  v_exp,
  v_log,
  v_sqrt,
  v_rsqrt,
  v_tanh,
  v_sigmoid,
  v_erf,
  v_floor,
  v_not,
  v_cast,
  // vector: two and three sources
  v_add,
  v_sub,
  v_mul,
  v_div,
  v_min,
  v_max,
  v_and,
  v_or,
  v_xor,
  v_shl,
  v_shr,
  v_shru,
  v_mulhu,
  v_eq,
  v_ne,
  v_lt,
  v_le,
  v_gt,
  v_ge,
  v_fma,
  v_select,
  // vector: across elements
  v_fill,
  v_iota,
  v_transpose,
  v_gather,
  v_scatter,
  v_scatter_add,
  v_sum,
  v_prod,
  v_rmin,
  v_rmax,
  v_argmin,
  v_argmax,
  v_scan_sum,
  v_scan_prod,
  v_scan_min,
  v_scan_max,
  // matrix
  mma,
  // DMA, later additions
  store_rows_add,
  store_rows_max,
  store_rows_min,
  // vector, later additions
  v_print
};
inline constexpr int opcode_count = static_cast<int>(opcode::v_print) + 1;

/// A number known when the instruction is dispatched: a scalar register plus a constant.
///
/// Register 0 is always 0, so `value{0, n}` is the constant `n`. The constant has 24 bits and a
/// sign (32 in a global address).
struct value {
  std::uint8_t reg = 0;
  std::int32_t imm = 0;

  constexpr value() = default;
  constexpr value(std::int32_t constant) : imm(constant) {}
  constexpr value(std::uint8_t r, std::int32_t constant) : reg(r), imm(constant) {}
  friend constexpr bool operator==(const value&, const value&) = default;
  friend constexpr value operator+(value v, std::int32_t more) {
    return {v.reg, static_cast<std::int32_t>(static_cast<std::uint32_t>(v.imm) +
                                             static_cast<std::uint32_t>(more))};
  }
};

/// Where a vector or matrix operand comes from.
enum class operand_kind : std::uint8_t { scratch, scalar, immediate };

/// A strided box in the scratchpad, a scalar register, or the instruction's immediate.
///
/// Element (i, j) of a box lies at byte `base + (i * row_stride + j * col_stride) * size`; a stride
/// of 0 repeats a row or a column. Strides are counted in elements and have 17 bits, sign included.
/// A scalar operand is the register's value: its low bits for floating types.
struct operand {
  operand_kind kind = operand_kind::scratch;
  value base = {};
  std::int32_t row_stride = 0;
  std::int32_t col_stride = 0;
  friend constexpr bool operator==(const operand&, const operand&) = default;
};

/// One instruction. Which members count is the opcode's `fields`; the others hold their defaults.
struct instruction {
  opcode op = opcode::halt;
  std::uint8_t unit = 0;
  element type = element::boolean;  ///< of the result and, but for `cast` and comparisons, sources
  element from = element::boolean;  ///< of the source of a cast
  std::uint8_t axis = 0;            ///< along which it reduces, scans, gathers, counts
  std::uint8_t mode = 0;            ///< mma: 1 accumulates; sums: 1 is the sequential order
  std::uint8_t rd = 0;              ///< scalar result
  std::uint32_t target = 0;         ///< of a branch, an index of an instruction
  std::uint32_t source = 0;         ///< what it was made from, see `program::sources`; 0: unknown
  std::uint64_t imm = 0;            ///< constant, fill value, mask of a barrier
  value x = {}, y = {};             ///< scalar operands; semaphore and count
  value rows = {}, cols = {};       ///< shape of the result, but for reductions: of the source
  value depth = {};                 ///< K of mma; number of places that an index may name
  operand dst = {}, a = {}, b = {}, c = {};
  value base = {};                    ///< global address of element (0, 0) [bytes]
  std::array<value, 2> origin = {};   ///< first row and column of the box in the global view
  std::array<value, 2> extents = {};  ///< rows and columns of the global view
  std::array<value, 2> strides = {};  ///< of the global view [elements]

  friend constexpr bool operator==(const instruction&, const instruction&) = default;
};

/// A program: what runs from instruction 0 to `halt`, and what its instructions were made from.
struct program {
  std::vector<instruction> code;
  std::vector<std::string> sources;  ///< instruction::source - 1 is an index into it

  /// Returns: the text behind an instruction's source id; empty where there is none.
  [[nodiscard]] std::string_view source_of(const instruction& i) const {
    return i.source == 0 || i.source > sources.size() ? std::string_view{} : sources[i.source - 1];
  }
  friend bool operator==(const program&, const program&) = default;
};

}  // namespace ashlar::chip::npu_isa
