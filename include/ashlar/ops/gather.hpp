// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <concepts>
#include <cstdint>
#include <string>
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

/// `y` with the strides of `meta`, where those of extents of 1 are still a view's.
template <class X>
X with_strides_of(const tensor_spec& meta, const X& y) {
  return y.spec() == meta ? y : X(call<view_as>(y, shape(meta.shape())));
}

/// `ids`, (N), as the index of a `gather` along `axis` whose result has the shape `to`: a view.
auto along_axis(const auto& ids, const shape& to, int axis) {
  shape apart;
  for (int i = 0; i < to.rank(); ++i) {
    apart.push_back(i == axis ? ids.extent(0) : 1);
  }
  return call<expand>(call<reshape>(ids, apart), to);
}
/// A tensor of this shape as a matrix whose rows are numbered along its first axis.
inline shape rows_and_columns(const shape& s) {
  shape matrix{s[0], 1};
  for (int i = 1; i < s.rank(); ++i) {
    matrix[1] *= s[i];
  }
  return matrix;
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

/// The places `ids` of an axis, in their order.
///
/// Shapes: `ids`: (N); the result: that of `self` with N places along the axis.
/// Throws: `shape_error`; `argument_error` for an id that does not exist.
/// Cost:   along the first axis a copy of each row, else of each element.
struct index_select {
  static constexpr std::string_view name = "index_select";
  static constexpr std::array arguments{argument{"self"}, argument{"ids", true, true}};
  static constexpr bool captured_in_parts = true;
  static constexpr tensor_spec meta(const tensor_spec& self, const tensor_spec& ids,
                                    std::int64_t axis) {
    const int a = wrap_axis(name, axis, self.rank);
    if (ids.rank != 1) {
      throw shape_error(name, self.shape(), ids.shape(), "the ids must be (N)");
    }
    shape to(self.shape());
    to[a] = ids[0];
    return contiguous_spec(self.type, to.span());
  }
  struct composite {
    auto operator()(const auto& x, const auto& ids, std::int64_t axis) const {
      detail::require_defined(name, x, ids);
      const shape to(meta(x.spec(), ids.spec(), axis).shape());
      const int a = wrap_axis(name, axis, x.rank());
      if (a != 0 && x.size() != 0) {
        return call<gather>(x, detail::along_axis(ids, to, a), std::int64_t{a});
      }
      // Where there are no elements, rows without any: ids are looked at all the same.
      const auto table = call<reshape>(
          x, a != 0 ? shape{x.extent(a), 0} : detail::rows_and_columns(shape(x.shape())));
      return call<reshape>(call<embedding>(table, ids), to);
    }
  };
  struct derivative {
    static constexpr std::array needs{arg<1>.bit, 0u};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      const shape to = saved.shape(arg<0>);
      const int a = wrap_axis(name, saved(arg<2>), to.rank());
      const auto& ids = saved(arg<1>);
      if (a != 0) {
        return call<scatter>(detail::spread_zeros(g, to),
                             detail::along_axis(ids, shape(g.shape()), a), g, std::int64_t{a},
                             true);
      }
      const auto rows = call<reshape>(g, detail::rows_and_columns(shape(g.shape())));
      return call<reshape>(call<embedding_backward>(rows, ids, to[0]), to);
    }
  };
};

/// 1 at place `ids[...]` of a new last axis, else 0, as `T`.
///
/// Shapes: `ids`: (...), integers; the result: (..., classes).
/// Throws: `argument_error` for an id that is no class, and for a negative number of classes.
template <class T>
struct one_hot {
  static constexpr std::string_view name = "one_hot";
  static constexpr std::array arguments{argument{"ids", true, true}};
  static constexpr bool captured_in_parts = true;
  static constexpr tensor_spec meta(const tensor_spec& ids, std::int64_t classes) {
    if (classes < 0) {
      throw argument_error("ashlar::one_hot",
                           std::to_string(classes) + " classes; give a number from 0 on");
    }
    shape to(ids.shape());
    to.push_back(classes);
    return contiguous_spec(dtype_of<T>, to.span());
  }
  struct composite {
    auto operator()(const auto& ids, std::int64_t classes) const {
      detail::require_defined(name, ids);
      const tensor_spec spec = meta(ids.spec(), classes);
      const shape to(spec.shape());
      const auto place = call<unsqueeze>(ids, std::int64_t{-1});
      const auto spread = [&](double value, const shape& over) {
        return call<expand>(detail::in_type<T>(detail::scalar_like(ids, value)), over);
      };
      const auto y = call<scatter>(spread(0.0, to), place, spread(1.0, shape(place.shape())),
                                   std::int64_t{-1}, false);
      return detail::with_strides_of(spec, y);
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
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x, std::int64_t axis,
                              const detail::AnyOrTensor auto& index) {
    return to(op_function<ops::gather>{}, x, index, axis);
  }
} gather;

/// `scatter(x, axis, index, source)` writes, `scatter_add(x, axis, index, source)` adds.
template <bool Accumulate>
struct scatter_function : spelled_function<scatter_function<Accumulate>> {
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x, std::int64_t axis,
                              const detail::AnyOrTensor auto& index,
                              const detail::AnyOrTensor auto& source) {
    return to(op_function<ops::scatter>{}, x, index, source, axis, Accumulate);
  }
};
inline constexpr scatter_function<false> scatter;
inline constexpr scatter_function<true> scatter_add;

/// `index_select(x, axis, ids)`.
inline constexpr struct index_select_function : spelled_function<index_select_function> {
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x, std::int64_t axis,
                              const detail::AnyOrTensor auto& ids) {
    return to(op_function<ops::index_select>{}, x, ids, axis);
  }
} index_select;

/// `one_hot<X>(ids, classes)`: see `ops::one_hot`.
template <Tensor X>
struct one_hot_function : spelled_function<one_hot_function<X>> {
  static constexpr auto spell(auto to, const Tensor auto& ids, std::int64_t classes) {
    return to.value("one_hot", X(call<ops::one_hot<typename X::value_type>>(ids, classes)));
  }
};
template <Tensor X>
inline constexpr one_hot_function<X> one_hot;

}  // namespace ashlar
