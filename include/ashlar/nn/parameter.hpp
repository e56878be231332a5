// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "ashlar/core/error.hpp"
#include "ashlar/core/shape.hpp"
#include "ashlar/ops/creation.hpp"

namespace ashlar::nn {

namespace detail {

template <class Stack>
struct scalar_of_stack {
  using type = float;
};
template <class Stack>
  requires requires { typename Stack::scalar; }
struct scalar_of_stack<Stack> {
  using type = typename Stack::scalar;
};

inline void require_positive(std::string_view entity, std::string_view what, std::int64_t value) {
  if (value < 1) {
    throw argument_error(
        "ashlar::nn::" + std::string(entity),
        std::string(what) + " is " + std::to_string(value) + "; it must be at least 1");
  }
}

}  // namespace detail

/// The element type of a stack's parameters: `Stack::scalar`, or `float` where it names none.
template <class Stack>
using scalar = typename detail::scalar_of_stack<Stack>::type;

/// The type of a stack's parameters. A stack only has to provide `template <class T> tensor`.
template <class Stack>
using parameter_of = typename Stack::template tensor<scalar<Stack>>;

}  // namespace ashlar::nn
