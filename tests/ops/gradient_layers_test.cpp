// SPDX-License-Identifier: Apache-2.0
#include "ops/gradients.hpp"

using namespace twins;

namespace {

struct checks {
  static void of(std::type_identity<ops::rms_norm>) {
    const auto f = [](const auto& x, const auto& w) { return al::rms_norm(x, w, 1e-3); };
    for (const al::shape& s : {al::shape{1}, {5}, {3, 5}, {2, 3, 4}, {0, 3}}) {
      const al::shape c{s[s.rank() - 1]};
      check_gradient(f, numbers<leaf>(s, 1), numbers<leaf>(c, 2));
      check_gradient(f, scattered(numbers<leaf>(s, 1)), scattered(numbers<leaf>(c, 2)));
      check_second_gradient(f, numbers<leaf>(s, 1), scattered(numbers<leaf>(c, 2)));
    }
  }
  static void of(std::type_identity<ops::layer_norm>) {
    const auto f = [](const auto& x, const auto& w, const auto& b) {
      return al::layer_norm(x, w, b, 1e-3);
    };
    for (const al::shape& s : {al::shape{1}, {5}, {3, 5}, {2, 3, 4}, {0, 3}}) {
      const al::shape c{s[s.rank() - 1]};
      check_gradient(f, numbers<leaf>(s, 1), numbers<leaf>(c, 2), numbers<leaf>(c, 3));
      check_gradient(f, scattered(numbers<leaf>(s, 1)), scattered(numbers<leaf>(c, 2)),
                     scattered(numbers<leaf>(c, 3)));
      check_second_gradient(f, scattered(numbers<leaf>(s, 1)), numbers<leaf>(c, 2),
                            numbers<leaf>(c, 3));
    }
  }
  static void of(std::type_identity<ops::embedding>) {
    const auto ids = al::from_values<plain<std::int32_t>>({2, 2}, {3, 0, 0, 2});
    const auto f = [&](const auto& w) { return al::square(al::embedding(w, ids)); };
    check_gradient(f, numbers<leaf>({4, 3}, 1));
    check_gradient(f, scattered(numbers<leaf>({4, 3}, 1)));
    check_second_gradient(f, numbers<leaf>({4, 2}, 1));
    const auto none = al::zeros<plain<std::int64_t>>({0});
    check_gradient([&](const auto& w) { return al::embedding(w, none); }, numbers<leaf>({2, 3}, 1));
  }
  static void of(std::type_identity<ops::embedding_backward>) {
    const auto ids = al::from_values<plain<std::int32_t>>({2, 2}, {3, 0, 0, 2});
    const auto f = [&](const auto& g) {
      return al::square(al::call<ops::embedding_backward>(g, ids, std::int64_t{4}));
    };
    check_gradient(f, numbers<leaf>({2, 2, 3}, 1));
    check_gradient(f, scattered(numbers<leaf>({2, 2, 3}, 2)));
    check_second_gradient(f, numbers<leaf>({2, 2, 2}, 3));
  }
  static void of(std::type_identity<ops::rope>) {
    const auto positions = al::from_values<plain<std::int32_t>>({3}, {0, 5, 2});
    for (const bool interleaved : {false, true}) {
      const auto f = [&](const auto& x) {
        return al::square(al::rope(x, positions, 100.0, interleaved));
      };
      check_gradient(f, numbers<leaf>({2, 3, 1, 4}, 1));
      check_gradient(f, scattered(numbers<leaf>({3, 2, 2}, 1)));
      check_second_gradient(f, numbers<leaf>({3, 1, 2}, 1));
    }
  }
};

}  // namespace

TEST_CASE("ops/layers: gradients equal differences") { check_family<checks>(family::layers{}); }
