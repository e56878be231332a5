// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "ashlar/chip/host/gather.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/dispatch.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/fwd.hpp"
#include "ashlar/ops/gather.hpp"
#include "ashlar/ops/meta_kernels.hpp"

/// The order of elements along an axis.
namespace ashlar {

namespace ops {

/// The places of the first `count` elements in order along an axis; equal ones by place.
///
/// NaN counts as the largest. A tensor without dimensions is a row of one element.
/// Throws: `argument_error` for a count that the axis does not have.
struct argsort {
  static constexpr std::string_view name = "argsort";
  static constexpr std::array arguments{argument{"self"}};
  static constexpr dtype result_type = dtype::int64;
  static constexpr tensor_spec meta(const tensor_spec& self, std::int64_t axis, bool,
                                    std::int64_t count) {
    return places_of(name, self, axis, count);
  }
  /// The same for an operator of that name.
  static constexpr tensor_spec places_of(std::string_view op, const tensor_spec& self,
                                         std::int64_t axis, std::int64_t count) {
    const int a = row_axis(op, axis, self.rank);
    const std::int64_t n = self.rank == 0 ? 1 : self[a];
    if (count < 0 || count > n || (self.rank == 0 && count != 1)) {
      throw argument_error(
          "ashlar::" + std::string(op),
          std::to_string(count) + " places of " + std::to_string(n) + "; they must all exist");
    }
    shape to(self.shape());
    if (self.rank != 0) {
      to[a] = count;
    }
    return contiguous_spec(result_type, to.span());
  }
  struct precomputed {
    int axis;
    bool descending;
  };
  static constexpr precomputed precompute(const tensor_spec& self, std::int64_t axis,
                                          bool descending, std::int64_t) {
    return {row_axis(name, axis, self.rank), descending};
  }
};

namespace detail {
/// The gradient of what takes elements in an order, as values and places: it goes where they stood.
template <int Axis>
struct back_to_places {
  static constexpr std::array needs{result.bit};
  static constexpr std::array kept{1};  ///< the places alone
  template <int I>
  static auto vjp(const auto& g, const auto& saved) {
    const auto& values = std::get<0>(g);
    return values.rank() == 0
               ? values
               : call<scatter>(spread_zeros(values, saved.shape(arg<0>)),
                               std::get<1>(saved(result)), values, saved(arg<Axis>), true);
  }
};
}  // namespace detail

/// The `k` largest elements along an axis, largest first, or the smallest, smallest first: values
/// and places; equal ones by place.
///
/// NaN counts as the largest. A tensor without dimensions is a row of one element.
/// Throws: `argument_error` for a `k` that the axis does not have.
struct topk {
  static constexpr std::string_view name = "topk";
  static constexpr std::array arguments{argument{"self"}};
  static constexpr bool captured_in_parts = true;
  static constexpr std::array<tensor_spec, 2> meta(const tensor_spec& self, std::int64_t k,
                                                   std::int64_t axis, bool) {
    const tensor_spec places = argsort::places_of(name, self, axis, k);
    return {contiguous_spec(self.type, places.shape()), places};
  }
  struct composite {
    template <class X>
    auto operator()(const X& x, std::int64_t k, std::int64_t axis, bool largest) const {
      detail::require_defined(name, x);
      static_cast<void>(meta(x.spec(), k, axis, largest));  // what throws has this name
      auto places = call<argsort>(x, axis, largest, k);
      X values = x.rank() == 0 ? X(call<clone>(x)) : X(call<gather>(x, places, axis));
      return std::tuple(std::move(values), std::move(places));
    }
  };
  using derivative = detail::back_to_places<2>;
};

/// All elements in order along an axis: values and places; equal ones by place.
///
/// NaN counts as the largest. A tensor without dimensions is a row of one element.
struct sort {
  static constexpr std::string_view name = "sort";
  static constexpr std::array arguments{argument{"self"}};
  static constexpr bool captured_in_parts = true;
  /// How many places there are.
  static constexpr std::int64_t places_along(const tensor_spec& self, std::int64_t axis) {
    const int a = row_axis(name, axis, self.rank);
    return self.rank == 0 ? 1 : self[a];
  }
  static constexpr std::array<tensor_spec, 2> meta(const tensor_spec& self, std::int64_t axis,
                                                   bool descending) {
    return topk::meta(self, places_along(self, axis), axis, descending);
  }
  struct composite {
    auto operator()(const auto& x, std::int64_t axis, bool descending) const {
      detail::require_defined(name, x);
      return call<topk>(x, places_along(x.spec(), axis), axis, descending);
    }
  };
  using derivative = detail::back_to_places<1>;
};

}  // namespace ops

template <>
struct kernel<ops::argsort, keys::backend<chip::host>> {
  template <class T>
  static void impl(context<chip::host>&, view<std::int64_t> out, view<const T> self,
                   const ops::argsort::precomputed& how) {
    chip::host_kernels::argsort(out, self, how.axis, how.descending);
  }
};

/// `argsort(x, axis = -1, descending = false)`.
inline constexpr struct argsort_function : spelled_function<argsort_function> {
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x, std::int64_t axis = -1,
                              bool descending = false) {
    ops::detail::require_defined("argsort", x);
    const int a = row_axis("argsort", axis, x.rank());
    return to(op_function<ops::argsort>{}, x, axis, descending,
              x.rank() == 0 ? std::int64_t{1} : x.extent(a));
  }
} argsort;

/// `topk(x, k, axis = -1, largest = true)` -> values, places.
inline constexpr struct topk_function : spelled_function<topk_function> {
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x, std::int64_t k,
                              std::int64_t axis = -1, bool largest = true) {
    return to(op_function<ops::topk>{}, x, k, axis, largest);
  }
} topk;

/// `sort(x, axis = -1, descending = false)` -> values, places.
inline constexpr struct sort_function : spelled_function<sort_function> {
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x, std::int64_t axis = -1,
                              bool descending = false) {
    return to(op_function<ops::sort>{}, x, axis, descending);
  }
} sort;

}  // namespace ashlar
