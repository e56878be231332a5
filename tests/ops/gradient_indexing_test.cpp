// SPDX-License-Identifier: Apache-2.0
#include "ops/gradients.hpp"

using namespace twins;

namespace {

/// Numbers below `below`, each once in a row as long as `below` allows.
plain<std::int64_t> picks(const al::shape& s, std::int64_t below) {
  const auto ids = al::empty<plain<std::int64_t>>(s);
  for (std::int64_t i = 0; i < ids.size(); ++i) {
    ids.data()[i] = i * 3 % below;
  }
  return ids;
}

template <class F>
void check(const F& f, const al::shape& s) {
  check_gradient(f, away(s, 1));
  check_gradient(f, scattered(away(s, 2)));
  check_second_gradient([&](const auto& x) { return al::square(f(x)); }, away(s, 3));
}

struct checks {
  static void of(std::type_identity<ops::unfold>) {
    check([](const auto& x) { return al::unfold(x, 1, 3, 2, 2); }, {2, 11});
    check([](const auto& x) { return al::unfold(al::unfold(x, 0, 2), 1, 2, 3); }, {4, 5});
  }
  static void of(std::type_identity<ops::unfold_backward>) {
    check(
        [](const auto& g) {
          return al::call<ops::unfold_backward>(g, al::shape{2, 11}, std::int64_t{1},
                                                std::int64_t{3}, std::int64_t{2}, std::int64_t{2});
        },
        {2, 4, 3});
  }
  static void of(std::type_identity<ops::cumsum>) {
    check([](const auto& x) { return al::cumsum(x, 0); }, {3, 2});
    check([](const auto& x) { return al::cumsum(x, -1, true); }, {3, 2});
    check([](const auto& x) { return al::cumsum(x); }, {});
  }
  static void of(std::type_identity<ops::gather>) {
    const auto index = picks({2, 4}, 3);
    check([&](const auto& x) { return al::gather(x, 1, index); }, {2, 3});
    check([&](const auto& x) { return al::gather(x, 0, picks({4, 2}, 3)); }, {3, 5});
  }
  static void of(std::type_identity<ops::index_select>) {
    const auto ids = picks({3}, 5);
    check([&](const auto& x) { return al::index_select(x, -1, ids); }, {2, 3, 5});
    check([&](const auto& x) { return al::index_select(x, 0, ids); }, {5, 2});
  }
  static void of(std::type_identity<ops::topk>) {
    check([](const auto& x) { return std::get<0>(al::topk(x, 2)); }, {2, 5});
  }
  static void of(std::type_identity<ops::sort>) {
    check([](const auto& x) { return std::get<0>(al::sort(x, 0)); }, {5, 2});
    check([](const auto& x) { return std::get<0>(al::sort(x)); }, {});
  }
  static void of(std::type_identity<ops::scatter>) {
    const auto once = picks({2, 4}, 5);   // 0 3 1 4, 2 0 3 1
    const auto twice = picks({2, 4}, 3);  // some places more than once
    const auto write = [&](const auto& x, const auto& s) { return al::scatter(x, 1, once, s); };
    const auto sum = [&](const auto& x, const auto& s) { return al::scatter_add(x, 1, twice, s); };
    check_gradient(write, away({2, 5}, 1), away({2, 4}, 2));
    check_gradient(sum, away({2, 5}, 1), scattered(away({2, 4}, 2)));
    check_second_gradient([&](const auto& x, const auto& s) { return al::square(write(x, s)); },
                          away({2, 5}, 1), away({2, 4}, 2));
    check_second_gradient([&](const auto& x, const auto& s) { return al::square(sum(x, s)); },
                          away({2, 5}, 1), away({2, 4}, 2));
  }
};

}  // namespace

TEST_CASE("ops/gather: gradients of what takes elements by number, and theirs, equal differences") {
  check_family<checks>(family::indexing{});
}
