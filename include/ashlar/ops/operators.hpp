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
/// Between tensors of one type, and beside a number that does not change the element type, a call
/// knows where it stands in the user's code (`anomaly_mode`). Beside a number a tensor keeps its
/// element type, unless the number is of a wider category: see `promote_with_number`. The assigning
/// forms take no such number.
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
/// As types of parameters from which `X` is not deduced.
template <class X>
using tensor_for = std::type_identity_t<handed_over<X>>;
template <class X>
using number_for = std::type_identity_t<number_handed_over<X>>;

/// `a` in the element type that it has beside a number of type `S`.
template <class S, Tensor A>
auto beside_number(const A& a) {
  return ops::detail::in_type<scalar_of<promote_with_number<S>(dtype_of<typename A::value_type>)>>(
      a);
}
}  // namespace detail

template <Tensor A, Tensor B>
  requires(!std::same_as<A, B>)
auto operator+(const A& a, const B& b) {
  return call<ops::add>(a, b);
}
template <Tensor A>
auto operator+(const A& a, detail::tensor_for<A> b) {
  const detail::located<A> here(b.at);
  return call<ops::add>(a, b.value);
}
template <Tensor A, Tensor B>
  requires(!std::same_as<A, B>)
auto operator-(const A& a, const B& b) {
  return call<ops::sub>(a, b);
}
template <Tensor A>
auto operator-(const A& a, detail::tensor_for<A> b) {
  const detail::located<A> here(b.at);
  return call<ops::sub>(a, b.value);
}
template <Tensor A, Tensor B>
  requires(!std::same_as<A, B>)
auto operator*(const A& a, const B& b) {
  return call<ops::mul>(a, b);
}
template <Tensor A>
auto operator*(const A& a, detail::tensor_for<A> b) {
  const detail::located<A> here(b.at);
  return call<ops::mul>(a, b.value);
}
template <Tensor A, Tensor B>
  requires(!std::same_as<A, B>)
auto operator/(const A& a, const B& b) {
  return call<ops::div>(a, b);
}
template <Tensor A>
auto operator/(const A& a, detail::tensor_for<A> b) {
  const detail::located<A> here(b.at);
  return call<ops::div>(a, b.value);
}
template <Tensor A>
auto operator-(const A& a) {
  return call<ops::neg>(a);
}

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

template <Tensor A, Tensor B>
  requires(!std::same_as<A, B>)
A& operator+=(A& a, const B& b) {
  return op_function<ops::add>{}.over_first(a, b);
}
template <Tensor A>
A& operator+=(A& a, detail::tensor_for<A> b) {
  const detail::located<A> here(b.at);
  return op_function<ops::add>{}.over_first(a, b.value);
}
template <Tensor A, Tensor B>
  requires(!std::same_as<A, B>)
A& operator-=(A& a, const B& b) {
  return op_function<ops::sub>{}.over_first(a, b);
}
template <Tensor A>
A& operator-=(A& a, detail::tensor_for<A> b) {
  const detail::located<A> here(b.at);
  return op_function<ops::sub>{}.over_first(a, b.value);
}
template <Tensor A, Tensor B>
  requires(!std::same_as<A, B>)
A& operator*=(A& a, const B& b) {
  return op_function<ops::mul>{}.over_first(a, b);
}
template <Tensor A>
A& operator*=(A& a, detail::tensor_for<A> b) {
  const detail::located<A> here(b.at);
  return op_function<ops::mul>{}.over_first(a, b.value);
}
template <Tensor A, Tensor B>
  requires(!std::same_as<A, B>)
A& operator/=(A& a, const B& b) {
  return op_function<ops::div>{}.over_first(a, b);
}
template <Tensor A>
A& operator/=(A& a, detail::tensor_for<A> b) {
  const detail::located<A> here(b.at);
  return op_function<ops::div>{}.over_first(a, b.value);
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
