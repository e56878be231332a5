// SPDX-License-Identifier: Apache-2.0
// The rules that pick a kernel, one case for each, in both forms of a call.
#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <vector>

#include "ashlar/chip/host/host.hpp"
#include "ashlar/dispatch/any.hpp"
#include "ashlar/ops/copy.hpp"

namespace al = ashlar;

namespace {

using names = std::vector<std::string_view>;
names said;

struct npu {
  static constexpr al::chip_description description{.name = "npu"};
  using memory = al::chip::host::memory;
  using queue = al::chip::host::queue;
};
using backend = al::keys::backend<npu>;

/// Writes calls down to undo them, as the tape does.
struct recording {
  static constexpr int priority = 100;
  static constexpr bool records = true;
};
/// Any other key.
struct watching {
  static constexpr int priority = 500;
};
struct silent {
  static constexpr int priority = 50;
};

struct world {
  using chips = al::chip_list<npu>;
  using element_types = al::element_list<float>;
  using keys = al::make_key_set<recording, watching, silent, backend>;
};

/// What the operators of this file have in common; `What` tells them apart.
template <int What>
struct op {
  static constexpr std::string_view name = "op";
  static constexpr std::array arguments{al::argument{"self"}};
  static constexpr bool elementwise = true;
  static constexpr al::tensor_spec meta(const al::tensor_spec& self) {
    return al::contiguous_like(self, self.type);
  }
};
/// A part that composites and decompositions are made of.
using part = op<0>;
template <int What>
struct composed_op : op<What> {
  struct composite {
    auto operator()(const auto& x) const {
      said.push_back("composite");
      return al::call<part>(x);
    }
  };
};

struct only_kernel : op<1> {};
struct only_tile : op<2> {};
struct only_decomposition : op<3> {};
struct nothing : op<4> {};
struct only_composite : composed_op<5> {};
struct composite_and_kernel : composed_op<6> {};
struct composite_and_tile : composed_op<7> {};
struct composite_and_decomposition : composed_op<8> {};
struct composite_and_alias : composed_op<9> {};
struct composite_kernel_alias : composed_op<10> {};
struct composite_decomposition_alias : composed_op<11> {};
struct composite_and_on_chip : composed_op<12> {};
struct watched : op<13> {};
struct watched_on_chip : op<14> {};
struct passed : op<15> {};

template <class... Op>
struct any_of {
  template <class X>
  static constexpr bool has = (std::is_same_v<X, Op> || ...);
};
using with_kernel = any_of<part, only_kernel, composite_and_kernel, composite_kernel_alias, watched,
                           watched_on_chip, passed>;
using with_tile = any_of<only_kernel, only_tile, composite_and_tile>;
using with_decomposition = any_of<only_kernel, only_tile, only_decomposition,
                                  composite_and_decomposition, composite_decomposition_alias>;
using with_watch = any_of<watched, watched_on_chip>;
using with_alias =
    any_of<composite_and_alias, composite_kernel_alias, composite_decomposition_alias>;

}  // namespace

template <class Op>
  requires with_kernel::has<Op>
struct al::kernel<Op, backend> {
  static void impl(al::context<npu>&, al::view<float> out, al::view<const float> x) {
    said.push_back(std::is_same_v<Op, part> ? "part" : "kernel");
    for (std::int64_t i = 0; i < out.size(); ++i) {
      out.data[i] = -x.data[i];
    }
  }
};
template <class Op>
  requires with_tile::has<Op>
struct al::tile_kernel<Op, npu> {
  static void impl(al::context<npu>&, al::view<float> out, al::view<const float> x) {
    said.push_back("tile");
    out.data[0] = -x.data[0];
  }
};
template <class Op>
  requires with_decomposition::has<Op>
struct al::decomposition<Op> {
  template <class Key>
  static constexpr bool answers = true;
  auto operator()(const auto& x) const {
    said.push_back("decomposition");
    return al::call<part>(x);
  }
};
/// The parts of a decomposition are copied to where the result should be.
template <>
struct al::kernel<al::ops::copy, backend> {
  static void impl(al::context<npu>&, al::view<float> out, al::view<const float>,
                   al::view<const float> other) {
    out.data[0] = other.data[0];
  }
};
template <class Op>
  requires with_alias::has<Op>
struct al::kernel<Op, recording> {
  static auto impl(auto next, auto&... args) {
    said.push_back("alias");
    return next(args...);
  }
};
template <>
struct al::kernel<composite_and_on_chip, al::keys::on_chip<recording, npu>> {
  static auto impl(auto, auto& x) {
    said.push_back("recording on npu");
    return x;
  }
};
template <>
struct al::fallback<recording> {
  static auto impl(auto next, auto&... args) {
    said.push_back("recording");
    return next(args...);
  }
};
template <class Op>
  requires with_watch::has<Op>
struct al::kernel<Op, watching> {
  static auto impl(auto next, auto&... args) {
    said.push_back("watched");
    return next(args...);
  }
};
template <>
struct al::kernel<watched_on_chip, al::keys::on_chip<watching, npu>> {
  static auto impl(auto next, auto&... args) {
    said.push_back("watched on npu");
    return next(args...);
  }
};
template <>
struct al::kernel<passed, watching> : al::fallthrough {};
template <>
struct al::fallback<watching> {
  static auto impl(auto next, auto&... args) {
    said.push_back("watching");
    return next(args...);
  }
};
template <>
struct al::fallback<silent> : al::fallthrough {};
template <>
struct al::fallback<backend> {
  template <class Step, class X>
  static X impl(Step, const X& x) {
    said.push_back("fallback");
    return x;
  }
};

namespace {

/// What a call of `Op` under these keys says; by type and at run time it is the same.
template <class Op, class... Keys>
names calling() {
  using set = al::make_key_set<backend, Keys...>;
  using x_type = al::tensor<float, set>;
  using lists = al::detail::lists_of<world>;
  // One resolution by type, one at run time over all keys of the stack.
  using here = al::resolution<Op, set>;
  constexpr auto at_run_time =
      al::rules<Op, lists::keys_on<npu>>.resolve(lists::bits_of<set> | 1u << lists::key_count);
  static_assert(here::how == at_run_time.how);
  static_assert(al::detail::place_in<typename here::key, lists::keys_on<npu>> == at_run_time.key);

  const x_type x = al::empty<x_type>({1});
  x.data()[0] = 3;
  said.clear();
  static_cast<void>(al::call<Op>(x));
  const names by_type = said;
  said.clear();
  static_cast<void>(al::call<Op>(al::any_tensor<world>(x)));
  CHECK(said == by_type);
  return by_type;
}

}  // namespace

TEST_CASE(
    "dispatch/rules: on a chip a kernel, a tile program, a decomposition, a composite, then "
    "the fallback") {
  CHECK(calling<only_kernel>() == names{"kernel"});
  CHECK(calling<only_tile>() == names{"tile"});
  CHECK(calling<only_decomposition>() == names{"decomposition", "part"});
  CHECK(calling<only_composite>() == names{"composite", "part"});
  CHECK(calling<composite_and_tile>() == names{"tile"});
  CHECK(calling<composite_and_decomposition>() == names{"decomposition", "part"});
  CHECK(calling<composite_and_kernel>() == names{"kernel"});
  CHECK(calling<nothing>() == names{"fallback"});
}

TEST_CASE("dispatch/rules: a key that records takes a composite only where the chip has nothing") {
  CHECK(calling<only_composite, recording>() == names{"composite", "recording", "part"});
  CHECK(calling<composite_and_kernel, recording>() == names{"recording", "kernel"});
  CHECK(calling<composite_and_tile, recording>() == names{"recording", "tile"});
  CHECK(calling<composite_and_decomposition, recording>() ==
        names{"recording", "decomposition", "part"});
}

TEST_CASE(
    "dispatch/rules: a composite goes before a key's kernel for all chips, a kernel for this "
    "chip before both") {
  CHECK(calling<composite_and_alias, recording>() == names{"composite", "recording", "part"});
  CHECK(calling<composite_kernel_alias, recording>() == names{"alias", "kernel"});
  CHECK(calling<composite_decomposition_alias, recording>() ==
        names{"alias", "decomposition", "part"});
  CHECK(calling<composite_and_on_chip, recording>() == names{"recording on npu"});
}

TEST_CASE("dispatch/rules: any other key has its kernel, else its fallback, and no composite") {
  CHECK(calling<watched, watching>() == names{"watched", "kernel"});
  CHECK(calling<watched_on_chip, watching>() == names{"watched on npu", "kernel"});
  CHECK(calling<only_kernel, watching>() == names{"watching", "kernel"});
  CHECK(calling<only_composite, watching>() == names{"watching", "composite", "watching", "part"});
  CHECK(calling<only_composite, watching, recording>() ==
        names{"watching", "composite", "watching", "recording", "part"});
}

TEST_CASE("dispatch/rules: fallthrough leaves the turn, for one operator and for all") {
  CHECK(calling<passed, watching>() == names{"kernel"});
  CHECK(calling<passed, watching, recording>() == names{"recording", "kernel"});
  CHECK(calling<only_kernel, silent>() == names{"kernel"});
  CHECK(calling<only_kernel, watching, recording, silent>() ==
        names{"watching", "recording", "kernel"});
  using set = al::key_set<silent, backend>;
  static_assert(al::rules<only_kernel, set>.mask == 2);
}

namespace {
/// Without tensors there is no chip.
struct answer {
  static constexpr std::string_view name = "answer";
  static constexpr std::array<al::argument, 0> arguments{};
  struct composite {
    int operator()(int x) const { return x + 1; }
  };
};
}  // namespace

TEST_CASE("dispatch/rules: a call without tensors is its composite") {
  static_assert(al::resolution<answer, al::key_set<>>::how == al::found::composite);
  static_assert(al::resolution<only_kernel, al::key_set<>>::how == al::found::missing);
  CHECK(al::call<answer>(41) == 42);
}
