// SPDX-License-Identifier: Apache-2.0
#include "ops/gradients.hpp"

using namespace twins;

namespace {

struct checks {
  static void of(std::type_identity<ops::tanh>) { check_unary_gradients(al::tanh, numbers<leaf>); }
  static void of(std::type_identity<ops::sigmoid>) {
    check_unary_gradients(al::sigmoid, numbers<leaf>);
  }
  static void of(std::type_identity<ops::relu>) { check_unary_gradients(al::relu, numbers<leaf>); }
  static void of(std::type_identity<ops::gelu>) { check_unary_gradients(al::gelu, numbers<leaf>); }
  static void of(std::type_identity<ops::gelu_tanh>) {
    check_unary_gradients(al::gelu_tanh, numbers<leaf>);
  }
  static void of(std::type_identity<ops::silu>) { check_unary_gradients(al::silu, numbers<leaf>); }
  static void of(std::type_identity<ops::swiglu>) { check_binary_gradients(al::swiglu); }
  static void of(std::type_identity<ops::tanh_backward>) {
    check_binary_gradients(al::op_function<ops::tanh_backward>{});
  }
  static void of(std::type_identity<ops::sigmoid_backward>) {
    check_binary_gradients(al::op_function<ops::sigmoid_backward>{});
  }
  static void of(std::type_identity<ops::relu_backward>) {
    check_binary_gradients(al::op_function<ops::relu_backward>{});
  }
  static void of(std::type_identity<ops::gelu_backward>) {
    check_binary_gradients(al::op_function<ops::gelu_backward>{});
  }
  static void of(std::type_identity<ops::gelu_tanh_backward>) {
    check_binary_gradients(al::op_function<ops::gelu_tanh_backward>{});
  }
  static void of(std::type_identity<ops::silu_backward>) {
    check_binary_gradients(al::op_function<ops::silu_backward>{});
  }
};

}  // namespace

TEST_CASE("ops/activation: gradients, and theirs, equal differences") {
  check_family<checks>(family::activation{});
}
