// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

#include "ashlar/chip/host/host.hpp"
#include "ashlar/chip/host/reduce.hpp"
#include "ashlar/dispatch.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/comparison.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/fwd.hpp"
#include "ashlar/ops/meta_kernels.hpp"
#include "ashlar/ops/views.hpp"

/// Reductions over any set of axes; no axes mean all of them.
///
/// Each output element is reduced in one order, whatever the strides, the batch or the threads.
namespace ashlar {

namespace ops {

namespace detail {

/// Bit `i` stands for axis `i`. Throws: `argument_error` for an axis that is missing or named
/// twice.
constexpr std::uint32_t axis_bits(std::string_view op, const shape& axes, int rank) {
  std::uint32_t bits = 0;
  for (const std::int64_t axis : axes) {
    const std::uint32_t bit = std::uint32_t{1} << wrap_axis(op, axis, rank);
    if ((bits & bit) != 0) {
      throw argument_error("ashlar::" + std::string(op),
                           "axis " + std::to_string(axis) + " is named twice; name each axis once");
    }
    bits |= bit;
  }
  return axes.rank() == 0 ? (std::uint32_t{1} << rank) - 1u : bits;
}

/// The extents that a reduction leaves.
constexpr shape reduced_shape(const shape& from, std::uint32_t bits, bool keepdim) {
  shape left;
  for (int i = 0; i < from.rank(); ++i) {
    if ((bits >> i & 1u) == 0) {
      left.push_back(from[i]);
    } else if (keepdim) {
      left.push_back(1);
    }
  }
  return left;
}

template <class Op>
struct reduction {
  static constexpr std::array arguments{argument{"self"}};
  static constexpr tensor_spec meta(const tensor_spec& self, const shape& axes, bool keepdim) {
    const std::uint32_t bits = axis_bits(Op::name, axes, self.rank);
    return contiguous_spec(self.type, reduced_shape(shape(self.shape()), bits, keepdim).span());
  }
};

/// Where there is nothing to choose from.
constexpr void require_choice(std::string_view op, const tensor_spec& self,
                              const tensor_spec& out) {
  if (self.size == 0 && out.size != 0) {
    throw argument_error("ashlar::" + std::string(op), "no elements along the axes of shape " +
                                                           to_string(self.shape()) +
                                                           "; only sum and mean are defined there");
  }
}

/// A reduced tensor, spread over the shape that it was reduced from.
auto spread(const auto& x, const shape& from, std::uint32_t bits) {
  return call<expand>(call<reshape>(x, reduced_shape(from, bits, true)), from);
}

template <class Op>
struct extremum : reduction<Op> {
  static constexpr tensor_spec meta(const tensor_spec& self, const shape& axes, bool keepdim) {
    const tensor_spec out = reduction<Op>::meta(self, axes, keepdim);
    require_choice(Op::name, self, out);
    return out;
  }
  struct derivative {
    static constexpr std::array needs{arg<0>.bit | result.bit};
    /// Equal ones share the gradient.
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      using T = typename std::remove_cvref_t<decltype(g)>::value_type;
      const shape from = saved.shape(arg<0>);
      const std::uint32_t bits = axis_bits(Op::name, saved(arg<1>), from.rank());
      const auto taken = call<cast<T>>(call<eq>(saved(arg<0>), spread(saved(result), from, bits)));
      const auto count = call<sum_to>(taken, reduced_shape(from, bits, true));
      const auto share = call<div>(call<reshape>(g, reduced_shape(from, bits, true)), count);
      return call<mul>(taken, share);
    }
  };
};

}  // namespace detail

struct sum : detail::reduction<sum> {
  static constexpr std::string_view name = "sum";
  struct derivative {
    static constexpr std::array needs{0u};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      const shape from = saved.shape(arg<0>);
      return detail::spread(g, from, detail::axis_bits(name, saved(arg<1>), from.rank()));
    }
  };
};

/// NaN where there is nothing to average. Throws: `argument_error` for integers.
struct mean : detail::reduction<mean> {
  static constexpr std::string_view name = "mean";
  static constexpr tensor_spec meta(const tensor_spec& self, const shape& axes, bool keepdim) {
    if (!is_floating(self.type)) {
      throw argument_error("ashlar::mean", "of integers has no element type; cast them first");
    }
    return detail::reduction<mean>::meta(self, axes, keepdim);
  }
  struct derivative {
    static constexpr std::array needs{0u};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      const shape from = saved.shape(arg<0>);
      const std::uint32_t bits = detail::axis_bits(name, saved(arg<1>), from.rank());
      double count = 1;
      for (int i = 0; i < from.rank(); ++i) {
        count *= (bits >> i & 1u) != 0 ? static_cast<double>(from[i]) : 1.0;
      }
      return detail::spread(call<scale>(g, 1.0 / count, 0.0), from, bits);
    }
  };
};

/// The largest; NaN if there is one. Throws: `argument_error` where there is none to choose.
struct max : detail::extremum<max> {
  static constexpr std::string_view name = "max";
};
/// The smallest; NaN if there is one. Throws: `argument_error` where there is none to choose.
struct min : detail::extremum<min> {
  static constexpr std::string_view name = "min";
};

/// The number, in row-major order over the axes, of the largest: the first of equals.
struct argmax : detail::reduction<argmax> {
  static constexpr std::string_view name = "argmax";
  static constexpr dtype result_type = dtype::int64;
  static constexpr tensor_spec meta(const tensor_spec& self, const shape& axes, bool keepdim) {
    tensor_spec out = detail::reduction<argmax>::meta(self, axes, keepdim);
    detail::require_choice(name, self, out);
    out.type = result_type;
    return out;
  }
};

/// Undoes broadcasting: sums until the shape is `to`, which must broadcast to the argument's.
struct sum_to {
  static constexpr std::string_view name = "sum_to";
  static constexpr std::array arguments{argument{"self"}};
  static constexpr tensor_spec meta(const tensor_spec& self, const shape& to) {
    const tensor_spec out = contiguous_spec(self.type, to.span());
    bool fits = to.rank() <= self.rank;
    for (int i = 1; fits && i <= to.rank(); ++i) {
      fits = out[-i] == self[-i] || out[-i] == 1;
    }
    if (!fits) {
      throw shape_error(name, self.shape(), to.span(), "the second must broadcast to the first");
    }
    return out;
  }
  struct derivative {
    static constexpr std::array needs{0u};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      return call<expand>(g, saved.shape(arg<0>));
    }
  };
};

/// The sum of the squares of all elements.
struct sum_squares {
  static constexpr std::string_view name = "sum_squares";
  static constexpr std::array arguments{argument{"self"}};
  static constexpr tensor_spec meta(const tensor_spec& self) {
    return contiguous_spec(self.type, {});
  }
  struct derivative {
    static constexpr std::array needs{arg<0>.bit};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      return call<mul>(saved(arg<0>), call<scale>(g, 2.0, 0.0));
    }
  };
};

}  // namespace ops

template <>
struct kernel<ops::sum, keys::backend<chip::host>> {
  static constexpr output_kind outputs = output_kind::contiguous;
  template <class T>
  static void impl(context<chip::host>&, view<T> out, view<const T> self, const shape& axes, bool) {
    chip::host_kernels::sum(out, self, ops::detail::axis_bits("sum", axes, self.rank()));
  }
};
template <>
struct kernel<ops::mean, keys::backend<chip::host>> {
  static constexpr output_kind outputs = output_kind::contiguous;
  template <Floating T>
  static void impl(context<chip::host>&, view<T> out, view<const T> self, const shape& axes, bool) {
    chip::host_kernels::mean(out, self, ops::detail::axis_bits("mean", axes, self.rank()));
  }
};
template <>
struct kernel<ops::max, keys::backend<chip::host>> {
  static constexpr output_kind outputs = output_kind::contiguous;
  template <class T>
  static void impl(context<chip::host>&, view<T> out, view<const T> self, const shape& axes, bool) {
    chip::host_kernels::max(out, self, ops::detail::axis_bits("max", axes, self.rank()));
  }
};
template <>
struct kernel<ops::min, keys::backend<chip::host>> {
  static constexpr output_kind outputs = output_kind::contiguous;
  template <class T>
  static void impl(context<chip::host>&, view<T> out, view<const T> self, const shape& axes, bool) {
    chip::host_kernels::min(out, self, ops::detail::axis_bits("min", axes, self.rank()));
  }
};
template <>
struct kernel<ops::argmax, keys::backend<chip::host>> {
  static constexpr output_kind outputs = output_kind::contiguous;
  template <class T>
  static void impl(context<chip::host>&, view<std::int64_t> out, view<const T> self,
                   const shape& axes, bool) {
    chip::host_kernels::argmax(out, self, ops::detail::axis_bits("argmax", axes, self.rank()));
  }
};
template <>
struct kernel<ops::sum_to, keys::backend<chip::host>> {
  static constexpr output_kind outputs = output_kind::contiguous;
  template <class T>
  static void impl(context<chip::host>&, view<T> out, view<const T> self, const shape&) {
    chip::host_kernels::sum_to(out, self);
  }
};
template <>
struct kernel<ops::sum_squares, keys::backend<chip::host>> {
  template <Floating T>
  static void impl(context<chip::host>&, view<T> out, view<const T> self) {
    chip::host_kernels::sum_squares(out, self);
  }
};

/// `f(x, axes = {}, keepdim = false)`, `f(x, axis, keepdim = false)`.
template <class Op>
struct reduction_function : spelled_function<reduction_function<Op>> {
  static constexpr auto spell(auto to, const ashlar::detail::AnyOrTensor auto& x,
                              const shape& axes = {}, bool keepdim = false) {
    return to(op_function<Op>{}, x, axes, keepdim);
  }
  template <std::integral I>
  static constexpr auto spell(auto to, const ashlar::detail::AnyOrTensor auto& x, I axis,
                              bool keepdim = false) {
    return spell(to, x, shape{static_cast<std::int64_t>(axis)}, keepdim);
  }
};
inline constexpr reduction_function<ops::mean> mean;
inline constexpr reduction_function<ops::max> max;
inline constexpr reduction_function<ops::min> min;
inline constexpr reduction_function<ops::argmax> argmax;

/// As the others; integers and `bool` are summed as int64.
inline constexpr struct sum_function : spelled_function<sum_function> {
  static constexpr auto spell(auto to, const ashlar::detail::AnyOrTensor auto& x,
                              const shape& axes = {}, bool keepdim = false) {
    return to(op_function<ops::sum>{}, ops::detail::integers_as<std::int64_t>(x), axes, keepdim);
  }
  template <std::integral I>
  static constexpr auto spell(auto to, const ashlar::detail::AnyOrTensor auto& x, I axis,
                              bool keepdim = false) {
    return spell(to, x, shape{static_cast<std::int64_t>(axis)}, keepdim);
  }
} sum;

/// `sum_to(x, shape)`.
inline constexpr struct sum_to_function : spelled_function<sum_to_function> {
  static constexpr auto spell(auto to, const ashlar::detail::AnyOrTensor auto& x,
                              const shape& extents) {
    return to(op_function<ops::sum_to>{}, x, extents);
  }
} sum_to;
inline constexpr op_function<ops::sum_squares> sum_squares;

}  // namespace ashlar
