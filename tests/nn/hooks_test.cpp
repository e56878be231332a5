// SPDX-License-Identifier: Apache-2.0
#include "ashlar/nn/hooks.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "ashlar/nn/state_dict.hpp"
#include "ashlar/ops.hpp"
#include "ashlar/stack.hpp"

namespace al = ashlar;
namespace nn = ashlar::nn;

namespace {

using stack = al::stack<al::on<al::chip::host>, al::differentiate<al::autograd::tape<>>>;
using tensor = stack::tensor<float>;

template <class Stack>
struct times {
  using parameter = typename Stack::template tensor<float>;
  BOOST_HANA_DEFINE_STRUCT(times, (parameter, weight));

  auto operator()(const auto& x) const { return x * weight; }
};

template <class Stack>
struct pair {
  using plain = times<Stack>;
  using watched = nn::with_hooks<times<Stack>>;
  using list = std::vector<watched>;
  BOOST_HANA_DEFINE_STRUCT(pair, (plain, first), (watched, second), (list, more));

  auto operator()(const auto& x) const { return second(first(x)); }
};

pair<stack> make() {
  return {.first = {al::full<tensor>({2}, 2.0)},
          .second = times<stack>{al::full<tensor>({2}, 3.0)},
          .more = {}};
}

}  // namespace

TEST_CASE("nn/hooks: a module that can have hooks keeps its names, its state and its twins") {
  auto m = make();
  m.more.push_back(times<stack>{al::full<tensor>({1}, 4.0)});
  std::vector<std::string> names;
  nn::named_parameters(m, [&](const std::string& name, const auto&) { names.push_back(name); });
  CHECK(names == std::vector<std::string>{"first.weight", "second.weight", "more.0.weight"});
  CHECK(nn::parameter_count(m) == 5);
  auto other = make();
  other.more.resize(1);
  other.more[0].weight = al::zeros<tensor>({1});
  nn::load_state_dict(other, nn::state_dict(m));
  CHECK(al::item(other.more[0].weight) == 4.0f);
  const auto served = nn::shared<pair<stack::inference>>(m);
  CHECK(served.second.weight.data() == m.second.weight.data());
  CHECK(al::to_vector(m(al::ones<tensor>({2}))) == std::vector<float>{6, 6});
}

TEST_CASE("nn/hooks: hooks see the module, its argument and its result, in order") {
  auto m = make();
  std::string log;
  auto pre = m.second.register_forward_pre_hook([&](const times<stack>& t, const tensor& x) {
    CHECK(t.weight.data() == m.second.weight.data());
    log += "pre" + std::to_string(static_cast<int>(x.data()[0])) + ' ';
  });
  auto post =
      m.second.register_forward_hook([&](const times<stack>&, const tensor& x, const tensor& y) {
        log += "post" + std::to_string(static_cast<int>(x.data()[0])) + '-' +
               std::to_string(static_cast<int>(y.data()[0])) + ' ';
      });
  auto again = m.second.register_forward_hook(
      [&](const times<stack>&, const tensor&, const tensor&) { log += "again "; });
  m(al::ones<tensor>({2}));
  CHECK(log == "pre2 post2-6 again ");
  log.clear();
  post.remove();
  post.remove();
  m(al::ones<tensor>({2}));
  CHECK(log == "pre2 again ");
  pre.remove();
  again.remove();
  log.clear();
  m(al::ones<tensor>({2}));
  CHECK(log.empty());
}

TEST_CASE("nn/hooks: hooks may change arguments and results, and the tape follows") {
  auto m = make();
  nn::require_grad(m);
  m.second.register_forward_pre_hook([](const times<stack>&, tensor& x) { x = x * 10.0; });
  m.second.register_forward_hook(
      [](const times<stack>&, const tensor&, tensor& y) { y = y + 1.0; });
  const auto y = m(al::ones<tensor>({2}));
  CHECK(al::to_vector(y) == std::vector<float>{61, 61});
  al::backward(al::sum(y));
  CHECK(al::to_vector(al::gradient(m.second.weight)) == std::vector<float>{20, 20});
  CHECK(al::to_vector(al::gradient(m.first.weight)) == std::vector<float>{30, 30});
}

TEST_CASE("nn/hooks: copies share hooks, a hook may add and remove hooks") {
  auto m = make();
  const auto copy = m;
  int calls = 0;
  nn::forward_hook_handle self;
  self = m.second.register_forward_hook([&](const times<stack>&, const tensor&, const tensor&) {
    ++calls;
    self.remove();
    m.second.register_forward_hook(
        [&](const times<stack>&, const tensor&, const tensor&) { calls += 10; });
  });
  copy(al::ones<tensor>({2}));
  CHECK(calls == 1);
  copy(al::ones<tensor>({2}));
  CHECK(calls == 11);
}

TEST_CASE("nn/hooks: a call with other arguments names its signature") {
  struct weighted : times<stack> {
    auto operator()(const tensor& x, double factor) const {
      return times<stack>::operator()(x) * factor;
    }
  };
  nn::with_hooks<weighted, tensor(tensor, double)> m(weighted{{al::full<tensor>({1}, 3.0)}});
  m.register_forward_pre_hook([](const weighted&, const tensor&, double& factor) { factor += 1; });
  CHECK(al::item(m(al::ones<tensor>({1}), 1.0)) == 6.0f);
  CHECK(nn::parameter_count(m) == 1);
}

TEST_CASE("nn/hooks: an exception in a hook passes through and the module stays usable") {
  auto m = make();
  auto bad = m.second.register_forward_hook([](const times<stack>&, const tensor&, const tensor&) {
    throw al::argument_error("test", "no");
  });
  CHECK_THROWS_AS(m(al::ones<tensor>({2})), al::argument_error);
  bad.remove();
  CHECK(al::to_vector(m(al::ones<tensor>({2}))) == std::vector<float>{6, 6});
}
