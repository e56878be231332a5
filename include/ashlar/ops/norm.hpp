// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <string_view>
#include <tuple>
#include <type_traits>

#include "ashlar/chip/host/host.hpp"
#include "ashlar/chip/host/norm.hpp"
#include "ashlar/dispatch.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/detail/from_prims.hpp"
#include "ashlar/ops/fwd.hpp"
#include "ashlar/ops/math.hpp"
#include "ashlar/ops/meta_kernels.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/tile/norm_weight.hpp"

/// Normalisation along the last axis. Shapes: `x`: (..., C); `weight`, `bias`: (C).
namespace ashlar {

namespace ops {

namespace detail {
constexpr void require_channels(std::string_view op, const tensor_spec& x, const tensor_spec& c) {
  if (x.rank == 0 || c.rank != 1 || c[0] != x[-1]) {
    throw shape_error(op, x.shape(), c.shape(), "must be (..., C) and (C)");
  }
}
constexpr void require_same(std::string_view op, const tensor_spec& a, const tensor_spec& b) {
  if (!same_shape(a, b)) {
    throw shape_error(op, a.shape(), b.shape(), "they must be the same");
  }
}

template <class Op>
struct norm_backward_x {
  static constexpr std::array arguments{argument{"gradient"}, argument{"self"}, argument{"weight"}};
  static constexpr tensor_spec meta(const tensor_spec& g, const tensor_spec& self,
                                    const tensor_spec& weight, double) {
    require_same(Op::name, g, self);
    require_channels(Op::name, self, weight);
    return contiguous_like(self, promote(promote(g.type, self.type), weight.type));
  }
};
constexpr tensor_spec channel_gradient(std::string_view op, const tensor_spec& g,
                                       const tensor_spec& self) {
  require_same(op, g, self);
  return contiguous_spec(promote(g.type, self.type), self.shape().last(1));
}
}  // namespace detail

/// `x / sqrt(mean(x^2) + eps) * weight`
struct rms_norm {
  static constexpr std::string_view name = "rms_norm";
  static constexpr std::array arguments{argument{"self"}, argument{"weight"}};
  static constexpr tensor_spec meta(const tensor_spec& self, const tensor_spec& weight, double) {
    detail::require_channels(name, self, weight);
    return contiguous_like(self, promote(self.type, weight.type));
  }
  struct derivative {
    static constexpr std::array needs{arg<0>.bit | arg<1>.bit, arg<0>.bit};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      if constexpr (I == 0) {
        return call<rms_norm_backward_x>(g, saved(arg<0>), saved(arg<1>), saved(arg<2>));
      } else {
        return call<rms_norm_backward_weight>(g, saved(arg<0>), saved(arg<2>));
      }
    }
  };
};

struct rms_norm_backward_x : detail::norm_backward_x<rms_norm_backward_x> {
  static constexpr std::string_view name = "rms_norm_backward_x";
};

struct rms_norm_backward_weight {
  static constexpr std::string_view name = "rms_norm_backward_weight";
  static constexpr std::array arguments{argument{"gradient"}, argument{"self"}};
  static constexpr tensor_spec meta(const tensor_spec& g, const tensor_spec& self, double) {
    return detail::channel_gradient(name, g, self);
  }
};

/// `(x - mean(x)) / sqrt(variance(x) + eps) * weight + bias`, with the variance over C.
struct layer_norm {
  static constexpr std::string_view name = "layer_norm";
  static constexpr std::array arguments{argument{"self"}, argument{"weight"}, argument{"bias"}};
  static constexpr tensor_spec meta(const tensor_spec& self, const tensor_spec& weight,
                                    const tensor_spec& bias, double) {
    detail::require_channels(name, self, weight);
    detail::require_channels(name, self, bias);
    return contiguous_like(self, promote(promote(self.type, weight.type), bias.type));
  }
  struct derivative {
    static constexpr std::array needs{arg<0>.bit | arg<1>.bit, arg<0>.bit, arg<0>.bit};
    template <class G>
    static auto vjp_all(const G& g, const auto& saved, const auto& wanted) {
      std::tuple<G, G, G> all;
      const double eps = saved(arg<3>);
      if (wanted[0]) {
        std::get<0>(all) = call<layer_norm_backward_x>(g, saved(arg<0>), saved(arg<1>), eps);
      }
      if (wanted[1] || wanted[2]) {
        std::tie(std::get<1>(all), std::get<2>(all)) =
            call<layer_norm_backward_weight>(g, saved(arg<0>), eps);
      }
      return all;
    }
  };
};

struct layer_norm_backward_x : detail::norm_backward_x<layer_norm_backward_x> {
  static constexpr std::string_view name = "layer_norm_backward_x";
};

/// The gradients of weight and bias.
struct layer_norm_backward_weight {
  static constexpr std::string_view name = "layer_norm_backward_weight";
  static constexpr std::array arguments{argument{"gradient"}, argument{"self"}};
  static constexpr std::array<tensor_spec, 2> meta(const tensor_spec& g, const tensor_spec& self,
                                                   double) {
    const tensor_spec c = detail::channel_gradient(name, g, self);
    return {c, c};
  }
};

namespace detail {
/// The mean over the last axis, which stays.
auto channel_mean(const auto& x) { return call<mean>(x, shape{-1}, true); }
/// `1 / sqrt(mean(x^2) + eps)` over the last axis.
auto inverse_rms(const auto& x, double eps) {
  return call<rsqrt>(call<scale>(channel_mean(call<square>(x)), 1.0, eps));
}
/// The gradient of `x * inverse_rms(x)`, from `h`, the gradient of that.
auto normalised_gradient(const auto& h, const auto& normalised, const auto& inverse) {
  return call<mul>(inverse,
                   call<sub>(h, call<mul>(normalised, channel_mean(call<mul>(h, normalised)))));
}
}  // namespace detail

}  // namespace ops

template <>
struct decomposition<ops::rms_norm_backward_x> : detail::parts::from_prims {
  using parts = ops::operators<ops::mul, ops::sub, ops::scale, ops::square, ops::rsqrt, ops::mean>;
  auto operator()(const auto& g, const auto& x, const auto& weight, double eps) const {
    const auto r = ops::detail::inverse_rms(x, eps);
    return ops::detail::normalised_gradient(call<ops::mul>(g, weight), call<ops::mul>(x, r), r);
  }
};
template <>
struct decomposition<ops::rms_norm_backward_weight> : detail::parts::from_prims {
  using parts =
      ops::operators<ops::mul, ops::scale, ops::square, ops::rsqrt, ops::mean, ops::sum_to>;
  auto operator()(const auto& g, const auto& x, double eps) const {
    const auto y = call<ops::mul>(x, ops::detail::inverse_rms(x, eps));
    return call<ops::sum_to>(call<ops::mul>(g, y), shape{x.extent(-1)});
  }
};
template <>
struct decomposition<ops::layer_norm_backward_x> : detail::parts::from_prims {
  using parts = ops::operators<ops::mul, ops::sub, ops::scale, ops::square, ops::rsqrt, ops::mean>;
  auto operator()(const auto& g, const auto& x, const auto& weight, double eps) const {
    using ops::detail::channel_mean;
    const auto centred = call<ops::sub>(x, channel_mean(x));
    const auto r = ops::detail::inverse_rms(centred, eps);
    const auto h =
        ops::detail::normalised_gradient(call<ops::mul>(g, weight), call<ops::mul>(centred, r), r);
    return call<ops::sub>(h, channel_mean(h));
  }
};
template <>
struct decomposition<ops::layer_norm_backward_weight> : detail::parts::from_prims {
  using parts = ops::operators<ops::mul, ops::sub, ops::scale, ops::square, ops::rsqrt, ops::mean,
                               ops::sum_to>;
  auto operator()(const auto& g, const auto& x, double eps) const {
    const auto centred = call<ops::sub>(x, ops::detail::channel_mean(x));
    const auto y = call<ops::mul>(centred, ops::detail::inverse_rms(centred, eps));
    const shape c{x.extent(-1)};
    const auto dweight = call<ops::sum_to>(call<ops::mul>(g, y), c);
    return std::tuple{dweight, call<ops::sum_to>(g, c)};
  }
};

template <>
struct kernel<ops::rms_norm, keys::backend<chip::host>> {
  template <Floating T>
  static void impl(context<chip::host>&, view<T> out, view<const T> self, view<const T> weight,
                   double eps) {
    chip::host_kernels::rms_norm(out, self, weight, eps);
  }
};
template <>
struct kernel<ops::rms_norm_backward_x, keys::backend<chip::host>> {
  template <Floating T>
  static void impl(context<chip::host>&, view<T> out, view<const T> g, view<const T> self,
                   view<const T> weight, double eps) {
    chip::host_kernels::rms_norm_backward_x(out, g, self, weight, eps);
  }
};
template <>
struct kernel<ops::rms_norm_backward_weight, keys::backend<chip::host>> {
  template <Floating T>
  static void impl(context<chip::host>& on, view<T> out, view<const T> g, view<const T> self,
                   double eps) {
    ops::detail::norm_weight_by_tiles<false>(on, out, out, g, self, eps);
  }
};
template <>
struct kernel<ops::layer_norm, keys::backend<chip::host>> {
  template <Floating T>
  static void impl(context<chip::host>&, view<T> out, view<const T> self, view<const T> weight,
                   view<const T> bias, double eps) {
    chip::host_kernels::layer_norm(out, self, weight, bias, eps);
  }
};
template <>
struct kernel<ops::layer_norm_backward_x, keys::backend<chip::host>> {
  template <Floating T>
  static void impl(context<chip::host>&, view<T> out, view<const T> g, view<const T> self,
                   view<const T> weight, double eps) {
    chip::host_kernels::layer_norm_backward_x(out, g, self, weight, eps);
  }
};
template <>
struct kernel<ops::layer_norm_backward_weight, keys::backend<chip::host>> {
  template <Floating T>
  static void impl(context<chip::host>& on, view<T> dweight, view<T> dbias, view<const T> g,
                   view<const T> self, double eps) {
    ops::detail::norm_weight_by_tiles<true>(on, dweight, dbias, g, self, eps);
  }
};

/// `rms_norm(x, weight, eps = 1e-5)`.
inline constexpr struct rms_norm_function : spelled_function<rms_norm_function> {
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x,
                              const detail::AnyOrTensor auto& weight, double eps = 1e-5) {
    return to(op_function<ops::rms_norm>{}, x, weight, eps);
  }
} rms_norm;

/// `layer_norm(x, weight, bias, eps = 1e-5)`.
inline constexpr struct layer_norm_function : spelled_function<layer_norm_function> {
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x,
                              const detail::AnyOrTensor auto& weight,
                              const detail::AnyOrTensor auto& bias, double eps = 1e-5) {
    return to(op_function<ops::layer_norm>{}, x, weight, bias, eps);
  }
} layer_norm;

}  // namespace ashlar
