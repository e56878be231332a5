// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <doctest/doctest.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "ashlar/autograd.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/math.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/views.hpp"

namespace al = ashlar;

/// Everything in double, so that one type's operators are compiled and `gradcheck` can look.
using keys = al::make_key_set<al::keys::autograd, al::keys::backend<al::chip::host>>;
using real = al::tensor<double, keys>;

inline real of(std::initializer_list<double> values) {
  return al::from_values<real>({static_cast<std::int64_t>(values.size())}, values);
}
inline real leaf(std::initializer_list<double> values) { return al::require_grad(of(values)); }
inline std::vector<double> values(const real& x) { return al::to_vector(al::detach(x)); }
inline real one() { return of({1}); }

template <class E, class F>
std::string message_of(const F& f) {
  try {
    f();
  } catch (const E& e) {
    return e.what();
  }
  return "nothing was thrown";
}
inline bool has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}
