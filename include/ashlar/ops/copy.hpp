// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <string_view>
#include <type_traits>

#include "ashlar/chip/host/copy.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/dispatch.hpp"
#include "ashlar/ops/fwd.hpp"
#include "ashlar/ops/meta_kernels.hpp"

/// Copies, with conversion and broadcasting.
namespace ashlar {

namespace ops {

/// The elements as another type; of the same type: a copy.
///
/// Floating to integer goes towards zero and is clamped; to `bool`: whether it is not zero.
template <class T>
struct cast {
  static constexpr std::string_view name = "cast";
  static constexpr std::array arguments{argument{"self", true}};
  static constexpr bool elementwise = true;
  static constexpr dtype result_type = dtype_of<T>;
  static constexpr tensor_spec meta(const tensor_spec& self) {
    return contiguous_like(self, result_type);
  }
  struct derivative {
    static constexpr std::array needs{0u};
    template <int I, class Saved>
    static auto vjp(const auto& g, const Saved&) {
      using from = typename std::remove_cvref_t<Saved>::template argument<0>::value_type;
      return call<cast<from>>(g);
    }
  };
};

/// `other` in the shape and type of `self`; `copy.in_place(self, other)` writes it there.
struct copy {
  static constexpr std::string_view name = "copy";
  static constexpr std::array arguments{argument{"self"}, argument{"other", true}};
  static constexpr bool elementwise = true;
  static constexpr tensor_spec meta(const tensor_spec& self, const tensor_spec& other) {
    if (!same_shape(self, other)) {
      const tensor_spec both = broadcast(name, self, other);
      if (!same_shape(both, self)) {
        throw shape_error(name, self.shape(), other.shape(),
                          "the second must broadcast to the first");
      }
    }
    return contiguous_like(self, self.type);
  }
  struct derivative {
    static constexpr std::array needs{0u, 0u};
    template <int I>
    static auto vjp(const auto& g, const auto&) {
      if constexpr (I == 0) {
        return call<fill>(g, 0.0);
      } else {
        return g;  // cast to the type of `other` by the receiver
      }
    }
  };
};

/// A row-major copy.
struct clone {
  static constexpr std::string_view name = "clone";
  static constexpr std::array arguments{argument{"self"}};
  static constexpr bool elementwise = true;
  static constexpr tensor_spec meta(const tensor_spec& self) {
    return contiguous_like(self, self.type);
  }
  struct derivative {
    static constexpr std::array needs{0u};
    template <int I>
    static auto vjp(const auto& g, const auto&) {
      return g;
    }
  };
};

/// The tensor itself where its elements stand in row-major order, else a copy.
struct contiguous {
  static constexpr std::string_view name = "contiguous";
  static constexpr std::array arguments{argument{"self"}};
  struct composite {
    template <class X>
    std::remove_cv_t<X> operator()(X& self) const {
      if (!self) {
        throw undefined_tensor(name);
      }
      return self.contiguous() ? self : call<clone>(self);
    }
  };
};

}  // namespace ops

template <class R>
struct kernel<ops::cast<R>, keys::backend<chip::host>> {
  template <class T>
  static void impl(context<chip::host>&, view<R> out, view<const T> self) {
    chip::host_kernels::cast(out, self);
  }
};
template <>
struct kernel<ops::copy, keys::backend<chip::host>> {
  template <class T, class U>
  static void impl(context<chip::host>&, view<T> out, view<const T>, view<const U> other) {
    chip::host_kernels::copy(out, other);
  }
};
template <>
struct kernel<ops::clone, keys::backend<chip::host>> {
  template <class T>
  static void impl(context<chip::host>&, view<T> out, view<const T> self) {
    chip::host_kernels::copy(out, self);
  }
};

template <Scalar T>
inline constexpr op_function<ops::cast<T>> cast;
inline constexpr op_function<ops::copy> copy;
inline constexpr op_function<ops::clone> clone;
inline constexpr op_function<ops::contiguous> contiguous;

}  // namespace ashlar

// The gradient of what is written over is a fill, and reading elements needs a copy.
#include "ashlar/ops/creation.hpp"
