// SPDX-License-Identifier: Apache-2.0
#include "ashlar/nn/module.hpp"

#include <doctest/doctest.h>

#include <string>
#include <type_traits>
#include <vector>

#include "ashlar/chip/meta.hpp"
#include "ashlar/nn/state_dict.hpp"
#include "ashlar/ops.hpp"
#include "ashlar/stack.hpp"

namespace al = ashlar;
namespace nn = ashlar::nn;

namespace {

using training = al::stack<al::on<al::chip::host>, al::differentiate<al::autograd::tape<>>>;
using inference = training::inference;

template <class Stack>
struct affine {
  using parameter = typename Stack::template tensor<float>;
  BOOST_HANA_DEFINE_STRUCT(affine, (parameter, weight), (parameter, bias));

  auto operator()(const auto& x) const { return x * weight + bias; }
};

template <class Stack>
struct tower {
  using part = affine<Stack>;
  using parts = std::vector<part>;
  using parameter = typename Stack::template tensor<float>;
  using numbers = typename Stack::template tensor<std::int32_t>;
  BOOST_HANA_DEFINE_STRUCT(tower, (part, first), (parts, layers), (int, heads), (parameter, scale),
                           (numbers, table), (std::string, label));

  static tower make() {
    tower t;
    t.first = {al::full<parameter>({3}, 1.0), al::full<parameter>({3}, 2.0)};
    t.layers = {part{al::full<parameter>({2, 3}, 3.0), {}},
                part{al::full<parameter>({3}, 4.0), al::full<parameter>({}, 5.0)}};
    t.heads = 7;
    t.table = al::arange<numbers>(4);
    t.label = "tall";
    return t;
  }
};

// A module of somebody else, adapted from outside.
struct foreign {
  inference::tensor<float> a;
};

std::vector<std::string> names_of(const auto& module) {
  std::vector<std::string> names;
  nn::named_parameters(module,
                       [&](const std::string& name, const auto&) { names.push_back(name); });
  return names;
}

using names = std::vector<std::string>;

}  // namespace

BOOST_HANA_ADAPT_STRUCT(foreign, a);

TEST_CASE("nn/module: names follow members depth first and leave empty handles out") {
  const auto t = tower<training>::make();
  CHECK(names_of(t) == names{"first.weight", "first.bias", "layers.0.weight", "layers.1.weight",
                             "layers.1.bias", "table"});
  CHECK(names_of(t.layers) == names{"0.weight", "1.weight", "1.bias"});
  CHECK(names_of(tower<training>{}).empty());
  names prefixed;
  nn::named_parameters(
      t.first, [&](const std::string& name, const auto&) { prefixed.push_back(name); }, "model");
  CHECK(prefixed == names{"model.weight", "model.bias"});
  CHECK(names_of(foreign{al::zeros<inference::tensor<float>>({1})}) == names{"a"});
}

TEST_CASE("nn/module: parameters are the floating tensors, each once") {
  auto t = tower<training>::make();
  CHECK(nn::parameters(t).size() == 5);
  CHECK(nn::parameter_count(t) == 3 + 3 + 6 + 3 + 1);
  t.scale = t.first.weight;  // tied
  CHECK(names_of(t).size() == 7);
  CHECK(nn::parameters(t).size() == 5);
  CHECK(nn::parameter_count(t) == 16);
  static_assert(std::is_same_v<nn::parameter_type_of<tower<training>>, training::tensor<float>>);
  CHECK(nn::parameter_list(t).back().name == "layers.1.bias");
}

TEST_CASE("nn/module: a visitor may replace tensors") {
  auto t = tower<inference>::make();
  nn::named_parameters(t, [](const std::string&, auto& x) {
    using X = std::remove_cvref_t<decltype(x)>;
    x = al::zeros<X>({1});
  });
  CHECK(nn::parameter_count(t) == 5);
  CHECK(t.table.size() == 1);
}

TEST_CASE("nn/module: require_grad makes leaves and zero_grad drops their gradients") {
  auto t = tower<training>::make();
  nn::require_grad(t);
  const auto x = al::full<training::tensor<float>>({3}, 2.0);
  al::backward(al::sum(t.first(x)));
  CHECK(al::item(al::select(al::gradient(t.first.weight), 0, 1)) == 2.0f);
  CHECK_FALSE(al::gradient(t.layers[0].weight));
  nn::zero_grad(t);
  CHECK_FALSE(al::gradient(t.first.weight));
  CHECK(al::requires_grad(t.first.weight));
}

TEST_CASE("nn/module: share gives a twin on another stack with the same elements") {
  auto t = tower<training>::make();
  nn::require_grad(t);
  auto twin = nn::shared<tower<inference>>(t);
  CHECK(names_of(twin) == names_of(t));
  CHECK(twin.heads == 7);
  CHECK(twin.label == "tall");
  CHECK(twin.layers[1].bias.data() == t.layers[1].bias.data());
  CHECK_FALSE(twin.layers[0].bias);
  al::fill.in_place(twin.first.weight, 9.0);
  CHECK(al::to_vector(t.first.weight) == std::vector<float>{9, 9, 9});
  t.layers.pop_back();
  nn::share(twin, t);  // again, over what is there
  CHECK(names_of(twin) == names_of(t));
}

TEST_CASE("nn/state_dict: a state goes back where it came from") {
  const auto from = tower<training>::make();
  const nn::state_map state = nn::state_dict(from);
  CHECK(state.size() == 6);
  CHECK(state.at("first.weight").bytes() == from.first.weight.bytes());

  auto to = tower<training>::make();
  nn::named_parameters(to, [](const std::string&, auto& x) { al::fill.in_place(x, 0.0); });
  nn::require_grad(to);
  const auto* place = to.first.weight.data();
  nn::load_state_dict(to, state);
  CHECK(to.first.weight.data() == place);
  CHECK(al::requires_grad(to.first.weight));
  for (const auto& [key, x] : nn::state_dict(to)) {
    const std::string name = key;  // clang's OpenMP captures no structured binding
    CAPTURE(name);
    if (x.spec().type == al::dtype::float32) {
      CHECK(al::to_vector(training::tensor<float>(x)) ==
            al::to_vector(training::tensor<float>(state.at(name))));
    }
  }
  CHECK(al::to_vector(to.table) == std::vector<std::int32_t>{0, 1, 2, 3});
  nn::load_state_dict(to, nn::state_dict(to));
  CHECK(al::to_vector(to.first.bias) == std::vector<float>{2, 2, 2});

  // Another stack's tensors on the same chip will do.
  auto served = tower<inference>::make();
  nn::load_state_dict(served, state);
  CHECK(al::to_vector(served.first.bias) == std::vector<float>{2, 2, 2});
}

TEST_CASE("nn/state_dict: a state that does not fit is refused by name and changes nothing") {
  using parameter = training::tensor<float>;
  using problem = nn::state_error::problem;
  auto module = tower<training>::make();
  const nn::state_map good = nn::state_dict(tower<training>::make());
  nn::named_parameters(module, [](const std::string&, auto& x) { al::fill.in_place(x, 0.0); });
  const auto refused = [&](const nn::state_map& state, problem p, const std::string& name) {
    try {
      nn::load_state_dict(module, state);
      FAIL("accepted");
    } catch (const nn::state_error& e) {
      CHECK(e.what_is_wrong == p);
      CHECK(e.name == name);
      CHECK(std::string(e.what()).find("'" + name + "'") != std::string::npos);
    }
    CHECK(al::to_vector(module.first.weight) == std::vector<float>{0, 0, 0});
  };
  nn::state_map state = good;
  state.erase("layers.1.weight");
  state.erase("table");
  refused(state, problem::missing, "layers.1.weight");
  state = good;
  state["layers.1.weight"] = {};
  refused(state, problem::missing, "layers.1.weight");
  state = good;
  state["layers.0.bias"] = al::zeros<parameter>({3});
  refused(state, problem::unexpected, "layers.0.bias");
  state = good;
  state["layers.0.weight"] = al::zeros<parameter>({3, 2});
  refused(state, problem::mismatch, "layers.0.weight");
  state = good;
  state["table"] = al::zeros<parameter>({4});
  refused(state, problem::mismatch, "table");

  state = good;
  state.erase("layers.1.weight");
  state["other"] = al::zeros<parameter>({3});
  nn::load_state_dict(module, state, {.allow_missing = true, .allow_unexpected = true});
  CHECK(al::to_vector(module.first.weight) == std::vector<float>{1, 1, 1});
  CHECK(al::to_vector(module.layers[1].weight) == std::vector<float>{0, 0, 0});
}

TEST_CASE("nn/module: a module lives on a chip without memory") {
  using meta = al::stack<al::on<al::chip::meta>>;
  using parameter = meta::tensor<float>;
  affine<meta> m{al::empty<parameter>({1 << 20, 1 << 12}), al::empty<parameter>({1 << 12})};
  CHECK(nn::parameter_count(m) == (std::int64_t{1} << 32) + (1 << 12));
  CHECK(m(al::empty<parameter>({1, 1 << 12})).extent(0) == 1 << 20);
}
