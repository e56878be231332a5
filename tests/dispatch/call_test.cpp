// SPDX-License-Identifier: Apache-2.0
#include "ashlar/dispatch/call.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/meta_kernels.hpp"
#include "ashlar/ops/views.hpp"

namespace al = ashlar;

namespace {

using host_keys = al::key_set<al::keys::backend<al::chip::host>>;
using real = al::tensor<float, host_keys>;

template <class X>
X of(al::shape extents, std::initializer_list<double> values) {
  X x = al::empty<X>(extents);
  std::size_t i = 0;
  for (const double v : values) {
    x.data()[i++] = static_cast<typename X::value_type>(v);
  }
  return x;
}

/// A chip of its own: one kernel by hand, the rest through the host.
struct npu_mul {
  using op = al::ops::mul;
  static inline int calls = 0;
  template <class Context>
  static void impl(Context&, al::view<float> out, al::view<const float> a,
                   al::view<const float> b) {
    ++calls;
    for (std::int64_t i = 0; i < out.size(); ++i) {
      out.data[i] = a.data[i % a.size()] * b.data[i % b.size()];
    }
  }
};
struct npu {
  static constexpr al::chip_description description{.name = "npu"};
  using memory = al::chip::host::memory;
  using queue = al::chip::host::queue;
  using kernels = al::kernels<npu_mul>;
};
using npu_real = al::tensor<float, al::key_set<al::keys::backend<npu>>>;

/// Records the name of every operator, on any chip.
struct logged {
  static constexpr int priority = 500;
  static inline std::vector<std::string_view> names;
};
/// Says nothing.
struct quiet {
  static constexpr int priority = 600;
};
/// Multiplies in float, whatever comes.
struct narrow_mul {
  static constexpr int priority = 400;
  template <class Op>
  static constexpr al::dtype element(al::dtype d) {
    return std::is_same_v<Op, al::ops::mul> ? al::dtype::float32 : d;
  }
};

/// Several results without a kernel: two views.
struct halves {
  static constexpr std::string_view name = "halves";
  static constexpr std::array arguments{al::argument{"self"}};
  struct composite {
    auto operator()(auto& x) const {
      const std::int64_t half = x.extent(0) / 2;
      return std::tuple(al::narrow(x, 0, 0, half), al::narrow(x, 0, half, half));
    }
  };
};

}  // namespace

template <>
struct al::fallback<al::keys::backend<npu>> {
  template <class Step, class... A>
  static auto impl(Step, const A&... args) {
    return npu_real(al::tensor_handle(al::call<typename Step::op>(on_host(args)...)));
  }

 private:
  template <class A>
  static auto on_host(const A& a) {
    if constexpr (al::Tensor<A>) {
      return real(static_cast<const al::tensor_handle&>(a));  // one memory: the same elements
    } else {
      return a;
    }
  }
};
template <>
struct al::fallback<logged> {
  static decltype(auto) impl(auto next, auto&... args) {
    logged::names.push_back(decltype(next)::op::name);
    return next(args...);
  }
};
template <>
struct al::fallback<quiet> : al::fallthrough {};
template <>
struct al::fallback<narrow_mul> : al::fallthrough {};

TEST_CASE("dispatch/call: functional, out= and in-place forms agree") {
  const auto a = of<real>({2, 2}, {1, 2, 3, 4});
  const auto b = of<real>({2}, {10, 20});
  const auto c = al::add(a, b);
  CHECK(c.data()[3] == 24);
  real out;
  al::add.out(out, a, b);
  CHECK(out.data()[3] == 24);
  const float* place = out.data();
  al::add.out(out, b, a);
  CHECK(out.data() == place);
  auto self = of<real>({2, 2}, {1, 2, 3, 4});
  al::add.in_place(self, b);
  CHECK(self.data()[3] == 24);
  CHECK(self.body()->version == 1);
}

TEST_CASE("dispatch/call: what is written to with a wrong shape or shared elements is refused") {
  const auto a = of<real>({4}, {1, 2, 3, 4});
  auto wrong = of<real>({3}, {1, 2, 3});
  try {
    al::add.in_place(wrong, of<real>({4, 1}, {1, 2, 3, 4}));
    FAIL("must throw");
  } catch (const al::output_error& e) {
    CHECK(e.needed == al::shape{4, 3});
    CHECK(e.given == al::shape{3});
    CHECK(std::string(e.what()).find("add") != std::string::npos);
  }
  auto x = of<real>({5}, {1, 2, 3, 4, 5});
  auto head = al::slice(x, 0, 0, 4, 1);
  const auto tail = al::slice(x, 0, 1, 5, 1);
  CHECK_THROWS_AS(al::add.out(head, tail, a), al::overlap_error);
  CHECK_NOTHROW(al::add.out(head, head, a));  // each element over its own argument
  CHECK(x.data()[0] == 2);
  auto row = al::expand(of<real>({1}, {7}), al::shape{4});
  CHECK_THROWS_AS(al::add.in_place(row, a), al::overlap_error);
  CHECK_THROWS_AS(al::add.in_place(x, al::empty<real>({2, 5})), al::output_error);
  CHECK_THROWS_AS(static_cast<void>(al::add(a, real{})), al::undefined_tensor);
  CHECK_THROWS_AS(static_cast<void>(al::add(a, al::empty<real>({3}))), al::shape_error);
  CHECK(al::add(a, a).data()[0] == 2);  // nothing was broken
}

TEST_CASE("dispatch/call: elements are promoted before kernels see them") {
  using whole = al::tensor<std::int32_t, host_keys>;
  using wide = al::tensor<double, host_keys>;
  const auto i = of<whole>({2}, {1, 2});
  const auto f = of<real>({2}, {0.5, 0.25});
  const auto d = of<wide>({1}, {4});
  static_assert(std::is_same_v<decltype(al::mul(i, f)), real>);
  static_assert(std::is_same_v<decltype(al::mul(i, d)), wide>);
  CHECK(al::mul(i, f).data()[1] == 0.5f);
  CHECK(al::mul(f, d).data()[0] == 2.0);
  auto g = of<real>({2}, {1, 1});
  al::mul.in_place(g, i);
  CHECK(g.data()[1] == 2);
}

TEST_CASE("dispatch/call: a chip's own kernel is taken, and its fallback for the rest") {
  const auto x = of<npu_real>({2}, {3, 4});
  npu_mul::calls = 0;
  const auto y = al::add(al::mul(x, x), x);
  static_assert(std::is_same_v<decltype(y), const npu_real>);
  CHECK(npu_mul::calls == 1);
  CHECK(y.data()[1] == 20);
}

TEST_CASE("dispatch/call: keys above see every call, may fall through and are excluded by type") {
  using traced =
      al::tensor<float, al::make_key_set<quiet, logged, al::keys::backend<al::chip::host>>>;
  const auto x = of<traced>({2}, {3, 4});
  logged::names.clear();
  const auto y = al::mul(al::add(x, x), x);
  static_assert(std::is_same_v<decltype(y), const traced>);
  CHECK(logged::names == std::vector<std::string_view>{"add", "mul"});
  const auto bare = al::without<logged>(x);
  const auto z = al::mul(bare, bare);
  CHECK(logged::names.size() == 2);
  const auto mixed = al::mul(x, of<real>({2}, {1, 1}));
  static_assert(std::is_same_v<decltype(mixed), const traced>);
  CHECK(mixed.data()[1] == 4);
  CHECK(z.data()[0] == 9);
}

TEST_CASE("dispatch/call: a key may set the element type of a call") {
  using mixed = al::tensor<double, al::make_key_set<narrow_mul, al::keys::backend<al::chip::host>>>;
  const auto x = of<mixed>({1}, {3});
  static_assert(std::is_same_v<decltype(al::mul(x, x))::value_type, float>);
  static_assert(std::is_same_v<decltype(al::add(x, x))::value_type, double>);
  CHECK(al::mul(x, x).data()[0] == 9.0f);
}

TEST_CASE("dispatch/call: meta tensors compute geometry and hold no elements") {
  using ghost = al::tensor<float, al::key_set<al::keys::backend<al::chip::meta>>>;
  const auto big = al::empty<ghost>({std::int64_t{1} << 20, std::int64_t{1} << 18});
  CHECK(big.data() == nullptr);
  const auto y = al::add(big, al::empty<ghost>({1, 1}));
  CHECK(y.extent(1) == std::int64_t{1} << 18);
  CHECK_THROWS_AS(static_cast<void>(al::add(big, al::empty<ghost>({3}))), al::shape_error);
}

TEST_CASE("dispatch/call: resolution is decided by the rules in their order") {
  using al::found;
  using al::rule;
  static_assert(rule<al::ops::mul, al::keys::backend<npu>>() == found::direct);
  static_assert(rule<al::ops::add, al::keys::backend<npu>>() == found::fallback);
  static_assert(rule<al::ops::transpose, al::keys::backend<npu>>() == found::view);
  static_assert(rule<al::ops::add, al::keys::backend<al::chip::host>>() == found::tile);
  static_assert(rule<al::ops::add, quiet>() == found::fallthrough);
  CHECK(true);
}

TEST_CASE("dispatch/call: out= of a composite with several results writes all or none") {
  const al::op_function<halves> f;
  const auto x = of<real>({4}, {1, 2, 3, 4});
  std::tuple<real, real> both;
  std::get<1>(both) = of<real>({2}, {7, 7});
  const real kept = std::get<1>(both);
  f.out(both, x);
  CHECK(std::get<0>(both).data()[1] == 2.0f);
  CHECK(kept.data()[0] == 3.0f);
  CHECK(std::get<0>(both).body() != x.body());

  std::get<1>(both) = x;
  std::get<0>(both) = kept;
  CHECK_THROWS_AS(f.out(both, x), al::output_error);
  std::get<1>(both) = kept;
  CHECK_THROWS_AS(f.out(both, x), al::overlap_error);
  std::get<0>(both) = al::narrow(x, 0, 2, 2);  // what the second result would show
  CHECK_THROWS_AS(f.out(both, x), al::overlap_error);
  CHECK(kept.data()[0] == 3.0f);
}
