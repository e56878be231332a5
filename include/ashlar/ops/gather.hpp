// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <concepts>
#include <cstdint>
#include <string_view>

#include "ashlar/chip/host/gather.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/dispatch.hpp"
#include "ashlar/ops/comparison.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/elementwise.hpp"
#include "ashlar/ops/embedding.hpp"
#include "ashlar/ops/fwd.hpp"
#include "ashlar/ops/meta_kernels.hpp"
#include "ashlar/ops/views.hpp"

/// Elements by number along an axis: read, written, added up.
namespace ashlar {

namespace ops {

namespace detail {

/// The axis, where `index` has the rank of `self` and fits into it off the axis.
constexpr int require_index(std::string_view op, const tensor_spec& self, const tensor_spec& index,
                            std::int64_t axis) {
  const int a = wrap_axis(op, axis, self.rank);
  bool fits = index.rank == self.rank;
  for (int i = 0; fits && i < self.rank; ++i) {
    fits = i == a || index[i] <= self[i];
  }
  if (!fits) {
    throw shape_error(op, self.shape(), index.shape(),
                      "the index has as many axes, and no more places than the first off its axis");
  }
  return a;
}

/// Zeros of a shape that take no room.
auto spread_zeros(const auto& like, const shape& to) {
  return call<expand>(scalar_like(like, 0.0), to);
}

}  // namespace detail

/// `y[.., i, ..] = self[.., index[.., i, ..], ..]`, along one axis.
///
/// Shapes: `index`: as many axes as `self`, off the axis at most its extents; the result's.
/// Throws: `shape_error`; `argument_error` for an index that does not exist.
struct gather {
  static constexpr std::string_view name = "gather";
  static constexpr std::array arguments{argument{"self"}, argument{"index", true}};
  static constexpr tensor_spec meta(const tensor_spec& self, const tensor_spec& index,
                                    std::int64_t axis) {
    detail::require_index(name, self, index, axis);
    return contiguous_spec(self.type, index.shape());
  }
  using precomputed = int;  ///< the axis, from the front
  static constexpr int precompute(const tensor_spec& self, const tensor_spec&, std::int64_t axis) {
    return wrap_axis(name, axis, self.rank);
  }
  struct derivative {
    static constexpr std::array needs{arg<1>.bit, 0u};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      return call<scatter>(detail::spread_zeros(g, saved.shape(arg<0>)), saved(arg<1>), g,
                           saved(arg<2>), true);
    }
  };
};

/// `y = self`, then in row-major order `y[.., index[.., i, ..], ..] = source[.., i, ..]`, or that
/// added to it.
///
/// Where places are equal the last one wins; the gradient of `source` is right where each place is
/// written once or where it is added.
/// Shapes: `index`, `source`: the same, off the axis at most the extents of `self`.
/// Throws: as `gather`.
struct scatter {
  static constexpr std::string_view name = "scatter";
  static constexpr std::array arguments{argument{"self"}, argument{"index", true},
                                        argument{"source"}};
  static constexpr tensor_spec meta(const tensor_spec& self, const tensor_spec& index,
                                    const tensor_spec& source, std::int64_t axis, bool) {
    detail::require_index(name, self, index, axis);
    if (!same_shape(index, source)) {
      throw shape_error(name, index.shape(), source.shape(),
                        "index and source must have the same shape");
    }
    return contiguous_like(self, promote(self.type, source.type));
  }
  struct precomputed {
    int axis;
    bool accumulate;
  };
  static constexpr precomputed precompute(const tensor_spec& self, const tensor_spec&,
                                          const tensor_spec&, std::int64_t axis, bool accumulate) {
    return {wrap_axis(name, axis, self.rank), accumulate};
  }
  struct derivative {
    static constexpr std::array needs{arg<1>.bit, 0u, arg<1>.bit};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      const auto& index = saved(arg<1>);
      if constexpr (I == 2) {
        return call<gather>(g, index, saved(arg<3>));
      } else if (saved(arg<4>)) {
        return g;
      } else {
        return call<scatter>(g, index, detail::spread_zeros(g, shape(index.shape())), saved(arg<3>),
                             false);
      }
    }
  };
};

}  // namespace ops

template <>
struct kernel<ops::gather, keys::backend<chip::host>> {
  template <class T, std::integral I>
  static void impl(context<chip::host>&, view<T> out, view<const T> self, view<const I> index,
                   int axis) {
    chip::host_kernels::gather(out, self, index, axis);
  }
};
template <>
struct kernel<ops::scatter, keys::backend<chip::host>> {
  template <class T, std::integral I>
  static void impl(context<chip::host>&, view<T> out, view<const T> self, view<const I> index,
                   view<const T> source, const ops::scatter::precomputed& how) {
    chip::host_kernels::scatter(out, self, index, source, how.axis, how.accumulate);
  }
};

/// `gather(x, axis, index)`.
inline constexpr struct gather_function : spelled_function<gather_function> {
  static constexpr auto spell(auto to, const Tensor auto& x, std::int64_t axis,
                              const Tensor auto& index) {
    return to(op_function<ops::gather>{}, x, index, axis);
  }
} gather;

/// `scatter(x, axis, index, source)` writes, `scatter_add(x, axis, index, source)` adds.
template <bool Accumulate>
struct scatter_function : spelled_function<scatter_function<Accumulate>> {
  static constexpr auto spell(auto to, const Tensor auto& x, std::int64_t axis,
                              const Tensor auto& index, const Tensor auto& source) {
    return to(op_function<ops::scatter>{}, x, index, source, axis, Accumulate);
  }
};
inline constexpr scatter_function<false> scatter;
inline constexpr scatter_function<true> scatter_add;

/// `index_select(x, axis, ids)`: the places `ids` of an axis, in their order.
///
/// Shapes: `ids`: (N); the result: that of `x` with N places along the axis.
/// Throws: `shape_error`; `argument_error` for an id that does not exist.
/// Cost:   along the first axis one copy of each row; else a copy of `x` more.
inline constexpr struct index_select_function : spelled_function<index_select_function> {
  static constexpr auto spell(auto to, const Tensor auto& x, std::int64_t axis,
                              const Tensor auto& ids) {
    ops::detail::require_defined("index_select", x, ids);
    if (ids.rank() != 1) {
      throw shape_error("index_select", x.shape(), ids.shape(), "the ids must be (N)");
    }
    const std::int64_t a = wrap_axis("index_select", axis, x.rank());
    const auto turned = transpose(x, 0, a);
    shape extents(turned.shape());
    const std::int64_t rows = extents[0];
    std::int64_t columns = 1;
    for (int i = 1; i < extents.rank(); ++i) {
      columns *= extents[i];
    }
    const auto picked = embedding(reshape(turned, shape{rows, columns}), ids);
    extents[0] = ids.extent(0);
    return to.value("index_select", transpose(reshape(picked, extents), 0, a));
  }
} index_select;

/// `one_hot<X>(ids, classes)`: 1 at place `ids[...]` of a new last axis, else 0; all 0 for an id
/// that is no class.
template <Tensor X>
struct one_hot_function : spelled_function<one_hot_function<X>> {
  static constexpr auto spell(auto to, const Tensor auto& ids, std::int64_t classes) {
    return to.value(
        "one_hot",
        X(cast<typename X::value_type>(eq(unsqueeze(ops::detail::in_type<std::int64_t>(ids), -1),
                                          ops::detail::places(ids, classes)))));
  }
};
template <Tensor X>
inline constexpr one_hot_function<X> one_hot;

}  // namespace ashlar
