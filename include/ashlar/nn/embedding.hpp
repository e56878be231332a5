// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "ashlar/nn/module.hpp"
#include "ashlar/nn/parameter.hpp"
#include "ashlar/ops/embedding.hpp"

namespace ashlar::nn {

/// A table of rows, looked up by number.
///
/// Shapes: `weight`: (rows, width); `ids`: any shape of int32 or int64; result: (ids..., width).
template <class Stack>
struct embedding {
  using parameter = parameter_of<Stack>;
  BOOST_HANA_DEFINE_STRUCT(embedding, (parameter, weight));

  auto operator()(const auto& ids) const { return ashlar::embedding(weight, ids); }

  /// A table of zeros; `initialize` gives it values.
  /// Throws: `argument_error` for extents below 1, `size_error`, `memory::out_of_memory`.
  [[nodiscard]] static embedding make(std::int64_t rows, std::int64_t width) {
    detail::require_positive("embedding", "the number of rows", rows);
    detail::require_positive("embedding", "the width", width);
    embedding made;
    made.weight = zeros<parameter>({rows, width});
    return made;
  }
};

}  // namespace ashlar::nn
