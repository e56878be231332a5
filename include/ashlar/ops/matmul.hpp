// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

#include "ashlar/chip/host/host.hpp"
#include "ashlar/core/geometry.hpp"
#include "ashlar/dispatch.hpp"
#include "ashlar/ops/detail/matrix_product.hpp"
#include "ashlar/ops/elementwise.hpp"
#include "ashlar/ops/fwd.hpp"
#include "ashlar/ops/meta_kernels.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/views.hpp"

/// Matrix products. Strides are free, so that a transposed operand is a view and no copy.
namespace ashlar {

namespace ops {

namespace detail {

/// A tensor as one matrix with the extent of its last axis as columns.
auto as_matrix(const auto& x, std::int64_t columns) {
  std::int64_t rows = 1;
  for (int i = 0; i + 1 < x.rank(); ++i) {
    rows *= x.extent(i);
  }
  return call<reshape>(x, shape{rows, columns});
}

}  // namespace detail

/// (..., M, K) x (..., K, N) -> (..., M, N); the axes in front broadcast.
struct matmul {
  static constexpr std::string_view name = "matmul";
  static constexpr std::array arguments{argument{"self"}, argument{"other"}};
  static constexpr tensor_spec meta(const tensor_spec& self, const tensor_spec& other) {
    const auto fail = [&](std::string_view rule) {
      throw shape_error(name, self.shape(), other.shape(), rule);
    };
    if (self.rank < 2 || other.rank < 2 || self[-1] != other[-2]) {
      fail("must be (..., M, K) and (..., K, N)");
    }
    const int rank = std::max(self.rank, other.rank);
    shape to;
    for (int i = 0; i < rank - 2; ++i) {
      const int a = i - (rank - self.rank);
      const int b = i - (rank - other.rank);
      const std::int64_t m = a >= 0 ? self[a] : 1;
      const std::int64_t n = b >= 0 ? other[b] : 1;
      if (m != n && m != 1 && n != 1) {
        fail("the axes before the last two must be equal or 1");
      }
      to.push_back(m == 1 ? n : m);
    }
    to.push_back(self[-2]);
    to.push_back(other[-1]);
    return contiguous_spec(promote(self.type, other.type), to.span());
  }
  struct derivative {
    static constexpr std::array needs{arg<1>.bit, arg<0>.bit};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      constexpr std::int64_t last = -1;
      constexpr std::int64_t before = -2;
      if constexpr (I == 0) {
        return call<matmul>(g, call<transpose>(saved(arg<1>), before, last));
      } else {
        const auto& a = saved(arg<0>);
        if (saved.shape(arg<1>).rank() == 2 && g.rank() > 2) {  // sums over the batch at once
          return call<matmul>(call<transpose>(detail::as_matrix(a, a.extent(-1)), before, last),
                              detail::as_matrix(g, g.extent(-1)));
        }
        return call<matmul>(call<transpose>(a, before, last), g);
      }
    }
  };
};

namespace detail {

template <class Op>
struct linear_base {
  static constexpr tensor_spec product(const tensor_spec& self, const tensor_spec& weight) {
    if (self.rank < 1 || weight.rank != 2 || self[-1] != weight[1]) {
      throw shape_error(Op::name, self.shape(), weight.shape(), "must be (..., in) and (out, in)");
    }
    shape to(self.shape());
    to[to.rank() - 1] = weight[0];
    return contiguous_spec(promote(self.type, weight.type), to.span());
  }
  template <int I>
  static auto gradient(const auto& g, const auto& saved) {
    const std::int64_t outputs = g.extent(-1);
    if constexpr (I == 0) {
      if (g.rank() > 1) {
        return call<matmul>(g, saved(arg<1>));
      }
      const shape to = saved.shape(arg<0>);
      return call<reshape>(call<matmul>(as_matrix(g, outputs), saved(arg<1>)), to);
    } else if constexpr (I == 1) {
      const auto& x = saved(arg<0>);
      return call<matmul>(call<transpose>(as_matrix(g, outputs), std::int64_t{0}, std::int64_t{1}),
                          as_matrix(x, x.extent(-1)));
    } else {
      return call<sum_to>(g, shape{outputs});
    }
  }
};

}  // namespace detail

/// `x * weight^T`: (..., in) and (out, in) -> (..., out).
struct linear : detail::linear_base<linear> {
  static constexpr std::string_view name = "linear";
  static constexpr std::array arguments{argument{"self"}, argument{"weight"}};
  static constexpr tensor_spec meta(const tensor_spec& self, const tensor_spec& weight) {
    return product(self, weight);
  }
  struct derivative {
    static constexpr std::array needs{arg<1>.bit, arg<0>.bit};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      return gradient<I>(g, saved);
    }
  };
};

/// `x * weight^T + bias`, the sums starting from the bias: (..., in), (out, in) and (out).
struct linear_bias : detail::linear_base<linear_bias> {
  static constexpr std::string_view name = "linear";
  static constexpr std::array arguments{argument{"self"}, argument{"weight"}, argument{"bias"}};
  static constexpr tensor_spec meta(const tensor_spec& self, const tensor_spec& weight,
                                    const tensor_spec& bias) {
    tensor_spec s = product(self, weight);
    if (bias.rank != 1 || bias[0] != weight[0]) {
      throw shape_error(name, weight.shape(), bias.shape(), "must be (out, in) and (out)");
    }
    s.type = promote(s.type, bias.type);
    return s;
  }
  struct derivative {
    static constexpr std::array needs{arg<1>.bit, arg<0>.bit, 0u};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      return gradient<I>(g, saved);
    }
  };
};

namespace detail {
template <class T>
void host_linear(view<T> out, view<const T> self, view<const T> weight, column_bias<T> bias) {
  const tensor_spec turned = geometry::transpose(*weight.spec, 0, 1);
  const view<const T> b{weight.data, &turned};
  if (self.rank() > 1) {
    matrix_product(out, self, b, bias);
    return;
  }
  const tensor_spec row = geometry::unsqueeze(*self.spec, 0);
  const tensor_spec to = geometry::unsqueeze(*out.spec, 0);
  matrix_product(view<T>{out.data, &to}, view<const T>{self.data, &row}, b, bias);
}
}  // namespace detail

}  // namespace ops

template <>
struct kernel<ops::matmul, keys::backend<chip::host>> {
  template <class T>
  static void impl(context<chip::host>&, view<T> out, view<const T> self, view<const T> other) {
    ops::detail::matrix_product(out, self, other);
  }
};
template <>
struct kernel<ops::linear, keys::backend<chip::host>> {
  template <class T>
  static void impl(context<chip::host>&, view<T> out, view<const T> self, view<const T> weight) {
    ops::detail::host_linear(out, self, weight, {});
  }
};
template <>
struct kernel<ops::linear_bias, keys::backend<chip::host>> {
  template <class T>
  static void impl(context<chip::host>&, view<T> out, view<const T> self, view<const T> weight,
                   view<const T> bias) {
    ops::detail::host_linear(out, self, weight, {bias.data, bias.stride(0)});
  }
};

/// `matmul(a, b)`; an operand with one axis is a row on the left, a column on the right, and its
/// axis is gone from the result, as in NumPy.
inline constexpr struct matmul_function : spelled_function<matmul_function> {
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& a,
                              const detail::AnyOrTensor auto& b) {
    ops::detail::require_defined("matmul", a, b);
    if (a.rank() == 1 && b.rank() == 1) {
      const auto y = call<ops::matmul>(unsqueeze(a, 0), unsqueeze(b, 1));
      return to.value("matmul", squeeze(squeeze(y, -1), -1));
    }
    if (a.rank() == 1) {
      return to.value("matmul", squeeze(call<ops::matmul>(unsqueeze(a, 0), b), -2));
    }
    if (b.rank() == 1) {
      return to.value("matmul", squeeze(call<ops::matmul>(a, unsqueeze(b, 1)), -1));
    }
    return to(op_function<ops::matmul>{}, a, b);
  }
} matmul;

/// `linear(x, weight)`, `linear(x, weight, bias)`.
inline constexpr struct linear_function : spelled_function<linear_function> {
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x,
                              const detail::AnyOrTensor auto& weight) {
    return to(op_function<ops::linear>{}, x, weight);
  }
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x,
                              const detail::AnyOrTensor auto& weight,
                              const detail::AnyOrTensor auto& bias) {
    return to(op_function<ops::linear_bias>{}, x, weight, bias);
  }
} linear;

}  // namespace ashlar
