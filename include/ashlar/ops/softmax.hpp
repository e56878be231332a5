// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstdint>
#include <string_view>

#include "ashlar/chip/host/host.hpp"
#include "ashlar/chip/host/softmax.hpp"
#include "ashlar/dispatch.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/fwd.hpp"
#include "ashlar/ops/math.hpp"
#include "ashlar/ops/meta_kernels.hpp"
#include "ashlar/ops/reduction.hpp"

/// Softmax along an axis, and its logarithm. A tensor without dimensions is one row of one element.
namespace ashlar {

namespace ops {

namespace detail {

template <class Op, class Backward>
struct softmax_base {
  static constexpr std::array arguments{argument{"self"}};
  static constexpr tensor_spec meta(const tensor_spec& self, std::int64_t axis) {
    row_axis(Op::name, axis, self.rank);
    return contiguous_like(self, self.type);
  }
  struct derivative {
    static constexpr std::array needs{result.bit};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      return call<Backward>(saved(result), g, saved(arg<1>));
    }
  };
};

template <class Op>
struct softmax_backward_base {
  static constexpr std::array arguments{argument{"result"}, argument{"gradient"}};
  static constexpr tensor_spec meta(const tensor_spec& result, const tensor_spec& gradient,
                                    std::int64_t axis) {
    row_axis(Op::name, axis, result.rank);
    if (!same_shape(result, gradient)) {
      throw shape_error(Op::name, result.shape(), gradient.shape(), "they must be the same");
    }
    return contiguous_like(result, promote(result.type, gradient.type));
  }
};

/// The sum along an axis, which stays with extent 1; a tensor without dimensions as it is.
auto row_sum(const auto& x, std::int64_t axis) {
  shape to(x.shape());
  if (to.rank() > 0) {
    to[wrap_axis("softmax", axis, to.rank())] = 1;
  }
  return call<sum_to>(x, to);
}

}  // namespace detail

/// `exp(x) / sum(exp(x))` along an axis.
struct softmax : detail::softmax_base<softmax, softmax_backward> {
  static constexpr std::string_view name = "softmax";
};

/// `y * (g - sum(y * g))`
struct softmax_backward : detail::softmax_backward_base<softmax_backward> {
  static constexpr std::string_view name = "softmax_backward";
  struct derivative {
    static constexpr std::array needs{arg<0>.bit | arg<1>.bit, arg<0>.bit};
    template <int I>
    static auto vjp(const auto& h, const auto& saved) {
      const auto& y = saved(arg<0>);
      const std::int64_t axis = saved(arg<2>);
      if constexpr (I == 0) {
        const auto& g = saved(arg<1>);
        const auto straight = call<sub>(g, detail::row_sum(call<mul>(y, g), axis));
        return call<sub>(call<mul>(h, straight),
                         call<mul>(g, detail::row_sum(call<mul>(h, y), axis)));
      } else {
        return call<softmax_backward>(y, h, axis);
      }
    }
  };
};

/// `x - log(sum(exp(x)))` along an axis.
struct log_softmax : detail::softmax_base<log_softmax, log_softmax_backward> {
  static constexpr std::string_view name = "log_softmax";
};

/// `g - exp(y) * sum(g)`
struct log_softmax_backward : detail::softmax_backward_base<log_softmax_backward> {
  static constexpr std::string_view name = "log_softmax_backward";
  struct derivative {
    static constexpr std::array needs{arg<0>.bit | arg<1>.bit, arg<0>.bit};
    template <int I>
    static auto vjp(const auto& h, const auto& saved) {
      const std::int64_t axis = saved(arg<2>);
      const auto weighted = call<mul>(h, call<exp>(saved(arg<0>)));
      if constexpr (I == 0) {
        return call<neg>(call<mul>(weighted, detail::row_sum(saved(arg<1>), axis)));
      } else {
        return call<sub>(h, detail::row_sum(weighted, axis));
      }
    }
  };
};

}  // namespace ops

template <>
struct kernel<ops::softmax, keys::backend<chip::host>> {
  template <Floating T>
  static void impl(context<chip::host>&, view<T> out, view<const T> self, std::int64_t axis) {
    chip::host_kernels::softmax(out, self, row_axis("softmax", axis, self.rank()));
  }
};
template <>
struct kernel<ops::softmax_backward, keys::backend<chip::host>> {
  template <Floating T>
  static void impl(context<chip::host>&, view<T> out, view<const T> y, view<const T> g,
                   std::int64_t axis) {
    chip::host_kernels::softmax_backward(out, y, g, row_axis("softmax_backward", axis, y.rank()));
  }
};
template <>
struct kernel<ops::log_softmax, keys::backend<chip::host>> {
  template <Floating T>
  static void impl(context<chip::host>&, view<T> out, view<const T> self, std::int64_t axis) {
    chip::host_kernels::log_softmax(out, self, row_axis("log_softmax", axis, self.rank()));
  }
};
template <>
struct kernel<ops::log_softmax_backward, keys::backend<chip::host>> {
  template <Floating T>
  static void impl(context<chip::host>&, view<T> out, view<const T> y, view<const T> g,
                   std::int64_t axis) {
    chip::host_kernels::log_softmax_backward(out, y, g,
                                             row_axis("log_softmax_backward", axis, y.rank()));
  }
};

/// `softmax(x, axis = -1)`.
inline constexpr struct softmax_function : spelled_function<softmax_function> {
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x, std::int64_t axis = -1) {
    return to(op_function<ops::softmax>{}, x, axis);
  }
} softmax;

/// `log_softmax(x, axis = -1)`.
inline constexpr struct log_softmax_function : spelled_function<log_softmax_function> {
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x, std::int64_t axis = -1) {
    return to(op_function<ops::log_softmax>{}, x, axis);
  }
} log_softmax;

}  // namespace ashlar
