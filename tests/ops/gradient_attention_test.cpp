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
