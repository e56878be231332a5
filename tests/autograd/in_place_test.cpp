// SPDX-License-Identifier: Apache-2.0
#include <memory>

#include "autograd/support.hpp"

namespace {
/// Compares gradients with differences, and theirs too.
template <class F, class... X>
void check(const F& f, const X&... x) {
  const auto first = al::gradcheck(f, x...);
  CHECK_MESSAGE(static_cast<bool>(first), first.text());
  const auto second = al::gradgradcheck(f, x...);
  CHECK_MESSAGE(static_cast<bool>(second), second.text());
}
real matrix() { return al::from_values<real>({2, 3}, {0.1, -0.4, 0.7, 1.1, -0.9, 0.3}); }
}  // namespace

TEST_CASE("autograd/in_place: a write through a view changes the history of its base") {
  const real row = of({0.5, -1.5, 2.5});
  check(
      [](const real& a, const real& b) {
        const real base = al::mul(a, a);
        real part = al::select(base, 0, 1);
        al::mul.in_place(part, b);
        return base;  // the handle of the base, which nobody called
      },
      matrix(), row);
  check(
      [](const real& a, const real& b) {
        const real base = al::mul(a, a);
        real column = al::transpose(al::slice(base, 1, 0, 3, 2), 0, 1);
        al::exp.in_place(column);
        real other = al::select(base, 1, 2);  // overlaps what was written
        al::add.in_place(other, al::slice(b, 0, 0, 2));
        return al::mul(base, base);
      },
      matrix(), row);
}

TEST_CASE("autograd/in_place: views that were taken before a write follow it") {
  const real row = of({0.5, -1.5, 2.5});
  check(
      [](const real& a, const real& b) {
        const real base = al::mul(a, a);
        const real before = al::transpose(base, 0, 1);
        const real spread = al::expand(al::unsqueeze(al::select(base, 0, 0), 0), {2, 3});
        real part = al::select(base, 0, 0);
        al::mul.in_place(part, b);
        real all = base;
        al::mul.in_place(all, b);  // the base itself, and then the view again
        al::sub.in_place(part, al::mul(b, b));
        return al::add(al::mul(al::transpose(before, 0, 1), part), spread);
      },
      matrix(), row);
}

TEST_CASE("autograd/in_place: a write gives a history to a base that had none") {
  const real b = leaf({2, 3});
  const real base = al::zeros<real>({2, 2});
  real row = al::select(base, 0, 1);
  al::add.in_place(row, b);
  CHECK(al::requires_grad(base));
  CHECK(al::requires_grad(row));
  al::backward(al::sum(al::mul(base, base)));
  CHECK(values(al::gradient(b)) == std::vector<double>{4, 6});
}

TEST_CASE("autograd/in_place: a copy into a slice, where the base is not row-major") {
  check(
      [](const real& a, const real& b) {
        real base = al::mul(a, a);
        const real turned = al::clone(al::transpose(base, 0, 1));
        real part = al::narrow(turned, 0, 1, 2);
        al::copy.in_place(part, b);
        return al::mul(turned, turned);
      },
      matrix(), of({0.3, -0.8}));
}

TEST_CASE("autograd/in_place: what would make earlier gradients wrong is refused") {
  real x = leaf({1, 2});
  real part = al::slice(x, 0, 0, 1);
  CHECK(has(message_of<al::not_recordable>([&] { al::mul.in_place(x, x); }), "mul: a leaf"));
  CHECK(has(message_of<al::not_recordable>([&] { al::mul.in_place(part, of({2})); }),
            "mul: a view of a leaf"));
  real kept = al::exp(x);
  real of_kept = al::slice(kept, 0, 0, 1);
  CHECK(has(message_of<al::not_recordable>([&] { al::mul.in_place(kept, x); }),
            "mul: the result of exp"));
  CHECK_THROWS_AS(al::mul.in_place(of_kept, of({2})), al::not_recordable);
  const real y = al::mul(x, x);
  real blind;
  {
    const al::no_grad off;
    blind = al::slice(y, 0, 0, 1);
    al::mul.in_place(x, x);  // nothing is recorded: allowed
  }
  CHECK(has(message_of<al::not_recordable>([&] { al::mul.in_place(blind, al::slice(x, 0, 0, 1)); }),
            "under no_grad"));
  CHECK(values(al::detach(x)) == std::vector<double>{1, 4});
}

TEST_CASE("autograd/version: views and detached tensors count the writes to their base") {
  const real x = leaf({1, 2, 3});
  const real y = al::mul(x, x);
  const real z = al::mul(al::slice(y, 0, 0, 2), of({2, 2}));  // saves its second argument only
  const real w = al::mul(y, y);
  real part = al::detach(al::slice(y, 0, 2, 3));
  al::add.in_place(part, of({1}));
  CHECK_NOTHROW(al::backward(al::sum(z), {.retain_graph = true}));
  const std::string text = message_of<al::modified_in_place>([&] { al::backward(al::sum(w)); });
  CHECK(has(text, "mul saved 'other' at version 0"));
  CHECK(has(text, "at version 1 now"));
}

TEST_CASE("autograd/detach: a detached tensor shares elements and nothing else") {
  const real x = leaf({1, 2});
  const real y = al::mul(x, x);
  real d = al::detach(y);
  CHECK_FALSE(al::requires_grad(d));
  CHECK(al::is_leaf(d));
  CHECK_FALSE(al::is_leaf(y));
  real front = al::slice(y, 0, 0, 1);
  al::mul.in_place(front, of({5}));  // a write that is recorded elsewhere
  CHECK_FALSE(al::requires_grad(d));
  CHECK(values(d) == std::vector<double>{5, 4});
  real alone = al::detach(al::mul(x, x));
  al::mul.in_place(alone, x);  // its history begins here
  al::backward(al::sum(alone));
  CHECK(values(al::gradient(x)) == std::vector<double>{1, 4});
  real viewed = al::detach(al::mul(x, x));
  const real look = al::slice(viewed, 0, 0, 1);
  CHECK_THROWS_AS(al::mul.in_place(viewed, x), al::not_recordable);
}

TEST_CASE("autograd/requires_grad: results want a gradient where an argument does") {
  const real x = of({1, 2});
  CHECK_FALSE(al::requires_grad(al::mul(x, x)));
  al::require_grad(x);
  CHECK(al::is_leaf(x));
  const real y = al::mul(x, of({1, 1}));
  CHECK(al::requires_grad(y));
  CHECK(al::requires_grad(al::slice(y, 0, 0, 1)));
  CHECK_FALSE(al::requires_grad(al::cast<std::int64_t>(y)));
  CHECK_THROWS_AS(al::require_grad(y, false), al::not_recordable);
  al::require_grad(x, false);
  CHECK_FALSE(al::requires_grad(al::mul(x, x)));
  CHECK(al::requires_grad(y));  // was recorded before
  // An operator without derivative is a word when its gradient comes by, not before.
  const real z = al::require_grad(of({1}));
  const real blocked = al::call<al::ops::arange>(z, 0.0, 1.0);
  CHECK(al::requires_grad(blocked));
  CHECK(has(message_of<al::not_recordable>([&] { al::backward(blocked); }), "has no derivative"));
}

TEST_CASE(
    "autograd/leaf: a gradient has the layout of its leaf, and is taken over where it can be") {
  const auto strides = [](const real& x) {
    return std::vector<std::int64_t>(x.spec().strides().begin(), x.spec().strides().end());
  };
  const real dense = al::require_grad(matrix());
  {
    const real y = al::scale(dense, 3.0);
    al::backward(y, al::ones<real>({2, 3}));
    CHECK(strides(al::gradient(dense)) == std::vector<std::int64_t>{3, 1});
    const double* before = al::gradient(dense).data();
    al::backward(al::scale(dense, 2.0), al::ones<real>({2, 3}));  // added where it is
    CHECK(al::gradient(dense).data() == before);
    CHECK(al::gradient(dense).data()[0] == 5);
    const real held = al::gradient(dense);
    al::backward(al::scale(dense, 2.0), al::ones<real>({2, 3}), {.create_graph = true});
    CHECK(al::gradient(dense).data() != before);  // a recorded pass changes nothing in place
    CHECK(values(held)[0] == 5);
  }
  {  // a leaf whose elements stand the other way round, without gaps
    const real turned = al::require_grad(al::detach(al::transpose(matrix(), 0, 1)));
    al::backward(al::scale(turned, 2.0), al::ones<real>({3, 2}));
    CHECK(strides(al::gradient(turned)) == strides(turned));
    CHECK(values(al::gradient(turned)) == std::vector<double>(6, 2.0));
  }
  {  // with gaps, or repeated: row-major
    const real gaps = al::require_grad(al::detach(al::slice(matrix(), 1, 0, 3, 2)));
    al::backward(al::mul(gaps, gaps), al::ones<real>({2, 2}));
    CHECK(strides(al::gradient(gaps)) == std::vector<std::int64_t>{2, 1});
    const real repeated = al::require_grad(al::detach(al::expand(of({3}), {4})));
    al::backward(al::mul(repeated, repeated), of({1, 2, 3, 4}));
    CHECK(strides(al::gradient(repeated)) == std::vector<std::int64_t>{1});
    CHECK(values(al::gradient(repeated)) == std::vector<double>{6, 12, 18, 24});
  }
  {  // one that somebody else holds is copied
    const real x = leaf({1, 2});
    const real seed = of({1, 1});
    al::backward(x, seed);
    CHECK(al::gradient(x).data() != seed.data());
  }
}

TEST_CASE("autograd/backward: gradients through expanded and strided arguments") {
  const real weight = of({0.5, -1.5});
  check(
      [](const real& a, const real& w) {
        const real wide = al::expand(al::unsqueeze(w, 1), {4, 2, 3});
        return al::mul(al::mul(wide, wide), al::expand(a, {4, 2, 3}));
      },
      matrix(), weight);
  check([](const real& a,
           const real& w) { return al::mul(al::transpose(al::slice(a, 1, 0, 3, 2), 0, 1), w); },
        matrix(), weight);
}
