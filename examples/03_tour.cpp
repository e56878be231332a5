// SPDX-License-Identifier: Apache-2.0
// The pieces that the guide shows.
#include <ashlar/ashlar.hpp>
#include <cstdio>
#include <string_view>

namespace al = ashlar;

using stack = al::stack<al::on<al::chip::host>, al::differentiate<al::autograd::tape<>>>;
using tensor = stack::tensor<float>;

void tensors() {
  const auto x = al::from_values<tensor>({2, 3}, {1, 2, 3, 4, 5, 6});
  const auto t = al::transpose(x, 0, 1);                          // a view: the same elements
  const auto row = al::select(t, 0, 1);                           // [2, 5]
  const auto y = x + al::from_values<tensor>({3}, {10, 20, 30});  // broadcast
  std::printf("%g %g\n", row.view()(1), al::item(al::sum(y)));
}

void forms() {
  const auto x = al::ones<tensor>({4});
  auto y = al::mul(x, x);  // functional: a new tensor
  al::add.out(y, x, x);    // into elements that exist
  al::add.in_place(y, x);  // over the first argument
  std::printf("%g\n", al::to_vector(y)[0]);
}

void errors() {
  try {
    static_cast<void>(al::matmul(al::ones<tensor>({2, 3}), al::ones<tensor>({2, 3})));
  } catch (const al::shape_error& e) {  // with both shapes as data
    std::printf("%s\n", e.what());
  }
}

void gradients() {
  const auto w = al::require_grad(al::from_values<tensor>({2}, {3, 4}));
  const auto loss = al::sum(al::exp(w) * w);
  al::register_hook(loss, [](const tensor&) { std::printf("the pass begins\n"); });
  al::backward(loss);
  std::printf("%g\n", al::gradient(w).data()[0]);
  const auto [dw] = al::grad(al::sum(w * w), w);  // touches no leaf
  std::printf("%g\n", dw.data()[1]);
}

void shapes_only() {
  using ghost = al::stack<al::on<al::chip::meta>>::tensor<float>;
  const auto x = al::empty<ghost>({1 << 20, 1 << 20});  // four terabytes of nothing
  std::printf("%lld\n", static_cast<long long>(al::matmul(x, al::transpose(x, 0, 1)).extent(1)));
}

// A key of one's own: counts calls, whatever the operator and the chip.
struct counted_calls {
  static constexpr int priority = 1000;
  static inline int calls = 0;
};
template <>
struct al::fallback<counted_calls> {
  static decltype(auto) impl(auto next, auto&... args) {
    ++counted_calls::calls;
    return next(args...);
  }
};
using counted =
    al::tensor<float, al::make_key_set<counted_calls, al::keys::backend<al::chip::host>>>;

// An operator of one's own: a schema, a shape rule, a kernel, a derivative.
struct cube {
  static constexpr std::string_view name = "cube";
  static constexpr std::array arguments{al::argument{"self"}};
  static constexpr bool elementwise = true;
  static constexpr al::tensor_spec meta(const al::tensor_spec& self) {
    return al::contiguous_like(self, self.type);
  }
  struct derivative {
    static constexpr std::array needs{al::arg<0>.bit};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      return g * al::square(saved(al::arg<0>)) * 3.0;
    }
  };
};
template <>
struct al::kernel<cube, al::keys::backend<al::chip::host>> {
  template <class T>
  static void impl(al::context<al::chip::host>&, al::view<T> out, al::view<const T> x) {
    for (std::int64_t i = 0; i < out.size(); ++i) {
      out.at(i) = x.at(i) * x.at(i) * x.at(i);
    }
  }
};

int main() {
  tensors();
  forms();
  errors();
  gradients();
  shapes_only();
  const auto x = al::ones<counted>({2});
  static_cast<void>(x * x + x);
  std::printf("%d calls\n", counted_calls::calls);
  const auto w = al::require_grad(al::from_values<tensor>({1}, {2}));
  al::backward(al::call<cube>(w));
  std::printf("%g\n", al::item(al::gradient(w)));
}
