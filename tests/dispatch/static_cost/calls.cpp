// SPDX-License-Identifier: Apache-2.0
// Compiled to assembly, not linked: `check.py` compares the functions in pairs.
#include <array>
#include <new>
#include <string_view>

#include "ashlar/chip/host/host.hpp"
#include "ashlar/dispatch.hpp"

namespace al = ashlar;
using plain_tensor = al::tensor<float, al::key_set<al::keys::backend<al::chip::host>>>;

/// A key in every type that has nothing to say: it must cost nothing.
struct silent {
  static constexpr int priority = 10;
};
template <>
struct al::fallback<silent> : al::fallthrough {};
using keyed_tensor = al::tensor<float, al::make_key_set<silent, al::keys::backend<al::chip::host>>>;

void kernel_body(al::context<al::chip::host>&, float* to, const float* from, double factor);

/// A plain operator: the kernel gets the arguments.
struct scale_into {
  static constexpr std::string_view name = "scale_into";
  using result = void;
};
template <>
struct al::kernel<scale_into, al::keys::backend<al::chip::host>> {
  static void impl(al::context<al::chip::host>& ctx, const auto& to, const auto& from,
                   double factor) {
    kernel_body(ctx, to.data(), from.data(), factor);
  }
};

/// A structured operator: meta, allocation, kernel.
struct twice {
  static constexpr std::string_view name = "twice";
  static constexpr std::array arguments{al::argument{"self"}};
  static constexpr al::tensor_spec meta(const al::tensor_spec& self) {
    return al::contiguous_like(self, self.type);
  }
};
template <>
struct al::kernel<twice, al::keys::backend<al::chip::host>> {
  static void impl(al::context<al::chip::host>& ctx, al::view<float> out,
                   al::view<const float> in) {
    kernel_body(ctx, out.data, in.data, 2.0);
  }
};

extern "C" {

void plain_called(const plain_tensor& to, const plain_tensor& from, double factor) {
  al::call<scale_into>(to, from, factor);
}
void plain_direct(const plain_tensor& to, const plain_tensor& from, double factor) {
  al::kernel<scale_into, al::keys::backend<al::chip::host>>::impl(
      al::context<al::chip::host>::current(), to, from, factor);
}

void keyed_called(const keyed_tensor& to, const keyed_tensor& from, double factor) {
  al::call<scale_into>(to, from, factor);
}
void keyed_direct(const keyed_tensor& to, const keyed_tensor& from, double factor) {
  al::kernel<scale_into, al::keys::backend<al::chip::host>>::impl(
      al::context<al::chip::host>::current(), to, from, factor);
}

void structured_called(const plain_tensor& x, void* to) {
  ::new (to) plain_tensor(al::call<twice>(x));
}
}

/// What `invoke<twice>` does, written by hand.
plain_tensor structured_by_hand(const plain_tensor& x) {
  if (!x) [[unlikely]] {
    throw al::undefined_tensor(twice::name);
  }
  const al::tensor_spec spec = twice::meta(x.spec());
  auto& ctx = al::context<al::chip::host>::current();
  auto out = al::allocate_tensor<plain_tensor>(ctx, spec);
  al::kernel<twice, al::keys::backend<al::chip::host>>::impl(
      ctx, out.view(), al::view<const float>{x.data(), &x.spec()});
  return out;
}
