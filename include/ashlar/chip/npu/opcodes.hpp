// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "ashlar/chip/npu/instruction.hpp"

namespace ashlar::chip::npu_isa {

/// The members of `instruction` that an opcode uses, as a set of bits.
namespace field {
inline constexpr std::uint32_t type = 1u << 0, from = 1u << 1, axis = 1u << 2, mode = 1u << 3,
                               rd = 1u << 4, target = 1u << 5, imm = 1u << 6, x = 1u << 7,
                               y = 1u << 8, shape = 1u << 9, depth = 1u << 10, dst = 1u << 11,
                               a = 1u << 12, b = 1u << 13, c = 1u << 14, global = 1u << 15,
                               origin = 1u << 16;
}  // namespace field

/// Element types that an opcode works on, as a set of bits over `element`.
namespace types {
constexpr std::uint16_t bit(element e) {
  return static_cast<std::uint16_t>(1u << static_cast<unsigned>(e));
}
inline constexpr std::uint16_t all = (1u << element_count) - 1u;
inline constexpr std::uint16_t floating =
    bit(element::f16) | bit(element::bf16) | bit(element::f32) | bit(element::f64);
inline constexpr std::uint16_t integral =
    bit(element::u8) | bit(element::i8) | bit(element::i32) | bit(element::i64);
inline constexpr std::uint16_t number = floating | integral;
inline constexpr std::uint16_t bits = integral | bit(element::boolean);
inline constexpr std::uint16_t scalar = bit(element::i64) | bit(element::f32);
inline constexpr std::uint16_t product = floating | bit(element::i8);
inline constexpr std::uint16_t word = bit(element::i32) | bit(element::f32);
}  // namespace types

/// How the vector unit charges for an instruction.
enum class cost : std::uint8_t { none, plain, special };

struct opcode_info {
  opcode op;
  std::string_view name;  ///< unique among the opcodes of one kind of engine
  unit_kind unit;
  std::uint32_t fields;
  std::uint16_t types;
  cost steps = cost::none;
};

namespace detail {
inline constexpr std::uint32_t scalar2_fields = field::type | field::rd | field::x | field::y;
inline constexpr std::uint32_t branch_fields = field::x | field::y | field::target;
inline constexpr std::uint32_t transfer_fields =
    field::type | field::shape | field::dst | field::global;
inline constexpr std::uint32_t vector1_fields = field::type | field::shape | field::dst | field::a;
inline constexpr std::uint32_t vector2_fields = vector1_fields | field::b | field::imm;
inline constexpr std::uint32_t vector3_fields = vector2_fields | field::c;
inline constexpr std::uint32_t along_fields = vector1_fields | field::axis;

// clang-format off
inline constexpr std::array<opcode_info, opcode_count> opcode_table{{
    {opcode::halt, "halt", unit_kind::control, 0, 0},
    {opcode::li, "li", unit_kind::control, field::rd | field::imm, 0},
    {opcode::s_add, "add", unit_kind::control, scalar2_fields, types::scalar},
    {opcode::s_sub, "sub", unit_kind::control, scalar2_fields, types::scalar},
    {opcode::s_mul, "mul", unit_kind::control, scalar2_fields, types::scalar},
    {opcode::s_div, "div", unit_kind::control, scalar2_fields, types::scalar},
    {opcode::s_rem, "rem", unit_kind::control, scalar2_fields, types::bit(element::i64)},
    {opcode::s_min, "min", unit_kind::control, scalar2_fields, types::scalar},
    {opcode::s_max, "max", unit_kind::control, scalar2_fields, types::scalar},
    {opcode::s_and, "and", unit_kind::control, scalar2_fields, types::bit(element::i64)},
    {opcode::s_or, "or", unit_kind::control, scalar2_fields, types::bit(element::i64)},
    {opcode::s_xor, "xor", unit_kind::control, scalar2_fields, types::bit(element::i64)},
    {opcode::s_shl, "shl", unit_kind::control, scalar2_fields, types::bit(element::i64)},
    {opcode::s_shr, "shr", unit_kind::control, scalar2_fields, types::bit(element::i64)},
    {opcode::s_eq, "eq", unit_kind::control, scalar2_fields, types::scalar},
    {opcode::s_ne, "ne", unit_kind::control, scalar2_fields, types::scalar},
    {opcode::s_lt, "lt", unit_kind::control, scalar2_fields, types::scalar},
    {opcode::s_le, "le", unit_kind::control, scalar2_fields, types::scalar},
    {opcode::s_cast, "cast", unit_kind::control, field::type | field::from | field::rd | field::x, types::scalar},
    {opcode::s_load, "load", unit_kind::control, field::type | field::rd | field::a, types::number | types::bits},
    {opcode::s_store, "store", unit_kind::control, field::type | field::x | field::dst, types::number | types::bits},
    {opcode::jump, "jump", unit_kind::control, field::target, 0},
    {opcode::beq, "beq", unit_kind::control, branch_fields, 0},
    {opcode::bne, "bne", unit_kind::control, branch_fields, 0},
    {opcode::blt, "blt", unit_kind::control, branch_fields, 0},
    {opcode::bge, "bge", unit_kind::control, branch_fields, 0},
    {opcode::check, "check", unit_kind::control, field::x, 0},
    {opcode::barrier, "barrier", unit_kind::control, field::imm, 0},
    {opcode::signal, "signal", unit_kind::any, field::x | field::y, 0},
    {opcode::wait, "wait", unit_kind::any, field::x | field::y, 0},
    {opcode::load, "load", unit_kind::dma, transfer_fields | field::origin | field::imm, types::all},
    {opcode::load_rows, "load_rows", unit_kind::dma, transfer_fields | field::b | field::imm, types::all},
    {opcode::store, "store", unit_kind::dma, transfer_fields | field::origin, types::all},
    {opcode::store_rows, "store_rows", unit_kind::dma, transfer_fields | field::b, types::all},
    {opcode::store_add, "store_add", unit_kind::dma, transfer_fields | field::origin, types::word},
    {opcode::store_max, "store_max", unit_kind::dma, transfer_fields | field::origin, types::word},
    {opcode::store_min, "store_min", unit_kind::dma, transfer_fields | field::origin, types::word},
    {opcode::v_copy, "copy", unit_kind::vector, vector1_fields, types::all, cost::plain},
    {opcode::v_neg, "neg", unit_kind::vector, vector1_fields, types::number, cost::plain},
    {opcode::v_abs, "abs", unit_kind::vector, vector1_fields, types::number, cost::plain},
    {opcode::v_exp, "exp", unit_kind::vector, vector1_fields, types::floating, cost::special},
    {opcode::v_log, "log", unit_kind::vector, vector1_fields, types::floating, cost::special},
    {opcode::v_sqrt, "sqrt", unit_kind::vector, vector1_fields, types::floating, cost::special},
    {opcode::v_rsqrt, "rsqrt", unit_kind::vector, vector1_fields, types::floating, cost::special},
    {opcode::v_tanh, "tanh", unit_kind::vector, vector1_fields, types::floating, cost::special},
    {opcode::v_sigmoid, "sigmoid", unit_kind::vector, vector1_fields, types::floating, cost::special},
    {opcode::v_erf, "erf", unit_kind::vector, vector1_fields, types::floating, cost::special},
    {opcode::v_floor, "floor", unit_kind::vector, vector1_fields, types::floating, cost::plain},
    {opcode::v_not, "not", unit_kind::vector, vector1_fields, types::bits, cost::plain},
    {opcode::v_cast, "cast", unit_kind::vector, vector1_fields | field::from | field::mode, types::all, cost::plain},
    {opcode::v_add, "add", unit_kind::vector, vector2_fields, types::number, cost::plain},
    {opcode::v_sub, "sub", unit_kind::vector, vector2_fields, types::number, cost::plain},
    {opcode::v_mul, "mul", unit_kind::vector, vector2_fields, types::number, cost::plain},
    {opcode::v_div, "div", unit_kind::vector, vector2_fields, types::number, cost::special},
    {opcode::v_min, "min", unit_kind::vector, vector2_fields, types::number, cost::plain},
    {opcode::v_max, "max", unit_kind::vector, vector2_fields, types::number, cost::plain},
    {opcode::v_and, "and", unit_kind::vector, vector2_fields, types::bits, cost::plain},
    {opcode::v_or, "or", unit_kind::vector, vector2_fields, types::bits, cost::plain},
    {opcode::v_xor, "xor", unit_kind::vector, vector2_fields, types::bits, cost::plain},
    {opcode::v_shl, "shl", unit_kind::vector, vector2_fields, types::integral, cost::plain},
    {opcode::v_shr, "shr", unit_kind::vector, vector2_fields, types::integral, cost::plain},
    {opcode::v_shru, "shru", unit_kind::vector, vector2_fields, types::integral, cost::plain},
    {opcode::v_mulhu, "mulhu", unit_kind::vector, vector2_fields, types::bit(element::i32), cost::plain},
    {opcode::v_eq, "eq", unit_kind::vector, vector2_fields, types::number | types::bits, cost::plain},
    {opcode::v_ne, "ne", unit_kind::vector, vector2_fields, types::number | types::bits, cost::plain},
    {opcode::v_lt, "lt", unit_kind::vector, vector2_fields, types::number, cost::plain},
    {opcode::v_le, "le", unit_kind::vector, vector2_fields, types::number, cost::plain},
    {opcode::v_gt, "gt", unit_kind::vector, vector2_fields, types::number, cost::plain},
    {opcode::v_ge, "ge", unit_kind::vector, vector2_fields, types::number, cost::plain},
    {opcode::v_fma, "fma", unit_kind::vector, vector3_fields, types::number, cost::plain},
    {opcode::v_select, "select", unit_kind::vector, vector3_fields, types::number | types::bits, cost::plain},
    {opcode::v_fill, "fill", unit_kind::vector, field::type | field::shape | field::dst | field::imm, types::all, cost::plain},
    {opcode::v_iota, "iota", unit_kind::vector, field::type | field::shape | field::dst | field::axis | field::x, types::bit(element::i32) | types::bit(element::i64), cost::plain},
    {opcode::v_transpose, "transpose", unit_kind::vector, vector1_fields, types::all, cost::plain},
    {opcode::v_gather, "gather", unit_kind::vector, along_fields | field::b | field::depth | field::imm, types::all, cost::plain},
    {opcode::v_scatter, "scatter", unit_kind::vector, along_fields | field::b | field::depth, types::all, cost::plain},
    {opcode::v_scatter_add, "scatter_add", unit_kind::vector, along_fields | field::b | field::depth, types::number, cost::plain},
    {opcode::v_sum, "sum", unit_kind::vector, along_fields | field::mode, types::number, cost::plain},
    {opcode::v_prod, "prod", unit_kind::vector, along_fields | field::mode, types::number, cost::plain},
    {opcode::v_rmin, "reduce_min", unit_kind::vector, along_fields, types::number, cost::plain},
    {opcode::v_rmax, "reduce_max", unit_kind::vector, along_fields, types::number, cost::plain},
    {opcode::v_argmin, "argmin", unit_kind::vector, along_fields, types::number, cost::plain},
    {opcode::v_argmax, "argmax", unit_kind::vector, along_fields, types::number, cost::plain},
    {opcode::v_scan_sum, "scan_sum", unit_kind::vector, along_fields, types::number, cost::plain},
    {opcode::v_scan_prod, "scan_prod", unit_kind::vector, along_fields, types::number, cost::plain},
    {opcode::v_scan_min, "scan_min", unit_kind::vector, along_fields, types::number, cost::plain},
    {opcode::v_scan_max, "scan_max", unit_kind::vector, along_fields, types::number, cost::plain},
    {opcode::mma, "mma", unit_kind::matrix, field::type | field::shape | field::depth | field::dst | field::a | field::b | field::mode, types::product},
    {opcode::store_rows_add, "store_rows_add", unit_kind::dma, transfer_fields | field::b, types::number},
    {opcode::store_rows_max, "store_rows_max", unit_kind::dma, transfer_fields | field::b, types::number},
    {opcode::store_rows_min, "store_rows_min", unit_kind::dma, transfer_fields | field::b, types::number},
    {opcode::v_print, "print", unit_kind::vector, field::type | field::shape | field::a | field::imm, types::all, cost::plain},
}};
// clang-format on

consteval bool table_in_order() {
  for (std::size_t i = 0; i < opcode_table.size(); ++i) {
    if (static_cast<std::size_t>(opcode_table[i].op) != i) {
      return false;
    }
  }
  return true;
}
static_assert(table_in_order(),
              "ashlar::chip::npu_isa::opcode_table: entries must stand in the order of `opcode`; "
              "move the one that does not");
}  // namespace detail

constexpr const opcode_info& info_of(opcode op) {
  return detail::opcode_table[static_cast<std::size_t>(op)];
}

/// True where the instruction's opcode has every member of `fields`.
constexpr bool uses(opcode op, std::uint32_t fields) {
  return (info_of(op).fields & fields) == fields;
}

/// True where sources may be a scalar register, or the immediate if the opcode has one.
constexpr bool takes_scalars(opcode op) {
  return op == opcode::v_copy || (op >= opcode::v_add && op <= opcode::v_select);
}

}  // namespace ashlar::chip::npu_isa
