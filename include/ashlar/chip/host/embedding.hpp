// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "ashlar/chip/host/copy.hpp"
#include "ashlar/chip/host/detail/indices.hpp"
#include "ashlar/chip/host/detail/lanes.hpp"
#include "ashlar/chip/host/detail/nest.hpp"
#include "ashlar/chip/host/detail/threads.hpp"
#include "ashlar/core/view.hpp"

namespace ashlar::chip::host_kernels {

namespace detail {

/// The loops over `ids` and over the rows of `rows`, which has one axis more.
inline loop_nest<2> id_nest(const tensor_spec& ids, const tensor_spec& rows) {
  loop_nest<2> nest;
  for (int i = 0; i < ids.rank; ++i) {
    nest.size *= ids[i];
    nest.push(ids[i], {ids.stride_of(i), rows.stride_of(i)});
  }
  nest.close();
  return nest;
}

}  // namespace detail

/// Row `ids[...]` of `weight` for each id.
///
/// Shapes: `out`: (..., C); `weight`: (V, C); `ids`: (...).
/// Throws: `argument_error` naming the first id out of range; nothing is written then.
template <Scalar T, class W, class I>
  requires std::integral<I>
void embedding(view<T> out, view<W> weight, view<I> ids) {
  using Index = std::remove_const_t<I>;
  const auto nest = detail::id_nest(*ids.spec, *out.spec);
  const Index* const id = ids.data;
  const T* const table = weight.data;
  detail::check_indices("embedding", nest, id, weight.extent(0));
  const std::int64_t columns = weight.extent(1);
  const std::int64_t out_step = out.stride(-1);
  const auto& step = nest.inner_stride();
  detail::parallel(nest.size, columns, [&](std::int64_t begin, std::int64_t end) {
    detail::for_each_run(nest, begin, end, [&](const auto& at, std::int64_t n) {
      for (std::int64_t i = 0; i < n; ++i) {
        const auto row = static_cast<std::int64_t>(id[at[0] + i * step[0]]);
        if (columns > 0) {
          detail::copy_run(out.data + at[1] + i * step[1], out_step, table + row * weight.stride(0),
                           weight.stride(1), columns);
        }
      }
    });
  });
}

/// The gradient of `embedding` for `weight`: row `v` is the sum of `g` where the id is `v`, in the
/// order of the ids; 0 where there is none.
///
/// 16-bit gradients are rounded after each addition.
/// Shapes: `dweight`: (V, C), each row dense; `g`: (..., C); `ids`: (...).
/// Throws: as `embedding`.
template <Scalar T, class G, class I>
  requires std::integral<I>
void embedding_backward(view<T> dweight, view<G> g, view<I> ids) {
  using C = compute_type<T>;
  using Index = std::remove_const_t<I>;
  const auto nest = detail::id_nest(*ids.spec, *g.spec);
  const Index* const id = ids.data;
  const T* const grad = g.data;
  const std::int64_t vocabulary = dweight.extent(0);
  const std::int64_t columns = dweight.extent(1);
  detail::check_indices("embedding_backward", nest, id, vocabulary);
  const std::int64_t g_step = g.stride(-1);
  const std::int64_t d_step = dweight.stride(1);
  const auto& step = nest.inner_stride();
  // Each thread owns a range of table rows and reads all ids: the order of a row's sum is theirs.
  const std::int64_t cost = columns * (1 + nest.size / std::max<std::int64_t>(vocabulary, 1));
  detail::parallel(vocabulary, cost, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t v = begin; v < end; ++v) {
      T* const row = dweight.data + v * dweight.stride(0);
      for (std::int64_t c = 0; c < columns; ++c) {
        row[c * d_step] = static_cast<T>(C(0));
      }
    }
    detail::for_each_run(nest, 0, nest.size, [&](const auto& at, std::int64_t n) {
      for (std::int64_t i = 0; i < n; ++i) {
        const auto v = static_cast<std::int64_t>(id[at[0] + i * step[0]]);
        if (v < begin || v >= end) {
          continue;
        }
        T* const row = dweight.data + v * dweight.stride(0);
        const T* const from = grad + at[1] + i * step[1];
        detail::for_each_vector(
            columns, [&](std::int64_t c, int m) __attribute__((always_inline)) {
              T* const to = row + c * d_step;
              detail::put(
                  to, d_step, m,
                  detail::get<C>(to, d_step, m) + detail::get<C>(from + c * g_step, g_step, m));
            });
      }
    });
  });
}

}  // namespace ashlar::chip::host_kernels
