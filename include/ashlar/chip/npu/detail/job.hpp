// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "ashlar/chip/npu/detail/footprint.hpp"
#include "ashlar/chip/npu/instruction.hpp"
#include "ashlar/chip/npu/opcodes.hpp"

namespace ashlar::chip::npu_isa::detail {

/// A vector or matrix operand whose registers are read: a box in the scratchpad or one scalar.
struct resolved_operand {
  bool used = false;
  bool scratch = false;
  element type = element::boolean;
  std::int64_t base = 0;
  std::int64_t rows = 0, cols = 0;          ///< extents of the box itself
  std::int64_t row_step = 0, col_step = 0;  ///< in bytes
  std::uint64_t scalar = 0;

  [[nodiscard]] footprint bytes() const {
    return scratch ? footprint::of_box(base, rows, cols, row_step, col_step, size_of(type))
                   : footprint{};
  }
};

/// An instruction on its way through an engine: every register is read when it is dispatched.
struct job {
  const instruction* i = nullptr;
  std::size_t index = 0;
  std::int64_t rows = 0, cols = 0, depth = 0;
  std::int64_t x = 0, y = 0;
  std::int64_t base = 0;
  std::array<std::int64_t, 2> origin{}, extents{}, strides{};
  resolved_operand dst, a, b, c;
};

/// Element type of the result.
constexpr element result_type(const instruction& i) {
  if (i.op >= opcode::v_eq && i.op <= opcode::v_ge) {
    return element::boolean;
  }
  if (i.op == opcode::v_argmin || i.op == opcode::v_argmax) {
    return element::i32;
  }
  if (i.op == opcode::mma) {
    return i.type == element::i8    ? element::i32
           : i.type == element::f64 ? element::f64
                                    : element::f32;
  }
  return i.type;
}

constexpr bool is_reduction(opcode op) { return op >= opcode::v_sum && op <= opcode::v_argmax; }
constexpr bool is_scan(opcode op) { return op >= opcode::v_scan_sum && op <= opcode::v_scan_max; }
constexpr bool is_indexed(opcode op) {
  return op >= opcode::v_gather && op <= opcode::v_scatter_add;
}
/// Transfers that combine what they bring with what is there.
constexpr bool is_combining(opcode op) {
  return (op >= opcode::store_add && op <= opcode::store_min) ||
         (op >= opcode::store_rows_add && op <= opcode::store_rows_min);
}
/// Transfers whose rows are named by indices.
constexpr bool takes_rows(opcode op) {
  return op == opcode::load_rows || op == opcode::store_rows ||
         (op >= opcode::store_rows_add && op <= opcode::store_rows_min);
}
constexpr bool is_load(opcode op) { return op == opcode::load || op == opcode::load_rows; }

/// The scratchpad's bytes, and which of them have been written.
class scratchpad {
 public:
  explicit scratchpad(std::int64_t size)
      : bytes_(static_cast<std::size_t>(size)), written_(static_cast<std::size_t>(size)) {}

  [[nodiscard]] std::int64_t size() const { return static_cast<std::int64_t>(bytes_.size()); }
  [[nodiscard]] const std::byte* at(std::int64_t address) const {
    return bytes_.data() + static_cast<std::size_t>(address);
  }
  [[nodiscard]] std::byte* at(std::int64_t address) {
    return bytes_.data() + static_cast<std::size_t>(address);
  }
  void mark(const footprint& f) {
    f.for_each_run([&](std::int64_t first, std::int64_t last) {
      std::memset(written_.data() + first, 1, static_cast<std::size_t>(last - first));
    });
  }
  /// Returns: the first byte that nothing has written, or -1.
  [[nodiscard]] std::int64_t unwritten(const footprint& f) const {
    std::int64_t found = -1;
    f.for_each_run([&](std::int64_t first, std::int64_t last) {
      if (found < 0) {
        const void* p =
            std::memchr(written_.data() + first, 0, static_cast<std::size_t>(last - first));
        found = p == nullptr ? -1 : static_cast<const unsigned char*>(p) - written_.data();
      }
    });
    return found;
  }

 private:
  std::vector<std::byte> bytes_;
  std::vector<unsigned char> written_;
};

}  // namespace ashlar::chip::npu_isa::detail
