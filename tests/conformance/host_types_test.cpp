// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "ashlar/stack.hpp"
#include "support/conformance.hpp"

namespace {
namespace al = ashlar;
namespace kit = ashlar::conformance;
namespace ops = ashlar::ops;
}  // namespace

// One narrow type and one integer; kernels of every type have tests of their own in tests/chip.
TEST_CASE("conformance/host: operators conform in other element types") {
  using list =
      ops::operators<ops::add, ops::sub, ops::mul, ops::div, ops::maximum, ops::minimum, ops::neg,
                     ops::abs, ops::sign, ops::square, ops::relu, ops::exp, ops::lt, ops::eq,
                     ops::logical_not, ops::where, ops::cast<float>, ops::copy, ops::clone,
                     ops::fill, ops::arange, ops::cat, ops::sum, ops::mean, ops::max, ops::argmax,
                     ops::sum_to, ops::softmax, ops::matmul, ops::embedding, ops::rms_norm>;
  using stack = al::stack<al::on<al::chip::host>, al::differentiate<al::autograd::tape<>>>;
  const kit::report r = kit::run<stack, kit::types<std::int32_t, al::bfloat16>, list>(
      {.print = false, .same_bits = true});
  CHECK_MESSAGE(r.ok(), r.text());
  CHECK(r.find("exp", al::dtype::int32)->result == kit::verdict::unsupported);
  CHECK(r.count(kit::verdict::pass) > 50);
}
