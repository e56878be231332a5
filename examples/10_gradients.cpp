// SPDX-License-Identifier: Apache-2.0
// What docs/autograd.md shows, piece by piece.
#include <any>
#include <ashlar/ashlar.hpp>
#include <cstdio>
#include <memory>
#include <span>
#include <tuple>

namespace al = ashlar;

using stack = al::stack<al::on<al::chip::host>,
                        al::differentiate<al::autograd::tape<al::autograd::threads<2>>>>;
using tensor = stack::tensor<float>;

tensor parameter(float a, float b) {
  return al::require_grad(al::from_values<tensor>({2}, {a, b}));
}
void show(const char* what, const tensor& x) {
  const auto v = al::to_vector(x);
  std::printf("%s %g %g\n", what, v[0], v[1]);
}

void passes() {
  const auto w = parameter(1, 2);
  const auto y = al::sum(w * w * w);
  const auto [g] = al::grad(y, al::ones<tensor>({}), {.create_graph = true}, w);  // 3 w^2, recorded
  al::backward(al::sum(g));                                                       // 6 w
  show("second derivative", al::gradient(w));
}

void hooks() {
  const auto w = parameter(1, 2);
  const auto y = w * w;
  al::retain_grad(y);
  al::register_hook(y, [](const tensor& g) { return al::scale(g, 0.5); });  // replaces it
  al::register_post_accumulate_grad_hook(w, [](const tensor&) {
    al::queue_callback([] { std::printf("the pass has ended\n"); });  // after the last node
  });
  al::backward(y, al::ones<tensor>({2}));
  show("gradient of y", al::gradient(y));
}

void in_place() {
  const auto w = parameter(1, 2);
  const auto y = w * w;
  auto first = al::slice(y, 0, 0, 1);  // a view
  al::scale.in_place(first, 10.0);     // writes to y, and y's history knows
  al::backward(al::sum(y));
  show("through a view", al::gradient(w));
}

void saved_tensors() {
  const auto w = parameter(1, 2);
  tensor y;
  {
    const al::saved_tensor_hooks as_bfloat16(  // half the memory, and less exact
        [](const al::tensor_handle& x) { return std::any(al::cast<al::bfloat16>(tensor(x))); },
        [](const std::any& kept) {
          using narrow = stack::tensor<al::bfloat16>;
          return al::tensor_handle(al::cast<float>(std::any_cast<const narrow&>(kept)));
        });
    y = al::exp(w);
  }
  al::backward(al::sum(y));
  show("from 16 bits", al::gradient(w));
}

/// log(1 + exp(x)), whose gradient by the chain rule would be inf / inf for large x.
struct softplus {
  static constexpr std::string_view name = "softplus";
  tensor forward(al::function_context& c, const tensor& x) const {
    c.save(x);
    return al::maximum(x, al::zeros<tensor>({})) + al::log(al::exp(-al::abs(x)) + 1.0);
  }
  tensor backward(const al::function_context& c, const tensor& g) const {
    return g * al::sigmoid(c.saved<tensor>(0));
  }
};

void functions() {
  const auto x = parameter(0, 1000);
  al::backward(al::sum(al::apply_function(softplus{}, x)));
  show("of a function", al::gradient(x));
}

void checkpoints() {
  const auto x = parameter(0.25, 0.5);
  const auto block = [](const tensor& a) { return al::exp(al::tanh(a) * a); };
  auto y = x;
  for (int i = 0; i < 3; ++i) {
    y = al::checkpoint(block, y);  // saves what comes in, not what happens inside
  }
  al::backward(al::sum(y));
  show("computed twice", al::gradient(x));
}

void scaling() {
  const auto w = parameter(1, 2);
  struct {
    tensor w;
    void step(float rate) {
      const al::no_grad off;
      al::sub.in_place(w, al::scale(al::gradient(w), rate));
    }
  } optimizer{w};
  al::nn::grad_scaler scaler({.scale = 65536, .interval = 100});
  al::backward(scaler.scale(al::sum(w * w)));
  scaler.step(optimizer, std::vector{w}, 0.25f);  // left out where a gradient is not finite
  scaler.update();
  show("after a step", w);
}

void anomalies() {
  const auto x = parameter(0, 1);
  const al::anomaly_mode watch;
  try {
    al::backward(al::sum(al::sqrt(x * al::zeros<tensor>({2}))));  // 0 times infinity
  } catch (const al::not_a_number& e) {
    std::printf("%s gives NaN; called in line %u\n", e.op.c_str(), e.forward.line());
  }
}

int main() {
  const stack::session session;  // the stack's allocator, and the threads of its tape
  passes();
  hooks();
  in_place();
  saved_tensors();
  functions();
  checkpoints();
  scaling();
  anomalies();
}
