// SPDX-License-Identifier: Apache-2.0
#pragma once

/// How an operator says what its gradient is.
///
/// `struct derivative` in the operator has
/// - `needs`: per tensor argument, what its gradient is computed from: `arg<I>.bit | result.bit`;
/// - `vjp<I>(g, saved)`: the gradient of tensor argument I from the gradient of the result; or
///   `vjp_all(g, saved, wanted)`: those of all of them as a tuple (a handle may be empty where
///   `wanted[I]` is false), where they share work.
/// - `kept`, where several results are and not all are needed: `std::array{1}` keeps the second.
/// `saved(arg<J>)` and `saved(result)` give back what was saved; attributes are always saved.
/// `saved.shape(arg<J>)` is the shape of a tensor argument that was saved or whose gradient is
/// wanted (for `vjp<I>`, always its own).
/// The receiver undoes broadcasting, and casts to the element type of the argument where a key's
/// rule (autocast) gave an operator of the vjp another one; promotion is undone by the derivative
/// of `cast`.
namespace ashlar {

template <int I>
struct argument_tag {
  static constexpr unsigned bit = 1u << I;
};
template <int I>
inline constexpr argument_tag<I> arg{};

inline constexpr struct result_tag {
  static constexpr unsigned bit = 1u << 31;
} result{};

}  // namespace ashlar
