// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/autograd.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/chip/meta.hpp"
#include "ashlar/core/tensor.hpp"
#include "ashlar/dispatch.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/views.hpp"

/// What the tests of operators share: tensor types, inputs in every layout, element access by
/// logical index, comparison with naive twins.
namespace twins {

namespace al = ashlar;

using host_keys = al::make_key_set<al::keys::backend<al::chip::host>>;
using meta_keys = al::make_key_set<al::keys::backend<al::chip::meta>>;
using tape_keys = al::make_key_set<al::keys::autograd, al::keys::backend<al::chip::host>>;

template <class T>
using plain = al::tensor<T, host_keys>;
template <class T>
using ghost = al::tensor<T, meta_keys>;
using leaf = al::tensor<double, tape_keys>;

/// Where element `i` of `out`, counted row by row, lies in a tensor that broadcasts to it.
inline std::int64_t place(const al::tensor_spec& in, std::span<const std::int64_t> out,
                          std::int64_t i) {
  std::int64_t at = 0;
  for (int axis = static_cast<int>(out.size()) - 1; axis >= 0; --axis) {
    const std::int64_t extent = out[static_cast<std::size_t>(axis)];
    const int own = axis - (static_cast<int>(out.size()) - in.rank);
    if (own >= 0 && in[own] != 1) {
      at += i % extent * in.stride_of(own);
    }
    i /= extent;
  }
  return at;
}
/// Element `i`, counted row by row. Requires: a tensor on the host.
template <class X>
auto& at(const X& x, std::int64_t i) {
  return x.data()[place(x.spec(), x.shape(), i)];
}
template <class X>
auto at(const X& x, std::span<const std::int64_t> out, std::int64_t i) {
  return x.data()[place(x.spec(), out, i)];
}

/// Numbers that repeat late, in [-2, 2] for floating types, without exact ties or zeros.
template <class T>
T number(std::int64_t i, int salt) {
  const double u = std::sin(1.37 * static_cast<double>(i) + 0.61 * salt + 0.25);
  if constexpr (al::Floating<T>) {
    return static_cast<T>(static_cast<al::compute_type<T>>(2 * u));
  } else if constexpr (std::is_same_v<T, bool>) {
    return u > 0;
  } else if constexpr (std::is_unsigned_v<T>) {
    return static_cast<T>(60 + 50 * u);
  } else {
    return static_cast<T>(50 * u);
  }
}
template <class X>
X numbers(const al::shape& s, int salt = 0) {
  X x = al::empty<X>(s);
  for (std::int64_t i = 0; i < x.size(); ++i) {
    x.data()[i] = number<typename X::value_type>(i, salt);
  }
  return x;
}
/// The same elements, axes stored in reverse order and every other place unused.
template <class X>
X scattered(const X& x) {
  al::shape reversed;
  al::shape order;
  for (int i = x.rank() - 1; i >= 0; --i) {
    reversed.push_back(x.extent(i));
    order.push_back(i);
  }
  if (x.rank() == 0) {
    const X y = al::select(al::zeros<X>({3}), 0, 1);
    y.data()[0] = x.data()[0];
    return y;
  }
  reversed[x.rank() - 1] *= 2;
  const X room = al::zeros<X>(reversed);
  const X y = al::permute(al::slice(room, -1, 0, reversed[x.rank() - 1], 2), order);
  for (std::int64_t i = 0; i < x.size(); ++i) {
    at(y, i) = at(x, i);
  }
  return y;
}

template <class T>
bool close(T a, T b, double relative, double absolute) {
  if constexpr (al::Floating<T>) {
    const auto x = static_cast<double>(a);
    const auto y = static_cast<double>(b);
    return (std::isnan(x) && std::isnan(y)) || x == y ||
           std::abs(x - y) <= absolute + relative * std::abs(y);
  } else {
    return a == b;
  }
}

/// A twin, whatever its type: what compares is compiled once for each element type.
template <class T>
struct twin_of {
  const void* object;
  T (*value)(const void*, std::int64_t);
};
inline void report(std::int64_t wrong) { CHECK(wrong == 0); }
inline void report(const al::tensor_spec& s, std::int64_t i, double got, double want) {
  CHECK_MESSAGE(false, "shape ", al::to_string(s.shape()), " element ", i, ": got ", got, ", want ",
                want);
}
template <class T>
void compare(const T* data, const al::tensor_spec& s, twin_of<T> twin, double relative,
             double absolute) {
  std::int64_t wrong = 0;
  for (std::int64_t i = 0; i < s.size && wrong < 3; ++i) {
    const T want = twin.value(twin.object, i);
    const T got = data[place(s, s.shape(), i)];
    if (!close<T>(got, want, relative, absolute)) {
      ++wrong;
      report(s, i, static_cast<double>(got), static_cast<double>(want));
    }
  }
  report(wrong);
}
/// Compares with `twin(i)`, element by element.
template <class X, class Twin>
void check_elements(const X& x, const Twin& twin, double relative = 0.0, double absolute = 0.0) {
  using T = std::remove_const_t<typename X::value_type>;
  const auto value = [](const void* object, std::int64_t i) {
    return static_cast<T>((*static_cast<const Twin*>(object))(i));
  };
  compare<T>(x.data(), x.spec(), {&twin, value}, relative, absolute);
}
inline void require_same_shape(const al::tensor_spec& a, const al::tensor_spec& b) {
  REQUIRE(al::same_shape(a, b));
}
/// Compares two tensors of one shape and type, bit for bit.
template <class X>
void check_same(const X& a, const X& b) {
  require_same_shape(a.spec(), b.spec());
  check_elements(a, [&](std::int64_t i) { return at(b, i); });
}

/// A meta tensor with the geometry of `x`.
template <class X>
ghost<typename X::value_type> ghost_of(const X& x) {
  return al::to<al::chip::meta>(x);
}
inline void report(const void* data, const al::tensor_spec& got, const al::tensor_spec& want) {
  CHECK(data == nullptr);
  CHECK(want == got);
}
/// Whether a result on the meta chip has the geometry of the real one.
template <class X, class G>
void check_meta(const X& real, const G& g) {
  static_assert(std::is_same_v<typename X::value_type, typename G::value_type>);
  report(g.data(), g.spec(), real.spec());
}

/// The same arguments in other places or on the meta chip; attributes as they are.
template <class A>
auto elsewhere(const A& a) {
  if constexpr (al::Tensor<A>) {
    return scattered(a);
  } else {
    return a;
  }
}
template <class A>
auto as_ghost(const A& a) {
  if constexpr (al::Tensor<A>) {
    return ghost_of(a);
  } else {
    return a;
  }
}

/// Whether every form of `f` gives what the functional form returns: for arguments in other places,
/// into a new output, into one that keeps its place, into one with other strides, on meta.
///
/// Returns: what the functional form gave.
template <class F, class... A>
auto check_output(const F& f, const A&... args) {
  const auto y = f(args...);
  using Y = std::remove_const_t<decltype(y)>;
  const auto each = [](const auto& what, auto&&... tensors) {
    if constexpr (al::Tensor<Y>) {
      what(tensors...);
    } else {
      [&]<std::size_t... I>(std::index_sequence<I...>) {
        const auto one = [&](auto i) { what(std::get<i>(tensors)...); };
        (one(std::integral_constant<std::size_t, I>{}), ...);
      }(std::make_index_sequence<std::tuple_size_v<Y>>{});
    }
  };
  const auto same = [](const auto& a, const auto& b) { check_same(a, b); };
  each(same, f(elsewhere(args)...), y);
  Y fresh;
  f.out(fresh, args...);
  each(same, fresh, y);
  Y given = fresh;
  f.out(given, args...);
  each(
      [&](const auto& a, const auto& b, const auto& first) {
        check_same(a, b);
        CHECK(a.data() == first.data());
      },
      given, y, fresh);
  Y spread;
  each([](auto& to, const auto& like) { to = scattered(al::call<al::ops::fill>(like, 1.0)); },
       spread, y);
  f.out(spread, args...);
  each(same, spread, y);
  each([](const auto& a, const auto& g) { check_meta(a, g); }, y, f(as_ghost(args)...));
  return y;
}

/// As `check_output`, and over the first argument, where the shape allows that.
template <class F, class X, class... A>
void check_forms(const F& f, const X& x, const A&... rest) {
  const auto y = check_output(f, x, rest...);
  static_assert(std::is_same_v<decltype(y), const X>, "no in-place form: use check_output");
  X self = scattered(x);
  if (al::same_shape(x.spec(), y.spec())) {
    check_same(f.in_place(self, rest...), y);
  } else {
    CHECK_THROWS_AS(f.in_place(self, rest...), al::output_error);
    check_same(self, x);
  }
}

/// A function of one tensor in all layouts and forms, against `twin` in double.
///
/// Vector functions and the C library's differ by a few roundings, a composition of three by more.
template <class T, class F, class Twin>
void check_function(const F& f, const Twin& twin, bool positive = false) {
  constexpr double allowed = std::is_same_v<T, float> ? 3e-6 : 1e-13;
  for (const al::shape& s : {al::shape{}, {0}, {1}, {7}, {2, 3, 17}}) {
    auto x = numbers<plain<T>>(s, 3);
    for (std::int64_t i = 0; positive && i < x.size(); ++i) {
      x.data()[i] = std::abs(x.data()[i]) + T(0.1);
    }
    const plain<T> y = f(x);
    check_elements(
        y, [&](std::int64_t i) { return twin(static_cast<double>(at(x, i))); }, allowed, allowed);
    check_forms(f, x);
  }
}
template <class F, class Twin>
void check_function_in_both(const F& f, const Twin& twin, bool positive = false) {
  check_function<float>(f, twin, positive);
  check_function<double>(f, twin, positive);
}

inline void report(const al::gradcheck_result& worst) {
  CHECK_MESSAGE(static_cast<bool>(worst), worst.text());
}
/// Checks gradients by differences where there is something to differentiate.
template <class F, class... X>
void check_gradient(const F& f, const X&... inputs) {
  report(al::gradcheck(f, inputs...));
}
inline int second_gradients_checked = 0;

/// Checks the gradients of the gradients, those with respect to `f`'s own gradient among them.
template <class F, class... X>
void check_second_gradient(const F& f, const X&... inputs) {
  ++second_gradients_checked;
  report(al::gradgradcheck(f, inputs...));
}

}  // namespace twins
