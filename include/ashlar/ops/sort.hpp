// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "ashlar/chip/host/gather.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/dispatch.hpp"
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
    const int a = row_axis(name, axis, self.rank);
    const std::int64_t n = self.rank == 0 ? 1 : self[a];
    if (count < 0 || count > n || (self.rank == 0 && count != 1)) {
      throw argument_error("ashlar::argsort", std::to_string(count) + " places of " +
                                                  std::to_string(n) + "; they must all exist");
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
  static constexpr auto spell(auto to, const Tensor auto& x, std::int64_t axis = -1,
                              bool descending = false) {
    ops::detail::require_defined("argsort", x);
    const int a = row_axis("argsort", axis, x.rank());
    return to(op_function<ops::argsort>{}, x, axis, descending,
              x.rank() == 0 ? std::int64_t{1} : x.extent(a));
  }
} argsort;

/// `topk(x, k, axis = -1, largest = true)`: the `k` largest along an axis, largest first, or the
/// smallest: a pair of values and places.
///
/// The gradient goes to the elements that were taken.
inline constexpr struct topk_function : spelled_function<topk_function> {
  static constexpr auto spell(auto to, const Tensor auto& x, std::int64_t k, std::int64_t axis = -1,
                              bool largest = true) {
    return to.value("topk", taken("topk", x, k, axis, largest));
  }

  static auto taken(std::string_view name, const auto& x, std::int64_t k, std::int64_t axis,
                    bool largest) {
    ops::detail::require_defined(name, x);
    auto places = call<ops::argsort>(x, axis, largest, k);
    auto values = call<ops::gather>(x, places, axis);
    return std::pair(std::move(values), std::move(places));
  }
} topk;

/// `sort(x, axis = -1, descending = false)`: all elements in order along an axis, as values and
/// places; equal ones in the order of their places.
inline constexpr struct sort_function : spelled_function<sort_function> {
  static constexpr auto spell(auto to, const Tensor auto& x, std::int64_t axis = -1,
                              bool descending = false) {
    ops::detail::require_defined("sort", x);
    return to.value(
        "sort", topk_function::taken("sort", x, x.extent(wrap_axis("sort", axis, x.rank())), axis,
                                     descending));
  }
} sort;

}  // namespace ashlar
