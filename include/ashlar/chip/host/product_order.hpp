// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

namespace ashlar::chip {

/// How the host adds up the products of an element of C. Whatever the order, it does not depend on
/// the number of rows and columns unless that is said.
enum class product_order : std::uint8_t {
  /// One chain of multiply-adds in the order of K: the bits of the interpreter.
  chain,
  /// bfloat16 and int8 as the machine's matrix unit adds them up, else its dot-product
  /// instructions, else as `chain`; every other type as `chain`.
  unit,
  /// As `unit`, but few rows times a B of float or double that is stored by columns add up lanes
  /// along K: then a row's bits depend on how many rows there are.
  lanes
};

}  // namespace ashlar::chip
