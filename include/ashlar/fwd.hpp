// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace ashlar {

template <class... Keys>
struct key_set;
template <class T, class Keys>
class tensor;
template <class T>
struct view;
template <class Chip>
class context;
template <class Stack>
class any_tensor;

namespace chip {
struct host;
struct meta;
}  // namespace chip

namespace keys {
template <class Chip>
struct backend;
struct autograd;
struct capture;
}  // namespace keys

/// The operators that other rooms call by name: promotion and the tape need them.
namespace ops {
template <class T>
struct cast;
struct add;
struct sum_to;
struct copy;
struct clone;
struct fill;
}  // namespace ops

/// What a policy is about. A policy names its kind: `using kind = kinds::chip;`.
namespace kinds {
struct chip {};
struct elements {};
struct allocate {};
struct differentiate {};
struct cache {};
struct schedule {};
struct communicate {};
struct through {};
}  // namespace kinds

}  // namespace ashlar
