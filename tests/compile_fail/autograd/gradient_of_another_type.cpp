// EXPECT-ERROR: a gradient must have the element type of its argument; cast it in `backward`
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/autograd.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/reduction.hpp"

using keys =
    ashlar::make_key_set<ashlar::keys::backend<ashlar::chip::host>, ashlar::keys::autograd>;
using real = ashlar::tensor<double, keys>;

struct narrow {
  real forward(ashlar::function_context&, const real& x) const { return ashlar::clone(x); }
  auto backward(const ashlar::function_context&, const real& g) const {
    return ashlar::cast<float>(g);
  }
};

int main() { ashlar::apply_function(narrow{}, real()); }
