// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/chip/host/copy.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/core/geometry.hpp"
#include "ashlar/dispatch.hpp"
#include "ashlar/ops/fwd.hpp"
#include "ashlar/ops/meta_kernels.hpp"
#include "ashlar/ops/views.hpp"

/// Tensors one after the other along an axis.
namespace ashlar {

namespace ops {

/// `cat(tensors..., axis)`: up to sixteen tensors that differ at most in the extent of `axis`.
struct cat {
  static constexpr std::string_view name = "cat";
  static constexpr std::size_t most_tensors = 16;
  static constexpr auto arguments = [] {
    std::array<argument, most_tensors> all{};
    all.fill(argument{"tensor"});
    return all;
  }();

  static constexpr tensor_spec meta(const tensor_spec& first, const auto&... rest) {
    const auto all = std::tie(rest...);
    constexpr std::size_t others = sizeof...(rest) - 1;
    static_assert(others < most_tensors,
                  "ashlar::cat: at most sixteen tensors at once; give more as a std::span");
    const int axis = wrap_axis(name, std::get<others>(all), first.rank);
    shape to(first.shape());
    dtype type = first.type;
    const auto append = [&](const tensor_spec& s) {
      bool fits = s.rank == first.rank;
      for (int i = 0; fits && i < first.rank; ++i) {
        fits = i == axis || s[i] == first[i];
      }
      if (!fits) {
        throw shape_error(name, first.shape(), s.shape(),
                          "only the extents of the axis may differ");
      }
      to[axis] += s[axis];
      type = promote(type, s.type);
    };
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (append(std::get<I>(all)), ...);
    }(std::make_index_sequence<others>{});
    return contiguous_spec(type, to.span());
  }

  struct derivative {
    // A tensor's place depends on the extents of those before it, which nobody else remembers.
    static constexpr std::array needs{(1u << most_tensors) - 1u};
    template <int I, class Saved>
    static auto vjp(const auto& g, const Saved& saved) {
      constexpr int count = static_cast<int>(std::remove_cvref_t<Saved>::tensor_count);
      const std::int64_t axis = wrap_axis(name, saved(arg<count>), g.rank());
      const auto extent = [&](auto which) { return saved.shape(which)[static_cast<int>(axis)]; };
      const std::int64_t begin = [&]<int... J>(std::integer_sequence<int, J...>) {
        return (std::int64_t{0} + ... + extent(arg<J>));
      }(std::make_integer_sequence<int, I>{});
      return call<narrow>(g, axis, begin, extent(arg<I>));
    }
  };
};

}  // namespace ops

template <>
struct kernel<ops::cat, keys::backend<chip::host>> {
  template <class T, class... A>
  static void impl(context<chip::host>&, view<T> out, const A&... args) {
    const auto all = std::tie(args...);
    constexpr std::size_t count = sizeof...(args) - 1;
    const int axis = wrap_axis(ops::cat::name, std::get<count>(all), out.rank());
    std::int64_t begin = 0;
    const auto place = [&](view<const T> x) {
      const tensor_spec part = geometry::narrow(*out.spec, axis, begin, x.extent(axis));
      chip::host_kernels::copy(view<T>{out.data + (part.offset - out.spec->offset), &part}, x);
      begin += x.extent(axis);
    };
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (place(std::get<I>(all)), ...);
    }(std::make_index_sequence<count>{});
  }
};

/// `cat(a, b, ..., axis)` or `cat(span_of_tensors, axis)`.
///
/// Throws: `shape_error`; `argument_error` for no tensors.
/// Cost:   one copy; a span of n tensors: log4(n) copies, so that one operator serves any number.
inline constexpr struct cat_function : spelled_function<cat_function> {
  /// The axis stands after the tensors.
  template <detail::AnyOrTensor X, class... Rest>
    requires(std::is_convertible_v<std::tuple_element_t<sizeof...(Rest), std::tuple<X, Rest...>>,
                                   std::int64_t>)
  static constexpr auto spell(auto to, const X& first, const Rest&... rest) {
    constexpr std::size_t tensors = sizeof...(Rest);
    const auto all = std::tie(first, rest...);
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      return to(op_function<ops::cat>{}, std::get<I>(all)...,
                static_cast<std::int64_t>(std::get<tensors>(all)));
    }(std::make_index_sequence<tensors>{});
  }
  template <detail::AnyOrTensor... X>
  static void spell(auto, const X&...) {
    static_assert(sizeof...(X) == 0, "ashlar::cat: the axis stands after the tensors; give one");
  }
  template <detail::AnyOrTensor X>
  static constexpr auto spell(auto to, std::span<const X> tensors, std::int64_t axis) {
    constexpr op_function<ops::cat> join;
    const std::size_t n = tensors.size();
    const auto part = [&](std::size_t i) {
      return joined(tensors.subspan(i * n / 4, (i + 1) * n / 4 - i * n / 4), axis);
    };
    switch (n) {
      case 0:
        throw argument_error("ashlar::cat", "no tensors; give at least one");
      case 1:
        return to(join, tensors[0], axis);
      case 2:
        return to(join, tensors[0], tensors[1], axis);
      case 3:
        return to(join, tensors[0], tensors[1], tensors[2], axis);
      case 4:
        return to(join, tensors[0], tensors[1], tensors[2], tensors[3], axis);
      default:
        return to(join, part(0), part(1), part(2), part(3), axis);
    }
  }
  template <detail::AnyOrTensor X>
  static constexpr auto spell(auto to, const std::vector<X>& tensors, std::int64_t axis) {
    return spell(to, std::span<const X>(tensors), axis);
  }

 private:
  template <detail::AnyOrTensor X>
  static X joined(std::span<const X> tensors, std::int64_t axis) {
    return spell(detail::to_result{}, tensors, axis);
  }
} cat;

}  // namespace ashlar
