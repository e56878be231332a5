// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "ashlar/chip/host/detail/nest.hpp"
#include "ashlar/chip/host/detail/threads.hpp"
#include "ashlar/core/ceil_div.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/core/view.hpp"

namespace ashlar::chip::host_kernels {

/// Converts one element.
///
/// To `bool`: whether it is not zero. From floating to integer: towards zero, clamped to the range
/// of `R`, NaN becomes 0. Between integers: modulo 2^bits. To a narrower float: nearest even.
template <Scalar R, Scalar S>
constexpr R convert(S x) {
  if constexpr (std::same_as<R, S>) {
    return x;
  } else if constexpr (std::same_as<R, bool>) {
    return static_cast<compute_type<S>>(x) != compute_type<S>{0};
  } else if constexpr (Floating<S> && std::integral<R>) {
    const auto value = static_cast<compute_type<S>>(x);
    // The first value above the range is a power of two, hence exact.
    constexpr auto above = static_cast<compute_type<S>>(
        2.0 * static_cast<double>(std::numeric_limits<R>::max() / 2 + 1));
    constexpr auto below = static_cast<compute_type<S>>(std::numeric_limits<R>::min());
    if (value >= above) {
      return std::numeric_limits<R>::max();
    }
    return value >= below  ? static_cast<R>(value)
           : value < below ? std::numeric_limits<R>::min()
                           : R{0};
  } else {
    return static_cast<R>(static_cast<compute_type<R>>(static_cast<compute_type<S>>(x)));
  }
}

namespace detail {

template <class R, class S>
void copy_run(R* out, std::int64_t out_step, const S* in, std::int64_t in_step, std::int64_t n) {
  if (out_step == 1 && in_step == 1) {
    if constexpr (std::same_as<R, S>) {
      std::memmove(out, in, static_cast<std::size_t>(n) * sizeof(R));
    } else {
      for (std::int64_t i = 0; i < n; ++i) {
        out[i] = convert<R>(in[i]);
      }
    }
  } else if (out_step == 1 && in_step == 0) {
    std::fill_n(out, n, convert<R>(*in));
  } else {
    for (std::int64_t i = 0; i < n; ++i) {
      out[i * out_step] = convert<R>(in[i * in_step]);
    }
  }
}

/// Copies where the input is dense along loop `dense`, not along the innermost one: in square
/// blocks, so that each cache line is read once.
template <class R, class S>
void copy_transposed(const loop_nest<2>& nest, int dense, R* out, const S* in) {
  constexpr std::int64_t side = 32;
  const auto u = [](int i) { return static_cast<std::size_t>(i); };
  const int inner = nest.rank - 1;
  loop_nest<2> outer;
  for (int i = 0; i < nest.rank; ++i) {
    if (i != dense && i != inner) {
      outer.extent[u(outer.rank)] = nest.extent[u(i)];
      outer.stride[u(outer.rank)] = nest.stride[u(i)];
      outer.size *= nest.extent[u(i)];
      ++outer.rank;
    }
  }
  outer.close();
  const std::int64_t rows = nest.extent[u(dense)];
  const std::int64_t columns = nest.extent[u(inner)];
  const std::int64_t row_step = nest.stride[u(dense)][0];
  const std::int64_t out_step = nest.stride[u(inner)][0];
  const std::int64_t in_step = nest.stride[u(inner)][1];
  const std::int64_t bands = ceil_div(rows, side);
  parallel(outer.size * bands, side * columns * 2, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t item = begin; item < end; ++item) {
      const std::int64_t r0 = item % bands * side;
      const std::int64_t r1 = std::min(r0 + side, rows);
      for_each_run(outer, item / bands, item / bands + 1, [&](const auto& at, std::int64_t) {
        R* const to = out + at[0];
        const S* const from = in + at[1];
        for (std::int64_t c0 = 0; c0 < columns; c0 += side) {
          const std::int64_t c1 = std::min(c0 + side, columns);
          // Through a block of our own: strides of a power of two would fight for few cache sets.
          R block[side][side + 1];
          for (std::int64_t c = c0; c < c1; ++c) {
            for (std::int64_t r = r0; r < r1; ++r) {
              block[c - c0][r - r0] = convert<R>(from[r + c * in_step]);
            }
          }
          for (std::int64_t r = r0; r < r1; ++r) {
            for (std::int64_t c = c0; c < c1; ++c) {
              to[r * row_step + c * out_step] = block[c - c0][r - r0];
            }
          }
        }
      });
    }
  });
}

}  // namespace detail

/// Copies and converts; `in` is broadcast to the shape of `out`.
///
/// Requires: the memory of the two does not overlap, or is the same and walked alike.
template <Scalar R, class S>
void copy(view<R> out, view<S> in) {
  using T = std::remove_const_t<S>;
  const T* const from = in.data;
  if (out.contiguous() && in.contiguous() && out.size() == in.size()) {
    detail::parallel(out.size(), detail::element_cost, [&](std::int64_t begin, std::int64_t end) {
      detail::copy_run(out.data + begin, 1, from + begin, 1, end - begin);
    });
    return;
  }
  const auto nest = detail::elementwise_nest<2>({out.spec, in.spec});
  const auto& step = nest.inner_stride();
  if (step[1] != 1 && step[1] != 0) {
    for (int i = 0; i + 1 < nest.rank; ++i) {
      if (nest.stride[static_cast<std::size_t>(i)][1] == 1) {
        detail::copy_transposed(nest, i, out.data, from);
        return;
      }
    }
  }
  detail::parallel(nest.size, detail::element_cost, [&](std::int64_t begin, std::int64_t end) {
    detail::for_each_run(nest, begin, end, [&](const auto& at, std::int64_t n) {
      detail::copy_run(out.data + at[0], step[0], from + at[1], step[1], n);
    });
  });
}

/// Conversion to another element type is a copy.
template <Scalar R, class S>
void cast(view<R> out, view<S> in) {
  copy(out, in);
}

template <Scalar T>
void fill(view<T> out, std::type_identity_t<T> value) {
  const auto nest = detail::elementwise_nest<1>({out.spec});
  const std::int64_t step = nest.inner_stride()[0];
  detail::parallel(nest.size, detail::element_cost, [&](std::int64_t begin, std::int64_t end) {
    detail::for_each_run(nest, begin, end, [&](const auto& at, std::int64_t n) {
      detail::copy_run(out.data + at[0], step, &value, 0, n);
    });
  });
}

/// Element `i` in row-major order becomes `start + i * step`, computed in int64 for integers and
/// in double for floating types.
template <Scalar T>
void arange(view<T> out, std::conditional_t<Floating<T>, double, std::int64_t> start,
            std::conditional_t<Floating<T>, double, std::int64_t> step) {
  const auto nest = detail::elementwise_nest<1>({out.spec}, false);
  const std::int64_t stride = nest.inner_stride()[0];
  detail::parallel(nest.size, detail::element_cost, [&](std::int64_t begin, std::int64_t end) {
    std::int64_t i = begin;
    detail::for_each_run(nest, begin, end, [&](const auto& at, std::int64_t n) {
      for (std::int64_t k = 0; k < n; ++k, ++i) {
        if constexpr (Floating<T>) {
          out.data[at[0] + k * stride] = convert<T>(start + static_cast<double>(i) * step);
        } else {
          // Unsigned, so that running past the range wraps around.
          const auto value = static_cast<std::uint64_t>(start) +
                             static_cast<std::uint64_t>(i) * static_cast<std::uint64_t>(step);
          out.data[at[0] + k * stride] = convert<T>(static_cast<std::int64_t>(value));
        }
      }
    });
  });
}

}  // namespace ashlar::chip::host_kernels
