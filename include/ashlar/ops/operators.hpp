// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstdint>
#include <source_location>
#include <type_traits>

#include "ashlar/core/dtype.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/detail/numbers.hpp"
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
using ops::detail::number_beside;
/// A number that brings a tensor of type `X` to elements of `D`, and knows where it was handed
/// over.
template <class X, dtype D>
struct number_handed_over {
  number_beside number;
  std::source_location at;
  template <PlainNumber S>
    requires(promote_with_number<S>(dtype_of<typename X::value_type>) == D)
  number_handed_over(S value, std::source_location here = std::source_location::current())
      : number(value, D), at(here) {}
};
// As types of a parameter from which `X` is not deduced.
template <class X>
using number_for = std::type_identity_t<number_handed_over<X, dtype_of<typename X::value_type>>>;
template <class X>
using floating_for = std::type_identity_t<number_handed_over<X, default_floating>>;
template <class X>
using integer_for = std::type_identity_t<number_handed_over<X, dtype::int64>>;

// The same at run time, where the category of a number is a value.
struct loose_number {
  std::source_location at;
  dtype category;
  bool is_unsigned;
  double floating;
  std::int64_t whole;
  template <PlainNumber S>
  loose_number(S number, std::source_location here = std::source_location::current())
      : at(here),
        category(promote_with_number<S>(dtype::boolean)),
        is_unsigned(std::is_unsigned_v<S>),
        floating(static_cast<double>(number)),
        whole(std::is_integral_v<S> ? static_cast<std::int64_t>(number) : 0) {}
  [[nodiscard]] number_beside in(dtype type) const {
    return is_floating(category) ? number_beside(floating, type)
           : is_unsigned         ? number_beside(static_cast<std::uint64_t>(whole), type)
                                 : number_beside(whole, type);
  }
};
template <class Stack>
using any_for = std::type_identity_t<handed_over<any_tensor<Stack>>>;

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
template <char C, AnyOrTensor A, class B>
auto infix_call(sign<C>, const A& a, const handed_over<B>& b) {
  return placed<A, B>(b.at, [&] { return infix<C>(a, b.value); });
}
template <char C, AnyOrTensor A, class B>
A& infix_assign(sign<C>, A& a, const handed_over<B>& b) {
  return placed<A, B>(b.at, [&]() -> A& {
    if constexpr (C == '/') {
      return div.over_first(a, b.value);
    } else {
      return op_function<typename answers_sign<C>::op>{}.over_first(a, b.value);
    }
  });
}
template <class X>
auto infix_negative(const handed_over<X>& x) {
  return placed<X>(x.at, [&] { return call<ops::neg>(x.value); });
}

/// Whether numbers beside elements of `X` may be none of `double`.
template <class X>
inline constexpr bool counts_on = std::is_same_v<typename X::value_type, std::int64_t>;
template <class Stack>
inline constexpr bool counts_on<any_tensor<Stack>> = true;

/// `a * alpha + b`.
template <class X>
auto plus_number(const X& a, const number_beside& b, double alpha = 1.0) {
  if constexpr (counts_on<X>) {
    if (!b.is_value()) {
      return call<ops::scale>(call<ops::scale>(a, alpha, b.upper()), 1.0, b.lower());
    }
  }
  return call<ops::scale>(a, alpha, b.value());
}
/// `a * b`.
template <class X>
auto times_number(const X& a, const number_beside& b) {
  if constexpr (counts_on<X>) {
    if (!b.is_value()) {
      return call<ops::add>(call<ops::scale>(a, b.upper(), 0.0),
                            call<ops::scale>(a, b.lower(), 0.0));
    }
  }
  return call<ops::scale>(a, b.value(), 0.0);
}
/// `a C b` and `b C a`, where `a` has the element type that it has beside the number.
template <char C>
auto before_number(const auto& a, const number_beside& b) {
  if constexpr (C == '/') {
    const auto x = ops::detail::integers_as<scalar_of<default_floating>>(a);
    return call<ops::div>(x, ops::detail::number_like(x, b.floating()));
  } else if constexpr (C == '*') {
    return times_number(a, b);
  } else {
    return plus_number(a, C == '-' ? -b : b);
  }
}
template <char C>
auto after_number(const number_beside& a, const auto& b) {
  if constexpr (C == '/') {
    const auto x = ops::detail::integers_as<scalar_of<default_floating>>(b);
    return call<ops::div>(ops::detail::number_like(x, a.floating()), x);
  } else if constexpr (C == '*') {
    return times_number(b, a);
  } else {
    return plus_number(b, a, C == '-' ? a.minus_one().value() : 1.0);
  }
}
template <char C, Tensor A, dtype D>
auto infix_number(const A& a, const number_handed_over<A, D>& b) {
  const located<A> here(b.at);
  return before_number<C>(ops::detail::in_type<scalar_of<D>>(a), b.number);
}
template <char C, Tensor A, dtype D>
auto infix_number(const number_handed_over<A, D>& a, const A& b) {
  const located<A> here(a.at);
  return after_number<C>(a.number, ops::detail::in_type<scalar_of<D>>(b));
}
template <char C, class A>
A& assign_number(A& a, const number_beside& b) {
  constexpr op_function<ops::scale> scale;
  if constexpr (C == '/') {
    return op_function<ops::div>{}.over_first(a, ops::detail::number_like(a, b));
  } else {
    if constexpr (counts_on<A>) {
      if (!b.is_value()) {
        return op_function<ops::copy>{}.over_first(a, before_number<C>(a, b));
      }
    }
    return C == '*' ? scale.over_first(a, b.value(), 0.0)
                    : scale.over_first(a, 1.0, (C == '-' ? -b : b).value());
  }
}
template <char C, Tensor A>
A& infix_assign_number(A& a, const number_handed_over<A, dtype_of<typename A::value_type>>& b) {
  const located<A> here(b.at);
  return assign_number<C>(a, b.number);
}
/// `f(x, number)` with `x` in the element type that it has beside the number.
template <class Stack>
any_tensor<Stack> with_number(const any_tensor<Stack>& x, const loose_number& number,
                              const auto& f) {
  return placed<any_tensor<Stack>>(number.at, [&] {
    if (!x) {
      throw undefined_tensor("+ - * /");
    }
    const dtype to = promote_category(x.type(), number.category);
    return any_tensor<Stack>(f(to == x.type() ? x : in_type_at_run_time(x, to), number.in(to)));
  });
}
template <char C, class Stack>
any_tensor<Stack> infix_number(const any_tensor<Stack>& a, const loose_number& b) {
  return with_number(a, b, [](const auto& x, const auto& n) { return before_number<C>(x, n); });
}
template <char C, class Stack>
any_tensor<Stack> infix_number(const loose_number& a, const any_tensor<Stack>& b) {
  return with_number(b, a, [](const auto& x, const auto& n) { return after_number<C>(n, x); });
}
/// Throws: `any_type_error` where the number changes the element type.
template <char C, class Stack>
any_tensor<Stack>& infix_assign_number(any_tensor<Stack>& a, const loose_number& b) {
  static_cast<void>(with_number(a, b, [&](const auto& x, const auto& n) {
    if (x.type() == a.type() && (C != '/' || is_floating(a.type()))) {
      return assign_number<C>(a, n);
    }
    write_at_run_time<form::in_place>("+= -= *= /=", a, before_number<C>(x, n));
    return a;
  }));
  return a;
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
any_tensor<Stack> operator+(const any_tensor<Stack>& a, detail::any_for<Stack> b) {
  return detail::infix_call(detail::sign<'+'>{}, a, b);
}
template <class Stack>
any_tensor<Stack> operator+(const any_tensor<Stack>& a, detail::loose_number b) {
  return detail::infix_number<'+'>(a, b);
}
template <class Stack>
any_tensor<Stack> operator+(detail::loose_number a, const any_tensor<Stack>& b) {
  return detail::infix_number<'+'>(a, b);
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
any_tensor<Stack> operator-(const any_tensor<Stack>& a, detail::any_for<Stack> b) {
  return detail::infix_call(detail::sign<'-'>{}, a, b);
}
template <class Stack>
any_tensor<Stack> operator-(const any_tensor<Stack>& a, detail::loose_number b) {
  return detail::infix_number<'-'>(a, b);
}
template <class Stack>
any_tensor<Stack> operator-(detail::loose_number a, const any_tensor<Stack>& b) {
  return detail::infix_number<'-'>(a, b);
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
any_tensor<Stack> operator*(const any_tensor<Stack>& a, detail::any_for<Stack> b) {
  return detail::infix_call(detail::sign<'*'>{}, a, b);
}
template <class Stack>
any_tensor<Stack> operator*(const any_tensor<Stack>& a, detail::loose_number b) {
  return detail::infix_number<'*'>(a, b);
}
template <class Stack>
any_tensor<Stack> operator*(detail::loose_number a, const any_tensor<Stack>& b) {
  return detail::infix_number<'*'>(a, b);
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
any_tensor<Stack> operator/(const any_tensor<Stack>& a, detail::any_for<Stack> b) {
  return detail::infix_call(detail::sign<'/'>{}, a, b);
}
template <class Stack>
any_tensor<Stack> operator/(const any_tensor<Stack>& a, detail::loose_number b) {
  return detail::infix_number<'/'>(a, b);
}
template <class Stack>
any_tensor<Stack> operator/(detail::loose_number a, const any_tensor<Stack>& b) {
  return detail::infix_number<'/'>(a, b);
}

template <Tensor A>
A& operator+=(A& a, detail::number_for<A> b) {
  return detail::infix_assign_number<'+'>(a, b);
}
template <class Stack>
any_tensor<Stack>& operator+=(any_tensor<Stack>& a, detail::any_for<Stack> b) {
  return detail::infix_assign(detail::sign<'+'>{}, a, b);
}
template <class Stack>
any_tensor<Stack>& operator+=(any_tensor<Stack>& a, detail::loose_number b) {
  return detail::infix_assign_number<'+'>(a, b);
}
template <Tensor A>
A& operator-=(A& a, detail::number_for<A> b) {
  return detail::infix_assign_number<'-'>(a, b);
}
template <class Stack>
any_tensor<Stack>& operator-=(any_tensor<Stack>& a, detail::any_for<Stack> b) {
  return detail::infix_assign(detail::sign<'-'>{}, a, b);
}
template <class Stack>
any_tensor<Stack>& operator-=(any_tensor<Stack>& a, detail::loose_number b) {
  return detail::infix_assign_number<'-'>(a, b);
}
template <Tensor A>
A& operator*=(A& a, detail::number_for<A> b) {
  return detail::infix_assign_number<'*'>(a, b);
}
template <class Stack>
any_tensor<Stack>& operator*=(any_tensor<Stack>& a, detail::any_for<Stack> b) {
  return detail::infix_assign(detail::sign<'*'>{}, a, b);
}
template <class Stack>
any_tensor<Stack>& operator*=(any_tensor<Stack>& a, detail::loose_number b) {
  return detail::infix_assign_number<'*'>(a, b);
}
template <FloatingTensor A>
A& operator/=(A& a, detail::number_for<A> b) {
  return detail::infix_assign_number<'/'>(a, b);
}
template <class Stack>
any_tensor<Stack>& operator/=(any_tensor<Stack>& a, detail::any_for<Stack> b) {
  return detail::infix_assign(detail::sign<'/'>{}, a, b);
}
template <class Stack>
any_tensor<Stack>& operator/=(any_tensor<Stack>& a, detail::loose_number b) {
  return detail::infix_assign_number<'/'>(a, b);
}

}  // namespace ashlar
