// SPDX-License-Identifier: Apache-2.0
// Which operators a chip has that only runs tile programs: all but views, which need no kernel.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/ops.hpp"
#include "ashlar/ops/tile.hpp"
#include "support/tile_chip.hpp"

namespace al = ashlar;
using tile_test::tile_chip;

namespace {

constexpr auto covered = al::dispatch::coverage<tile_chip>();
static_assert(covered.count(al::found::missing) == 0);
static_assert(covered["reshape"].how == al::found::composite);
static_assert(covered.count(al::found::tile) + covered.count(al::found::view) +
                  covered.count(al::found::composite) ==
              covered.rows.size());

}  // namespace

namespace {

template <class Chip>
auto gradients() {
  using X = al::tensor<float, al::make_key_set<al::keys::autograd, al::keys::backend<Chip>>>;
  const auto leaf = [](const al::shape& s, int salt) {
    const auto values = al::to_vector(twins::numbers<twins::plain<float>>(s, salt));
    return al::require_grad(al::from_values<X>(s, values));
  };
  const X x = leaf({3, 5}, 1);
  const X w = leaf({7, 5}, 2);
  al::backward(al::mean(al::square(al::tanh(al::linear(x, w)))));
  return std::pair(al::to_vector(al::gradient(x)), al::to_vector(al::gradient(w)));
}

}  // namespace

TEST_CASE("ops/tile_coverage: gradients on a chip with nothing but tile programs are the host's") {
  const auto here = gradients<al::chip::host>();
  const auto there = gradients<tile_chip>();
  for (std::size_t i = 0; i < here.first.size(); ++i) {  // a few dozen roundings of 2^-24
    CHECK(there.first[i] == doctest::Approx(here.first[i]).epsilon(1e-5));
  }
  for (std::size_t i = 0; i < here.second.size(); ++i) {
    CHECK(there.second[i] == doctest::Approx(here.second[i]).epsilon(1e-5));
  }
}

namespace {

/// Every operator over windows, channels, orders and random numbers; gradients of the loss, and
/// those of their squares.
template <class Chip>
auto twice_through_composites() {
  using X = al::tensor<float, al::make_key_set<al::keys::autograd, al::keys::backend<Chip>>>;
  const auto leaf = [](const al::shape& s, int salt) {
    const auto values = al::to_vector(twins::numbers<twins::plain<float>>(s, salt));
    return al::require_grad(al::from_values<X>(s, values));
  };
  const X x = leaf({2, 4, 5, 4}, 1);
  const X w = leaf({4, 2, 3, 2}, 2);
  const X bias = leaf({4}, 3);
  const X c = leaf({4}, 4);
  const X d = leaf({4}, 5);
  const al::window_options o{.stride = {1, 2}, .padding = {1, 1}};
  const al::window_options pads{.padding = {1, 1}};
  const X y = al::conv2d(x, w, bias, o, 2);
  const bool is_one_call = al::autograd::node_of(y, "test").name == "conv2d";
  CHECK(is_one_call == (al::rule<al::ops::conv2d, al::keys::backend<Chip>>() == al::found::tile));
  const auto all = al::batch_norm_train(y, c, d, 0.5);
  const X scaled = al::batch_norm(std::get<0>(all), std::get<1>(all), std::get<2>(all), d, c, 0.5);
  const X pooled = al::avg_pool2d(al::max_pool2d(scaled, {2, 2}, pads), {2, 2}, pads, false);
  using numbers = al::tensor<std::int64_t, typename X::keys>;
  const X some = al::index_select(x, 1, al::from_values<numbers>({3}, {2, 0, 2}));
  const X rows = al::index_select(x, 0, al::from_values<numbers>({3}, {1, 0, 1}));
  for (const X& each : {some, rows}) {
    CHECK((al::autograd::node_of(each, "test").name == "index_select") == is_one_call);
  }
  const auto [top, places] = al::topk(some, 2, 2);
  X ordered = std::get<0>(al::sort(rows));
  al::scale.in_place(ordered, 2.0, 0.0);  // the places alone are kept
  const X loss = al::add(al::sum(al::square(al::dropout(pooled, 0.25, 7))),
                         al::add(al::sum(al::mul(al::square(top), top)),
                                 al::sum(al::mul(al::square(ordered), al::select(x, 0, 0)))));
  const auto first = al::grad(loss, al::ones<X>({}), {.create_graph = true}, x, w, bias, c, d);
  X sum = al::zeros<X>({});
  std::apply([&](const auto&... g) { ((sum = al::add(sum, al::sum(al::square(g)))), ...); }, first);
  al::backward(sum);
  std::vector<float> values;
  const auto note = [&](const X& g) {
    for (const float v : al::to_vector(al::detach(g))) {
      values.push_back(v);
    }
  };
  std::apply([&](const auto&... g) { (note(g), ...); }, first);
  for (const X& each : {x, w, bias, c, d}) {
    note(al::gradient(each));
  }
  return values;
}

}  // namespace

TEST_CASE("ops/tile_coverage: gradients of composites with programs, and theirs, are the host's") {
  const std::vector<float> here = twice_through_composites<al::chip::host>();
  const std::vector<float> there = twice_through_composites<tile_chip>();
  REQUIRE(here.size() == there.size());
  float largest = 0;
  for (const float v : here) {
    largest = std::max(largest, std::abs(v));
  }
  for (std::size_t i = 0; i < here.size(); ++i) {
    // Some thousand roundings of 2^-24 of terms of the largest size.
    CHECK(std::abs(there[i] - here[i]) <= 1e-4F * largest);
  }
}

namespace {

std::set<std::string> matches(const std::string& text, const char* pattern) {
  const std::regex expression(pattern);
  std::set<std::string> all;
  for (std::sregex_iterator i(text.begin(), text.end(), expression), end; i != end; ++i) {
    all.insert((*i)[1]);
  }
  return all;
}

}  // namespace

// Those tests check at run time that they did what their lists say.
TEST_CASE("ops/tile_coverage: every tile program of an operator is run on every chip") {
  const std::filesystem::path source = std::getenv("ASHLAR_SOURCE");
  std::set<std::string> run;
  for (const auto& entry : std::filesystem::directory_iterator(source / "tests/chip")) {
    if (entry.path().filename().string().starts_with("operators_")) {
      std::ifstream file(entry.path());
      const std::string text(std::istreambuf_iterator<char>(file), {});
      for (const std::string& list : matches(text, "check_seen<([^(]*)>\\(\\)")) {
        run.merge(matches(list, "ops::(\\w+)"));
      }
    }
  }
  for (const al::coverage_row& row : covered.rows) {
    if (row.how == al::found::tile) {
      const std::string name(row.name.substr(0, row.name.find('<')));
      CHECK_MESSAGE(run.contains(name), name, " is in a list of tests/chip/operators_*_test.cpp");
    }
  }
}

namespace {

template <class Op, class... P>
constexpr bool is_in(al::ops::operators<P...>) {
  return (std::is_same_v<Op, P> || ...);
}
/// An operator's row in docs/operators.md.
template <class Op>
std::string row_of() {
  const std::string_view name = al::detail::short_name<Op>();
  const auto how = al::rule<Op, al::keys::backend<tile_chip>>();
  std::string row = "| `" + std::string(name.substr(0, name.find('<'))) + "` | ";
  row += is_in<Op>(al::ops::prims{}) ? "prim" : al::Composite<Op> ? "composite" : "decomposition";
  row += al::Differentiable<Op>                    ? " | yes"
         : al::Composite<Op> && al::Structured<Op> ? " | its parts'"
                                                   : " | no";
  row += how == al::found::tile   ? " | yes |"
         : how == al::found::view ? " | view |"
                                  : " | its parts' |";
  return row;
}
template <class... Op>
std::set<std::string> rows_of(al::ops::operators<Op...>) {
  return {row_of<Op>()...};
}

}  // namespace

TEST_CASE("ops/tile_coverage: docs/operators.md has the row of every operator") {
  std::ifstream page(std::string(std::getenv("ASHLAR_SOURCE")) + "/docs/operators.md");
  REQUIRE(page);
  std::set<std::string> written;
  std::string line;
  while (std::getline(page, line) && line != "## The table") {
  }
  while (std::getline(page, line) && !line.starts_with("## ")) {
    if (line.starts_with("| `")) {
      written.insert(line);
    }
  }
  const auto wanted = rows_of(al::ops::all{});
  for (const std::string& row : wanted) {
    CHECK_MESSAGE(written.contains(row), "missing: ", row);
  }
  for (const std::string& row : written) {
    CHECK_MESSAGE(wanted.contains(row), "not so: ", row);
  }
}
