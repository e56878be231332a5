// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <string_view>

#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/detail/functions.hpp"
#include "ashlar/ops/elementwise.hpp"
#include "ashlar/tile/functions.hpp"

/// Comparisons and the choice between two tensors.
namespace ashlar {

namespace ops {

namespace detail {
/// Compares after promotion; NaN is unequal to everything.
template <class Op>
struct comparison {
  static constexpr std::array arguments{argument{"self"}, argument{"other"}};
  static constexpr bool elementwise = true;
  static constexpr dtype result_type = dtype::boolean;
  static constexpr tensor_spec meta(const tensor_spec& self, const tensor_spec& other) {
    tensor_spec s = broadcast(Op::name, self, other);
    s.type = result_type;
    return s;
  }
};
}  // namespace detail

struct eq : detail::comparison<eq> {
  static constexpr std::string_view name = "eq";
  using function = tile::fn::equal;
};
struct ne : detail::comparison<ne> {
  static constexpr std::string_view name = "ne";
  using function = tile::fn::not_equal;
};
struct lt : detail::comparison<lt> {
  static constexpr std::string_view name = "lt";
  using function = tile::fn::less;
};
struct le : detail::comparison<le> {
  static constexpr std::string_view name = "le";
  using function = tile::fn::less_equal;
};
struct gt : detail::comparison<gt> {
  static constexpr std::string_view name = "gt";
  using function = tile::fn::greater;
};
struct ge : detail::comparison<ge> {
  static constexpr std::string_view name = "ge";
  using function = tile::fn::greater_equal;
};

/// Whether an element is zero.
struct logical_not {
  static constexpr std::string_view name = "logical_not";
  static constexpr std::array arguments{argument{"self"}};
  static constexpr bool elementwise = true;
  static constexpr dtype result_type = dtype::boolean;
  using function = detail::not_function;
  static constexpr tensor_spec meta(const tensor_spec& self) {
    return contiguous_like(self, result_type);
  }
};

/// `self` where `condition` holds, else `other`; all three broadcast.
struct where {
  static constexpr std::string_view name = "where";
  static constexpr std::array arguments{argument{"condition", true}, argument{"self"},
                                        argument{"other"}};
  static constexpr bool elementwise = true;
  using function = tile::fn::where;
  static constexpr tensor_spec meta(const tensor_spec& condition, const tensor_spec& self,
                                    const tensor_spec& other) {
    const tensor_spec both = broadcast(name, self, other);
    tensor_spec s = broadcast(name, condition, both);
    s.type = both.type;
    return s;
  }
  struct derivative {
    static constexpr std::array needs{0u, arg<0>.bit, arg<0>.bit};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      const auto zero = detail::scalar_like(g, 0.0);
      if constexpr (I == 1) {
        return call<where>(saved(arg<0>), g, zero);
      } else {
        return call<where>(saved(arg<0>), zero, g);
      }
    }
  };
};

}  // namespace ops

/// Only `bool` chooses.
template <>
struct tile_kernel<ops::where, chip::host> {
  template <class T>
  static void impl(context<chip::host>&, view<T> out, view<const bool> condition,
                   view<const T> self, view<const T> other) {
    chip::host_kernels::where(out, condition, self, other);
  }
};

inline constexpr op_function<ops::eq> eq;
inline constexpr op_function<ops::ne> ne;
inline constexpr op_function<ops::lt> lt;
inline constexpr op_function<ops::le> le;
inline constexpr op_function<ops::gt> gt;
inline constexpr op_function<ops::ge> ge;
inline constexpr op_function<ops::logical_not> logical_not;
inline constexpr op_function<ops::where> where;

}  // namespace ashlar
