// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <string_view>
#include <tuple>

#include "ashlar/chip/concept.hpp"
#include "ashlar/dispatch/keys.hpp"

/// Devices as values: which one a call's tensors are on.
namespace ashlar {

/// One device of a chip: `npu:1`.
struct device {
  std::string_view chip;  ///< the name in the chip's description
  int ordinal = 0;
  friend constexpr bool operator==(const device&, const device&) = default;
};

inline std::string to_string(const device& d) {
  return std::string(d.chip) + ':' + std::to_string(d.ordinal);
}

/// Where a tensor is. Requires: `x` is no empty handle.
template <class T, class K>
[[nodiscard]] device device_of(const tensor<T, K>& x) {
  return {chip_of<K>::description.name, x.ordinal()};
}

/// A call with tensors on two devices. Where types tell, it is a compile error instead.
struct device_error final : error {
  std::string op;
  device first, second;

  device_error(std::string_view operation, const device& a, const device& b,
               std::source_location at = std::source_location::current())
      : error(at), op(operation), first(a), second(b) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::" + op + ": tensors on " + to_string(first) + " and on " + to_string(second) +
           "; move one with to<Chip>(x, ordinal)";
  }
};

namespace detail {

template <class Op>
constexpr std::string_view name_of() {
  if constexpr (requires { Op::name; }) {
    return Op::name;
  } else {
    return "call";
  }
}

/// Whether tensors of a set can be on several devices.
template <class Set>
inline constexpr bool has_devices = false;
template <class Set>
  requires backend_of<Set>::is_one
inline constexpr bool has_devices<Set> = device_count<chip_of<Set>> > 1;

/// The ordinal of the tensors of a call; that of this thread where there are none yet.
/// Throws: `device_error`.
template <class Chip, class... A>
int ordinal_of_call(std::string_view op, const A&... args) {
  int ordinal = -1;
  const auto look = [&](const tensor_handle& x) {
    if (x) {
      if (ordinal >= 0 && ordinal != x.ordinal()) [[unlikely]] {
        throw device_error(op, {Chip::description.name, ordinal},
                           {Chip::description.name, x.ordinal()});
      }
      ordinal = x.ordinal();
    }
  };
  const auto look_at = [&]<class X>(const X& a) {
    if constexpr (Tensor<X>) {
      look(a);
    } else if constexpr (!std::is_same_v<typename argument_traits<X>::keys, key_set<>>) {
      std::apply([&](const auto&... each) { (look(each), ...); }, a);
    }
  };
  (look_at(args), ...);
  return ordinal < 0 ? context<Chip>::current().ordinal : ordinal;
}

}  // namespace detail

/// New tensors go where `x` is for as long as it lives.
template <class T, class K>
[[nodiscard]] auto beside(const tensor<T, K>& x) {
  if constexpr (detail::has_devices<K>) {
    return on_device<chip_of<K>>(x.ordinal());
  } else {
    return 0;
  }
}

}  // namespace ashlar
