// SPDX-License-Identifier: Apache-2.0
#include "ops/gradients.hpp"

using namespace twins;

template <>
void twins::gradients_of<ops::tanh>() {
  check_unary_gradients(al::tanh, numbers<leaf>);
}
template <>
void twins::gradients_of<ops::sigmoid>() {
  check_unary_gradients(al::sigmoid, numbers<leaf>);
}
template <>
void twins::gradients_of<ops::relu>() {
  check_unary_gradients(al::relu, numbers<leaf>);
}
template <>
void twins::gradients_of<ops::gelu>() {
  check_unary_gradients(al::gelu, numbers<leaf>);
}
template <>
void twins::gradients_of<ops::gelu_tanh>() {
  check_unary_gradients(al::gelu_tanh, numbers<leaf>);
}
template <>
void twins::gradients_of<ops::silu>() {
  check_unary_gradients(al::silu, numbers<leaf>);
}
template <>
void twins::gradients_of<ops::swiglu>() {
  check_binary_gradients(al::swiglu);
}
template <>
void twins::gradients_of<ops::tanh_backward>() {
  check_binary_gradients(al::op_function<ops::tanh_backward>{});
}
template <>
void twins::gradients_of<ops::sigmoid_backward>() {
  check_binary_gradients(al::op_function<ops::sigmoid_backward>{});
}
template <>
void twins::gradients_of<ops::relu_backward>() {
  check_binary_gradients(al::op_function<ops::relu_backward>{});
}
template <>
void twins::gradients_of<ops::gelu_backward>() {
  check_binary_gradients(al::op_function<ops::gelu_backward>{});
}
template <>
void twins::gradients_of<ops::gelu_tanh_backward>() {
  check_binary_gradients(al::op_function<ops::gelu_tanh_backward>{});
}
template <>
void twins::gradients_of<ops::silu_backward>() {
  check_binary_gradients(al::op_function<ops::silu_backward>{});
}

TEST_CASE("ops/activation: gradients, and theirs, equal differences") {
  check_family(family::activation{});
}
