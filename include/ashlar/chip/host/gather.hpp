// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "ashlar/chip/host/copy.hpp"
#include "ashlar/chip/host/detail/indices.hpp"
#include "ashlar/chip/host/detail/nest.hpp"
#include "ashlar/chip/host/detail/threads.hpp"
#include "ashlar/core/view.hpp"
#include "ashlar/tile/functions.hpp"

/// Elements by number along an axis, and the order of a row.
namespace ashlar::chip::host_kernels {

namespace detail {

/// The loops over `index`: its strides, those of what stands beside it, and those of the tensor
/// that it leads into, which does not step along `axis`.
inline loop_nest<3> index_nest(const tensor_spec& index, const tensor_spec& beside,
                               const tensor_spec& into, int axis) {
  loop_nest<3> nest;
  for (int i = 0; i < index.rank; ++i) {
    nest.size *= index[i];
    nest.push(index[i],
              {index.stride_of(i), beside.stride_of(i), i == axis ? 0 : into.stride_of(i)});
  }
  nest.close();
  return nest;
}

}  // namespace detail

/// `out[.., i, ..] = self[.., index[.., i, ..], ..]` along `axis`.
///
/// Throws: `argument_error` naming the first index that does not exist; nothing is written then.
template <Scalar T, class S, class I>
  requires std::integral<I>
void gather(view<T> out, view<S> self, view<I> index, int axis) {
  const auto nest = detail::index_nest(*index.spec, *out.spec, *self.spec, axis);
  detail::check_indices("gather", nest, index.data, self.extent(axis));
  const std::int64_t along = self.stride(axis);
  const auto& step = nest.inner_stride();
  detail::parallel(nest.size, 2, [&](std::int64_t begin, std::int64_t end) {
    detail::for_each_run(nest, begin, end, [&](const auto& at, std::int64_t n) {
      for (std::int64_t i = 0; i < n; ++i) {
        const auto id = static_cast<std::int64_t>(index.data[at[0] + i * step[0]]);
        out.data[at[1] + i * step[1]] = self.data[at[2] + i * step[2] + id * along];
      }
    });
  });
}

/// `out = self`, then in row-major order `out[.., index[.., i, ..], ..] = from[.., i, ..]`, or that
/// added to it. 16-bit elements are rounded after each addition.
///
/// Throws: as `gather`.
/// Cost:   one thread, so that the order is one.
template <Scalar T, class S, class I, class F>
  requires std::integral<I>
void scatter(view<T> out, view<S> self, view<I> index, view<F> from, int axis, bool accumulate) {
  const auto nest = detail::index_nest(*index.spec, *from.spec, *out.spec, axis);
  detail::check_indices("scatter", nest, index.data, out.extent(axis));
  copy(out, self);
  const std::int64_t along = out.stride(axis);
  const auto& step = nest.inner_stride();
  const auto each = [&](const auto& put) {
    detail::for_each_run(nest, 0, nest.size, [&](const auto& at, std::int64_t n) {
      for (std::int64_t i = 0; i < n; ++i) {
        const auto id = static_cast<std::int64_t>(index.data[at[0] + i * step[0]]);
        put(out.data[at[2] + i * step[2] + id * along], from.data[at[1] + i * step[1]]);
      }
    });
  };
  if (accumulate) {
    using C = compute_type<T>;
    each([](T& to, const T& x) {
      to = static_cast<T>(tile::fn::add{}(static_cast<C>(to), static_cast<C>(x)));
    });
  } else {
    each([](T& to, const T& x) { to = x; });
  }
}

/// The places of the `out.extent(axis)` first elements of each row in order, equal ones by place;
/// NaN counts as the largest.
///
/// Cost: O(n log k) comparisons for k of n places.
template <class S>
void argsort(view<std::int64_t> out, view<S> self, int axis, bool descending) {
  using T = std::remove_const_t<S>;
  using C = compute_type<T>;
  struct entry {
    C value;
    std::int64_t place;
  };
  const std::int64_t n = self.rank() == 0 ? 1 : self.extent(axis);
  const std::int64_t kept = self.rank() == 0 ? 1 : out.extent(axis);
  detail::loop_nest<2> nest;
  for (int i = 0; i < self.rank(); ++i) {
    if (i != axis) {
      nest.size *= self.extent(i);
      nest.push(self.extent(i), {self.stride(i), out.stride(i)});
    }
  }
  nest.close();
  if (kept == 0 || nest.size == 0) {
    return;
  }
  const std::int64_t from = self.rank() == 0 ? 0 : self.stride(axis);
  const std::int64_t to = self.rank() == 0 ? 0 : out.stride(axis);
  const auto smaller = [](C a, C b) {
    if constexpr (std::floating_point<C>) {
      return a < b || (std::isnan(b) && !std::isnan(a));
    } else {
      return a < b;
    }
  };
  const auto before = [&](const entry& a, const entry& b) {
    const entry& low = descending ? b : a;
    const entry& high = descending ? a : b;
    if (smaller(low.value, high.value)) {
      return true;
    }
    return !smaller(high.value, low.value) && a.place < b.place;
  };
  const auto& step = nest.inner_stride();
  detail::parallel(nest.size, 8 * n, [&](std::int64_t begin, std::int64_t end) {
    std::vector<entry> row(static_cast<std::size_t>(n));
    detail::for_each_run(nest, begin, end, [&](const auto& at, std::int64_t rows) {
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t i = 0; i < n; ++i) {
          row[static_cast<std::size_t>(i)] = {
              static_cast<C>(self.data[at[0] + r * step[0] + i * from]), i};
        }
        std::partial_sort(row.begin(), row.begin() + kept, row.end(), before);
        for (std::int64_t i = 0; i < kept; ++i) {
          out.data[at[1] + r * step[1] + i * to] = row[static_cast<std::size_t>(i)].place;
        }
      }
    });
  });
}

}  // namespace ashlar::chip::host_kernels
