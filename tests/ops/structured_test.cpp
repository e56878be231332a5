// SPDX-License-Identifier: Apache-2.0
// What structured operators promise about their outputs.
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "ashlar/ops.hpp"
#include "ops/twins.hpp"

using namespace twins;

namespace {

/// What the last kernel was given.
struct given {
  const float* data = nullptr;
  al::tensor_spec spec;
  int axis = -1;
};
given last;
int precomputed_times = 0;

void count_up(const al::view<float>& out) {
  last = {out.data, *out.spec, -1};
  for (std::int64_t i = 0; i < out.size(); ++i) {
    out.at(i) = static_cast<float>(i);
  }
}

template <class Op>
struct counting {
  static constexpr std::array arguments{al::argument{"self"}};
  /// Axes stored in reverse order.
  static constexpr al::tensor_spec meta(const al::tensor_spec& self) {
    return al::geometry::transpose(
        al::contiguous_spec(self.type, al::shape{self[1], self[0]}.span()), 0, 1);
  }
};
struct raw : counting<raw> {
  static constexpr std::string_view name = "raw";
};
struct strided : counting<strided> {
  static constexpr std::string_view name = "strided";
};
struct dense {
  static constexpr std::string_view name = "dense";
  static constexpr std::array arguments{al::argument{"self"}};
  static constexpr std::array<al::tensor_spec, 2> meta(const al::tensor_spec& self) {
    const auto s = al::contiguous_like(self, self.type);
    return {s, s};
  }
};
struct along {
  static constexpr std::string_view name = "along";
  static constexpr std::array arguments{al::argument{"self"}};
  static constexpr al::tensor_spec meta(const al::tensor_spec& self, std::int64_t axis) {
    al::wrap_axis(name, axis, self.rank);
    return al::contiguous_like(self, self.type);
  }
  struct precomputed {
    int axis;
    std::int64_t extent;
  };
  static precomputed precompute(const al::tensor_spec& self, std::int64_t axis) {
    ++precomputed_times;
    const int a = al::wrap_axis(name, axis, self.rank);
    return {a, self[a]};
  }
};

using host = al::keys::backend<al::chip::host>;

}  // namespace

template <>
struct al::kernel<raw, host> {
  static void impl(al::context<al::chip::host>&, al::view<float> out, al::view<const float>) {
    count_up(out);
  }
};
template <>
struct al::kernel<strided, host> : al::kernel<raw, host> {
  static constexpr al::output_kind outputs = al::output_kind::strided;
};
template <>
struct al::kernel<dense, host> {
  static constexpr al::output_kind outputs = al::output_kind::contiguous;
  static void impl(al::context<al::chip::host>&, al::view<float> a, al::view<float> b,
                   al::view<const float>) {
    REQUIRE(a.contiguous());
    REQUIRE(b.contiguous());
    count_up(a);
    count_up(b);
  }
};
template <>
struct al::kernel<along, host> {
  static void impl(al::context<al::chip::host>&, al::view<float> out, al::view<const float>,
                   const along::precomputed& how) {
    count_up(out);
    last.axis = how.axis * 100 + static_cast<int>(how.extent);
  }
};

namespace {

template <class Op>
constexpr al::op_function<Op> of;
using real = plain<float>;

void check_counts(const real& x) {
  check_elements(x, [](std::int64_t i) { return static_cast<float>(i); });
}

}  // namespace

TEST_CASE("ops/structured: a raw output is written with the strides that it has") {
  const auto x = numbers<real>({3, 5});
  for (const real& given_out : {al::zeros<real>({3, 5}), scattered(al::zeros<real>({3, 5}))}) {
    real out = given_out;
    of<raw>.out(out, x);
    CHECK(last.data == out.data());
    CHECK(last.spec == out.spec());
    check_counts(out);
  }
}

TEST_CASE("ops/structured: a strided output is meta's, or a proxy that is copied") {
  const auto x = numbers<real>({3, 5});
  const auto made = of<strided>(x);
  CHECK(last.data == made.data());
  CHECK(made.spec().stride_of(0) == 1);
  check_counts(made);

  real same = al::transpose(al::zeros<real>({5, 3}));
  of<strided>.out(same, x);
  CHECK(last.data == same.data());
  check_counts(same);

  real other = al::zeros<real>({3, 5});
  const auto before = other.body()->version;
  const auto* const place = other.data();
  of<strided>.out(other, x);
  CHECK(last.data != other.data());
  CHECK(last.spec.stride_of(0) == 1);
  CHECK(other.data() == place);
  CHECK(other.body()->version == before + 1);
  check_counts(other);

  const auto ghost_out = of<strided>(ghost_of(x));
  CHECK(ghost_out.spec() == made.spec());
}

TEST_CASE("ops/structured: contiguous outputs are row-major, each of several") {
  const auto x = numbers<real>({3, 5});
  std::tuple<real, real> outs{al::zeros<real>({3, 5}), scattered(al::zeros<real>({3, 5}))};
  const auto places = std::tuple(std::get<0>(outs).data(), std::get<1>(outs).data());
  of<dense>.out(outs, x);
  check_counts(std::get<0>(outs));
  check_counts(std::get<1>(outs));
  CHECK(std::tuple(std::get<0>(outs).data(), std::get<1>(outs).data()) == places);
  std::tuple<real, real> fresh;
  of<dense>.out(fresh, x);
  CHECK(last.data == std::get<1>(fresh).data());
}

TEST_CASE("ops/structured: what the geometry worked out comes in place of the attributes, once") {
  const auto x = numbers<real>({3, 5});
  precomputed_times = 0;
  static_cast<void>(of<along>(x, std::int64_t{-1}));
  CHECK(last.axis == 105);
  CHECK(precomputed_times == 1);
  real out = al::zeros<real>({3, 5});
  of<along>.out(out, x, std::int64_t{0});
  CHECK(last.axis == 3);
  CHECK(precomputed_times == 2);
  CHECK_THROWS_AS(of<along>(x, std::int64_t{2}), al::argument_error);
  CHECK(precomputed_times == 2);
}

TEST_CASE("ops/structured: out= makes what is empty, and what has another shape, anew") {
  static std::vector<std::string> said;
  said.clear();
  const auto hear =
      al::on_resize.exchange([](const al::resize_notice& n) { said.push_back(n.to_string()); });
  const auto x = numbers<real>({3, 5}, 1);
  real none;
  al::add.out(none, x, x);
  real empty = al::zeros<real>({0});
  al::add.out(empty, x, x);
  check_same(empty, none);
  CHECK(said.empty());
  // With elements it is said; who else holds them keeps them.
  real wrong = al::zeros<real>({5, 3});
  const real kept = wrong;
  al::add.out(wrong, x, x);
  check_same(wrong, none);
  check_elements(kept, [](std::int64_t) { return 0.0F; });
  CHECK(said == std::vector<std::string>{
                    "ashlar: add gives its output, of shape [5, 3], the shape [3, 5] and elements "
                    "of its own; give one of that shape, or an empty one\n"});
  real turned = al::zeros<real>({2});
  al::transpose.out(turned, x);
  check_same(turned, al::clone(al::transpose(x)));
  CHECK(said.size() == 2);
  // An empty result has its own shape.
  real rows = al::zeros<real>({0, 3});
  al::add.out(rows, al::zeros<real>({0, 5}), al::zeros<real>({1}));
  CHECK(al::shape(rows.shape()) == al::shape{0, 5});
  // What is read is not resized.
  real row = numbers<real>({1, 5});
  CHECK_THROWS_AS(al::add.out(row, row, x), al::output_error);
  CHECK_THROWS_AS(al::add.out(row, x, real(row)), al::output_error);
  CHECK_THROWS_AS(al::transpose.out(row, row), al::output_error);
  // In place nothing is made and nothing grows.
  CHECK_THROWS_AS(al::add.in_place(row, x), al::output_error);
  check_same(row, numbers<real>({1, 5}));
  real nothing;
  CHECK_THROWS_AS(al::add.in_place(nothing, x), al::undefined_tensor);
  CHECK(said.size() == 2);
  al::on_resize = hear;
}

TEST_CASE("ops/structured: a result is cast to an output of no narrower category") {
  using wide = plain<double>;
  using whole = plain<std::int32_t>;
  const auto x = numbers<real>({3, 5}, 1);
  const auto y = al::cast<double>(numbers<real>({3, 5}, 2));
  const auto want = al::cast<float>(al::mul(x, y));
  real out = scattered(al::zeros<real>({3, 5}));
  const auto* const place = out.data();
  al::mul.out(out, x, y);
  check_same(al::clone(out), want);
  CHECK(out.data() == place);
  real none;
  al::mul.out(none, x, y);
  check_same(none, want);
  real self = al::clone(x);
  al::mul.in_place(self, y);
  check_same(self, want);
  wide compared = al::zeros<wide>({3, 5});
  al::lt.out(compared, x, self);
  check_same(compared, al::cast<double>(al::lt(x, self)));
  whole sum = al::zeros<whole>({});
  al::sum.out(sum, al::ones<whole>({7}));
  CHECK(al::item(sum) == 7);
  CHECK_THROWS_AS(al::mul.in_place(self, al::zeros<wide>({2, 3, 5})), al::output_error);
  real line = al::zeros<real>({6});
  real head = al::narrow(line, 0, 0, 5);
  const real shifted = al::narrow(line, 0, 1, 5);
  CHECK_THROWS_AS(al::mul.out(head, shifted, al::zeros<wide>({5})), al::overlap_error);
}

TEST_CASE("ops/structured: outputs share no element with themselves or what is read") {
  const auto x = numbers<real>({4, 6}, 1);
  const auto y = numbers<real>({4, 3}, 2);
  const real even = al::slice(x, 1, 0, 6, 2);
  real odd = al::slice(x, 1, 1, 6, 2);
  const auto want = al::add(even, y);
  al::add.out(odd, even, y);  // between each other, and apart
  check_same(al::clone(odd), want);

  real shifted = al::narrow(x, 1, 1, 3);
  const real first = al::narrow(x, 1, 0, 3);
  CHECK_THROWS_AS(al::add.out(shifted, first, y), al::overlap_error);
  real itself = first;
  al::add.out(itself, first, y);  // an elementwise operator may write where it reads
  CHECK_THROWS_AS(al::softmax.out(itself, first), al::overlap_error);

  real repeated = al::expand(al::zeros<real>({1, 3}), {4, 3});
  CHECK_THROWS_AS(al::add.out(repeated, y, y), al::overlap_error);
  real windows = al::unfold(al::zeros<real>({6}), 0, 3);
  CHECK_THROWS_AS(al::add.out(windows, y, y), al::overlap_error);
  CHECK_THROWS_AS(al::add.in_place(windows, y), al::overlap_error);
  real apart = al::unfold(al::zeros<real>({12}), 0, 3, 3);
  al::add.out(apart, y, y);
  check_same(al::clone(apart), al::add(y, y));
}
