// SPDX-License-Identifier: Apache-2.0
#include "ashlar/ops/coverage.hpp"

#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>
#include <regex>
#include <set>
#include <string>

#include "ashlar/autograd.hpp"
#include "ashlar/stack.hpp"

namespace al = ashlar;
using al::found;

namespace {

struct own_mul {
  using op = al::ops::mul;
  static void impl(auto&, al::view<float>, al::view<const float>, al::view<const float>) {}
};
/// Nothing but one kernel.
struct lone {
  static constexpr al::chip_description description{.name = "lone"};
  using memory = al::chip::host::memory;
  using queue = al::chip::host::queue;
  using kernels = al::kernels<own_mul>;
};
struct helped : lone {
  static constexpr al::chip_description description{.name = "helped"};
  using falls_back_to = al::chip::host;
};

constexpr auto on_host = al::dispatch::coverage<al::chip::host>();
constexpr auto on_lone = al::dispatch::coverage<lone>();
constexpr auto on_helped = al::dispatch::coverage<helped>();

static_assert(on_host.count(found::missing) == 0);
static_assert(on_host["matmul"].how == found::direct);
static_assert(on_host["add"].how == found::tile);  // one library kernel for all elementwise ones
static_assert(on_host["transpose"].how == found::view && on_host["transpose"].where == "host");
static_assert(on_host["reshape"].how == found::composite);
static_assert(on_host["cast<float>"].how == found::direct);

static_assert(on_lone.count(found::direct) == 1 && on_lone["mul"].where == "lone");
static_assert(on_lone["exp"].how == found::missing && on_lone["exp"].where.empty());
static_assert(on_lone.count(found::missing) + on_lone.count(found::view) +
                  on_lone.count(found::composite) + 1 ==
              on_lone.rows.size());

static_assert(on_helped.count(found::missing) == 0);
static_assert(on_helped["exp"].how == found::fallback && on_helped["exp"].where == "host");
static_assert(on_helped["mul"].how == found::direct && on_helped.chip == "helped");
static_assert(on_helped.count(found::fallback) == on_lone.count(found::missing));

/// Chips that fall back to chips that fall back, to the host or to nothing.
struct far : lone {
  static constexpr al::chip_description description{.name = "far"};
  using kernels = al::kernels<>;
  using falls_back_to = helped;
};
struct lost : far {
  static constexpr al::chip_description description{.name = "lost"};
  using falls_back_to = lone;
};
constexpr auto on_far = al::dispatch::coverage<far>();
static_assert(on_far["mul"].how == found::fallback && on_far["mul"].where == "helped");
static_assert(on_far["exp"].how == found::fallback && on_far["exp"].where == "host");
constexpr auto on_lost = al::dispatch::coverage<lost>();
static_assert(on_lost["mul"].how == found::fallback && on_lost["mul"].where == "lone");
static_assert(on_lost["exp"].how == found::missing && on_lost["exp"].where.empty());

static_assert(al::dispatch::coverage<al::chip::meta>().count(found::missing) == 0);

}  // namespace

TEST_CASE("ops/coverage: a name that no operator has is an error") {
  CHECK_THROWS_AS(static_cast<void>(on_host["mattmul"]), al::argument_error);
}

TEST_CASE("ops/coverage: the list of operators has each that is declared, once") {
  std::ifstream file(std::string(std::getenv("ASHLAR_SOURCE")) + "/include/ashlar/ops/fwd.hpp");
  REQUIRE(file);
  std::set<std::string> declared;
  const std::regex declaration("struct (\\w+);");
  std::smatch name;
  for (std::string line; std::getline(file, line);) {
    if (std::regex_match(line, name, declaration)) {
      declared.insert(name[1]);
    }
  }
  std::set<std::string> listed;
  for (const al::coverage_row& r : on_host.rows) {
    listed.emplace(r.name.substr(0, r.name.find('<')));
  }
  CHECK(declared.size() > 80);
  CHECK(listed == declared);
  CHECK(on_host.rows.size() == declared.size());
}

TEST_CASE("ops/coverage: as text, a line says how many operators a rule answers and which") {
  constexpr auto table =
      al::dispatch::coverage<helped, al::ops::operators<al::ops::mul, al::ops::linear_bias,
                                                        al::ops::transpose, al::ops::exp>>();
  CHECK(table.text() ==
        "helped: 4 operators\n"
        "1 own kernel          mul\n"
        "1 view                transpose\n"
        "2 fallback to host    linear_bias exp\n");
  constexpr auto chain =
      al::dispatch::coverage<far, al::ops::operators<al::ops::exp, al::ops::mul, al::ops::log>>();
  CHECK(chain.text() ==
        "far: 3 operators\n"
        "2 fallback to host    exp log\n"
        "1 fallback to helped  mul\n");
  const std::string missing = on_lone.text();
  CHECK(missing.find(" missing ") != std::string::npos);
  std::size_t begin = 0;
  for (std::size_t end = 0; (end = missing.find('\n', begin)) != std::string::npos;
       begin = end + 1) {
    CHECK(end - begin <= 100);
  }
  CHECK(begin == missing.size());
}
