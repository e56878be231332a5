// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstdint>
#include <string_view>

#include "ashlar/chip/host/copy.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/core/geometry.hpp"
#include "ashlar/dispatch.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/fwd.hpp"
#include "ashlar/ops/meta_kernels.hpp"

/// Other looks at the same elements: no copy, no kernel.
namespace ashlar {

namespace ops {

namespace detail {
struct view_base {
  static constexpr std::array arguments{argument{"self"}};
  static constexpr bool aliases = true;
};
}  // namespace detail

/// Every `step`-th place of `axis` from `begin` up to `end`; bounds as in Python.
struct slice : detail::view_base {
  static constexpr std::string_view name = "slice";
  static constexpr tensor_spec meta(const tensor_spec& self, std::int64_t axis, std::int64_t begin,
                                    std::int64_t end, std::int64_t step) {
    return geometry::slice(self, axis, begin, end, step);
  }
  struct derivative {
    static constexpr std::array needs{0u};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      return call<slice_backward>(g, saved.shape(arg<0>), saved(arg<1>), saved(arg<2>),
                                  saved(arg<3>), saved(arg<4>));
    }
  };
};

/// `length` places of `axis` from `start`, all of which must exist.
struct narrow : detail::view_base {
  static constexpr std::string_view name = "narrow";
  static constexpr tensor_spec meta(const tensor_spec& self, std::int64_t axis, std::int64_t start,
                                    std::int64_t length) {
    return geometry::narrow(self, axis, start, length);
  }
  struct derivative {
    static constexpr std::array needs{0u};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      const std::int64_t start = saved(arg<2>);
      return call<slice_backward>(g, saved.shape(arg<0>), saved(arg<1>), start,
                                  start + saved(arg<3>), std::int64_t{1});
    }
  };
};

/// One place of `axis`, which is gone afterwards.
struct select : detail::view_base {
  static constexpr std::string_view name = "select";
  static constexpr tensor_spec meta(const tensor_spec& self, std::int64_t axis,
                                    std::int64_t index) {
    return geometry::select(self, axis, index);
  }
  struct derivative {
    static constexpr std::array needs{0u};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      const shape from = saved.shape(arg<0>);
      const std::int64_t axis = wrap_axis(name, saved(arg<1>), from.rank());
      const std::int64_t index = saved(arg<2>);
      const std::int64_t at = index < 0 ? index + from[static_cast<int>(axis)] : index;
      return call<slice_backward>(call<unsqueeze>(g, axis), from, axis, at, at + 1,
                                  std::int64_t{1});
    }
  };
};

struct transpose : detail::view_base {
  static constexpr std::string_view name = "transpose";
  static constexpr tensor_spec meta(const tensor_spec& self, std::int64_t axis0,
                                    std::int64_t axis1) {
    return geometry::transpose(self, axis0, axis1);
  }
  struct derivative {
    static constexpr std::array needs{0u};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      return call<transpose>(g, saved(arg<1>), saved(arg<2>));
    }
  };
};

/// Axis `i` of the result is axis `order[i]` of the argument.
struct permute : detail::view_base {
  static constexpr std::string_view name = "permute";
  static constexpr tensor_spec meta(const tensor_spec& self, const shape& order) {
    return geometry::permute(self, order);
  }
  struct derivative {
    static constexpr std::array needs{0u};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      const shape& order = saved(arg<1>);
      shape back = order;
      for (int i = 0; i < order.rank(); ++i) {
        back[wrap_axis(name, order[i], order.rank())] = i;
      }
      return call<permute>(g, back);
    }
  };
};

/// Extents of 1 repeated to `to`; -1 keeps an extent, new axes come first.
struct expand : detail::view_base {
  static constexpr std::string_view name = "expand";
  static constexpr tensor_spec meta(const tensor_spec& self, const shape& to) {
    return geometry::expand(self, to);
  }
  struct derivative {
    static constexpr std::array needs{0u};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      return call<sum_to>(g, saved.shape(arg<0>));
    }
  };
};

/// Without `axis`, whose extent must be 1.
struct squeeze : detail::view_base {
  static constexpr std::string_view name = "squeeze";
  static constexpr tensor_spec meta(const tensor_spec& self, std::int64_t axis) {
    return geometry::squeeze(self, axis);
  }
  struct derivative {
    static constexpr std::array needs{0u};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      const int rank = saved.shape(arg<0>).rank();
      return call<unsqueeze>(g, std::int64_t{wrap_axis(name, saved(arg<1>), rank)});
    }
  };
};

/// With a new axis of extent 1 in front of `axis`.
struct unsqueeze : detail::view_base {
  static constexpr std::string_view name = "unsqueeze";
  static constexpr tensor_spec meta(const tensor_spec& self, std::int64_t axis) {
    return geometry::unsqueeze(self, axis);
  }
  struct derivative {
    static constexpr std::array needs{0u};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      const int rank = saved.shape(arg<0>).rank() + 1;
      return call<squeeze>(g, std::int64_t{wrap_axis(name, saved(arg<1>), rank)});
    }
  };
};

/// The elements in another shape, where that is a view; one extent may be -1.
///
/// Throws: `argument_error` where elements would have to move.
struct view_as : detail::view_base {
  static constexpr std::string_view name = "view_as";
  static constexpr tensor_spec meta(const tensor_spec& self, const shape& to) {
    if (const auto s = geometry::try_reshape(self, to)) {
      return *s;
    }
    throw argument_error("ashlar::view_as", "elements of " + to_string(self.shape()) +
                                                " would have to move for " + to_string(to.span()) +
                                                "; use reshape");
  }
  struct derivative {
    static constexpr std::array needs{0u};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      return call<reshape>(g, saved.shape(arg<0>));
    }
  };
};

/// The elements in another shape: a view where that works, else a copy.
struct reshape {
  static constexpr std::string_view name = "reshape";
  static constexpr std::array arguments{argument{"self"}};
  struct composite {
    auto operator()(const auto& self, const shape& to) const {
      if (!self) {
        throw undefined_tensor(name);
      }
      return geometry::try_reshape(self.spec(), to) ? call<view_as>(self, to)
                                                    : call<view_as>(call<clone>(self), to);
    }
  };
};

/// Zeros of shape `to` with `self` in the place of a slice: the gradient of a slice.
struct slice_backward {
  static constexpr std::string_view name = "slice_backward";
  static constexpr std::array arguments{argument{"self"}};
  static constexpr tensor_spec meta(const tensor_spec& self, const shape& to, std::int64_t axis,
                                    std::int64_t begin, std::int64_t end, std::int64_t step) {
    const tensor_spec whole = contiguous_spec(self.type, to.span());
    const tensor_spec part = geometry::slice(whole, axis, begin, end, step);
    if (!same_shape(part, self)) {
      throw shape_error(name, self.shape(), part.shape(), "must be the shape of the slice");
    }
    return whole;
  }
  struct derivative {
    static constexpr std::array needs{0u};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      return call<slice>(g, saved(arg<2>), saved(arg<3>), saved(arg<4>), saved(arg<5>));
    }
  };
};

}  // namespace ops

template <>
struct kernel<ops::slice_backward, keys::backend<chip::host>> {
  template <class T>
  static void impl(context<chip::host>&, view<T> out, view<const T> self, const shape&,
                   std::int64_t axis, std::int64_t begin, std::int64_t end, std::int64_t step) {
    chip::host_kernels::fill(out, T{});
    const tensor_spec part = geometry::slice(*out.spec, axis, begin, end, step);
    chip::host_kernels::copy(view<T>{out.data + (part.offset - out.spec->offset), &part}, self);
  }
};

/// `slice(x, axis, begin, end, step = 1)`.
inline constexpr struct slice_function : spelled_function<slice_function> {
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x, std::int64_t axis,
                              std::int64_t begin, std::int64_t end, std::int64_t step = 1) {
    return to(op_function<ops::slice>{}, x, axis, begin, end, step);
  }
} slice;

/// `narrow(x, axis, start, length)`.
inline constexpr struct narrow_function : spelled_function<narrow_function> {
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x, std::int64_t axis,
                              std::int64_t start, std::int64_t length) {
    return to(op_function<ops::narrow>{}, x, axis, start, length);
  }
} narrow;

/// `select(x, axis, index)`.
inline constexpr struct select_function : spelled_function<select_function> {
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x, std::int64_t axis,
                              std::int64_t index) {
    return to(op_function<ops::select>{}, x, axis, index);
  }
} select;

/// `transpose(x, axis0, axis1)`; of the last two axes unless told.
inline constexpr struct transpose_function : spelled_function<transpose_function> {
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x, std::int64_t axis0 = -2,
                              std::int64_t axis1 = -1) {
    return to(op_function<ops::transpose>{}, x, axis0, axis1);
  }
} transpose;

/// `permute(x, order)`.
inline constexpr struct permute_function : spelled_function<permute_function> {
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x, const shape& order) {
    return to(op_function<ops::permute>{}, x, order);
  }
} permute;

/// `expand(x, shape)`.
inline constexpr struct expand_function : spelled_function<expand_function> {
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x, const shape& extents) {
    return to(op_function<ops::expand>{}, x, extents);
  }
} expand;

/// `squeeze(x, axis)`.
inline constexpr struct squeeze_function : spelled_function<squeeze_function> {
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x, std::int64_t axis) {
    return to(op_function<ops::squeeze>{}, x, axis);
  }
} squeeze;

/// `unsqueeze(x, axis)`.
inline constexpr struct unsqueeze_function : spelled_function<unsqueeze_function> {
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x, std::int64_t axis) {
    return to(op_function<ops::unsqueeze>{}, x, axis);
  }
} unsqueeze;

/// `view_as(x, shape)`.
inline constexpr struct view_as_function : spelled_function<view_as_function> {
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x, const shape& extents) {
    return to(op_function<ops::view_as>{}, x, extents);
  }
} view_as;

/// `reshape(x, shape)`.
inline constexpr struct reshape_function : spelled_function<reshape_function> {
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x, const shape& extents) {
    return to(op_function<ops::reshape>{}, x, extents);
  }
} reshape;

}  // namespace ashlar

// The gradient of `expand` is a sum, and those of reductions are views.
#include "ashlar/ops/reduction.hpp"
