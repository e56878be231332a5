// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <string_view>
#include <type_traits>

#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/elementwise.hpp"
#include "ashlar/ops/matmul.hpp"

/// A linear layer with what usually follows it.
namespace ashlar {

namespace ops {

/// `activation(x * weight^T + bias)`, and with a fourth argument `residual` plus that.
///
/// `Activation` is an elementwise operator of one tensor, or void for none. A chip that runs tile
/// programs does all of it in one; elsewhere, and on the tape, it is its parts, with the same bits
/// for element types that sums are kept in.
/// Shapes: as `linear_bias`; `residual`: that of the result.
template <class Activation>
struct dense {
  static constexpr std::string_view name = "dense";
  static constexpr std::array arguments{argument{"self"}, argument{"weight"}, argument{"bias"},
                                        argument{"residual"}};
  static constexpr tensor_spec meta(const tensor_spec& self, const tensor_spec& weight,
                                    const tensor_spec& bias) {
    return linear_bias::meta(self, weight, bias);
  }
  static constexpr tensor_spec meta(const tensor_spec& self, const tensor_spec& weight,
                                    const tensor_spec& bias, const tensor_spec& residual) {
    tensor_spec s = meta(self, weight, bias);
    require_same(s, residual);
    s.type = promote(s.type, residual.type);
    return s;
  }
  struct composite {
    auto operator()(const auto& x, const auto& weight, const auto& bias) const {
      if constexpr (std::is_void_v<Activation>) {
        return call<linear_bias>(x, weight, bias);
      } else {
        return call<Activation>(call<linear_bias>(x, weight, bias));
      }
    }
    auto operator()(const auto& x, const auto& weight, const auto& bias,
                    const auto& residual) const {
      const auto y = (*this)(x, weight, bias);
      detail::require_defined(name, residual);
      require_same(y.spec(), residual.spec());
      return call<add>(residual, y);
    }
  };

 private:
  static constexpr void require_same(const tensor_spec& y, const tensor_spec& residual) {
    if (!same_shape(y, residual)) {
      throw shape_error(name, y.shape(), residual.shape(), "the residual has the result's shape");
    }
  }
};

}  // namespace ops

/// `dense<ops::gelu>(x, weight, bias)`, `dense<void>(x, weight, bias, residual)`.
template <class Activation>
inline constexpr op_function<ops::dense<Activation>> dense;

}  // namespace ashlar
