// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <type_traits>

#include "ashlar/chip/host/copy.hpp"
#include "ashlar/chip/host/detail/nest.hpp"
#include "ashlar/chip/host/gemm.hpp"
#include "ashlar/chip/host/gemm_args.hpp"
#include "ashlar/chip/host/gemm_narrow.hpp"
#include "ashlar/chip/host/product_order.hpp"
#include "ashlar/core/geometry.hpp"
#include "ashlar/core/view.hpp"
#include "ashlar/tile/functions.hpp"

/// Batches of matrices of any strides, on the host's matrix multiplication.
namespace ashlar::ops::detail {

/// What the sums start from: nothing, or a bias for each column.
template <class T>
struct column_bias {
  const T* data = nullptr;
  std::int64_t stride = 0;
};

/// One product, of the last two axes of each.
template <class T, class R>
chip::gemm_args<T, R> product_args(view<R> out, view<const T> a, view<const T> b,
                                   column_bias<R> bias) {
  return {.m = out.extent(-2),
          .n = out.extent(-1),
          .k = a.extent(-1),
          .a = a.data,
          .a_row = a.stride(-2),
          .a_col = a.stride(-1),
          .b = b.data,
          .b_row = b.stride(-2),
          .b_col = b.stride(-1),
          .c = out.data,
          .c_row = out.stride(-2),
          .c_col = out.stride(-1),
          .start = bias.data,
          .start_row = 0,
          .start_col = bias.stride};
}

/// Stride of batch axis `axis` of a result with `rank` axes, in an operand that broadcasts to it.
constexpr std::int64_t batch_stride(const tensor_spec& s, int axis, int rank) {
  const int own = axis - (rank - s.rank);
  return own < 0 || s[own] == 1 ? 0 : s.stride_of(own);
}

/// The loops over the batch: result, left, right.
inline chip::host_kernels::detail::loop_nest<3> batch_nest(const tensor_spec& out,
                                                           const tensor_spec& a,
                                                           const tensor_spec& b) {
  chip::host_kernels::detail::loop_nest<3> nest;
  for (int i = 0; i < out.rank - 2; ++i) {
    nest.size *= out[i];
    nest.push(out[i],
              {out.stride_of(i), batch_stride(a, i, out.rank), batch_stride(b, i, out.rank)});
  }
  nest.close();
  return nest;
}

/// Calls `run(product, count, steps)` for the products of a batch, `count` of them in steps from
/// the first; rows of a batch that lie evenly are one product.
template <class T, class R, class F>
void each_product(view<R> out, view<const T> a, view<const T> b, column_bias<R> bias,
                  const F& run) {
  if (out.size() == 0) {
    return;
  }
  if (out.rank() > 2 && b.size() == b.extent(-1) * b.extent(-2)) {
    const std::int64_t rows = out.size() / out.extent(-1);
    const auto flat_a = a.size() == rows * a.extent(-1)
                            ? geometry::try_reshape(*a.spec, {rows, a.extent(-1)})
                            : std::nullopt;
    const auto flat_out = geometry::try_reshape(*out.spec, {rows, out.extent(-1)});
    if (flat_a && flat_out) {
      run(product_args(view<R>{out.data, &*flat_out}, view<const T>{a.data, &*flat_a}, b, bias),
          std::int64_t{1}, chip::gemm_steps{});
      return;
    }
  }
  const auto nest = batch_nest(*out.spec, *a.spec, *b.spec);
  const auto& step = nest.inner_stride();
  const chip::gemm_args<T, R> first = product_args(out, a, b, bias);
  chip::host_kernels::detail::for_each_run(
      nest, 0, nest.size, [&](const auto& at, std::int64_t count) {
        chip::gemm_args<T, R> now = first;
        now.c += at[0];
        now.a += at[1];
        now.b += at[2];
        run(now, count, chip::gemm_steps{.a = step[1], .b = step[2], .c = step[0], .start = 0});
      });
}

/// `out = bias + a * b` for each matrix of a batch.
///
/// Each element is one chain of multiply-adds over K that starts at the bias, however the batch is
/// cut.
template <std::floating_point T>
void matrix_product(view<T> out, view<const T> a, view<const T> b, column_bias<T> bias = {}) {
  each_product(out, a, b, bias,
               [](const chip::gemm_args<T>& first, std::int64_t count, chip::gemm_steps steps) {
                 if (count == 1) {
                   chip::gemm(first);
                 } else {
                   chip::gemm_batched(first, count, steps);
                 }
               });
}

/// Narrow floats: computed and summed in float, rounded once.
template <class T>
  requires(Floating<T> && !std::floating_point<T>)
void matrix_product(view<T> out, view<const T> a, view<const T> b, column_bias<T> bias = {}) {
  const tensor_spec so = contiguous_spec(dtype::float32, out.shape());
  const std::int64_t columns = bias.data == nullptr ? 0 : out.extent(-1);
  const auto room =
      std::make_unique_for_overwrite<float[]>(static_cast<std::size_t>(so.size + columns));
  const view<float> sums{room.get(), &so};
  column_bias<float> start;
  if (bias.data != nullptr) {
    float* const values = sums.data + so.size;
    for (std::int64_t i = 0; i < columns; ++i) {
      values[i] = bias.data[i * bias.stride];
    }
    start = {values, 1};
  }
  each_product(sums, a, b, start,
               [](chip::gemm_args<T, float> now, std::int64_t count, chip::gemm_steps steps) {
                 for (std::int64_t i = 0; i < count; ++i) {
                   chip::gemm_narrow<chip::product_order::chain>(now);
                   now.a += steps.a;
                   now.b += steps.b;
                   now.c += steps.c;
                 }
               });
  chip::host_kernels::copy(out, view<const float>(sums));
}

/// Integers: exact modulo 2^bits, one element after the other.
template <std::integral T>
void matrix_product(view<T> out, view<const T> a, view<const T> b, column_bias<T> bias = {}) {
  if (out.size() == 0) {
    return;
  }
  const auto nest = batch_nest(*out.spec, *a.spec, *b.spec);
  const auto& step = nest.inner_stride();
  const std::int64_t depth = a.extent(-1);
  const auto one = [&](T* c, const T* x, const T* y) {
    for (std::int64_t i = 0; i < out.extent(-2); ++i) {
      for (std::int64_t j = 0; j < out.extent(-1); ++j) {
        T sum = bias.data == nullptr ? T{} : bias.data[j * bias.stride];
        for (std::int64_t p = 0; p < depth; ++p) {
          sum = tile::fn::add{}(sum, tile::fn::mul{}(x[i * a.stride(-2) + p * a.stride(-1)],
                                                     y[p * b.stride(-2) + j * b.stride(-1)]));
        }
        c[i * out.stride(-2) + j * out.stride(-1)] = sum;
      }
    }
  };
  chip::host_kernels::detail::for_each_run(
      nest, 0, nest.size, [&](const auto& at, std::int64_t count) {
        for (std::int64_t i = 0; i < count; ++i) {
          one(out.data + at[0] + i * step[0], a.data + at[1] + i * step[1],
              b.data + at[2] + i * step[2]);
        }
      });
}

}  // namespace ashlar::ops::detail
