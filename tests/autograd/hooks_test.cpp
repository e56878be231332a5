// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <stdexcept>

#include "autograd/support.hpp"

TEST_CASE("autograd/hooks: all kinds, in their order") {
  std::string order;
  const real w = leaf({2});
  const real x = al::mul(w, w);
  const real y = al::mul(x, x);
  const auto note = [&order](const char* what) {
    return [&order, what](auto&&...) { order += what; };
  };
  al::register_node_post_hook(x, note("E"));
  al::register_node_pre_hook(x, note("D"));
  al::retain_grad(x);  // comes after the tensor's hooks, whenever it was called
  al::register_hook(x, [&](const real& g) {
    order += "A";
    CHECK_FALSE(al::gradient(x));
    return al::scale(g, 2.0);
  });
  al::register_hook(x, [&](const real& g) {
    order += "B";
    CHECK(values(g) == std::vector<double>{16});
  });
  al::register_node_post_hook(w, note("d"));
  al::register_post_accumulate_grad_hook(w, [&](const real& g) {
    order += "c";
    CHECK(values(g) == std::vector<double>{64});
  });
  al::register_node_pre_hook(w, note("b"));
  al::register_hook(w, note("a"));
  al::backward(y, one());
  CHECK(order == "ABDEabcd");
  CHECK(values(al::gradient(x)) == std::vector<double>{16});  // what the hooks left
  CHECK(values(al::gradient(w)) == std::vector<double>{64});
}

TEST_CASE("autograd/hooks: node hooks see and replace what goes in and out") {
  const real a = leaf({3});
  const real b = of({5});
  const real y = al::mul(a, b);
  al::register_node_pre_hook(y, [](std::span<al::tensor_handle> g) {
    REQUIRE(g.size() == 1);
    g[0] = al::scale(real(g[0]), 10.0);
  });
  auto post = al::register_node_post_hook(
      y, [](std::span<al::tensor_handle> gradients, std::span<const al::tensor_handle> cotangents) {
        REQUIRE(gradients.size() == 2);
        CHECK(values(real(gradients[0])) == std::vector<double>{50});
        CHECK_FALSE(gradients[1]);  // b wants none
        CHECK(values(real(cotangents[0])) == std::vector<double>{10});
        gradients[0] = of({7});
      });
  al::backward(y, one(), {.retain_graph = true});
  CHECK(values(al::gradient(a)) == std::vector<double>{7});
  post.remove();
  al::gradient(a) = {};
  const auto narrow = [](std::span<al::tensor_handle> g, auto...) {
    g[0] = al::cast<float>(real(g[0]));
  };
  auto wrong = al::register_node_pre_hook(y, narrow);
  CHECK_THROWS_AS(al::backward(y, one(), {.retain_graph = true}), al::argument_error);
  wrong.remove();
  wrong = al::register_node_post_hook(y, narrow);
  CHECK_THROWS_AS(al::backward(y, one(), {.retain_graph = true}), al::argument_error);
  wrong.remove();
  al::backward(y, one());
  CHECK(values(al::gradient(a)) == std::vector<double>{50});
}

TEST_CASE("autograd/hooks: a gradient that is asked for passes the tensor's hooks alone") {
  const real a = leaf({3});
  const real y = al::mul(a, a);
  int tensor = 0;
  int node = 0;
  al::register_hook(a, [&](const real& g) {
    ++tensor;
    return al::neg(g);
  });
  al::register_node_pre_hook(a, [&](auto) { ++node; });
  al::register_post_accumulate_grad_hook(a, [&](const real&) { ++node; });
  const auto [g] = al::grad(y, one(), {.retain_graph = true}, a);
  CHECK(values(g) == std::vector<double>{-6});
  CHECK(tensor == 1);
  CHECK(node == 0);
  CHECK_FALSE(al::gradient(a));
  al::backward(y, one());
  CHECK(node == 2);
}

TEST_CASE("autograd/hooks: hooks stay with the value that they were put on") {
  const real a = leaf({3});
  real y = al::mul(a, a);
  std::vector<double> seen;
  al::register_hook(y, [&](const real& g) { seen = values(g); });
  al::retain_grad(y);
  al::mul.in_place(y, of({10}));
  al::backward(y, one());
  CHECK(seen == std::vector<double>{10});                    // that of a * a
  CHECK(values(al::gradient(y)) == std::vector<double>{1});  // retain_grad goes with the tensor
}

TEST_CASE("autograd/hooks: one hook for several gradients, when all or the first are there") {
  const real a = leaf({2});
  const real b = leaf({3});
  const real c = leaf({5});
  const real p = al::mul(a, b);
  int calls = 0;
  std::vector<double> last;
  auto handle = al::register_multi_grad_hook(
      [&](const std::tuple<real, real, real>& g) {
        ++calls;
        last.clear();
        const auto add = [&](const real& one_of) {
          last.push_back(one_of ? values(one_of)[0] : -1);
        };
        std::apply([&](const auto&... each) { (add(each), ...); }, g);
      },
      a, b, c);
  int first = 0;
  al::register_multi_grad_hook<al::when::any>([&](const al::tensor_handle&) { ++first; }, a, b);
  al::backward(al::mul(p, c), one(), {.retain_graph = true});
  CHECK(calls == 1);
  CHECK(last == std::vector<double>{15, 10, 6});
  CHECK(first == 1);
  al::backward(p, one(), {.retain_graph = true});  // does not reach c
  CHECK(calls == 2);
  CHECK(last == std::vector<double>{3, 2, -1});
  static_cast<void>(al::grad(p, one(), {.retain_graph = true}, b));
  CHECK(calls == 3);
  CHECK(last == std::vector<double>{-1, 2, -1});
  handle.remove();
  al::backward(p, one());
  CHECK(calls == 3);
  CHECK(first == 4);
  const real d = leaf({1});
  auto outlives = al::register_multi_grad_hook([&](const auto&) { ++calls; }, d, al::mul(d, d));
  al::backward(al::mul(d, d), one());  // the second one's node is gone
  CHECK(calls == 4);
}

TEST_CASE("autograd/hooks: callbacks run after the last node, and may queue more") {
  const real a = leaf({2});
  const real y = al::mul(a, a);
  std::string order;
  al::register_hook(y, [&](const real&) {
    al::queue_callback([&] {
      order += '1';
      al::queue_callback([&] { order += '3'; });
    });
    al::queue_callback([&] { order += '2'; });
  });
  al::register_post_accumulate_grad_hook(a, [&](const real&) { order += 'a'; });
  al::backward(y, one(), {.retain_graph = true});
  CHECK(order == "a123");
  al::register_hook(y, [](const real&) { throw std::runtime_error("no"); });
  CHECK_THROWS_AS(al::backward(y, one()), std::runtime_error);
  CHECK(order == "a123");  // what a pass that failed had queued is gone
}

TEST_CASE("autograd/hooks: gradients are kept for leaves and where that was asked for") {
  const real a = leaf({2});
  const real y = al::mul(a, a);
  CHECK_THROWS_AS(static_cast<void>(al::gradient(y)), al::not_recordable);
  al::retain_grad(y);
  CHECK_FALSE(al::gradient(y));
  CHECK_THROWS_AS(al::register_post_accumulate_grad_hook(y, [](const real&) {}),
                  al::not_recordable);
  CHECK_THROWS_AS(al::register_hook(of({1}), [](const real&) {}), al::not_recordable);
}
