// SPDX-License-Identifier: Apache-2.0
// What the forms of a call have beside what `tests/conformance` checks of every operator: functions
// whose callers write less than the schema, and outputs that are refused.
#include "ashlar/ops/cat.hpp"
#include "ashlar/ops/host_fallback.hpp"
#include "ashlar/ops/matmul.hpp"
#include "ashlar/ops/norm.hpp"
#include "ashlar/ops/paged_attention.hpp"
#include "ashlar/ops/softmax.hpp"
#include "ops/twins.hpp"

using namespace twins;

namespace {

/// No kernel at all. Its memory is the host's, so that a test can look inside.
struct bare_chip {
  static constexpr al::chip_description description{.name = "bare_chip"};
  using memory = al::chip::host::memory;
  using queue = al::chip::host::queue;
  using falls_back_to = al::chip::host;
};
template <class T>
using away = al::tensor<T, al::key_set<al::keys::backend<bare_chip>>>;
using real = plain<float>;
using ids = plain<std::int32_t>;

template <class F, class... A>
concept Callable = requires(const F& f, const A&... args) { f(args...); };
static_assert(Callable<decltype(al::squeeze), real, int>);
static_assert(!Callable<decltype(al::squeeze), real, const char*> &&
              !Callable<decltype(al::squeeze), int, int> && !Callable<decltype(al::squeeze), real>);

}  // namespace

TEST_CASE("ops/forms: attributes that are left out, or of another type, are so in all forms") {
  const auto x = numbers<real>({2, 3, 17}, 1);
  check_forms(al::scale, al::square(x), 2.0);
  check_forms(al::pow, al::square(x), 2);
  check_forms(al::softmax, x);
  check_output(al::max, x, -1, true);
  check_output(al::slice, x, -1, 1, 3);
  check_output(al::transpose, x);
  check_output(al::reshape, x, al::shape{6, -1});
}

TEST_CASE("ops/forms: integers are promoted, and summed as int64, in all forms") {
  const auto i = numbers<ids>({2, 3}, 1);
  const auto x = numbers<real>({3}, 2);
  check_output(al::mul, i, x);  // an integer cannot hold the result: no in-place form
  check_forms(al::mul, x, i);
  check_output(al::sum, i, 0);
  check_output(al::sum, numbers<plain<bool>>({2, 3}, 1), -1, true);
  check_forms(al::sum, numbers<plain<std::int64_t>>({1, 1}, 1), 1, true);
  static_assert(std::is_same_v<decltype(al::sum(plain<bool>{}))::value_type, std::int64_t>);
}

TEST_CASE("ops/forms: products of vectors and linear layers are spelled alike in all forms") {
  check_output(al::matmul, numbers<real>({5}, 1), numbers<real>({5, 2}, 2));
  check_output(al::matmul, numbers<real>({3, 2, 5}, 1), numbers<real>({5}, 2));
  check_output(al::matmul, numbers<real>({5}, 1), numbers<real>({5}, 2));
  check_output(al::matmul, numbers<ids>({2, 3}, 1), numbers<real>({3}, 2));
  const auto w = numbers<real>({5, 5}, 2);
  check_forms(al::linear, numbers<real>({2, 3, 5}, 1), w);
  check_forms(al::linear, numbers<real>({5}, 1), w, numbers<real>({5}, 3));
}

TEST_CASE("ops/forms: lists are joined in all forms") {
  const auto a = numbers<real>({2, 3}, 1);
  check_forms(al::op_function<al::ops::cat>{}, a, numbers<real>({2, 1}, 2),
              std::int64_t{1});  // in place it does not fit, and says so
  for (const std::size_t n : {1u, 2u, 3u, 4u, 5u, 17u}) {
    const std::vector<real> list(n, a);
    const auto y = al::cat(list, 0);
    real given = scattered(al::zeros<real>(al::shape(y.shape())));
    check_same(al::cat.out(given, list, 0), y);
  }
}

TEST_CASE("ops/forms: outputs of views that do not fit, or share elements, are refused by name") {
  const auto x = numbers<real>({3, 3}, 1);
  real wrong = al::zeros<real>({2, 3});
  try {
    al::reshape.in_place(wrong, {6});
    FAIL("must throw");
  } catch (const al::output_error& e) {
    CHECK(e.op == "reshape");
    CHECK(e.needed == al::shape{6});
    CHECK(e.given == al::shape{2, 3});
  }
  real same = x;
  CHECK_THROWS_WITH(al::transpose.out(same, x),
                    "ashlar::transpose: the output shares elements with an argument; write to a "
                    "tensor of its own");
  CHECK_THROWS_AS(al::transpose.out(same, real{}), al::undefined_tensor);
  real square = numbers<real>({2, 2}, 1);
  check_same(al::reshape.in_place(square, {2, 2}), numbers<real>({2, 2}, 1));
  CHECK_THROWS_AS(al::reshape.in_place(square, {4}), al::output_error);
}

TEST_CASE("ops/forms: outputs that would have to be recorded are refused") {
  const leaf x = numbers<leaf>({2, 2}, 1);
  const auto plain_x = al::without<al::keys::autograd>(x);
  al::require_grad(x);
  leaf y;
  CHECK_THROWS_AS(al::transpose.out(y, x), al::not_recordable);
  CHECK_THROWS_AS(al::reshape.out(y, x, {4}), al::not_recordable);
  std::tuple<leaf, leaf> both;
  const al::op_function<al::ops::layer_norm_backward_weight> f;
  CHECK_THROWS_AS(f.out(both, x, x, 1e-3), al::not_recordable);
  CHECK_FALSE(std::get<0>(both));
  std::tuple<leaf, leaf> wanted{al::zeros<leaf>({2}), al::zeros<leaf>({2})};
  al::require_grad(std::get<1>(wanted));
  CHECK_THROWS_AS(f.out(wanted, al::detach(x), al::detach(x), 1e-3), al::not_recordable);
  const al::no_grad off;
  CHECK(al::reshape.out(y, x, {4}).size() == 4);
  f.out(both, x, x, 1e-3);
  check_same(al::without<al::keys::autograd>(std::get<1>(both)),
             std::get<1>(f(plain_x, plain_x, 1e-3)));
}

TEST_CASE("ops/forms: on another chip outputs are refused and untouched, too") {
  using there = away<float>;
  const auto x = numbers<there>({2, 3}, 1);
  const al::op_function<al::ops::layer_norm_backward_weight> f;
  std::tuple<there, there> both;
  std::get<0>(both) = al::full<there>({3}, 7.0);
  std::get<1>(both) = std::get<0>(both);
  CHECK_THROWS_AS(f.out(both, x, x, 1e-5), al::overlap_error);
  std::get<1>(both) = x;
  CHECK_THROWS_AS(f.out(both, x, x, 1e-5), al::output_error);
  check_elements(std::get<0>(both), [](std::int64_t) { return 7.0; });
  there none = al::zeros<there>({0, 3});
  CHECK_THROWS_AS(al::cat.in_place(none, x, 0), al::output_error);
  const auto hear = al::on_resize.exchange(nullptr);
  none = al::zeros<there>({5});
  check_same(al::abs.out(none, x), al::abs(x));
  al::on_resize = hear;
  check_output(al::op_function<al::ops::cat>{}, x, x, std::int64_t{0});
  check_output(f, x, x, 1e-5);
  check_forms(al::matmul, numbers<there>({3, 3}, 1), numbers<there>({3, 3}, 2));
}

TEST_CASE("ops/forms: an operator that writes to its arguments writes them at home") {
  using there = away<float>;
  const there keys = al::zeros<there>({2, 1, 3, 2});
  const there values = al::zeros<there>({2, 1, 2, 3});
  const auto k = numbers<there>({1, 1, 3}, 1);
  const auto slots = al::from_values<away<std::int64_t>>({1}, {3});
  const auto before = keys.body()->version;
  al::cache_write(keys, values, k, k, slots);
  CHECK(keys.body()->version == before + 1);
  CHECK(values.body()->version == before + 1);
  CHECK(k.body()->version == 0);
  for (std::int64_t c = 0; c < 3; ++c) {  // slot 3: block 1, offset 1
    CHECK(keys.view()(1, 0, c, 1) == k.view()(0, 0, c));
    CHECK(values.view()(1, 0, 1, c) == k.view()(0, 0, c));
  }
}

TEST_CASE(
    "ops/forms: on another chip the first call of each operator says that it happens elsewhere") {
  static std::vector<std::string> said;
  const auto before =
      al::on_fallback.exchange([](const al::fallback_notice& n) { said.push_back(n.to_string()); });
  const auto x = numbers<away<float>>({2, 2}, 1);
  for (int i = 0; i < 2; ++i) {
    static_cast<void>(al::mul(x, x));
    static_cast<void>(al::linear(x, x));
  }
  away<float> y;
  al::mul.out(y, x, x);
  CHECK(said.size() == 2);
  CHECK(said.front() ==
        "ashlar: mul has no kernel on bare_chip and happens on host, with copies there and back; "
        "list one in the chip, or give it codegen\n");
  al::on_fallback = nullptr;
  static_cast<void>(al::sub(x, x));
  al::on_fallback = before;
  static_cast<void>(al::sub(x, x));
  CHECK(said.size() == 2);  // it had its turn
}
