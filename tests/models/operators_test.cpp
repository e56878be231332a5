// SPDX-License-Identifier: Apache-2.0
// What a model says that it calls is what it calls, trained and served; on a chip without memory.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "ashlar/autograd.hpp"
#include "ashlar/models/gpt.hpp"
#include "ashlar/models/llama.hpp"
#include "ashlar/ops/complete.hpp"
#include "ashlar/ops/coverage.hpp"
#include "ashlar/ops/cross_entropy.hpp"
#include "ashlar/stack.hpp"

namespace al = ashlar;

namespace {

/// Collects the operators whose calls are compiled, and those that are called. Between them are the
/// parts of gradients that are differentiated again, which happen on chips that have them.
template <int Model>
struct seen {
  static constexpr int priority = 500;
  static std::set<std::string>& compiled() {
    static std::set<std::string> all;
    return all;
  }
  static std::set<std::string>& called() {
    static std::set<std::string> all;
    return all;
  }
};
template <class Op, int Model>
const bool noted = seen<Model>::compiled().emplace(al::detail::short_name<Op>()).second;

}  // namespace

template <int Model>
struct al::fallback<seen<Model>> {
  template <class Step, class... A>
  static decltype(auto) impl(Step next, A&... args) {
    static_cast<void>(noted<typename Step::op, Model>);
    seen<Model>::called().emplace(al::detail::short_name<typename Step::op>());
    return next(args...);
  }
};

namespace {

template <int Model>
using stack = al::stack<al::on<al::chip::meta>, al::differentiate<al::autograd::tape<>>,
                        al::through<seen<Model>>>;

template <class... Op>
std::set<std::string> names(al::ops::operators<Op...>) {
  return {std::string(al::detail::short_name<Op>())...};
}
template <class... Op>
std::set<std::string> composites(al::ops::operators<Op...>) {
  std::set<std::string> all;
  ((al::Composite<Op> ? void(all.emplace(al::detail::short_name<Op>())) : void()), ...);
  return all;
}

/// A step of training, and a step of serving with a prompt and a token.
template <class Model>
void use(Model model) {
  al::nn::named_parameters(model, [](const std::string&, auto& x) { al::require_grad(x); });
  using integers = typename Model::integers;
  const auto tokens = al::empty<integers>({2, 3});
  for (const bool training : {true, false}) {
    al::nn::train(model, training);
    al::backward(al::cross_entropy(model(tokens), al::empty<integers>({6})));
  }
  auto cache = model.make_cache(5, 2);
  al::kv::step input;
  input.block_tokens = 2;
  input.tokens = {1, 2, 3, 4};
  input.positions = {0, 1, 2, 5};
  input.slots = {0, 1, 2, 9};
  const std::vector<al::kv::block_id> first{0, 1}, second{2, 3, 4};
  input.sequences = {{0, 3, 3, first}, {3, 1, 6, second}};
  input.logit_rows = {2, 3};
  CHECK(model.forward(input, cache).size() == 14);
}

template <int Number, class Model>
void check_operators(const Model& model) {
  using listed = typename Model::operators;
  use(model);
  const std::set<std::string> own = names(listed{});
  std::set<std::string> compiled = seen<Number>::compiled();
  compiled.merge(composites(listed{}));  // may be seen, or their parts alone
  CHECK(std::includes(compiled.begin(), compiled.end(), own.begin(), own.end()));
  for (const std::string& op : seen<Number>::called()) {
    CAPTURE(op);
    CHECK(own.contains(op));
  }
  static_assert(al::complete<stack<Number>, Model>);
}

}  // namespace

TEST_CASE("models/llama: its list of operators is what it calls") {
  al::models::llama_config c;
  c.vocab = 7, c.dim = 8, c.hidden = 12, c.layers = 1, c.heads = 2, c.kv_heads = 1, c.head_dim = 4,
  c.context = 8;
  check_operators<0>(al::models::llama<stack<0>>::make(c, 1));
}
TEST_CASE("models/gpt: its list of operators is what it calls") {
  al::models::gpt_config c;
  c.vocab = 7, c.dim = 8, c.hidden = 12, c.layers = 1, c.heads = 2, c.context = 8, c.dropout = 0.1;
  check_operators<1>(al::models::gpt<stack<1>>::make(c, 1));
}
