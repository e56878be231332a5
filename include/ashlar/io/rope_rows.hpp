// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "ashlar/core/error.hpp"

namespace ashlar::io {

/// Which two rows of a head RoPE turns together.
enum class rope_order : std::uint8_t {
  interleaved,  ///< (0, 1), (2, 3), ...: llama2.c, GGUF
  rotate_half   ///< (0, head_dim / 2), (1, head_dim / 2 + 1), ...: Hugging Face
};

/// Copies the rows of a q or k projection into the order that the other form of RoPE expects.
///
/// The model computes the same with either, since q and k are permuted alike.
/// Shapes:   `in`, `out`: (heads * head_dim, columns), row-major.
/// Requires: `in` is in the other order than `to`, and does not overlap `out`.
/// Throws:   `argument_error` where the sizes are not equal, or not whole heads of even size.
template <class T>
void reorder_rope_rows(std::span<const T> in, std::span<T> out, std::int64_t heads,
                       std::int64_t head_dim, rope_order to) {
  const bool positive = heads > 0 && head_dim > 0;
  const auto size = static_cast<std::int64_t>(in.size());
  if (in.size() != out.size() || !positive || head_dim % 2 != 0 || size % heads != 0 ||
      size / heads % head_dim != 0) {
    throw argument_error("ashlar::io::reorder_rope_rows",
                         std::to_string(in.size()) + " elements into " +
                             std::to_string(out.size()) + " as " + std::to_string(heads) +
                             " heads of " + std::to_string(head_dim) +
                             "; sizes must be equal and heads whole and even");
  }
  const std::int64_t columns = size / heads / head_dim;
  for (std::int64_t head = 0; head < heads; ++head) {
    for (std::int64_t i = 0; i < head_dim; ++i) {
      const std::int64_t apart = i / 2 + i % 2 * (head_dim / 2);  // of interleaved row i
      const std::int64_t from = to == rope_order::rotate_half ? i : apart;
      const std::int64_t into = to == rope_order::rotate_half ? apart : i;
      for (std::int64_t c = 0; c < columns; ++c) {
        out[static_cast<std::size_t>((head * head_dim + into) * columns + c)] =
            in[static_cast<std::size_t>((head * head_dim + from) * columns + c)];
      }
    }
  }
}

}  // namespace ashlar::io
