// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "ashlar/chip/host/copy.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/dispatch.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/elementwise.hpp"
#include "ashlar/ops/fwd.hpp"
#include "ashlar/ops/meta_kernels.hpp"

/// Tensors from numbers, and numbers from tensors.
namespace ashlar {

namespace ops {

/// One number everywhere; `fill.in_place(self, value)` writes it there.
struct fill {
  static constexpr std::string_view name = "fill";
  static constexpr std::array arguments{argument{"self"}};
  static constexpr bool elementwise = true;
  static constexpr tensor_spec meta(const tensor_spec& self, double) {
    return contiguous_like(self, self.type);
  }
  struct derivative {
    static constexpr std::array needs{0u};
    template <int I>
    static auto vjp(const auto& g, const auto&) {
      return call<fill>(g, 0.0);
    }
  };
};

/// `start + i * step` for element `i` in row-major order, in the shape of `self`.
struct arange {
  static constexpr std::string_view name = "arange";
  static constexpr std::array arguments{argument{"self"}};
  static constexpr bool elementwise = true;
  static constexpr tensor_spec meta(const tensor_spec& self, double, double) {
    return contiguous_like(self, self.type);
  }
};

}  // namespace ops

template <>
struct kernel<ops::fill, keys::backend<chip::host>> {
  template <class T>
  static void impl(context<chip::host>&, view<T> out, view<const T>, double value) {
    chip::host_kernels::fill(out, chip::host_kernels::convert<T>(value));
  }
};
template <>
struct kernel<ops::arange, keys::backend<chip::host>> {
  template <class T>
  static void impl(context<chip::host>&, view<T> out, view<const T>, double start, double step) {
    if constexpr (Floating<T>) {
      chip::host_kernels::arange(out, start, step);
    } else {
      using chip::host_kernels::convert;
      chip::host_kernels::arange(out, convert<std::int64_t>(start), convert<std::int64_t>(step));
    }
  }
};

/// `fill(x, value)`, `fill.in_place(x, value)`.
inline constexpr struct fill_function : spelled_function<fill_function> {
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x, double value) {
    return to(op_function<ops::fill>{}, x, value);
  }
} fill;

/// Throws: `size_error`, `rank_error`, `memory::out_of_memory`; so all that make tensors here.
template <Tensor X>
[[nodiscard]] X full(const shape& extents, double value) {
  X x = empty<X>(extents);
  fill.in_place(x, value);
  return x;
}
template <Tensor X>
[[nodiscard]] X zeros(const shape& extents) {
  return full<X>(extents, 0.0);
}
template <Tensor X>
[[nodiscard]] X ones(const shape& extents) {
  return full<X>(extents, 1.0);
}

/// `start`, `start + step`, ...: `count` of them.
template <Tensor X>
[[nodiscard]] X arange(std::int64_t count, double start = 0.0, double step = 1.0) {
  X x = empty<X>({count});
  op_function<ops::arange>{}.in_place(x, start, step);
  return x;
}

namespace ops::detail {
/// 0, 1, ... as int64, on the chip of `x`.
template <class X>
[[nodiscard]] auto places(const X& x, std::int64_t count) {
  [[maybe_unused]] const auto there = beside(x);
  return ashlar::arange<tensor<std::int64_t, typename X::keys>>(count);
}
}  // namespace ops::detail

namespace detail {
/// The type of a tensor that is made and read at once, whatever keys withhold.
template <Tensor X>
using with_elements = std::conditional_t<
    can_withhold<typename X::keys>,
    tensor<typename X::value_type, key_set<typename backend_of<typename X::keys>::key>>, X>;
}  // namespace detail

/// The given elements in row-major order.
///
/// Throws: `shape_error` where their number is not that of the shape.
template <Tensor X>
[[nodiscard]] X from_values(const shape& extents, std::span<const typename X::value_type> values) {
  const auto x = empty<detail::with_elements<X>>(extents);
  if (static_cast<std::int64_t>(values.size()) != x.size()) {
    throw shape_error("from_values", extents.span(),
                      shape{static_cast<std::int64_t>(values.size())}.span(),
                      "as many values as the shape has elements");
  }
  if (!values.empty()) {
    settle(x);
    chip_of<typename X::keys>::memory::copy_in(x.bytes(), values.data(), values.size_bytes());
  }
  return X(x);
}
template <Tensor X>
[[nodiscard]] X from_values(const shape& extents,
                            std::initializer_list<typename X::value_type> values) {
  return from_values<X>(extents, std::span<const typename X::value_type>(values));
}

namespace detail {
/// The elements of `x` in row-major order, wherever it is. Waits for those who use it.
template <Tensor X>
void read_elements(const X& x, typename X::value_type* to) {
  using chip = chip_of<typename X::keys>;
  [[maybe_unused]] const auto there = beside(x);
  const auto dense = contiguous(with_elements<X>(static_cast<const tensor_handle&>(x)));
  settle(dense);
  if (dense.size() > 0) {
    chip::memory::copy_out(to, dense.bytes(), static_cast<std::size_t>(dense.size()) * sizeof(*to));
  }
}
}  // namespace detail

/// The elements in row-major order. Waits for the chip.
template <Tensor X>
[[nodiscard]] std::vector<typename X::value_type> to_vector(const X& x) {
  using T = typename X::value_type;
  ops::detail::require_defined("to_vector", x);
  detail::require_elements("to_vector", x);
  const auto count = static_cast<std::size_t>(x.size());
  if constexpr (std::is_same_v<T, bool>) {  // whose vector has no elements to write to
    const auto elements = std::make_unique<bool[]>(count);
    detail::read_elements(x, elements.get());
    return std::vector<bool>(elements.get(), elements.get() + count);
  } else {
    std::vector<T> elements(count);
    detail::read_elements(x, elements.data());
    return elements;
  }
}

/// The only element. Waits for the chip. Throws: `argument_error` where it is not alone.
template <Tensor X>
[[nodiscard]] typename X::value_type item(const X& x) {
  ops::detail::require_defined("item", x);
  detail::require_elements("item", x);
  if (x.size() != 1) {
    throw argument_error(
        "ashlar::item", "a tensor of shape " + to_string(x.shape()) + "; it must have one element");
  }
  typename X::value_type value{};
  detail::read_elements(x, &value);
  return value;
}

/// The type of a tensor on another chip.
template <class Chip, Tensor X>
using moved_to =
    tensor<typename X::value_type,
           set_union<exclude<typename X::keys, typename backend_of<typename X::keys>::key>,
                     key_set<keys::backend<Chip>>>>;

/// A copy on a device of a chip, row-major, outside the tape. Waits for the chip that it comes
/// from.
///
/// Throws: `no_such_device`.
template <class Chip, Tensor X>
[[nodiscard]] moved_to<Chip, X> to(const X& x, int ordinal = 0) {
  using T = typename X::value_type;
  using from = chip_of<typename X::keys>;
  ops::detail::require_defined("to", x);
  detail::require_elements("to", x);
  const on_device<Chip> there(ordinal);
  auto moved = empty<moved_to<Chip, X>>(shape(x.shape()));
  if constexpr (
      !requires { Chip::memory::allocates_nothing; } &&
      !requires { from::memory::allocates_nothing; }) {
    const std::size_t bytes = static_cast<std::size_t>(x.size()) * sizeof(T);
    if (bytes == 0) {
      return moved;
    }
    settle(moved);
    if constexpr (memory::HostAddressable<typename Chip::memory>) {
      detail::read_elements(x, moved.data());
    } else {
      const auto elements = std::make_unique_for_overwrite<std::byte[]>(bytes);
      detail::read_elements(x, reinterpret_cast<T*>(elements.get()));
      Chip::memory::copy_in(moved.bytes(), elements.get(), bytes);
    }
  }
  return moved;
}

}  // namespace ashlar
