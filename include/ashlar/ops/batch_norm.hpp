// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <string_view>
#include <tuple>
#include <utility>

#include "ashlar/dispatch.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/fwd.hpp"
#include "ashlar/ops/math.hpp"
#include "ashlar/ops/norm.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/views.hpp"

/// Normalisation of each channel over a batch. Shapes: `x`: (B, C, ...); all else: (C).
namespace ashlar {

namespace ops {

namespace detail {
/// (C) beside (B, C, ...): (C, 1, ...).
auto beside_channels(const auto& c, int rank) {
  shape to{c.size()};
  for (int i = 2; i < rank; ++i) {
    to.push_back(1);
  }
  return call<reshape>(c, to);
}
constexpr void require_channels_second(std::string_view op, const tensor_spec& x,
                                       const tensor_spec& c) {
  if (x.rank < 2 || c.rank != 1 || c[0] != x[1]) {
    throw shape_error(op, x.shape(), c.shape(), "must be (B, C, ...) and (C)");
  }
}
/// All axes but that of the channels.
inline shape axes_but_channels(int rank) {
  shape axes{0};
  for (int i = 2; i < rank; ++i) {
    axes.push_back(i);
  }
  return axes;
}
}  // namespace detail

/// `(x - mean) / sqrt(variance + eps) * weight + bias`, with statistics that are given.
struct batch_norm {
  static constexpr std::string_view name = "batch_norm";
  static constexpr bool floating = true;
  static constexpr std::array arguments{argument{"self"}, argument{"mean"}, argument{"variance"},
                                        argument{"weight"}, argument{"bias"}};
  static constexpr bool captured_in_parts = true;
  static constexpr tensor_spec meta(const tensor_spec& x, const tensor_spec& mean,
                                    const tensor_spec& variance, const tensor_spec& weight,
                                    const tensor_spec& bias, double) {
    dtype type = x.type;
    for (const tensor_spec* c : {&mean, &variance, &weight, &bias}) {
      detail::require_channels_second(name, x, *c);
      type = promote(type, c->type);
    }
    return contiguous_like(x, type);
  }
  struct composite {
    auto operator()(const auto& x, const auto& mean, const auto& variance, const auto& weight,
                    const auto& bias, double eps) const {
      detail::require_defined(name, x, mean, variance, weight, bias);
      static_cast<void>(
          meta(x.spec(), mean.spec(), variance.spec(), weight.spec(), bias.spec(), eps));
      const auto factor = call<mul>(call<rsqrt>(call<scale>(variance, 1.0, eps)), weight);
      const auto shift = call<sub>(bias, call<mul>(mean, factor));
      return call<add>(call<mul>(x, detail::beside_channels(factor, x.rank())),
                       detail::beside_channels(shift, x.rank()));
    }
  };
  struct derivative {
    static constexpr std::array needs{arg<2>.bit | arg<3>.bit, arg<2>.bit | arg<3>.bit,
                                      arg<0>.bit | arg<1>.bit | arg<2>.bit | arg<3>.bit,
                                      arg<0>.bit | arg<1>.bit | arg<2>.bit, 0u};
    template <class G>
    static auto vjp_all(const G& g, const auto& saved, const auto& wanted) {
      const shape axes = detail::axes_but_channels(g.rank());
      std::tuple<G, G, G, G, G> all;
      const auto inverse = [&] {
        return call<rsqrt>(call<scale>(saved(arg<2>), 1.0, double{saved(arg<5>)}));
      };
      if (wanted[0] || wanted[1]) {
        const auto factor = call<mul>(inverse(), saved(arg<3>));
        std::get<0>(all) = call<mul>(g, detail::beside_channels(factor, g.rank()));
        if (wanted[1]) {
          std::get<1>(all) = call<neg>(call<sum>(std::get<0>(all), axes, false));
        }
      }
      if (wanted[2] || wanted[3]) {
        const auto& x = saved(arg<0>);
        const auto rest = call<sub>(x, detail::beside_channels(saved(arg<1>), x.rank()));
        const auto one = inverse();
        const auto along = call<mul>(call<sum>(call<mul>(g, rest), axes, false), one);
        std::get<3>(all) = along;
        if (wanted[2]) {
          const auto square = call<mul>(one, one);
          std::get<2>(all) =
              call<scale>(call<mul>(call<mul>(along, square), saved(arg<3>)), -0.5, 0.0);
        }
      }
      if (wanted[4]) {
        std::get<4>(all) = call<sum>(g, axes, false);
      }
      return all;
    }
  };
};

/// The same with the statistics of `x` itself; they are returned too: result, mean, variance.
///
/// The variance divides by the number of elements of a channel.
struct batch_norm_train {
  static constexpr std::string_view name = "batch_norm_train";
  static constexpr bool floating = true;
  static constexpr std::array arguments{argument{"self"}, argument{"weight"}, argument{"bias"}};
  static constexpr bool captured_in_parts = true;
  static constexpr std::array<tensor_spec, 3> meta(const tensor_spec& x, const tensor_spec& weight,
                                                   const tensor_spec& bias, double) {
    detail::require_channels_second(name, x, weight);
    detail::require_channels_second(name, x, bias);
    const dtype type = promote(promote(x.type, weight.type), bias.type);
    const tensor_spec c = contiguous_spec(x.type, shape{x[1]}.span());
    return {contiguous_like(x, type), c, c};
  }
  struct composite {
    auto operator()(const auto& x, const auto& weight, const auto& bias, double eps) const {
      detail::require_defined(name, x, weight, bias);
      static_cast<void>(meta(x.spec(), weight.spec(), bias.spec(), eps));
      const shape axes = detail::axes_but_channels(x.rank());
      const auto center = call<mean>(x, axes, false);
      const auto rest = call<sub>(x, detail::beside_channels(center, x.rank()));
      const auto variance = call<mean>(call<square>(rest), axes, false);
      const auto factor = call<mul>(call<rsqrt>(call<scale>(variance, 1.0, eps)), weight);
      auto y = call<add>(call<mul>(rest, detail::beside_channels(factor, x.rank())),
                         detail::beside_channels(bias, x.rank()));
      return std::tuple(std::move(y), center, variance);
    }
  };
  struct derivative {
    static constexpr std::array needs{arg<0>.bit | arg<1>.bit, arg<0>.bit, 0u};
    template <class G>
    static auto vjp_all(const G& g, const auto& saved, const auto& wanted) {
      using Y = std::tuple_element_t<0, G>;
      const Y& gy = std::get<0>(g);
      const shape axes = detail::axes_but_channels(gy.rank());
      std::tuple<Y, Y, Y> all;
      std::get<2>(all) = call<sum>(gy, axes, false);
      if (wanted[0] || wanted[1]) {
        const auto& x = saved(arg<0>);
        const auto rest =
            call<sub>(x, detail::beside_channels(call<mean>(x, axes, false), x.rank()));
        const auto variance = call<mean>(call<square>(rest), axes, false);
        const auto inverse = call<rsqrt>(call<scale>(variance, 1.0, double{saved(arg<3>)}));
        std::get<1>(all) = call<mul>(call<sum>(call<mul>(gy, rest), axes, false), inverse);
        if (wanted[0]) {
          // A channel's mean and variance move with each of its elements.
          const double share = static_cast<double>(x.extent(1)) / static_cast<double>(x.size());
          const auto factor = call<mul>(inverse, saved(arg<1>));
          const auto shift = call<scale>(
              call<sub>(std::get<1>(g), call<mul>(factor, std::get<2>(all))), share, 0.0);
          const auto slope = call<sub>(
              call<scale>(std::get<2>(g), 2.0 * share, 0.0),
              call<scale>(call<mul>(call<mul>(factor, inverse), std::get<1>(all)), share, 0.0));
          const auto beside = [&](const auto& c) { return detail::beside_channels(c, x.rank()); };
          std::get<0>(all) = call<add>(call<add>(call<mul>(gy, beside(factor)), beside(shift)),
                                       call<mul>(rest, beside(slope)));
        }
      }
      return all;
    }
  };
};

}  // namespace ops

/// `batch_norm(x, mean, variance, weight, bias, eps = 1e-5)`.
inline constexpr struct batch_norm_function : spelled_function<batch_norm_function> {
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x,
                              const detail::AnyOrTensor auto& running_mean,
                              const detail::AnyOrTensor auto& running_variance,
                              const detail::AnyOrTensor auto& weight,
                              const detail::AnyOrTensor auto& bias, double eps = 1e-5) {
    return to(op_function<ops::batch_norm>{}, x, running_mean, running_variance, weight, bias, eps);
  }
} batch_norm;

/// `batch_norm_train(x, weight, bias, eps = 1e-5)` -> result, mean, variance.
inline constexpr struct batch_norm_train_function : spelled_function<batch_norm_train_function> {
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x,
                              const detail::AnyOrTensor auto& weight,
                              const detail::AnyOrTensor auto& bias, double eps = 1e-5) {
    return to(op_function<ops::batch_norm_train>{}, x, weight, bias, eps);
  }
} batch_norm_train;

}  // namespace ashlar
