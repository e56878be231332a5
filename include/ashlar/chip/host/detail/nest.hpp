// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "ashlar/config.hpp"
#include "ashlar/core/spec.hpp"

namespace ashlar::chip::host_kernels::detail {

/// Whether `in` can be read at every index of `out` by NumPy's broadcasting rule.
constexpr bool broadcasts_to(const tensor_spec& in, const tensor_spec& out) {
  if (in.rank > out.rank) {
    return false;
  }
  for (int i = 1; i <= in.rank; ++i) {
    if (in[-i] != 1 && in[-i] != out[-i]) {
      return false;
    }
  }
  return true;
}

/// Nested loops over `Count` operands that walk together, with as few loops as their strides allow.
///
/// Loop `rank - 1` is the innermost. There is always at least one loop.
template <int Count>
struct loop_nest {
  static constexpr std::size_t count = Count;
  using offsets = std::array<std::int64_t, count>;

  std::int64_t size = 1;                      ///< iterations in all
  int rank = 0;                               ///< loops
  std::array<std::int64_t, max_rank> extent;  ///< iterations of each loop
  std::array<offsets, max_rank> stride;       ///< of each loop, for each operand [elements]

  [[nodiscard]] constexpr std::int64_t inner_extent() const {
    return extent[static_cast<std::size_t>(rank - 1)];
  }
  [[nodiscard]] constexpr const offsets& inner_stride() const {
    return stride[static_cast<std::size_t>(rank - 1)];
  }

  /// Adds a loop inside the others, merged into the last one where all operands step evenly.
  constexpr void push(std::int64_t n, const offsets& step) {
    if (n == 1) {
      return;
    }
    if (rank > 0) {
      const auto last = static_cast<std::size_t>(rank - 1);
      bool even = true;
      for (std::size_t j = 0; j < count; ++j) {
        even = even && stride[last][j] == step[j] * n;
      }
      if (even) {
        extent[last] *= n;
        stride[last] = step;
        return;
      }
    }
    extent[static_cast<std::size_t>(rank)] = n;
    stride[static_cast<std::size_t>(rank)] = step;
    ++rank;
  }

  constexpr void close() {
    if (rank == 0) {
      extent[0] = 1;
      stride[0] = {};
      rank = 1;
    }
  }
};

/// The loops of an elementwise operation; the first operand is written and gives the extents.
///
/// With `by_stride`, loops are ordered by the first operand's strides, so that a permuted output is
/// written densely; without it, iteration `i` is element `i` in row-major order.
/// Requires: the other operands broadcast to the first one.
template <int Count>
constexpr loop_nest<Count> elementwise_nest(const std::array<const tensor_spec*, Count>& specs,
                                            bool by_stride = true) {
  loop_nest<Count> nest;
  const tensor_spec& out = *specs[0];
  nest.size = out.size;
  for (std::size_t j = 1; j < Count; ++j) {
    ASHLAR_ASSERT(broadcasts_to(*specs[j], out),
                  "ashlar::chip::host_kernels: an input does not broadcast to the output's shape");
  }
  std::array<int, max_rank> order{};
  int loops = 0;
  for (int i = 0; i < out.rank; ++i) {
    if (out[i] == 1) {
      continue;
    }
    // Insertion sort by falling stride; equal strides keep the order of the axes.
    int at = loops++;
    const auto place = [&](int k) -> int& { return order[static_cast<std::size_t>(k)]; };
    while (by_stride && at > 0 &&
           std::abs(out.stride_of(place(at - 1))) < std::abs(out.stride_of(i))) {
      place(at) = place(at - 1);
      --at;
    }
    place(at) = i;
  }
  for (int k = 0; k < loops; ++k) {
    const int axis = order[static_cast<std::size_t>(k)];
    typename loop_nest<Count>::offsets step{};
    for (std::size_t j = 0; j < Count; ++j) {
      const tensor_spec& s = *specs[j];
      const int own = axis - (out.rank - s.rank);
      step[j] = own >= 0 && s[own] != 1 ? s.stride_of(own) : 0;
    }
    nest.push(out[axis], step);
  }
  nest.close();
  return nest;
}

/// Calls `body(offsets, length)` for every run along the innermost loop that covers the iterations
/// from `begin` up to `end`.
template <int Count, class Body>
void for_each_run(const loop_nest<Count>& nest, std::int64_t begin, std::int64_t end, Body&& body) {
  using offsets = typename loop_nest<Count>::offsets;
  if (begin >= end) {
    return;
  }
  const int inner = nest.rank - 1;
  const auto u = [](int i) { return static_cast<std::size_t>(i); };
  std::array<std::int64_t, max_rank> index{};
  offsets at{};
  std::int64_t rest = begin;
  for (int i = inner; i >= 0; --i) {
    index[u(i)] = rest % nest.extent[u(i)];
    rest /= nest.extent[u(i)];
    for (std::size_t j = 0; j < Count; ++j) {
      at[j] += index[u(i)] * nest.stride[u(i)][j];
    }
  }
  while (true) {
    const std::int64_t left = nest.extent[u(inner)] - index[u(inner)];
    const std::int64_t length = left < end - begin ? left : end - begin;
    body(at, length);
    begin += length;
    if (begin >= end) {
      return;
    }
    // The run ended with its loop: back to its start, then one step of the loops outside.
    for (std::size_t j = 0; j < Count; ++j) {
      at[j] -= index[u(inner)] * nest.stride[u(inner)][j];
    }
    index[u(inner)] = 0;
    for (int i = inner - 1; i >= 0; --i) {
      for (std::size_t j = 0; j < Count; ++j) {
        at[j] += nest.stride[u(i)][j];
      }
      if (++index[u(i)] < nest.extent[u(i)]) {
        break;
      }
      for (std::size_t j = 0; j < Count; ++j) {
        at[j] -= nest.extent[u(i)] * nest.stride[u(i)][j];
      }
      index[u(i)] = 0;
    }
  }
}

}  // namespace ashlar::chip::host_kernels::detail
