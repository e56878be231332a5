// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <source_location>
#include <type_traits>

#include "ashlar/core/dtype.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/elementwise.hpp"

/// `+ - * /` on tensors and numbers, and their assigning forms.
///
/// A call knows where it stands in the user's code (`anomaly_mode`), but for one beside a number
/// that changes the element type. Beside a number a tensor keeps its element type, unless the
/// number is of a wider category: see `promote_with_number`. The assigning forms take no such
/// number.
namespace ashlar {

template <class S>
concept PlainNumber = std::is_arithmetic_v<S>;
/// A number that does not change the element type of a tensor.
template <class S, class X>
concept NumberFor =
    PlainNumber<S> && Tensor<X> &&
    promote_with_number<S>(dtype_of<typename X::value_type>) == dtype_of<typename X::value_type>;
/// One that does.
template <class S, class X>
concept WiderNumberFor = PlainNumber<S> && Tensor<X> && !NumberFor<S, X>;

namespace detail {
/// A number for a tensor of type `X` that knows where it was handed over.
template <class X>
struct number_handed_over {
  double value;
  std::source_location at;
  template <NumberFor<X> S>
  number_handed_over(S number, std::source_location here = std::source_location::current())
      : value(static_cast<double>(number)), at(here) {}
};
/// As the type of a parameter from which `X` is not deduced.
template <class X>
using number_for = std::type_identity_t<number_handed_over<X>>;

/// `a` in the element type that it has beside a number of type `S`.
template <class S, Tensor A>
auto beside_number(const A& a) {
  return ops::detail::in_type<scalar_of<promote_with_number<S>(dtype_of<typename A::value_type>)>>(
      a);
}

template <char>
struct answers_sign;
template <>
struct answers_sign<'+'> {
  using op = ops::add;
};
template <>
struct answers_sign<'-'> {
  using op = ops::sub;
};
template <>
struct answers_sign<'*'> {
  using op = ops::mul;
};
template <>
struct answers_sign<'/'> {
  using op = ops::div;
};

// What the infix operators of tensors do.
template <char C, Tensor A, class B>
auto infix_call(sign<C>, const A& a, const handed_over<B>& b) {
  const located<A, B> here(b.at);
  return call<typename answers_sign<C>::op>(a, b.value);
}
template <char C, Tensor A, class B>
A& infix_assign(sign<C>, A& a, const handed_over<B>& b) {
  const located<A, B> here(b.at);
  return op_function<typename answers_sign<C>::op>{}.over_first(a, b.value);
}
template <class X>
auto infix_negative(const handed_over<X>& x) {
  const located<X> here(x.at);
  return call<ops::neg>(x.value);
}
}  // namespace detail

template <Tensor A>
auto operator+(const A& a, detail::number_for<A> b) {
  const detail::located<A> here(b.at);
  return call<ops::scale>(a, 1.0, b.value);
}
template <Tensor A>
auto operator+(detail::number_for<A> a, const A& b) {
  const detail::located<A> here(a.at);
  return call<ops::scale>(b, 1.0, a.value);
}
template <Tensor A, WiderNumberFor<A> S>
auto operator+(const A& a, S b) {
  return call<ops::scale>(detail::beside_number<S>(a), 1.0, static_cast<double>(b));
}
template <Tensor A, WiderNumberFor<A> S>
auto operator+(S a, const A& b) {
  return call<ops::scale>(detail::beside_number<S>(b), 1.0, static_cast<double>(a));
}
template <Tensor A>
auto operator-(const A& a, detail::number_for<A> b) {
  const detail::located<A> here(b.at);
  return call<ops::scale>(a, 1.0, -b.value);
}
template <Tensor A>
auto operator-(detail::number_for<A> a, const A& b) {
  const detail::located<A> here(a.at);
  return call<ops::scale>(b, -1.0, a.value);
}
template <Tensor A, WiderNumberFor<A> S>
auto operator-(const A& a, S b) {
  return call<ops::scale>(detail::beside_number<S>(a), 1.0, -static_cast<double>(b));
}
template <Tensor A, WiderNumberFor<A> S>
auto operator-(S a, const A& b) {
  return call<ops::scale>(detail::beside_number<S>(b), -1.0, static_cast<double>(a));
}
template <Tensor A>
auto operator*(const A& a, detail::number_for<A> b) {
  const detail::located<A> here(b.at);
  return call<ops::scale>(a, b.value, 0.0);
}
template <Tensor A>
auto operator*(detail::number_for<A> a, const A& b) {
  const detail::located<A> here(a.at);
  return call<ops::scale>(b, a.value, 0.0);
}
template <Tensor A, WiderNumberFor<A> S>
auto operator*(const A& a, S b) {
  return call<ops::scale>(detail::beside_number<S>(a), static_cast<double>(b), 0.0);
}
template <Tensor A, WiderNumberFor<A> S>
auto operator*(S a, const A& b) {
  return call<ops::scale>(detail::beside_number<S>(b), static_cast<double>(a), 0.0);
}
template <Tensor A>
auto operator/(const A& a, detail::number_for<A> b) {
  const detail::located<A> here(b.at);
  return call<ops::div>(a, ops::detail::scalar_like(a, b.value));
}
template <Tensor A>
auto operator/(detail::number_for<A> a, const A& b) {
  const detail::located<A> here(a.at);
  return call<ops::div>(ops::detail::scalar_like(b, a.value), b);
}
template <Tensor A, WiderNumberFor<A> S>
auto operator/(const A& a, S b) {
  const auto wide = detail::beside_number<S>(a);
  return call<ops::div>(wide, ops::detail::scalar_like(wide, static_cast<double>(b)));
}
template <Tensor A, WiderNumberFor<A> S>
auto operator/(S a, const A& b) {
  const auto wide = detail::beside_number<S>(b);
  return call<ops::div>(ops::detail::scalar_like(wide, static_cast<double>(a)), wide);
}

template <Tensor A>
A& operator+=(A& a, detail::number_for<A> b) {
  const detail::located<A> here(b.at);
  return op_function<ops::scale>{}.over_first(a, 1.0, b.value);
}
template <Tensor A>
A& operator-=(A& a, detail::number_for<A> b) {
  const detail::located<A> here(b.at);
  return op_function<ops::scale>{}.over_first(a, 1.0, -b.value);
}
template <Tensor A>
A& operator*=(A& a, detail::number_for<A> b) {
  const detail::located<A> here(b.at);
  return op_function<ops::scale>{}.over_first(a, b.value, 0.0);
}
template <Tensor A>
A& operator/=(A& a, detail::number_for<A> b) {
  const detail::located<A> here(b.at);
  return op_function<ops::div>{}.over_first(a, ops::detail::scalar_like(a, b.value));
}

}  // namespace ashlar
