// SPDX-License-Identifier: Apache-2.0
#include "ops/gradients.hpp"

using namespace twins;

namespace {

struct checks {
  static void of(std::type_identity<ops::scaled_dot_product_attention>) {
    struct sample {
      al::shape q, k;
      bool causal;
    };
    const std::vector<sample> samples{
        {{1, 1, 1, 1}, {1, 1, 1, 1}, false}, {{2, 2, 3, 2}, {2, 1, 3, 2}, true},
        {{1, 2, 2, 3}, {1, 2, 5, 3}, true},  {{1, 2, 3, 2}, {1, 2, 2, 2}, true},
        {{1, 4, 2, 2}, {1, 2, 3, 2}, false}, {{0, 2, 3, 2}, {0, 1, 3, 2}, true},
        {{1, 2, 0, 2}, {1, 1, 3, 2}, true}};
    for (const auto& [q, k, causal] : samples) {
      const auto f = [c = causal](const auto& a, const auto& b, const auto& d) {
        return al::scaled_dot_product_attention(a, b, d, c, 0.6);
      };
      check_gradient(f, numbers<leaf>(q, 1), numbers<leaf>(k, 2), numbers<leaf>(k, 3));
      check_gradient(f, scattered(numbers<leaf>(q, 1)), scattered(numbers<leaf>(k, 2)),
                     scattered(numbers<leaf>(k, 3)));
      check_second_gradient(f, numbers<leaf>(q, 1), numbers<leaf>(k, 2), numbers<leaf>(k, 3));
    }
  }
};

}  // namespace

TEST_CASE("ops/attention: gradients equal differences") {
  check_family<checks>(family::attention{});
}

TEST_CASE("ops/attention: a recorded gradient is that of the parts, not of the fused backward") {
  const leaf q = al::require_grad(numbers<leaf>({2, 2, 3, 2}, 1));
  const leaf k = numbers<leaf>({2, 1, 3, 2}, 2);
  const auto slope = [&](bool recorded) {
    const leaf y = al::scaled_dot_product_attention(q, k, k, true, 0.6);
    return std::get<0>(al::grad(y, al::ones<leaf>({2, 2, 3, 2}), {.create_graph = recorded}, q));
  };
  const leaf parts = slope(true);
  CHECK(al::autograd::node_of(parts, "test").name != "scaled_dot_product_attention_backward");
  const leaf fused = slope(false);
  CHECK(!al::requires_grad(fused));
  // Sums of three products in another order.
  check_elements(
      al::detach(parts), [&](std::int64_t i) { return at(fused, i); }, 0.0, 1e-14);
}
