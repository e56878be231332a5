// SPDX-License-Identifier: Apache-2.0
// What happens on another chip has all forms of what happens at home.
#include "ashlar/ops/cat.hpp"
#include "ashlar/ops/host_fallback.hpp"
#include "ashlar/ops/matmul.hpp"
#include "ashlar/ops/norm.hpp"
#include "ashlar/ops/paged_attention.hpp"
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
using real = away<float>;

}  // namespace

TEST_CASE("ops/host_fallback: the first call of each operator says that it happens elsewhere") {
  static std::vector<std::string> said;
  const auto before =
      al::on_fallback.exchange([](const al::fallback_notice& n) { said.push_back(n.to_string()); });
  const auto x = numbers<real>({2, 2}, 1);
  for (int i = 0; i < 2; ++i) {
    static_cast<void>(al::mul(x, x));
    static_cast<void>(al::matmul(x, x));
  }
  real y;
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

TEST_CASE("ops/host_fallback: all forms agree") {
  const auto x = numbers<real>({3, 5}, 1);
  const auto c = numbers<real>({5}, 2);
  check_forms(al::add, x, c);
  check_forms(al::fill, x, 3.0);
  check_forms(al::rms_norm, x, c);
  check_forms(al::matmul, numbers<real>({3, 3}, 1), numbers<real>({3, 3}, 2));
  check_forms(al::contiguous, x);
  check_output(al::cat, x, x, 0);
  check_output(al::sum, numbers<away<std::int32_t>>({3, 5}, 1), 0);
  check_output(al::transpose, x);
  check_output(al::op_function<al::ops::layer_norm_backward_weight>{}, x, x, 1e-5);
}

TEST_CASE("ops/host_fallback: what lies between an output's elements stays") {
  const auto room = al::full<real>({2, 6}, 7.0);
  real even = al::slice(room, 1, 0, 6, 2);
  al::fill.in_place(even, 1.0);
  check_elements(room, [](std::int64_t i) { return i % 2 == 0 ? 1.0 : 7.0; });
}

TEST_CASE(
    "ops/host_fallback: outputs that share elements or do not fit are refused and untouched") {
  const auto x = numbers<real>({2, 3}, 1);
  const al::op_function<al::ops::layer_norm_backward_weight> f;
  std::tuple<real, real> both;
  std::get<0>(both) = al::full<real>({3}, 7.0);
  std::get<1>(both) = std::get<0>(both);
  CHECK_THROWS_AS(f.out(both, x, x, 1e-5), al::overlap_error);
  std::get<1>(both) = al::zeros<real>({4});
  CHECK_THROWS_AS(f.out(both, x, x, 1e-5), al::output_error);
  check_elements(std::get<0>(both), [](std::int64_t) { return 7.0; });
  real none = al::zeros<real>({0, 3});
  CHECK_THROWS_AS(al::cat.in_place(none, x, 0), al::output_error);
}

TEST_CASE("ops/host_fallback: an operator that writes to its arguments writes them at home") {
  const real keys = al::zeros<real>({2, 1, 3, 2});
  const real values = al::zeros<real>({2, 1, 2, 3});
  const auto k = numbers<real>({1, 1, 3}, 1);
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
  CHECK(al::item(al::sum_squares(keys)) == doctest::Approx(al::item(al::sum_squares(k))));
}
