// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>

#include "ashlar/stack.hpp"
#include "support/conformance.hpp"

/// All operators on one chip, in two programs that are compiled side by side.
namespace halves {

namespace al = ashlar;
namespace kit = ashlar::conformance;

/// Checks one half, with gradients. Nothing is unsupported.
template <class Chip, std::size_t Half>
void check(const kit::options& options) {
  using stack = al::stack<al::on<Chip>, al::differentiate<al::autograd::tape<>>>;
  using half = kit::part<al::ops::all, Half, 2>;
  const kit::report r = kit::run<stack, kit::types<float>, half>(options);
  CHECK_MESSAGE(r.ok(), r.text());
  CHECK(r.count(kit::verdict::unsupported) == 0);
}

}  // namespace halves
