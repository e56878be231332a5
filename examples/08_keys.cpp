// SPDX-License-Identifier: Apache-2.0
// Keys between a call and its kernel: one of one's own, and those that ship.
#include <ashlar/ashlar.hpp>
#include <ashlar/dispatch/profile.hpp>
#include <ashlar/ops/autocast.hpp>
#include <ashlar/ops/complete.hpp>
#include <cstdio>
#include <string>
#include <type_traits>
namespace al = ashlar;

/// Writes down every call.
struct logged {
  static constexpr int priority = 500;  // above the tape (100) and autocast (300)
  static constexpr bool excludable = true;
  static inline std::string text;
};
template <>
struct al::fallback<logged> {  // for every operator; kernel<Op, logged> would be for one
  template <class Step, class... A>
  static decltype(auto) impl(Step next, A&... args) {
    logged::text += std::string(Step::op::name) + '\n';
    return next(args...);  // what is below: other keys, at last the chip
  }
};

using stack =
    al::stack<al::on<al::chip::host>, al::differentiate<al::autograd::tape<>>, al::through<logged>>;
using real = stack::tensor<float>;

/// The log of a step of training, and what a scope leaves out.
bool own_key() {
  const real x = al::require_grad(al::ones<real>({2, 2}));
  logged::text.clear();
  {
    const auto loss = al::sum(al::square(x));
    const al::excluding<logged> silent;  // on this thread, until the scope ends
    al::backward(loss);
  }
  std::printf("%s", logged::text.c_str());
  return logged::text == "square\nsum\n" && al::gradient(x).data()[3] == 2.0f;
}

/// Counts and times calls.
bool profile() {
  using watched = al::stack<al::on<al::chip::host>, al::through<al::keys::profile>>;
  const auto x = al::ones<watched::tensor<float>>({64, 64});
  al::profiler p;
  {
    const al::profiler::listening on(p);
    for (int i = 0; i < 3; ++i) {
      static_cast<void>(al::add(al::square(x), x));
    }
  }
  std::printf("%s", p.table().c_str());
  const std::string trace = al::trace::to_chrome_trace(p.timeline());  // or p.write_chrome_trace
  return p.rows().size() == 2 && p.rows()[0].calls == 3 && trace.find("square") != trace.npos;
}

/// Products in bfloat16, what needs range in float.
bool autocast() {
  using half = al::bfloat16;
  using mixed = al::stack<al::on<al::chip::host>, al::differentiate<al::autograd::tape<>>,
                          al::through<al::keys::autocast<half>>>;
  using weights = mixed::tensor<float>;
  const auto x = al::full<weights>({2, 3}, 0.5);
  const auto w = al::require_grad(al::ones<weights>({4, 3}));
  const auto loss = [&] {
    const al::caching_casts once;  // the weights are cast once, however often they are used
    const auto y = al::linear(x, w);
    static_assert(std::is_same_v<decltype(y)::value_type, half>);
    return al::sum(al::exp(y));  // in float
  }();
  al::backward(loss);  // casts are calls like others: the gradient comes back in float
  return al::gradient(w).data()[0] > 4.0f;
}

/// What a model calls, asked of a stack where it is composed.
struct small_model {
  using operators = al::ops::operators<al::ops::linear, al::ops::exp, al::ops::sum>;
};
static_assert(al::complete<stack, small_model>);

int main() { return own_key() && profile() && autocast() ? 0 : 1; }
