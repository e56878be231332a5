// SPDX-License-Identifier: Apache-2.0
// The keys that ship: what they hear, what they change, and what coverage says of them.
#include <doctest/doctest.h>

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "ashlar/autograd.hpp"
#include "ashlar/dispatch/profile.hpp"
#include "ashlar/ops/autocast.hpp"
#include "ashlar/ops/complete.hpp"
#include "ashlar/ops/coverage.hpp"
#include "ashlar/stack.hpp"
#include "laws/key.hpp"

namespace al = ashlar;

namespace {

/// A clock that goes on by one microsecond each time it is read.
std::int64_t ticking() {
  static std::int64_t now = 0;
  return now += 1000;
}

using profiled = al::stack<al::on<al::chip::host>, al::through<al::keys::profile>>;
using watched = profiled::tensor<float>;

using half = al::bfloat16;
using mixed = al::stack<al::on<al::chip::host>, al::differentiate<al::autograd::tape<>>,
                        al::through<al::keys::autocast<half>>>;
using plain = al::stack<al::on<al::chip::host>, al::differentiate<al::autograd::tape<>>>;
template <class X>
using element = typename X::value_type;

/// Small whole numbers and halves: exact in every type here.
template <class X>
X numbers(const al::shape& extents, int seed) {
  std::vector<element<X>> values;
  std::int64_t count = 1;
  for (const std::int64_t n : extents.span()) {
    count *= n;
  }
  for (std::int64_t i = 0; i < count; ++i) {
    values.push_back(static_cast<element<X>>(static_cast<float>((i * 7 + seed * 3) % 11 - 5) / 4));
  }
  return al::from_values<X>(extents, values);
}
template <class X, class Y>
bool same(const X& x, const Y& y) {
  const auto a = al::to_vector(x);
  const auto b = al::to_vector(y);
  bool equal = a.size() == b.size();
  for (std::size_t i = 0; equal && i < a.size(); ++i) {
    equal = static_cast<float>(a[i]) == static_cast<float>(b[i]);
  }
  return equal && std::equal(x.shape().begin(), x.shape().end(), y.shape().begin());
}

}  // namespace

TEST_CASE("dispatch/profile: calls are counted by operator and shapes, with their times") {
  al::profiler p({.now = ticking});
  const watched x = al::ones<watched>({2, 3}), row = al::ones<watched>({3});
  watched y = al::add(x, row);  // nobody listens yet
  {
    const al::profiler::listening on(p);
    y = al::add(x, row);
    y = al::add(y, row);
    y = al::add(row, row);
    al::add.out(y, row, row);
    al::mul.in_place(y, y);
  }
  y = al::add(x, row);
  const std::vector<al::profile_row> rows = p.rows();
  REQUIRE(rows.size() == 4);
  CHECK(rows[0] == al::profile_row{"add", "float32[2, 3] float32[3]", 2, 2000, 2000, 1000, 1000});
  CHECK(rows[1].calls == 1);
  CHECK(rows[1].op == "add");
  CHECK(rows[2].op == "add out=");
  CHECK(rows[3].op == "mul in place");
  const std::string table = p.table();
  CHECK(table.find("operator          calls   total us") == 0);
  CHECK(table.find("add                   2       2.00       2.00       1.00       1.00  "
                   "float32[2, 3] float32[3]\n") != std::string::npos);
  p.clear();
  CHECK(p.rows().empty());
}

TEST_CASE("dispatch/profile: what happens inside a call counts for both, but not as its own") {
  al::profiler p({.wait = true, .now = ticking});
  const watched x = al::ones<watched>({2});
  {
    const al::profiler::listening on(p);
    const al::profiler::call outer(p, "outer", "");
    static_cast<void>(al::neg(x));
  }
  const auto rows = p.rows();
  REQUIRE(rows.size() == 2);
  CHECK(rows[0].op == "outer");
  CHECK(rows[0].total == 3000);
  CHECK(rows[0].self == 2000);
  CHECK(rows[1].total == 1000);
}

TEST_CASE("dispatch/profile: a call that throws is in the list, and the next one is its own") {
  al::profiler p({.now = ticking});
  const watched x = al::ones<watched>({2});
  const al::profiler::listening on(p);
  CHECK_THROWS_AS(static_cast<void>(al::add(x, al::ones<watched>({3}))), al::shape_error);
  static_cast<void>(al::neg(x));
  std::vector<std::string> names;
  for (const al::profile_row& r : p.rows()) {
    names.push_back(r.op);
    CHECK(r.self == r.total);
  }
  CHECK(std::count(names.begin(), names.end(), "add") == 1);
  CHECK(std::count(names.begin(), names.end(), "neg") == 1);
}

TEST_CASE("dispatch/profile: the trace has a bar for each call and a lane for each thread") {
  al::profiler p({.now = [] { return std::int64_t{5000}; }});
  const watched x = al::ones<watched>({2});
  {
    const al::profiler::listening on(p);
    static_cast<void>(al::neg(x));
    std::thread([&] {
      static_cast<void>(al::neg(x));  // a scope is of its thread
      const al::profiler::listening here(p);
      static_cast<void>(al::neg(x));
    }).join();
  }
  const al::trace::timeline t = p.timeline();
  REQUIRE(t.events().size() == 2);
  CHECK(t.lanes().size() == 2);
  CHECK(t.events()[1].lane == 1);
  CHECK(t.events()[0].name == "neg");
  const auto file = std::filesystem::temp_directory_path() / "ashlar_profile_test.json";
  p.write_chrome_trace(file);
  std::ifstream in(file);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  std::filesystem::remove(file);
  CHECK(text == al::trace::to_chrome_trace(t));
  CHECK(text.find("\"args\":{\"shapes\":\"float32[2]\"}") != std::string::npos);
  CHECK_THROWS_AS(p.write_chrome_trace(file / "no" / "such"), al::argument_error);
}

TEST_CASE("ops/autocast: each list has the element type of PyTorch's") {
  using real = mixed::tensor<float>;
  const real x = numbers<real>({3, 4}, 1), w = numbers<real>({5, 4}, 2);
  const auto y = al::linear(x, w);
  static_assert(std::is_same_v<element<decltype(y)>, half>);
  static_assert(std::is_same_v<element<decltype(al::softmax(y, -1))>, float>);
  static_assert(std::is_same_v<element<decltype(al::softmax(x, -1))>, float>);
  static_assert(std::is_same_v<element<decltype(al::relu(y))>, half>);  // in no list
  static_assert(std::is_same_v<element<decltype(al::add(y, y))>, half>);
  static_assert(std::is_same_v<element<decltype(al::add(y, al::linear(x, w)))>, half>);
  using policy = al::keys::autocast<half>;
  static_assert(policy::element<al::ops::matmul>(al::dtype::float64) == al::dtype::float64);
  static_assert(policy::element<al::ops::matmul>(al::dtype::float16) == al::dtype::bfloat16);
  static_assert(policy::element<al::ops::exp>(al::dtype::bfloat16) == al::dtype::float32);
  static_assert(policy::element<al::ops::exp>(al::dtype::int32) == al::dtype::int32);
  static_assert(policy::element<al::ops::conv2d>(al::dtype::float32) == al::dtype::bfloat16);
  static_assert(policy::element<al::ops::cumsum>(al::dtype::bfloat16) == al::dtype::float32);
  static_assert(policy::element<al::ops::cat>(al::dtype::bfloat16) == al::dtype::bfloat16);
  static_assert(al::keys::autocast<al::float16>::element<al::ops::matmul>(al::dtype::float32) ==
                al::dtype::float16);
}

namespace {

/// `sum(exp(x w^T))` and its gradients, with the casts written out where `Twin`.
template <bool Twin, class X>
std::vector<X> loss_and_gradients(const X& x, const X& w) {
  const auto loss = [&] {
    if constexpr (Twin) {
      return al::sum(al::exp(al::cast<float>(al::linear(al::cast<half>(x), al::cast<half>(w)))));
    } else {
      return al::sum(al::exp(al::linear(x, w)));
    }
  }();
  static_assert(std::is_same_v<element<decltype(loss)>, float>);
  al::backward(loss);
  return {loss, al::gradient(x), al::gradient(w)};
}

template <class X>
std::pair<X, X> leaves() {
  return {al::require_grad(numbers<X>({3, 4}, 1)), al::require_grad(numbers<X>({5, 4}, 2))};
}

}  // namespace

TEST_CASE("ops/autocast: results and gradients are those of casts written out") {
  const auto [x, w] = leaves<mixed::tensor<float>>();
  const auto [x2, w2] = leaves<plain::tensor<float>>();
  const auto mine = loss_and_gradients<false>(x, w);
  const auto theirs = loss_and_gradients<true>(x2, w2);
  for (std::size_t i = 0; i < mine.size(); ++i) {
    CHECK(same(mine[i], theirs[i]));
  }
}

TEST_CASE("ops/autocast: in a scope that excludes it, work is done in the arguments' type") {
  using real = mixed::tensor<float>;
  // 1 + 2^-9 is no bfloat16: squared in float and then rounded, it is another than rounded first.
  const real x = al::full<real>({1, 1}, 1.0 + 1.0 / 512), w = al::full<real>({1, 1}, 513.0);
  const auto low = al::linear(x, w);
  CHECK(static_cast<float>(al::item(low)) == 512.0f);
  {
    const al::excluding<al::keys::autocast<half>> off;
    const auto y = al::linear(x, w);
    static_assert(std::is_same_v<decltype(y), decltype(low)>);
    CHECK(static_cast<float>(al::item(y)) == static_cast<float>(half(513.0f * (1 + 1.0f / 512))));
    CHECK(static_cast<float>(al::item(y)) != 512.0f);
    std::thread([&] { CHECK(static_cast<float>(al::item(al::linear(x, w))) == 512.0f); }).join();
    const auto [leaf, weight] = leaves<real>();
    al::backward(al::sum(al::linear(leaf, weight)));  // recorded all the same
    CHECK(al::gradient(weight).size() == 20);
  }
  CHECK(static_cast<float>(al::item(al::linear(x, w))) == 512.0f);
}

TEST_CASE("ops/autocast: weights are cast once in a scope, until they are written to") {
  const auto all = leaves<mixed::tensor<float>>();
  const auto& x = std::get<0>(all);
  auto w = std::get<1>(all);
  const auto data = al::without<al::keys::autograd>(x);
  const auto twice = [&] { return al::add(al::linear(data, w), al::linear(data, w)); };
  const auto apart = al::cast<half>(w);
  {
    const al::caching_casts scope;
    const auto first = al::cast<half>(w);
    const auto second = al::cast<half>(w);
    CHECK(first.body() == second.body());
    CHECK(first.body() != apart.body());
    CHECK(al::cast<half>(data).body() != al::cast<half>(data).body());  // no weight
    {
      const al::no_grad off;
      al::fill.in_place(w, 2.0);
      const auto unrecorded = al::cast<half>(w);
      CHECK(static_cast<float>(al::item(al::narrow(al::narrow(unrecorded, 0, 0, 1), 1, 0, 1))) ==
            2);
    }
    const auto third = al::cast<half>(w);
    CHECK(third.body() != first.body());
    CHECK(al::requires_grad(third));
    const auto sum = al::sum(twice());
    al::backward(sum);
  }
  const auto gradient = al::to_vector(al::gradient(w));
  const auto column = al::to_vector(al::sum(numbers<plain::tensor<float>>({3, 4}, 1), {0}));
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    REQUIRE(gradient[i] == 2 * column[i % 4]);  // both uses came back
  }
}

TEST_CASE("ops/autocast: a second gradient has the type of what it is the gradient of") {
  const auto v = al::require_grad(al::from_values<mixed::tensor<half>>({1}, {half(0.0f)}));
  const auto y = al::gelu(v);
  const auto seed = al::from_values<mixed::tensor<half>>({1}, {half(1.0f)});
  const auto [slope] = al::grad(y, seed, al::backward_options{.create_graph = true}, v);
  const auto [bend] = al::grad(slope, v);
  // 2 phi(0), in a type with 8 bits.
  CHECK(static_cast<float>(al::item(bend)) == doctest::Approx(0.79788456).epsilon(1.0 / 128));
}

namespace {

/// Hears some operators and lets the others by.
struct choosy {
  static constexpr int priority = 700;
};

}  // namespace

template <>
struct al::kernel<al::ops::add, choosy> {
  static decltype(auto) impl(auto next, auto&... args) { return next(args...); }
};

TEST_CASE("dispatch/keys: the laws of a key hold for those that ship") {
  using host = al::keys::backend<al::chip::host>;
  using cast = al::keys::autocast<half>;
  using some = al::make_key_set<choosy, al::keys::autograd>;
  static_assert(al::laws::key_laws<al::keys::profile, cast, some, al::make_key_set<host>>());
  static_assert(al::laws::key_laws<cast, al::keys::autograd, al::make_key_set<choosy>, some>());
  CHECK(true);
}

TEST_CASE("ops/coverage: by key, each rule is the one that a call takes") {
  using stack = al::stack<al::on<al::chip::host>, al::differentiate<al::autograd::tape<>>,
                          al::through<al::keys::autocast<half>, al::keys::profile, choosy>>;
  using few = al::ops::operators<al::ops::add, al::ops::exp, al::ops::argmax, al::ops::transpose>;
  static constexpr auto covered = al::dispatch::coverage<stack, few>();
  constexpr auto& tables = covered.tables;
  static_assert(tables.size() == 5);
  static_assert(tables[0].chip == "profile" && tables[0].count(al::found::fallback) == 4);
  static_assert(tables[1].chip == "choosy" && tables[1]["add"].how == al::found::direct);
  static_assert(tables[1]["exp"].how == al::found::missing && tables[1]["exp"].where.empty());
  static_assert(tables[2].count(al::found::fallthrough) == 4);
  static_assert(covered["autograd"]["exp"].how == al::found::direct);
  static_assert(covered["autograd"]["argmax"].how == al::found::fallback);
  static_assert(tables[4].chip == "host" && covered["host"]["transpose"].how == al::found::view);
  CHECK(tables[1].text() ==
        "choosy: 4 operators\n"
        "1 own kernel          add\n"
        "3 missing             exp argmax transpose\n");
  CHECK(covered["autograd"].text() ==
        "autograd: 4 operators\n"
        "3 own kernel          add exp transpose\n"
        "1 fallback            argmax\n");
  CHECK(tables[2].text().find("4 passes by           add exp") != std::string::npos);
  CHECK(covered.text().starts_with(tables[0].text() + tables[1].text()));
  CHECK(covered.text().ends_with(tables[3].text() + tables[4].text()));
  using add_alone = al::ops::operators<al::ops::add>;
  static_assert(al::complete<stack, add_alone>);
  static_assert(al::complete<plain>);
}

TEST_CASE("dispatch/missing_kernel: at run time the same is said as when a call is compiled") {
  try {
    throw al::missing_kernel("exp", "bare_npu");
    FAIL("must throw");
  } catch (const al::missing_kernel& e) {
    CHECK(e.op == "exp");
    CHECK(e.key == "bare_npu");
    CHECK(std::string(e.what()) ==
          "ashlar::call: no kernel<Op, Key>; list one in the chip, or give Op a tile program or a "
          "composite, or define fallback<Key> (Op = exp, Key = bare_npu)");
  }
}
