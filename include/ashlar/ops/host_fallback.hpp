// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ashlar/core/geometry.hpp"
#include "ashlar/dispatch/call.hpp"
#include "ashlar/ops/copy.hpp"

/// A chip that has kernels for some operators only: the rest happens on another chip.
namespace ashlar {

/// A chip that names where its missing operators happen: `using falls_back_to = chip::host;`.
template <class C>
concept FallsBack = requires { typename C::falls_back_to; };

/// An operator that happens on another chip than its tensors are on.
struct fallback_notice {
  std::string_view op;
  std::string_view chip;   ///< that has no kernel for it
  std::string_view other;  ///< on which it happens

  [[nodiscard]] std::string to_string() const {
    return "ashlar: " + std::string(op) + " has no kernel on " + std::string(chip) +
           " and happens on " + std::string(other) +
           ", with copies there and back; list one in the chip, or give it codegen\n";
  }
};

/// Hears of each operator of each chip that falls back, at its first call. By default it writes a
/// line to `stderr`; null hears nothing.
inline constinit std::atomic<void (*)(const fallback_notice&)> on_fallback{
    +[](const fallback_notice& n) { std::fputs(n.to_string().c_str(), stderr); }};

namespace detail {

template <class Op, class Chip>
inline std::atomic<bool> fallback_said = false;

template <class Op, class Chip>
void say_fallback() {
  if (!fallback_said<Op, Chip>.load(std::memory_order_relaxed) &&
      !fallback_said<Op, Chip>.exchange(true)) [[unlikely]] {
    if (const auto hear = on_fallback.load()) {
      hear({Op::name, Chip::description.name, Chip::falls_back_to::description.name});
    }
  }
}

/// The bytes that a tensor reaches, from one chip's memory to another's.
/// Requires: both tensors are settled.
template <class From, class To>
void carry_bytes(std::byte* to, const std::byte* from, std::size_t bytes) {
  if (bytes == 0) {
    return;
  }
  if constexpr (memory::HostAddressable<typename To::memory>) {
    From::memory::copy_out(to, from, bytes);
  } else if constexpr (memory::HostAddressable<typename From::memory>) {
    To::memory::copy_in(to, from, bytes);
  } else {
    const auto staged = std::make_unique_for_overwrite<std::byte[]>(bytes);
    From::memory::copy_out(staged.get(), from, bytes);
    To::memory::copy_in(to, staged.get(), bytes);
  }
}

/// A copy with the same strides, as a `Result` on its chip.
template <class Result, class T, class K>
Result carried(const tensor<T, K>& x) {
  tensor_spec spec = x.spec();
  spec.offset = 0;
  Result y = allocate_tensor<Result>(spec);
  settle(x);
  settle(y);
  carry_bytes<chip_of<K>, chip_of<typename Result::keys>>(
      y.bytes(), x.bytes(), static_cast<std::size_t>(reach(spec)) * sizeof(T));
  return y;
}

template <class Chip, class A>
decltype(auto) brought(const A& a) {
  if constexpr (Tensor<A>) {
    return carried<tensor<typename A::value_type, key_set<keys::backend<Chip>>>>(a);
  } else {
    return (a);
  }
}

/// Brings the arguments over, calls the operator there, brings the result back.
template <FallsBack Chip>
struct on_other_chip {
  template <class Step, class... A>
  static auto impl(Step, A&... args) -> typename Step::template result<A...> {
    using op = typename Step::op;
    using returned = typename Step::template result<A...>;
    say_fallback<op, Chip>();
    if constexpr (!Structured<op>) {
      change<op>(args...);
    } else if constexpr (Step::kind == form::functional) {
      const auto there = call<op>(brought<other>(args)...);
      if constexpr (Tensor<returned>) {
        return carried<returned>(there);
      } else {
        return [&]<std::size_t... I>(std::index_sequence<I...>) {
          return returned{carried<std::tuple_element_t<I, returned>>(std::get<I>(there))...};
        }(std::make_index_sequence<std::tuple_size_v<returned>>{});
      }
    } else if constexpr (Step::kind == form::in_place) {
      return write<Step>(std::get<0>(std::tie(args...)), args...);
    } else {
      return [](auto& out, auto&... in) -> auto& { return write<Step>(out, in...); }(args...);
    }
  }

 private:
  using other = typename Chip::falls_back_to;

  /// A plain operator writes to some of its arguments: those come back.
  template <class Op, class... A>
  static void change(A&... args) {
    const std::tuple there{brought<other>(args)...};
    std::apply([](const auto&... x) { call<Op>(x...); }, there);
    const auto back = [](auto& here, const auto& changed) {
      if constexpr (Tensor<std::remove_reference_t<decltype(here)>>) {
        if (changed.body()->root().version != 0) {
          take_back(here, changed);
        }
      }
    };
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (back(args, std::get<I>(there)), ...);
    }(std::index_sequence_for<A...>{});
  }
  /// `changed` was brought from `here`: the same strides.
  template <class X, class Y>
  static void take_back(const X& here, const Y& changed) {
    settle(here);
    settle(changed);
    carry_bytes<other, Chip>(
        here.bytes(), changed.bytes(),
        static_cast<std::size_t>(reach(here.spec())) * sizeof(typename X::value_type));
    ++here.body()->root().version;
  }

  template <class Step, class Out, class... A>
  static Out& write(Out& out, A&... args) {
    using op = typename Step::op;
    const auto there = call<op>(brought<other>(args)...);
    const auto is_missing = [&](const auto& one, const auto& from) {
      return detail::is_missing<Step::kind>(op::name, one, from.spec(), args...);
    };
    if constexpr (!Tensor<Out>) {  // all are looked at before one is written
      each_result(out, there, is_missing);
      require_apart(op::name, out);
    }
    each_result(out, there, [&]<class One>(One& one, const auto& from) {
      if (is_missing(one, from)) {
        say_resized(op::name, one, from.spec());
        one = carried<One>(from);
      } else {
        place(one, from);
      }
    });
    return out;
  }
  template <class Out, class There>
  static void place(Out& out, const There& there) {
    // What lies between the elements of a strided output must survive: read, change, write back.
    auto whole = brought<other>(out);
    copy.in_place(whole, there);
    take_back(out, whole);
  }
};

}  // namespace detail

/// What a chip has no kernel for happens on the chip that it names. The first call of each operator
/// tells `on_fallback`.
///
/// Cost: two copies per tensor. `dispatch` prefers the chip's own kernels, tile programs and
/// composites, so this is what is left.
template <BackendKey Key>
  requires FallsBack<typename Key::chip>
struct fallback<Key> : detail::on_other_chip<typename Key::chip> {};

}  // namespace ashlar
