// SPDX-License-Identifier: Apache-2.0
// Several chips in one process: two accelerators of different make and the host, and two devices of
// one of them.
#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "ashlar/autograd.hpp"
#include "ashlar/chip/codegen.hpp"
#include "ashlar/chip/npu/chip.hpp"
#include "ashlar/dispatch.hpp"
#include "ashlar/dispatch/any.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/operators.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/tile/elementwise.hpp"
#include "ashlar/ops/tile/reduction.hpp"
#include "ashlar/stack.hpp"

namespace al = ashlar;

namespace {

using host = al::chip::host;
using small =
    al::chip::npu<al::chip::npu_description{.name = "small", .vector_bytes = 64, .dma_engines = 1}>;
using big = al::chip::npu<al::chip::npu_description{.name = "big", .devices = 2}>;
template <class Chip>
using on = al::tensor<float, al::key_set<al::keys::backend<Chip>>>;
template <class Chip>
using recorded = al::tensor<float, al::make_key_set<al::keys::autograd, al::keys::backend<Chip>>>;
using reals = std::vector<float>;

on<host> numbers() { return al::from_values<on<host>>({4}, {1, 2, 3, 4}); }

}  // namespace

TEST_CASE("chip/npu/devices: two accelerators and the host compute the same in one program") {
  const auto x = numbers();
  const auto there = al::mul(al::to<small>(x), al::to<small>(x));
  const auto further = al::add(al::to<big>(there), al::to<big>(x));
  CHECK(al::to_vector(further) == al::to_vector(al::add(al::mul(x, x), x)));
  CHECK(al::device_of(there) == al::device{"small", 0});
  CHECK(al::device_of(further) == al::device{"big", 0});
  CHECK(al::device_of(x) == al::device{"host", 0});
}

TEST_CASE("chip/npu/devices: results, views and new tensors are where the arguments are") {
  const auto x = al::to<big>(numbers(), 1);
  CHECK(al::device_of(x) == al::device{"big", 1});
  CHECK(al::context<big>::current().ordinal == 0);
  auto y = al::add(x, x);
  CHECK(y.ordinal() == 1);
  CHECK(al::slice(y, 0, 1, 3).ordinal() == 1);
  CHECK((y / 2.0).ordinal() == 1);  // its number becomes a tensor beside `y`
  CHECK(al::to_vector(y / 2.0) == reals{1, 2, 3, 4});
  on<big> out;
  al::mul.out(out, y, x);
  CHECK(out.ordinal() == 1);
  al::sub.in_place(out, x);
  CHECK(al::to_vector(out) == reals{1, 6, 15, 28});
  {
    const al::on_device<big> second(1);
    CHECK(al::ones<on<big>>({2}).ordinal() == 1);
    const al::on_device<big> first(0);
    CHECK(al::ones<on<big>>({2}).ordinal() == 0);
    std::thread([] { CHECK(al::context<big>::current().ordinal == 0); }).join();
  }
  CHECK(al::ones<on<big>>({2}).ordinal() == 0);
  CHECK_THROWS_AS(al::on_device<big>(2), al::no_such_device);
  CHECK_THROWS_AS(static_cast<void>(al::to<big>(x, -1)), al::no_such_device);
  CHECK_THROWS_AS(static_cast<void>(al::to<small>(x, 1)), al::no_such_device);
}

namespace {
/// Two devices whose queues count who waits for them.
struct pair {
  static constexpr al::chip_description description{.name = "pair"};
  static constexpr int devices = 2;
  using memory = host::memory;
  struct queue {
    int waits = 0;
    void wait() { ++waits; }
  };
};
}  // namespace

TEST_CASE("chip/npu/devices: who settles a tensor waits for the queue of its device") {
  const auto x = [] {
    const al::on_device<pair> second(1);
    return al::empty<on<pair>>({2});
  }();
  al::settle(x);
  CHECK(al::context<pair>::of(1).queue.waits == 1);
  CHECK(al::context<pair>::of(0).queue.waits == 0);
}

namespace {
std::atomic<int> gradients_under_way = 0;
struct doubled {
  static constexpr std::string_view name = "doubled";
  static constexpr std::array arguments{al::argument{"self"}};
  static constexpr al::tensor_spec meta(const al::tensor_spec& self) {
    return al::contiguous_like(self, self.type);
  }
  /// Waits for a second one, so that both threads of a pass have one.
  struct derivative {
    static constexpr std::array needs{0u};
    template <int I>
    static auto vjp(const auto& g, const auto&) {
      ++gradients_under_way;
      while (gradients_under_way < 2) {
        std::this_thread::yield();
      }
      return al::add(g, g);
    }
  };
};
int part_on = -1;
}  // namespace

template <>
struct al::decomposition<doubled> {
  template <class Key>
  static constexpr bool answers = true;
  auto operator()(const auto& x) const {
    auto y = al::add(x, x);
    part_on = y.ordinal();
    return y;
  }
};

TEST_CASE("chip/npu/devices: the parts of a decomposition are where its arguments are") {
  const auto x = al::to<big>(numbers(), 1);
  CHECK(al::to_vector(al::call<doubled>(x)) == reals{2, 4, 6, 8});
  CHECK(part_on == 1);
  CHECK(al::to_vector(al::call<doubled>(al::to<big>(x, 0))) == reals{2, 4, 6, 8});
  CHECK(part_on == 0);
}

TEST_CASE("chip/npu/devices: a call with tensors on two devices of a chip names both") {
  const auto a = al::to<big>(numbers(), 0);
  const auto b = al::to<big>(numbers(), 1);
  const auto refused = [](auto f) {
    try {
      f();
    } catch (const al::device_error& e) {
      CHECK(std::string(e.what()).find(to_string(e.first) + " and on " + to_string(e.second)) !=
            std::string::npos);
      return to_string(e.first) + ' ' + to_string(e.second);
    }
    return std::string("not refused");
  };
  CHECK(refused([&] { static_cast<void>(al::add(a, b)); }) == "big:0 big:1");
  CHECK(refused([&] { static_cast<void>(al::add(b, a)); }) == "big:1 big:0");
  auto out = al::add(a, a);
  CHECK(refused([&] { al::add.out(out, b, b); }) == "big:0 big:1");
  CHECK(refused([&] { al::add.in_place(out, b); }) == "big:0 big:1");
  CHECK(al::to_vector(al::add(a, al::to<big>(b, 0))) == reals{2, 4, 6, 8});
}

TEST_CASE("chip/npu/devices: devices have allocators of their own, from the stack's policy too") {
  using stack = al::stack<al::on<big>>;
  CHECK(&al::context<big>::of(0).allocator() != &al::context<big>::of(1).allocator());
  CHECK(&stack::allocator(0) != &stack::allocator(1));
  const auto owner = [](const on<big>& x) {
    return static_cast<al::memory::resource*>(x.body()->owner);
  };
  const stack::session here;
  // More than what lies in a tensor's body.
  const al::shape large{1000};
  CHECK(owner(al::empty<on<big>>(large)) == &stack::allocator(0));
  const al::on_device<big> second(1);
  CHECK(owner(al::empty<on<big>>(large)) == &stack::allocator(1));
}

TEST_CASE("chip/npu/devices: gradients stay on the device of the forward pass") {
  const auto x = al::require_grad(recorded<big>(al::to<big>(numbers(), 1)));
  al::backward(al::sum(al::mul(x, x) / 2.0, {0}, false));
  CHECK(al::gradient(x).ordinal() == 1);
  CHECK(al::to_vector(al::gradient(x)) == reals{1, 2, 3, 4});
}

TEST_CASE("chip/npu/devices: threads of a backward pass allocate on its device, as its own does") {
  al::memory::caching_allocator<big::memory> mine;
  const al::memory::resource* const expected = &mine;
  const al::on_device<big> second(1);
  const al::context<big>::use_allocator from(mine);
  const al::autograd::threads_scope two(2);
  const al::shape large{1000};  // more than what lies in a tensor's body
  const auto a = al::require_grad(al::ones<recorded<big>>(large));
  const auto b = al::require_grad(al::ones<recorded<big>>(large));
  const auto y = al::mul(al::call<doubled>(a), al::call<doubled>(b));
  gradients_under_way = 0;
  al::backward(y, al::ones<recorded<big>>(large));
  CHECK(al::gradient(a).body()->owner == expected);
  CHECK(al::gradient(b).body()->owner == expected);
}

namespace {
using stack = al::stack<al::on<host, small, big>, al::elements<float>>;
using any = stack::any;
}  // namespace

TEST_CASE("chip/npu/devices: at run time a chip is a value, and two in one call are refused") {
  const auto x = numbers();
  const std::vector<any> all{x, al::to<small>(x), al::to<big>(x), al::to<big>(x, 1)};
  const std::vector<std::string> names{"host:0", "small:0", "big:0", "big:1"};
  for (std::size_t i = 0; i < all.size(); ++i) {
    const any y = al::add(all[i], all[i]);
    CHECK(to_string(y.where()) == names[i]);
    CHECK(y.visit([](const auto& typed) { return al::to_vector(typed); }) == reals{2, 4, 6, 8});
    for (std::size_t j = 0; j < all.size(); ++j) {
      if (i == j) {
        continue;
      }
      CAPTURE(names[i]);
      CAPTURE(names[j]);
      try {
        al::add(all[i], all[j]);
        FAIL("must throw");
      } catch (const al::device_error& e) {
        CHECK(to_string(e.first) == names[i]);
        CHECK(to_string(e.second) == names[j]);
      }
    }
  }
}
