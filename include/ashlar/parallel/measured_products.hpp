// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <utility>

#include "ashlar/chip/autotune.hpp"
#include "ashlar/chip/blocks.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/matmul.hpp"
#include "ashlar/parallel/product_times.hpp"

/// Products as a chip runs them, for `product_times`. Included by itself.
namespace ashlar::parallel {

/// Returns: one and two blocks of a product of `T` on chip `C`, and a round and eight of its sums:
///          what determines the cycles of a chip whose time has no more reasons than its blocks.
template <class C, class T>
[[nodiscard]] product_times::sizes block_sizes() {
  const chip::matmul_blocks b =
      chip::blocks_of<C>::product(C::description, {.element = dtype_of<T>});
  return {{b.m, 2 * b.m}, {b.n, 2 * b.n}, {b.k, 8 * b.k}};
}

/// The seconds of `ops::linear` on tensors of `X`: of a program of the chip, with the blocks that
/// the chip's description leads to, or of the kernel that it has of its own.
///
/// `M` counts them: `chip::wall_clock` on a chip that is there, `chip::npu_clock` on a simulator.
template <class X, class M>
class measured_products {
  static_assert(chip::Measure<M>,
                "ashlar::parallel::measured_products<X, M>: M must model chip::Measure (called "
                "with a launch it returns what that costs)");

 public:
  explicit measured_products(M measure) : measure_(std::move(measure)) {}

  double operator()(std::int64_t m, std::int64_t n, std::int64_t k) {
    const X rows = zeros<X>({m, k}), weight = zeros<X>({n, k});
    return measure_([&] { static_cast<void>(linear(rows, weight)); });
  }

 private:
  M measure_;
};

}  // namespace ashlar::parallel
