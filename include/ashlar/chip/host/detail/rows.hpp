// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ashlar/chip/host/detail/nest.hpp"
#include "ashlar/chip/host/detail/scratch.hpp"
#include "ashlar/chip/host/detail/threads.hpp"
#include "ashlar/core/view.hpp"

/// Row kernels: each sees dense rows along one axis, whatever the layout of the tensors.
namespace ashlar::chip::host_kernels::detail {

struct row_scratch;

/// A row as the kernel sees it: in place where it is dense, else in working memory.
template <class T>
T* dense_row(T* row, std::int64_t stride, std::int64_t n, std::remove_const_t<T>*& spare) {
  if (stride == 1 || n <= 1) {
    return row;
  }
  std::remove_const_t<T>* const dense = spare;
  spare += (n + 15) / 16 * 16;
  if constexpr (std::is_const_v<T>) {
    for (std::int64_t i = 0; i < n; ++i) {
      dense[i] = row[i * stride];
    }
  }
  return dense;
}

template <class T>
void put_back(T* row, std::int64_t stride, std::int64_t n, const std::remove_const_t<T>* dense) {
  if constexpr (!std::is_const_v<T>) {
    if (dense != row) {
      for (std::int64_t i = 0; i < n; ++i) {
        row[i * stride] = dense[i];
      }
    }
  }
}

/// Calls `kernel(number, n, row...)` with the rows along `axis` of all operands, in row-major order
/// of the other axes; rows of different numbers may run on different threads.
///
/// Requires: the operands have the same shape; rows that are not const are only written.
/// `cost`:   work per element, 1 for reading and writing it.
template <class Kernel, class T0, class... T>
void for_each_row(int axis, std::int64_t cost, const Kernel& kernel, view<T0> first,
                  view<T>... rest) {
  constexpr int count = 1 + static_cast<int>(sizeof...(T));
  const tensor_spec& spec = *first.spec;
  const std::int64_t n = spec[axis];
  loop_nest<count> nest;
  for (int i = 0; i < spec.rank; ++i) {
    if (i != axis) {
      nest.size *= spec[i];
      nest.push(spec[i], {first.stride(i), rest.stride(i)...});
    }
  }
  nest.close();
  if (nest.size == 0) {
    return;
  }
  const auto& step = nest.inner_stride();
  const std::array<std::int64_t, static_cast<std::size_t>(count)> along{first.stride(axis),
                                                                        rest.stride(axis)...};
  bool dense = true;
  for (const std::int64_t s : along) {
    dense = dense && (s == 1 || n <= 1);
  }
  using value = std::remove_const_t<T0>;
  static_assert((std::is_same_v<value, std::remove_const_t<T>> && ...),
                "ashlar::chip::host_kernels: rows of one element type");
  [&]<std::size_t... J>(std::index_sequence<J...>) {
    parallel(
        nest.size, cost * std::max<std::int64_t>(n, 1), [&](std::int64_t begin, std::int64_t end) {
          std::int64_t number = begin;
          if (dense) {
            for_each_run(nest, begin, end, [&](const auto& at, std::int64_t rows) {
              for (std::int64_t i = 0; i < rows; ++i) {
                kernel(number++, n, first.data + at[0] + i * step[0],
                       (rest.data + at[J + 1] + i * step[J + 1])...);
              }
            });
            return;
          }
          const auto room = static_cast<std::size_t>((n + 15) / 16 * 16 * count);
          value* const memory =
              static_cast<value*>(thread_scratch<row_scratch>(room * sizeof(value)));
          for_each_run(nest, begin, end, [&](const auto& at, std::int64_t rows) {
            for (std::int64_t i = 0; i < rows; ++i) {
              value* spare = memory;
              T0* const row = first.data + at[0] + i * step[0];
              // Braces, so that they are made from left to right.
              T0* const d0 = dense_row(row, along[0], n, spare);
              const std::tuple<T*...> d{
                  dense_row(rest.data + at[J + 1] + i * step[J + 1], along[J + 1], n, spare)...};
              kernel(number++, n, d0, std::get<J>(d)...);
              put_back(row, along[0], n, d0);
              (put_back(rest.data + at[J + 1] + i * step[J + 1], along[J + 1], n, std::get<J>(d)),
               ...);
            }
          });
        });
  }(std::index_sequence_for<T...>{});
}

}  // namespace ashlar::chip::host_kernels::detail
