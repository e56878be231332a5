// SPDX-License-Identifier: Apache-2.0
// A model's call goes through whatever keys its tokens carry.
#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/autograd.hpp"
#include "ashlar/models/gpt.hpp"
#include "ashlar/models/llama.hpp"
#include "ashlar/ops/autocast.hpp"
#include "ashlar/ops/cross_entropy.hpp"
#include "ashlar/stack.hpp"

namespace al = ashlar;

namespace {

using stack = al::stack<al::on<al::chip::host>, al::differentiate<al::autograd::tape<>>>;
using cast = al::keys::autocast<al::bfloat16>;

/// Keeps the results of calls with their gradients, for a bound on what roundings do to the loss.
struct listener {
  static constexpr int priority = 500;
  /// Of each call, the sum of what its roundings come to once gradients are there.
  static std::vector<std::function<double()>>& effects() {
    static std::vector<std::function<double()>> all;
    return all;
  }
};

/// What the loss changes by, to first order, where each of `x`'s elements changes by a share of 1.
template <class X>
double effect(const X& x) {
  if (!al::gradient(x)) {
    return 0;  // nothing came back to it
  }
  const auto g = al::to_vector(al::gradient(x));
  const auto v = al::to_vector(x);
  double sum = 0;
  for (std::size_t i = 0; i < v.size(); ++i) {
    sum += std::abs(static_cast<double>(g[i]) * static_cast<double>(v[i]));
  }
  return sum;
}

/// The same for one of a product's factors, and no less for its result: the sum of all terms.
template <class X, class W, class... Bias>
double effect_of_product(const X& x, const W& weight, const X& y, const Bias&... bias) {
  const auto a = al::to_vector(x), w = al::to_vector(weight);
  const auto g = al::to_vector(al::gradient(y));
  const std::vector<float> added[]{al::to_vector(bias)..., {}};
  const auto in = static_cast<std::size_t>(weight.extent(1));
  const auto out = static_cast<std::size_t>(weight.extent(0));
  double sum = 0;
  for (std::size_t i = 0; i < g.size(); ++i) {
    double terms = added[0].empty() ? 0 : std::abs(static_cast<double>(added[0][i % out]));
    for (std::size_t k = 0; k < in; ++k) {
      terms += std::abs(static_cast<double>(a[i / out * in + k]) *
                        static_cast<double>(w[i % out * in + k]));
    }
    sum += std::abs(static_cast<double>(g[i])) * terms;
  }
  return sum;
}

}  // namespace

template <>
struct al::fallback<listener> {
  template <class Step, class... A>
  static decltype(auto) impl(Step next, A&... args) {
    using op = typename Step::op;
    using returned = decltype(next(args...));
    if constexpr (Step::kind == form::functional && Recorded<returned> && !View<op>) {
      const returned y = next(args...);
      if (requires_grad(y)) {
        retain_grad(y);
        if constexpr (std::is_same_v<op, ops::linear> || std::is_same_v<op, ops::linear_bias>) {
          listener::effects().push_back([y, args...] { return 3 * product(y, args...); });
        } else {
          listener::effects().push_back([y] { return effect(y); });
        }
      }
      return y;
    } else {
      return next(args...);
    }
  }

 private:
  template <class Y, class X, class W, class... Bias>
  static double product(const Y& y, const X& x, const W& w, const Bias&... bias) {
    return effect_of_product(Y(x), w, y, bias...);
  }
};

namespace {

template <class Model>
struct outcome {
  double loss = 0;
  std::vector<std::vector<float>> gradients;
};

template <class Model, class Tokens>
outcome<Model> train(const Model& model, const Tokens& tokens,
                     const typename Model::integers& targets) {
  const auto loss = al::cross_entropy(model(tokens), targets);
  static_assert(std::is_same_v<typename decltype(loss)::value_type, float>);
  static_assert(std::is_same_v<typename decltype(loss)::keys,
                               al::set_union<typename stack::keys, typename Tokens::keys>>);
  al::backward(loss);
  outcome<Model> all{.loss = al::item(loss), .gradients = {}};
  al::nn::named_parameters(model, [&](const std::string&, const auto& x) {
    all.gradients.push_back(al::to_vector(al::gradient(x)));
    al::gradient(x) = {};
  });
  return all;
}

/// Large weights: every layer counts.
template <class Model>
void check_autocast(Model model) {
  std::uint64_t index = 0;
  al::nn::named_parameters(model, [&](const std::string&, auto& x) {
    if (x.rank() == 2) {
      al::normal.in_place(x, std::uint64_t{7}, index++ << 32, 0.0, 0.2);
    }
    al::require_grad(x);
  });
  using integers = typename Model::integers;
  std::vector<std::int32_t> ids, next;
  for (std::int32_t i = 0; i < 2 * 5; ++i) {
    ids.push_back(i * 7 % 13);
    next.push_back(i * 5 % 13);
  }
  const auto tokens = al::from_values<integers>({2, 5}, ids);
  const auto targets = al::from_values<integers>({10}, next);

  using low = decltype(model(al::with<cast>(tokens)));
  static_assert(std::is_same_v<typename low::value_type, al::bfloat16>);

  const auto exact = train(model, al::with<listener>(tokens), targets);
  // Each rounding to bfloat16 changes a number by at most 2^-8 of itself. A product rounds both
  // factors and the result; all other results that are no views are counted too, though sums and
  // norms stay in float, which leaves room for what is of second order.
  double bound = 0;
  const auto effects = std::exchange(listener::effects(), {});  // reading tensors is heard too
  for (const auto& each : effects) {
    bound += each() / 256;
  }
  listener::effects().clear();
  const auto roundings = static_cast<double>(effects.size());
  CHECK(bound < exact.loss / 4);

  const auto rounded = train(model, al::with<cast>(tokens), targets);
  CHECK(rounded.loss != exact.loss);
  CHECK(std::abs(rounded.loss - exact.loss) <= bound);
  double difference = 0, size = 0;
  REQUIRE(rounded.gradients.size() == exact.gradients.size());
  for (std::size_t p = 0; p < exact.gradients.size(); ++p) {
    REQUIRE(rounded.gradients[p].size() == exact.gradients[p].size());
    for (std::size_t i = 0; i < exact.gradients[p].size(); ++i) {
      difference += std::pow(rounded.gradients[p][i] - exact.gradients[p][i], 2);
      size += std::pow(exact.gradients[p][i], 2);
    }
  }
  CHECK(size > 0);
  // A gradient is a product along the calls, each a factor that is off by some 2^-8; independent,
  // their errors add as the root of the number of calls, twice it for forward and backward.
  CHECK(std::sqrt(difference / size) <= std::sqrt(2 * roundings) / 256);
}

}  // namespace

TEST_CASE("models/llama: under autocast it trains in bfloat16, close to float") {
  check_autocast(al::models::llama<stack>::make({.dim = 12,
                                                 .hidden = 20,
                                                 .layers = 2,
                                                 .heads = 2,
                                                 .kv_heads = 1,
                                                 .head_dim = 6,
                                                 .vocab = 13,
                                                 .context = 8,
                                                 .tied_embeddings = true},
                                                1));
}

TEST_CASE("models/gpt: under autocast it trains in bfloat16, close to float") {
  check_autocast(al::models::gpt<stack>::make({.dim = 12,
                                               .hidden = 20,
                                               .layers = 2,
                                               .heads = 2,
                                               .vocab = 13,
                                               .context = 8,
                                               .tied_embeddings = false},
                                              1));
}
