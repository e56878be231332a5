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
/// A call knows where it stands in the user's code (`anomaly_mode`). Beside a number a tensor keeps
/// its element type, unless the number is of a wider category: see `promote_with_number`. Quotients
/// of integers are float32. The assigning forms take nothing that would change the element type.
///
/// Tensors with a type at run time take the same numbers; include `ashlar/dispatch/any.hpp`.
namespace ashlar {

template <class S>
concept PlainNumber = std::is_arithmetic_v<S>;
/// A number that does not change the element type of a tensor.
template <class S, class X>
concept NumberFor =
    PlainNumber<S> && Tensor<X> &&
    promote_with_number<S>(dtype_of<typename X::value_type>) == dtype_of<typename X::value_type>;

namespace detail {
/// A number that brings a tensor of type `X` to elements of `D`, and knows where it was handed
/// over.
template <class X, dtype D>
struct number_handed_over {
  static constexpr dtype type = D;
  double value;
  std::source_location at;
  template <PlainNumber S>
    requires(promote_with_number<S>(dtype_of<typename X::value_type>) == D)
  number_handed_over(S number, std::source_location here = std::source_location::current())
      : value(static_cast<double>(number)), at(here) {}
};
// As types of a parameter from which `X` is not deduced.
template <class X>
using number_for = std::type_identity_t<number_handed_over<X, dtype_of<typename X::value_type>>>;
template <class X>
using floating_for = std::type_identity_t<number_handed_over<X, default_floating>>;
template <class X>
using integer_for = std::type_identity_t<number_handed_over<X, dtype::int64>>;

template <class X>
concept IntegerTensor = Tensor<X> && !Floating<typename X::value_type>;
template <class X>
concept BooleanTensor = Tensor<X> && std::is_same_v<typename X::value_type, bool>;

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

// What the infix operators of tensors do.
template <char C, class A, class B>
auto infix(const A& a, const B& b) {
  if constexpr (C == '/') {
    return div_function::spell(to_result{}, a, b);
  } else {
    return call<typename answers_sign<C>::op>(a, b);
  }
}
template <char C, Tensor A, class B>
auto infix_call(sign<C>, const A& a, const handed_over<B>& b) {
  const located<A, B> here(b.at);
  return infix<C>(a, b.value);
}
template <char C, Tensor A, class B>
A& infix_assign(sign<C>, A& a, const handed_over<B>& b) {
  const located<A, B> here(b.at);
  if constexpr (C == '/') {
    return div.over_first(a, b.value);
  } else {
    return op_function<typename answers_sign<C>::op>{}.over_first(a, b.value);
  }
}
template <class X>
auto infix_negative(const handed_over<X>& x) {
  const located<X> here(x.at);
  return call<ops::neg>(x.value);
}

/// A tensor without dimensions beside `x`, also at run time.
template <class X>
X number_like(const X& x, double value) {
  if constexpr (is_any<X>) {
    return x.visit([&](const auto& typed) { return X(ops::detail::scalar_like(typed, value), 0); });
  } else {
    return ops::detail::scalar_like(x, value);
  }
}
/// `a C number` and `number C a`, where `a` has the element type that it has beside the number.
template <char C>
auto before_number(const auto& a, double number) {
  if constexpr (C == '/') {
    const auto x = ops::detail::integers_as<scalar_of<default_floating>>(a);
    return call<ops::div>(x, number_like(x, number));
  } else {
    return call<ops::scale>(a, C == '*' ? number : 1.0,
                            C == '*'   ? 0.0
                            : C == '-' ? -number
                                       : number);
  }
}
template <char C>
auto after_number(double number, const auto& a) {
  if constexpr (C == '/') {
    const auto x = ops::detail::integers_as<scalar_of<default_floating>>(a);
    return call<ops::div>(number_like(x, number), x);
  } else {
    return call<ops::scale>(a, C == '*' ? number : C == '-' ? -1.0 : 1.0, C == '*' ? 0.0 : number);
  }
}
template <char C, Tensor A, dtype D>
auto infix_number(const A& a, const number_handed_over<A, D>& b) {
  const located<A> here(b.at);
  return before_number<C>(ops::detail::in_type<scalar_of<D>>(a), b.value);
}
template <char C, Tensor A, dtype D>
auto infix_number(const number_handed_over<A, D>& a, const A& b) {
  const located<A> here(a.at);
  return after_number<C>(a.value, ops::detail::in_type<scalar_of<D>>(b));
}
/// As `beside`, where the type is a value.
template <PlainNumber S, class Stack>
any_tensor<Stack> beside_number(const any_tensor<Stack>& a) {
  if (!a) {
    throw undefined_tensor("+ - * /");
  }
  const dtype to = promote_with_number<S>(a.type());
  return to == a.type() ? a : in_type_at_run_time(a, to);
}
}  // namespace detail

template <Tensor A>
auto operator+(const A& a, detail::number_for<A> b) {
  return detail::infix_number<'+'>(a, b);
}
template <Tensor A>
auto operator+(detail::number_for<A> a, const A& b) {
  return detail::infix_number<'+'>(a, b);
}
template <detail::IntegerTensor A>
auto operator+(const A& a, detail::floating_for<A> b) {
  return detail::infix_number<'+'>(a, b);
}
template <detail::IntegerTensor A>
auto operator+(detail::floating_for<A> a, const A& b) {
  return detail::infix_number<'+'>(a, b);
}
template <detail::BooleanTensor A>
auto operator+(const A& a, detail::integer_for<A> b) {
  return detail::infix_number<'+'>(a, b);
}
template <detail::BooleanTensor A>
auto operator+(detail::integer_for<A> a, const A& b) {
  return detail::infix_number<'+'>(a, b);
}
template <class Stack>
any_tensor<Stack> operator+(const any_tensor<Stack>& a, const any_tensor<Stack>& b) {
  return detail::infix<'+'>(a, b);
}
template <class Stack, PlainNumber S>
any_tensor<Stack> operator+(const any_tensor<Stack>& a, S b) {
  return detail::before_number<'+'>(detail::beside_number<S>(a), static_cast<double>(b));
}
template <class Stack, PlainNumber S>
any_tensor<Stack> operator+(S a, const any_tensor<Stack>& b) {
  return detail::after_number<'+'>(static_cast<double>(a), detail::beside_number<S>(b));
}

template <Tensor A>
auto operator-(const A& a, detail::number_for<A> b) {
  return detail::infix_number<'-'>(a, b);
}
template <Tensor A>
auto operator-(detail::number_for<A> a, const A& b) {
  return detail::infix_number<'-'>(a, b);
}
template <detail::IntegerTensor A>
auto operator-(const A& a, detail::floating_for<A> b) {
  return detail::infix_number<'-'>(a, b);
}
template <detail::IntegerTensor A>
auto operator-(detail::floating_for<A> a, const A& b) {
  return detail::infix_number<'-'>(a, b);
}
template <detail::BooleanTensor A>
auto operator-(const A& a, detail::integer_for<A> b) {
  return detail::infix_number<'-'>(a, b);
}
template <detail::BooleanTensor A>
auto operator-(detail::integer_for<A> a, const A& b) {
  return detail::infix_number<'-'>(a, b);
}
template <class Stack>
any_tensor<Stack> operator-(const any_tensor<Stack>& a, const any_tensor<Stack>& b) {
  return detail::infix<'-'>(a, b);
}
template <class Stack, PlainNumber S>
any_tensor<Stack> operator-(const any_tensor<Stack>& a, S b) {
  return detail::before_number<'-'>(detail::beside_number<S>(a), static_cast<double>(b));
}
template <class Stack, PlainNumber S>
any_tensor<Stack> operator-(S a, const any_tensor<Stack>& b) {
  return detail::after_number<'-'>(static_cast<double>(a), detail::beside_number<S>(b));
}

template <Tensor A>
auto operator*(const A& a, detail::number_for<A> b) {
  return detail::infix_number<'*'>(a, b);
}
template <Tensor A>
auto operator*(detail::number_for<A> a, const A& b) {
  return detail::infix_number<'*'>(a, b);
}
template <detail::IntegerTensor A>
auto operator*(const A& a, detail::floating_for<A> b) {
  return detail::infix_number<'*'>(a, b);
}
template <detail::IntegerTensor A>
auto operator*(detail::floating_for<A> a, const A& b) {
  return detail::infix_number<'*'>(a, b);
}
template <detail::BooleanTensor A>
auto operator*(const A& a, detail::integer_for<A> b) {
  return detail::infix_number<'*'>(a, b);
}
template <detail::BooleanTensor A>
auto operator*(detail::integer_for<A> a, const A& b) {
  return detail::infix_number<'*'>(a, b);
}
template <class Stack>
any_tensor<Stack> operator*(const any_tensor<Stack>& a, const any_tensor<Stack>& b) {
  return detail::infix<'*'>(a, b);
}
template <class Stack, PlainNumber S>
any_tensor<Stack> operator*(const any_tensor<Stack>& a, S b) {
  return detail::before_number<'*'>(detail::beside_number<S>(a), static_cast<double>(b));
}
template <class Stack, PlainNumber S>
any_tensor<Stack> operator*(S a, const any_tensor<Stack>& b) {
  return detail::after_number<'*'>(static_cast<double>(a), detail::beside_number<S>(b));
}

template <Tensor A>
auto operator/(const A& a, detail::number_for<A> b) {
  return detail::infix_number<'/'>(a, b);
}
template <Tensor A>
auto operator/(detail::number_for<A> a, const A& b) {
  return detail::infix_number<'/'>(a, b);
}
template <detail::IntegerTensor A>
auto operator/(const A& a, detail::floating_for<A> b) {
  return detail::infix_number<'/'>(a, b);
}
template <detail::IntegerTensor A>
auto operator/(detail::floating_for<A> a, const A& b) {
  return detail::infix_number<'/'>(a, b);
}
template <detail::BooleanTensor A>
auto operator/(const A& a, detail::integer_for<A> b) {
  return detail::infix_number<'/'>(a, b);
}
template <detail::BooleanTensor A>
auto operator/(detail::integer_for<A> a, const A& b) {
  return detail::infix_number<'/'>(a, b);
}
template <class Stack>
any_tensor<Stack> operator/(const any_tensor<Stack>& a, const any_tensor<Stack>& b) {
  return detail::infix<'/'>(a, b);
}
template <class Stack, PlainNumber S>
any_tensor<Stack> operator/(const any_tensor<Stack>& a, S b) {
  return detail::before_number<'/'>(detail::beside_number<S>(a), static_cast<double>(b));
}
template <class Stack, PlainNumber S>
any_tensor<Stack> operator/(S a, const any_tensor<Stack>& b) {
  return detail::after_number<'/'>(static_cast<double>(a), detail::beside_number<S>(b));
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
template <FloatingTensor A>
A& operator/=(A& a, detail::number_for<A> b) {
  const detail::located<A> here(b.at);
  return op_function<ops::div>{}.over_first(a, ops::detail::scalar_like(a, b.value));
}

}  // namespace ashlar
