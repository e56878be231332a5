// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstdint>
#include <string_view>

#include "ashlar/chip/host/detail/rows.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/dispatch.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/elementwise.hpp"
#include "ashlar/ops/fwd.hpp"
#include "ashlar/ops/meta_kernels.hpp"
#include "ashlar/tile/functions.hpp"

/// Running sums.
namespace ashlar {

namespace ops {

/// Each element and all before it along an axis, or all after it, added up in turn.
///
/// A tensor without dimensions is a row of one element.
struct cumsum {
  static constexpr std::string_view name = "cumsum";
  static constexpr std::array arguments{argument{"self"}};
  static constexpr tensor_spec meta(const tensor_spec& self, std::int64_t axis, bool) {
    row_axis(name, axis, self.rank);
    return contiguous_like(self, self.type);
  }
  struct precomputed {
    int axis;
    bool from_end;
  };
  static constexpr precomputed precompute(const tensor_spec& self, std::int64_t axis,
                                          bool from_end) {
    return {row_axis(name, axis, self.rank), from_end};
  }
  struct derivative {
    static constexpr std::array needs{0u};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      return call<cumsum>(g, saved(arg<1>), !saved(arg<2>));
    }
  };
};

}  // namespace ops

template <>
struct kernel<ops::cumsum, keys::backend<chip::host>> {
  template <class T>
  static void impl(context<chip::host>&, view<T> out, view<const T> self,
                   const ops::cumsum::precomputed& how) {
    using C = compute_type<T>;
    if (self.rank() == 0) {
      *out.data = *self.data;
      return;
    }
    chip::host_kernels::detail::for_each_row(
        how.axis, 2,
        [&](std::int64_t, std::int64_t n, T* to, const T* x) {
          C sum{};
          for (std::int64_t i = 0; i < n; ++i) {
            const std::int64_t at = how.from_end ? n - 1 - i : i;
            sum = tile::fn::add{}(sum, static_cast<C>(x[at]));
            to[at] = static_cast<T>(sum);
          }
        },
        out, self);
  }
};

/// `cumsum(x, axis = -1, from_end = false)`; integers and `bool` are summed as int64.
inline constexpr struct cumsum_function : spelled_function<cumsum_function> {
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x, std::int64_t axis = -1,
                              bool from_end = false) {
    return to(op_function<ops::cumsum>{}, ops::detail::integers_as<std::int64_t>(x), axis,
              from_end);
  }
} cumsum;

}  // namespace ashlar
