// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <type_traits>

#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/elementwise.hpp"

/// `+ - * /` on tensors and numbers, and their assigning forms.
///
/// Between tensors of one type a call knows where it stands in the user's code (`anomaly_mode`).
/// A number does not change the element type; integer tensors take whole numbers only.
namespace ashlar {

/// A number that can stand beside a tensor.
template <class S, class X>
concept NumberFor =
    std::is_arithmetic_v<S> && Tensor<X> && (std::integral<S> || Floating<typename X::value_type>);

template <Tensor A, Tensor B>
  requires(!std::same_as<A, B>)
auto operator+(const A& a, const B& b) {
  return call<ops::add>(a, b);
}
template <Tensor A>
auto operator+(const A& a, std::type_identity_t<detail::handed_over<A>> b) {
  const detail::located<A> here(b.at);
  return call<ops::add>(a, b.value);
}
template <Tensor A, Tensor B>
  requires(!std::same_as<A, B>)
auto operator-(const A& a, const B& b) {
  return call<ops::sub>(a, b);
}
template <Tensor A>
auto operator-(const A& a, std::type_identity_t<detail::handed_over<A>> b) {
  const detail::located<A> here(b.at);
  return call<ops::sub>(a, b.value);
}
template <Tensor A, Tensor B>
  requires(!std::same_as<A, B>)
auto operator*(const A& a, const B& b) {
  return call<ops::mul>(a, b);
}
template <Tensor A>
auto operator*(const A& a, std::type_identity_t<detail::handed_over<A>> b) {
  const detail::located<A> here(b.at);
  return call<ops::mul>(a, b.value);
}
template <Tensor A, Tensor B>
  requires(!std::same_as<A, B>)
auto operator/(const A& a, const B& b) {
  return call<ops::div>(a, b);
}
template <Tensor A>
auto operator/(const A& a, std::type_identity_t<detail::handed_over<A>> b) {
  const detail::located<A> here(b.at);
  return call<ops::div>(a, b.value);
}
template <Tensor A>
auto operator-(const A& a) {
  return call<ops::neg>(a);
}

template <Tensor A, NumberFor<A> S>
auto operator+(const A& a, S number) {
  return call<ops::scale>(a, 1.0, static_cast<double>(number));
}
template <Tensor A, NumberFor<A> S>
auto operator+(S number, const A& a) {
  return a + number;
}
template <Tensor A, NumberFor<A> S>
auto operator-(const A& a, S number) {
  return call<ops::scale>(a, 1.0, -static_cast<double>(number));
}
template <Tensor A, NumberFor<A> S>
auto operator-(S number, const A& a) {
  return call<ops::scale>(a, -1.0, static_cast<double>(number));
}
template <Tensor A, NumberFor<A> S>
auto operator*(const A& a, S number) {
  return call<ops::scale>(a, static_cast<double>(number), 0.0);
}
template <Tensor A, NumberFor<A> S>
auto operator*(S number, const A& a) {
  return a * number;
}
template <Tensor A, NumberFor<A> S>
auto operator/(const A& a, S number) {
  return call<ops::div>(a, ops::detail::scalar_like(a, static_cast<double>(number)));
}
template <Tensor A, NumberFor<A> S>
auto operator/(S number, const A& a) {
  return call<ops::div>(ops::detail::scalar_like(a, static_cast<double>(number)), a);
}

template <Tensor A, Tensor B>
A& operator+=(A& a, const B& b) {
  return op_function<ops::add>{}.in_place(a, b);
}
template <Tensor A, Tensor B>
A& operator-=(A& a, const B& b) {
  return op_function<ops::sub>{}.in_place(a, b);
}
template <Tensor A, Tensor B>
A& operator*=(A& a, const B& b) {
  return op_function<ops::mul>{}.in_place(a, b);
}
template <Tensor A, Tensor B>
A& operator/=(A& a, const B& b) {
  return op_function<ops::div>{}.in_place(a, b);
}
template <Tensor A, NumberFor<A> S>
A& operator+=(A& a, S number) {
  return op_function<ops::scale>{}.in_place(a, 1.0, static_cast<double>(number));
}
template <Tensor A, NumberFor<A> S>
A& operator-=(A& a, S number) {
  return op_function<ops::scale>{}.in_place(a, 1.0, -static_cast<double>(number));
}
template <Tensor A, NumberFor<A> S>
A& operator*=(A& a, S number) {
  return op_function<ops::scale>{}.in_place(a, static_cast<double>(number), 0.0);
}
template <Tensor A, NumberFor<A> S>
A& operator/=(A& a, S number) {
  return op_function<ops::div>{}.in_place(a,
                                          ops::detail::scalar_like(a, static_cast<double>(number)));
}

}  // namespace ashlar
