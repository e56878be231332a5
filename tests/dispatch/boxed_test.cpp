// SPDX-License-Identifier: Apache-2.0
// A fallback kernel gets a call whole: schema, tensors, attributes, form.
#include <doctest/doctest.h>

#include <string>
#include <type_traits>
#include <vector>

#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/norm.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/rope.hpp"
#include "ashlar/ops/views.hpp"

namespace al = ashlar;

namespace {

/// Writes down every call as text, from what a fallback is given.
struct recorder {
  static constexpr int priority = 500;
  static inline std::vector<std::string> calls;
};

template <class A>
std::string attribute_text(const A& a) {
  if constexpr (std::is_same_v<A, al::shape>) {
    return al::to_string(a.span());
  } else if constexpr (std::is_same_v<A, bool>) {
    return a ? "true" : "false";
  } else {
    return std::to_string(a);
  }
}

template <class Step, class... A>
std::string call_text(const A&... args) {
  using op = typename Step::op;
  std::string text(op::name);
  // `out=` has its output in front of what the schema names.
  std::size_t place = 0;
  bool output = Step::kind == al::form::out;
  const auto add = [&]<class X>(const X& a) {
    text += ' ';
    if constexpr (al::Tensor<X>) {
      text += output ? "out" : std::string(op::arguments[place].name);
      text += a ? al::to_string(a.shape()) : "(none)";
      place += output ? 0 : 1;
      output = false;
    } else {
      text += attribute_text(a);
    }
  };
  (add(args), ...);
  return text + (Step::kind == al::form::in_place ? " in place" : "");
}

}  // namespace

template <>
struct al::fallback<recorder> {
  template <class Step, class... A>
  static decltype(auto) impl(Step next, A&... args) {
    recorder::calls.push_back(call_text<Step>(args...));
    return next(args...);
  }
};

namespace {

using keys = al::make_key_set<recorder, al::keys::backend<al::chip::host>>;
using real = al::tensor<float, keys>;
using whole = al::tensor<std::int32_t, keys>;
using lines = std::vector<std::string>;

template <class F>
lines recorded(const F& f) {
  recorder::calls.clear();
  f();
  return recorder::calls;
}

}  // namespace

TEST_CASE("dispatch/boxed: a fallback reads names, shapes and attributes of a functional call") {
  const auto x = al::ones<real>({2, 3});
  const auto w = al::ones<real>({3});
  CHECK(recorded([&] { al::rms_norm(x, w, 0.5); }) ==
        lines{"rms_norm self[2, 3] weight[3] 0.500000"});
  CHECK(recorded([&] { al::mean(x, {1}, true); }) == lines{"mean self[2, 3] [1] true"});
  CHECK(recorded([&] { al::slice(x, 1, 0, 2); }) == lines{"slice self[2, 3] 1 0 2 1"});
  const auto y = al::ones<real>({2, 1, 4});
  const auto at = al::zeros<whole>({2});
  CHECK(recorded([&] { al::rope(y, at, 10.0, false); }) ==
        lines{"rope self[2, 1, 4] positions[2] 10.000000 false false"});
}

TEST_CASE("dispatch/boxed: out= and in-place calls are told apart, and write where they should") {
  const auto x = al::ones<real>({2, 3});
  const auto w = al::ones<real>({3});
  real fresh;
  CHECK(recorded([&] { al::rms_norm.out(fresh, x, w, 0.5); }) ==
        lines{"rms_norm out(none) self[2, 3] weight[3] 0.500000"});
  CHECK(fresh.size() == 6);
  const float* place = fresh.data();
  CHECK(recorded([&] { al::add.out(fresh, x, w); }) == lines{"add out[2, 3] self[2, 3] other[3]"});
  CHECK(fresh.data() == place);
  CHECK(fresh.data()[5] == 2.0f);
  CHECK(recorded([&] { al::mul.in_place(fresh, fresh); }) ==
        lines{"mul self[2, 3] other[2, 3] in place"});
  CHECK(recorded([&] { al::scale.in_place(fresh, 0.5); }) ==
        lines{"scale self[2, 3] 0.500000 0.000000 in place"});
  CHECK(fresh.data()[5] == 2.0f);
}

TEST_CASE("dispatch/boxed: casts by promotion are calls too") {
  const auto i = al::ones<whole>({2});
  const auto x = al::ones<real>({2});
  CHECK(recorded([&] { al::add(i, x); }) == lines{"cast self[2]", "add self[2] other[2]"});
}
