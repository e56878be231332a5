// SPDX-License-Identifier: Apache-2.0
// A chip with a library of kernels and no code generator: the rest happens on the host, and a table
// says what that is.
#include <ashlar/ashlar.hpp>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "chip_memory.hpp"
namespace al = ashlar;

// --- what the chip's maker ships: memory of its own, and a few kernels ---------------------------
struct card_queue {  // this card is done when a call returns
  void wait() {}
};
using card_memory = chip_memory<card_queue>;
template <class T>
al::view<T> on_card(const al::view<T>& v) {
  return {reinterpret_cast<T*>(card_memory::place(v.data)), v.spec};
}
template <class F, class... X>
void card_map(const F& f, const al::view<float>& out, const X&... x) {
  for (std::int64_t i = 0; i < out.size(); ++i) {
    out.at(i) = f(x.at(i, out)...);
  }
}
/// `out = x * w^T`, each sum from `start(column)` on.
template <class Start>
void card_gemm(const al::view<float>& out, const al::view<const float>& x,
               const al::view<const float>& w, const Start& start) {
  const std::int64_t columns = w.extent(0), depth = w.extent(1);
  for (std::int64_t i = 0; i < out.size(); ++i) {
    float sum = start(i % columns);
    for (std::int64_t k = 0; k < depth; ++k) {
      sum += x.at(i / columns * depth + k) * w.at(i % columns * depth + k);
    }
    out.at(i) = sum;
  }
}

// --- the chip: a struct for each kernel, then the list -------------------------------------------
using in = al::view<const float>;
using out = al::view<float>;
struct card_add {
  using op = al::ops::add;
  static void impl(auto&, out y, in a, in b) {
    card_map([](float p, float q) { return p + q; }, on_card(y), on_card(a), on_card(b));
  }
};
struct card_mul {
  using op = al::ops::mul;
  static void impl(auto&, out y, in a, in b) {
    card_map([](float p, float q) { return p * q; }, on_card(y), on_card(a), on_card(b));
  }
};
struct card_relu {
  using op = al::ops::relu;
  static void impl(auto&, out y, in x) {
    card_map([](float v) { return v > 0 ? v : 0.0f; }, on_card(y), on_card(x));
  }
};
struct card_linear {
  using op = al::ops::linear;
  static void impl(auto&, out y, in x, in w) {
    card_gemm(on_card(y), on_card(x), on_card(w), [](std::int64_t) { return 0.0f; });
  }
};
struct card_linear_bias {
  using op = al::ops::linear_bias;
  static void impl(auto&, out y, in x, in w, in b) {
    const in bias = on_card(b);
    card_gemm(on_card(y), on_card(x), on_card(w), [&](std::int64_t n) { return bias.at(n); });
  }
};
struct card {
  static constexpr al::chip_description description{.name = "card"};
  using memory = card_memory;
  using queue = card_queue;
  using kernels = al::kernels<card_add, card_mul, card_relu, card_linear, card_linear_bias>;
  using falls_back_to = al::chip::host;
};
constexpr auto covered = al::dispatch::coverage<card>();
static_assert(covered["linear_bias"].how == al::found::direct);
static_assert(covered["softmax"].where == "host");
static_assert(covered.count(al::found::missing) == 0);

// --- one network, trained on the host and on the card --------------------------------------------
template <class Stack>
struct network {
  BOOST_HANA_DEFINE_STRUCT(network, (al::nn::linear<Stack>, hidden), (al::nn::linear<Stack>, last));
  auto operator()(const auto& x) const { return last(al::relu(hidden(x))); }
};
template <class Chip>
std::vector<float> losses() {
  using stack = al::stack<al::on<Chip>, al::differentiate<al::autograd::tape<>>>;
  const auto x = al::randn<typename stack::template tensor<float>>({64, 4}, /*seed=*/1);
  const auto classes = al::argmax(al::detach(x), 1);  // which of four numbers is the largest
  network<stack> net{al::nn::linear<stack>::make(4, 16), al::nn::linear<stack>::make(16, 4)};
  al::nn::initialize(net, /*seed=*/2, al::nn::init::normal(0.0, 0.5));
  al::nn::require_grad(net);
  al::nn::adamw optimizer(net);
  std::vector<float> all(31);
  for (float& seen : all) {
    const auto loss = al::cross_entropy(net(x), classes);
    al::backward(loss);
    optimizer.step(/*lr=*/0.05);
    al::nn::zero_grad(net);
    seen = al::item(loss);
  }
  return all;
}

int main() {
  std::printf("%s", covered.text().c_str());
  const std::vector<float> here = losses<al::chip::host>();
  const std::vector<float> there = losses<card>();
  bool same = there.back() < there.front() / 4;
  for (std::size_t i = 0; i < here.size(); i += 10) {
    std::printf("step %2zu  host %.4f  card %.4f\n", i, here[i], there[i]);
    same = same && std::abs(here[i] - there[i]) < 1e-3f;
  }
  std::printf("%s\n", same ? "the card learns what the host learns" : "they differ");
}
