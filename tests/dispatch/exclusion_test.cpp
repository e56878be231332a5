// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <memory>
#include <stdexcept>
#include <string_view>
#include <thread>
#include <vector>

#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/views.hpp"

namespace al = ashlar;

namespace {

struct logged {
  static constexpr int priority = 500;
  static constexpr bool excludable = true;
  static inline std::vector<std::string_view> names;
};
struct tallied {
  static constexpr int priority = 400;
  static constexpr bool excludable = true;
  static inline int calls = 0;
};

}  // namespace

template <>
struct al::fallback<logged> {
  static decltype(auto) impl(auto next, auto&... args) {
    logged::names.push_back(decltype(next)::op::name);
    return next(args...);
  }
};
template <>
struct al::fallback<tallied> {
  static decltype(auto) impl(auto next, auto&... args) {
    ++tallied::calls;
    return next(args...);
  }
};

namespace {

using real =
    al::tensor<float, al::make_key_set<logged, tallied, al::keys::backend<al::chip::host>>>;
using names = std::vector<std::string_view>;

struct fresh_logs {
  fresh_logs() {
    logged::names.clear();
    tallied::calls = 0;
  }
};

}  // namespace

TEST_CASE("dispatch/excluding: calls in a scope pass by its key and stop at the others") {
  const fresh_logs fresh;
  const auto x = al::ones<real>({2});
  const fresh_logs again;
  {
    const al::excluding<logged> off;
    auto y = al::add(x, x);
    static_assert(std::is_same_v<decltype(y), real>);  // types stay
    al::mul.out(y, x, x);
    al::neg.in_place(y);
    CHECK(al::reshape(al::transpose(al::unsqueeze(y, 0)), {2}).data()[1] == -1.0f);
  }
  CHECK(logged::names.empty());
  CHECK(tallied::calls == 7);  // reshape is a call, and so is the view_as that it is made of
  al::add(x, x);
  CHECK(logged::names == names{"add"});
  CHECK(tallied::calls == 8);
}

TEST_CASE("dispatch/excluding: scopes nest, for one key and for several") {
  const auto x = al::ones<real>({2});
  const fresh_logs fresh;
  {
    const al::excluding<logged> outer;
    {
      const al::excluding<logged> inner;
      const al::excluding<tallied> both;
      CHECK(al::add(x, x).data()[0] == 2.0f);
    }
    CHECK(tallied::calls == 0);
    al::add(x, x);
  }
  CHECK(logged::names.empty());
  CHECK(tallied::calls == 1);
  al::sub(x, x);
  CHECK(logged::names == names{"sub"});
}

TEST_CASE("dispatch/excluding: scopes take back what they added, in whatever order they end") {
  const auto x = al::ones<real>({2});
  const fresh_logs fresh;
  auto first = std::make_unique<al::excluding<logged>>();
  auto second = std::make_unique<al::excluding<logged>>();
  second.reset();  // added nothing
  al::add(x, x);
  CHECK(logged::names.empty());
  second = std::make_unique<al::excluding<logged>>();
  first.reset();
  al::sub(x, x);
  CHECK(logged::names == names{"sub"});
  second.reset();
  al::mul(x, x);
  CHECK(logged::names == names{"sub", "mul"});
}

TEST_CASE("dispatch/excluding: an exception ends a scope") {
  const auto x = al::ones<real>({2});
  const fresh_logs fresh;
  CHECK_THROWS_AS(([&] {
                    const al::excluding<logged> off;
                    al::add(x, al::ones<real>({3}));
                  }()),
                  al::shape_error);
  al::add(x, x);
  CHECK(logged::names == names{"add"});
}

TEST_CASE("dispatch/excluding: a scope is of its thread") {
  const auto x = al::ones<real>({2});
  const fresh_logs fresh;
  const al::excluding<logged> off;
  std::thread([&] { al::mul(x, x); }).join();
  CHECK(logged::names == names{"mul"});
}
