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

/// Some neighbouring rows of one operand as the kernel sees them: in place where they are dense,
/// else in working memory. All of them are carried over element by element, so that each cache
/// line is used whole where the rows stand side by side.
template <class T>
struct row_group {
  using value = std::remove_const_t<T>;

  T* rows;             ///< the first row
  std::int64_t step;   ///< from row to row
  std::int64_t along;  ///< from element to element
  value* memory;       ///< room for the rows
  std::int64_t pitch;  ///< from row to row there

  [[nodiscard]] bool dense() const { return memory == nullptr; }
  [[nodiscard]] T* row(std::int64_t k) const {
    return dense() ? rows + k * step : memory + k * pitch;
  }
  void fetch(std::int64_t count, std::int64_t n) const {
    if (std::is_const_v<T> && !dense()) {
      for (std::int64_t i = 0; i < n; ++i) {
        for (std::int64_t k = 0; k < count; ++k) {
          memory[k * pitch + i] = rows[k * step + i * along];
        }
      }
    }
  }
  void put_back(std::int64_t count, std::int64_t n) const {
    if constexpr (!std::is_const_v<T>) {
      for (std::int64_t i = 0; i < n && !dense(); ++i) {
        for (std::int64_t k = 0; k < count; ++k) {
          rows[k * step + i * along] = memory[k * pitch + i];
        }
      }
    }
  }
};

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
          // An odd number of cache lines, so that the rows do not fight for the same sets.
          const std::int64_t pitch = (n + 31) / 32 * 32 + 16;
          const std::int64_t group = n <= 4096 ? 16 : 1;
          value* const memory = static_cast<value*>(thread_scratch<row_scratch>(
              static_cast<std::size_t>(pitch * group * count) * sizeof(value)));
          const auto room = [&](std::size_t j) {
            return along[j] == 1 || n <= 1 ? nullptr
                                           : memory + static_cast<std::int64_t>(j) * pitch * group;
          };
          for_each_run(nest, begin, end, [&](const auto& at, std::int64_t rows) {
            for (std::int64_t i = 0; i < rows; i += group) {
              const std::int64_t some = std::min(group, rows - i);
              const row_group<T0> f{first.data + at[0] + i * step[0], step[0], along[0], room(0),
                                    pitch};
              const std::tuple<row_group<T>...> r{
                  row_group<T>{rest.data + at[J + 1] + i * step[J + 1], step[J + 1], along[J + 1],
                               room(J + 1), pitch}...};
              f.fetch(some, n);
              (std::get<J>(r).fetch(some, n), ...);
              for (std::int64_t k = 0; k < some; ++k) {
                kernel(number++, n, f.row(k), std::get<J>(r).row(k)...);
              }
              f.put_back(some, n);
              (std::get<J>(r).put_back(some, n), ...);
            }
          });
        });
  }(std::index_sequence_for<T...>{});
}

}  // namespace ashlar::chip::host_kernels::detail
