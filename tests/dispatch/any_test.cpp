// SPDX-License-Identifier: Apache-2.0
#include "ashlar/dispatch/any.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/autograd.hpp"
#include "ashlar/ops.hpp"

namespace al = ashlar;

namespace {

using host = al::chip::host;
/// Two kernels of its own, the rest happens on the host.
struct card_neg {
  using op = al::ops::neg;
  static void impl(auto&, al::view<float> out, al::view<const float> x) {
    for (std::int64_t i = 0; i < out.size(); ++i) {
      out.at(i) = -x.at(i);
    }
  }
};
struct card {
  static constexpr al::chip_description description{.name = "card"};
  using memory = host::memory;
  using queue = host::queue;
  using kernels = al::kernels<card_neg>;
  using falls_back_to = host;
};

using names = std::vector<std::string_view>;
names said;

/// Two keys that scopes switch and that write down what comes by, and one that says nothing.
struct outer {
  static constexpr int priority = 500;
  static constexpr bool excludable = true;
};
struct inner {
  static constexpr int priority = 400;
  static constexpr bool excludable = true;
};
struct quiet {
  static constexpr int priority = 300;
};

}  // namespace

template <>
struct al::fallback<outer> {
  static decltype(auto) impl(auto next, auto&... args) {
    said.push_back("outer");
    return next(args...);
  }
};
template <>
struct al::fallback<inner> {
  static decltype(auto) impl(auto next, auto&... args) {
    said.push_back("inner");
    return next(args...);
  }
};
/// Nothing to say about `mul`, nor about all others.
template <>
struct al::kernel<al::ops::mul, inner> : al::fallthrough {};
template <>
struct al::fallback<quiet> : al::fallthrough {};

namespace {

// ---- resolution ---------------------------------------------------------------------------------

/// Everything there is, for resolution alone.
struct full_world {
  using chips = al::chip_list<host, al::chip::meta, card>;
  using element_types = al::element_list<float>;
  using keys = al::make_key_set<outer, inner, quiet, al::keys::autograd, al::keys::backend<host>>;
};
using full_lists = al::detail::lists_of<full_world>;
constexpr std::size_t subsets = std::size_t{1} << full_lists::key_count;

template <class Set, std::size_t Mask>
struct subset;
template <class... K, std::size_t Mask>
struct subset<al::key_set<K...>, Mask> {
  using type = al::set_union<
      std::conditional_t<(Mask >> al::detail::place_in<K, al::key_set<K...>> & 1) != 0,
                         al::key_set<K>, al::key_set<>>...>;
};

/// Subsets of the keys for which types and bits come to one kernel.
template <class Op, class Chip, std::size_t... Mask>
constexpr std::size_t agreeing(std::index_sequence<Mask...>) {
  using all = full_lists::keys_on<Chip>;
  constexpr al::key_bits backend = al::key_bits{1} << full_lists::key_count;
  const auto same = []<std::size_t M>(std::integral_constant<std::size_t, M>) {
    using by_type = al::resolution<Op, typename subset<all, M | backend>::type>;
    constexpr al::kernel_id at_run_time = al::rules<Op, all>.resolve(M | backend);
    return by_type::how == at_run_time.how &&
           al::detail::place_in<typename by_type::key, all> == at_run_time.key;
  };
  return (std::size_t{0} + ... + std::size_t{same(std::integral_constant<std::size_t, Mask>{})});
}

template <class... Op>
void check_resolution(al::ops::operators<Op...>) {
  using masks = std::make_index_sequence<subsets>;
  const auto one = []<class O>(std::type_identity<O>) {
    CAPTURE(al::detail::readable<O>());
    CHECK(agreeing<O, host>(masks{}) == subsets);
    CHECK(agreeing<O, al::chip::meta>(masks{}) == subsets);
    CHECK(agreeing<O, card>(masks{}) == subsets);
  };
  (one(std::type_identity<Op>{}), ...);
}

}  // namespace

TEST_CASE(
    "dispatch/any: every operator under every set of keys comes to one kernel in both forms") {
  check_resolution(al::ops::all{});
}

// ---- keys of a call -----------------------------------------------------------------------------

namespace {

struct world {
  using chips = al::chip_list<host, card>;
  using element_types = al::element_list<float, std::int32_t, bool>;
  using keys = al::make_key_set<outer, inner, al::keys::backend<host>>;
};
using any = al::any_tensor<world>;

template <class T, class Chip = host, class... Keys>
using typed = al::tensor<T, al::make_key_set<al::keys::backend<Chip>, Keys...>>;

any reals(std::initializer_list<float> values) {
  return al::from_values<typed<float>>({static_cast<std::int64_t>(values.size())}, values);
}
template <class T = float>
std::vector<T> values(const any& x) {
  return al::to_vector(x.without<outer>().without<inner>().as<typed<T>>());
}

}  // namespace

TEST_CASE(
    "dispatch/any: keys are those of the arguments and included, less excluded, less the "
    "operator's own") {
  const any plain = reals({1, 2});
  for (unsigned bits = 0; bits < 64; ++bits) {
    CAPTURE(bits);
    const auto has = [&](unsigned bit) { return (bits >> bit & 1) != 0; };
    any x = plain;
    x = has(0) ? x.with<outer>() : x;
    const any y = has(1) ? plain.with<inner>() : plain;
    std::optional<al::including<outer>> outer_in;
    std::optional<al::including<inner>> inner_in;
    std::optional<al::excluding<outer>> outer_out;
    std::optional<al::excluding<inner>> inner_out;
    has(2) ? void(outer_in.emplace()) : void();
    has(3) ? void(inner_in.emplace()) : void();
    has(4) ? void(outer_out.emplace()) : void();
    has(5) ? void(inner_out.emplace()) : void();
    names expected;
    if ((has(0) || has(2)) && !has(4)) {
      expected.push_back("outer");
    }
    names of_mul = expected;
    if ((has(1) || has(3)) && !has(5)) {
      expected.push_back("inner");
    }
    said.clear();
    const any sum = al::add(x, y);
    CHECK(said == expected);
    CHECK(sum.carries<outer>() == has(0));  // scopes leave no mark on results
    CHECK(sum.carries<inner>() == has(1));
    said.clear();
    const any product = al::mul(x, y);
    CHECK(said == of_mul);
    CHECK(values(product) == std::vector<float>{1, 4});
  }
}

TEST_CASE("dispatch/any: the parts of a composite have the keys that the call had") {
  const any x = reals({1, 2, 3, 4});
  said.clear();
  CHECK(al::call<al::ops::reshape>(x, al::shape{2, 2}).rank() == 2);
  CHECK(said.empty());
  const any y = al::call<al::ops::reshape>(x.with<inner>(), al::shape{4, 1});
  CHECK(said == names{"inner", "inner"});  // reshape, and the view_as that it is made of
  CHECK(y.carries<inner>());
  const auto z = y.as<typed<float, host, inner>>();
  said.clear();
  al::reshape(z, {2, 2});
  CHECK(said == names{"inner", "inner"});
}

// ---- calls --------------------------------------------------------------------------------------

TEST_CASE("dispatch/any: arguments meet in one listed type") {
  const any x = reals({1.5, 2.5});
  const any i = al::from_values<typed<std::int32_t>>({2}, {10, 20});
  CHECK(al::mul(i, i).type() == al::dtype::int32);
  CHECK(values<std::int32_t>(al::mul(i, i)) == std::vector<std::int32_t>{100, 400});
  CHECK(values(al::add(i, x)) == std::vector<float>{11.5, 22.5});
  CHECK(al::lt(i, x).type() == al::dtype::boolean);
  CHECK(values(al::call<al::ops::sqrt>(al::mul(i, i))) == std::vector<float>{10, 20});
}

TEST_CASE("dispatch/any: arguments of a type of their own keep it") {
  const any x = reals({1, 2, 3});
  const any i = al::from_values<typed<std::int32_t>>({3}, {7, 8, 9});
  CHECK(values(al::call<al::ops::where>(al::lt(x, reals({2})), i, x)) ==
        std::vector<float>{7, 2, 3});
  const any table = al::from_values<typed<float>>({3, 1}, {5, 6, 7});
  const any rows = al::from_values<typed<std::int32_t>>({2}, {2, 0});
  CHECK(values(al::embedding(table, rows)) == std::vector<float>{7, 5});
  CHECK_THROWS_AS(al::embedding(table, reals({0})), al::unsupported_elements);
}

TEST_CASE("dispatch/any: out= and in place write where they should, and refuse what does not fit") {
  const any x = reals({1, 2});
  const any i = al::from_values<typed<std::int32_t>>({2}, {10, 20});
  any y;
  al::add.out(y, x, i);
  CHECK(values(y) == std::vector<float>{11, 22});
  const std::byte* place = y.bytes();
  al::mul.in_place(y, y);
  al::sub.in_place(y, i.with<inner>());
  CHECK(y.bytes() == place);
  CHECK(y.carries<inner>());
  CHECK(values(y) == std::vector<float>{111, 464});
  any whole = i;
  CHECK_THROWS_AS(al::add.in_place(whole, x), al::any_type_error);
  CHECK_THROWS_AS(al::add.out(whole, x, x), al::any_type_error);
  any longer = reals({1, 2, 3});
  CHECK_THROWS_AS(
      al::add.out(longer, longer, any(al::from_values<typed<float>>({2, 3}, {1, 2, 3, 1, 2, 3}))),
      al::output_error);
  CHECK(values(longer) == std::vector<float>{1, 2, 3});
  const auto hear = al::on_resize.exchange(nullptr);
  al::add.out(longer, x, x);
  CHECK(values(longer) == std::vector<float>{2, 4});
  al::on_resize = hear;
  CHECK(values<std::int32_t>(whole) == std::vector<std::int32_t>{10, 20});
}

TEST_CASE("dispatch/any: several results") {
  const any g = reals({1, 1}).with<outer>();
  const any x = al::from_values<typed<float>>({2, 2}, {1, 2, 3, 5});
  const any w = reals({1, 2});
  const auto dx =
      al::call<al::ops::layer_norm_backward_weight>(al::call<al::ops::add>(x, g), x, 1e-5);
  static_assert(std::is_same_v<decltype(dx), const std::tuple<any, any>>);
  CHECK(std::get<1>(dx).shape()[0] == 2);
  CHECK(std::get<1>(dx).carries<outer>());
}

namespace {
struct with_places {
  using chips = al::chip_list<host>;
  using element_types = al::element_list<float, std::int32_t, std::int64_t>;
  using keys = al::make_key_set<al::keys::backend<host>>;
};
}  // namespace

TEST_CASE("dispatch/any: composites are there for the element types that they are for") {
  using numbers = al::any_tensor<with_places>;
  const std::int64_t zero = 0;
  const numbers x = al::from_values<typed<float>>({4}, {3, 1, 4, 1});
  const numbers ids = al::from_values<typed<std::int32_t>>({3}, {2, 0, 2});
  const auto reals_of = [](const numbers& y) { return al::to_vector(y.as<typed<float>>()); };
  const auto top = al::call<al::ops::topk>(x, zero + 3, zero, true);
  CHECK(reals_of(std::get<0>(top)) == std::vector<float>{4, 3, 1});
  CHECK(al::to_vector(std::get<1>(top).as<typed<std::int64_t>>()) ==
        std::vector<std::int64_t>{2, 0, 1});
  CHECK(reals_of(al::call<al::ops::index_select>(x, ids, zero)) == std::vector<float>{4, 3, 4});
  CHECK_THROWS_AS(al::call<al::ops::index_select>(x, x, zero), al::unsupported_elements);
  CHECK(reals_of(al::call<al::ops::one_hot<float>>(ids, zero + 3)) ==
        std::vector<float>{0, 0, 1, 1, 0, 0, 0, 0, 1});
  CHECK_THROWS_AS(al::call<al::ops::one_hot<float>>(x, zero + 3), al::unsupported_elements);
  const numbers row = al::call<al::ops::unsqueeze>(x, zero);
  CHECK(al::call<al::ops::batch_norm>(row, x, x, x, x, 1e-5).rank() == 2);
  CHECK_THROWS_AS(al::call<al::ops::dropout>(ids, 0.5, std::uint64_t{1}, std::uint64_t{0}),
                  al::unsupported_elements);
}

TEST_CASE("dispatch/any: functions are spelled as for tensors by type") {
  using numbers = al::any_tensor<with_places>;
  const numbers x = al::from_values<typed<float>>({2, 2}, {3, 1, -7, 5});
  const auto reals_of = [](const numbers& y) { return al::to_vector(y.as<typed<float>>()); };
  const auto whole_of = [](const numbers& y) { return al::to_vector(y.as<typed<std::int64_t>>()); };
  const auto [values, places] = al::topk(x, 1);
  CHECK(reals_of(values) == std::vector<float>{3, 5});
  CHECK(whole_of(places) == std::vector<std::int64_t>{0, 1});
  const auto sorted = al::sort(x);
  CHECK(reals_of(std::get<0>(sorted)) == std::vector<float>{1, 3, -7, 5});
  CHECK(whole_of(al::argsort(x)) == std::vector<std::int64_t>{1, 0, 0, 1});
  CHECK(reals_of(al::transpose(x)) == std::vector<float>{3, -7, 1, 5});
  CHECK(reals_of(al::reshape(x, {4})) == std::vector<float>{3, 1, -7, 5});
  CHECK(reals_of(al::gather(x, 1, places)) == std::vector<float>{3, 5});
  CHECK(reals_of(al::cat(x, x, 0)) == std::vector<float>{3, 1, -7, 5, 3, 1, -7, 5});
  const numbers column = al::from_values<typed<float>>({2}, {1, 2});
  CHECK(reals_of(al::matmul(x, column)) == std::vector<float>{5, 3});
  const numbers n = al::from_values<typed<std::int64_t>>({3}, {7, -7, 5});
  const numbers two = al::from_values<typed<std::int64_t>>({3}, {2, 2, -2});
  using floor = al::rounding::floor;
  using trunc = al::rounding::trunc;
  CHECK(whole_of(al::div(n, two, floor{})) == std::vector<std::int64_t>{3, -4, -3});
  CHECK(whole_of(al::div(n, 2, trunc{})) == std::vector<std::int64_t>{3, -3, 2});
  CHECK(reals_of(al::div(x, 2, floor{})) == std::vector<float>{1, 0, -4, 2});
  CHECK(reals_of(al::div(n, 0.5, trunc{})) == std::vector<float>{14, -14, 10});
  CHECK_THROWS_AS(static_cast<void>(al::div(n, 0, floor{})), al::argument_error);
  numbers written = al::from_values<typed<float>>({3}, {0, 0, 0});
  const std::byte* const place = written.bytes();
  al::div.out(written, n, two, trunc{});
  CHECK(written.bytes() == place);
  CHECK(reals_of(written) == std::vector<float>{3, -3, -2});
  al::div.in_place(written, 2, floor{});
  CHECK(written.bytes() == place);
  CHECK(reals_of(written) == std::vector<float>{1, -2, -1});
  CHECK(whole_of(al::pow(n, 2)) == std::vector<std::int64_t>{49, 49, 25});
  CHECK(reals_of(al::pow(written, 2)) == std::vector<float>{1, 4, 1});
}

TEST_CASE("dispatch/any: out= of several results") {
  using numbers = al::any_tensor<with_places>;
  const numbers x = al::from_values<typed<float>>({2, 2}, {3, 1, -7, 5});
  numbers values = al::from_values<typed<float>>({2, 1}, {0, 0});
  std::tuple<numbers, numbers> to{values, numbers{}};
  const std::byte* const place = values.bytes();
  al::topk.out(to, x, 1);
  CHECK(std::get<0>(to).bytes() == place);
  CHECK(al::to_vector(values.as<typed<float>>()) == std::vector<float>{3, 5});
  CHECK(al::to_vector(std::get<1>(to).as<typed<std::int64_t>>()) ==
        std::vector<std::int64_t>{0, 1});
  // All are looked at before one is written; integers go to floats, floats not to integers.
  std::tuple<numbers, numbers> narrow{values, numbers(al::empty<typed<std::int32_t>>({2, 1}))};
  al::topk.out(narrow, al::scale(x, -1.0), 1);
  CHECK(al::to_vector(values.as<typed<float>>()) == std::vector<float>{-1, 7});
  std::get<0>(narrow) = al::from_values<typed<std::int32_t>>({2, 1}, {8, 9});
  CHECK_THROWS_AS(al::topk.out(narrow, x, 1), al::any_type_error);
  CHECK(al::to_vector(std::get<1>(narrow).as<typed<std::int32_t>>()) ==
        std::vector<std::int32_t>{1, 0});
  std::tuple<numbers, numbers> same{values, values};
  CHECK_THROWS_AS(al::topk.out(same, x, 1), al::overlap_error);
  std::tuple<numbers, numbers> read{al::select(x, 0, 1), numbers{}};
  constexpr al::op_function<al::ops::layer_norm_backward_weight> sums;
  CHECK_THROWS_AS(sums.out(read, x, x, 1e-5), al::overlap_error);
  CHECK(al::to_vector(x.as<typed<float>>()) == std::vector<float>{3, 1, -7, 5});
  CHECK(al::to_vector(values.as<typed<float>>()) == std::vector<float>{-1, 7});
}

TEST_CASE("dispatch/any: whole numbers beside integers are exact") {
  using numbers = al::any_tensor<with_places>;
  const std::int64_t big = (std::int64_t{1} << 53) + 1;
  const numbers n = al::from_values<typed<std::int64_t>>({2}, {2, -3});
  const auto whole_of = [](const numbers& y) { return al::to_vector(y.as<typed<std::int64_t>>()); };
  using list = std::vector<std::int64_t>;
  CHECK(whole_of(n + big) == list{big + 2, big - 3});
  CHECK(whole_of(big - n) == list{big - 2, big + 3});
  CHECK(whole_of(n * big) == list{2 * big, -3 * big});
  numbers y = al::from_values<typed<std::int64_t>>({2}, {2, -3});
  const std::byte* place = y.bytes();
  y -= big;
  CHECK(y.bytes() == place);
  CHECK(whole_of(y) == list{2 - big, -3 - big});
  CHECK_THROWS_AS(y += 0.5, al::any_type_error);
  CHECK_THROWS_AS(y /= 2, al::any_type_error);
  CHECK(whole_of(y) == list{2 - big, -3 - big});
  const numbers small = al::from_values<typed<std::int32_t>>({1}, {5});  // modulo 2^32
  CHECK(al::to_vector((small + big).as<typed<std::int32_t>>()) == std::vector<std::int32_t>{6});
  CHECK(al::to_vector((small * 0.5).as<typed<float>>()) == std::vector<float>{2.5});
  const std::int64_t wide = std::int64_t{5} << 32;  // 0 modulo 2^32, but not of a quotient
  CHECK(al::to_vector((wide / small).as<typed<float>>()) == std::vector<float>{0x1p32F});
  const numbers real = al::zeros<typed<float>>({1});
  const std::uint64_t most = std::uint64_t{1} << 63;
  CHECK(al::to_vector((real + most).as<typed<float>>()) == std::vector<float>{0x1p63F});
}

TEST_CASE("dispatch/any: a chip's own kernel, and its fallback for the rest") {
  const any x = al::to<card>(reals({1, 2}).as<typed<float>>());
  CHECK(x.where() == al::device{"card", 0});
  const any y = al::neg(al::add(x, x));
  CHECK(y.where().chip == "card");
  CHECK(al::to_vector(y.as<typed<float, card>>()) == std::vector<float>{-2, -4});
}

TEST_CASE("dispatch/any: errors name what they are about") {
  const any x = reals({1, 2});
  const any there = al::to<card>(x.as<typed<float>>());
  try {
    al::add(x, there);
    FAIL("must throw");
  } catch (const al::device_error& e) {
    CHECK(e.first == al::device{"host", 0});
    CHECK(e.second == al::device{"card", 0});
    CHECK(std::string(e.what()).find("host:0 and on card:0") != std::string::npos);
  }
  any out = there;
  CHECK_THROWS_AS(al::add.out(out, x, x), al::device_error);
  CHECK_THROWS_AS(al::add(x, any{}), al::undefined_tensor);
  CHECK_THROWS_AS(al::add(any{}, x), al::undefined_tensor);
  const any i = al::from_values<typed<std::int32_t>>({2}, {1, 2});
  try {
    al::call<al::ops::sum_squares>(i);
    FAIL("must throw");
  } catch (const al::unsupported_elements& e) {
    CHECK(e.op == "sum_squares");
    CHECK(e.types == "int32");
  }
  CHECK_THROWS_AS(static_cast<void>(i.as<typed<float>>()), al::any_type_error);
  CHECK_THROWS_AS(static_cast<void>(i.with<outer>().as<typed<std::int32_t>>()), al::any_type_error);
  CHECK_THROWS_AS(static_cast<void>(any{}.as<typed<float>>()), al::any_type_error);
}

namespace {
struct two_types {
  using chips = al::chip_list<host>;
  using element_types = al::element_list<al::float16, al::bfloat16>;
  using keys = al::make_key_set<al::keys::backend<host>>;
};
/// Multiplies in float where it is on.
struct widened {
  static constexpr int priority = 450;
  static constexpr bool excludable = true;
  template <class Op>
  static constexpr al::dtype element(al::dtype d) {
    return std::is_same_v<Op, al::ops::mul> ? al::dtype::float32 : d;
  }
};
struct ruled {
  using chips = al::chip_list<host>;
  using element_types = al::element_list<double, float>;
  using keys = al::make_key_set<widened, al::keys::backend<host>>;
};
}  // namespace

template <>
struct al::fallback<widened> : al::fallthrough {};

namespace {
/// It has one kernel, and no chip to fall back on.
struct bare {
  static constexpr al::chip_description description{.name = "bare"};
  using memory = host::memory;
  using queue = host::queue;
  using kernels = al::kernels<card_neg>;
};
struct with_bare {
  using chips = al::chip_list<host, bare>;
  using element_types = al::element_list<float>;
  using keys = al::make_key_set<al::keys::backend<host>>;
};
}  // namespace

TEST_CASE("dispatch/any: a missing kernel is an exception with the compile error's sentence") {
  const al::any_tensor<with_bare> x = al::to<bare>(al::from_values<typed<float>>({2}, {1, 2}));
  CHECK(al::neg(x).as<typed<float, bare>>().data()[1] == -2.0f);
  try {
    al::call<al::ops::square>(x);
    FAIL("must throw");
  } catch (const al::missing_kernel& e) {
    CHECK(e.op == "square");
    CHECK(e.key == "bare");
  }
}

TEST_CASE("dispatch/any: an empty output is replaced, but not where it is an argument") {
  al::any_tensor<with_bare> x = al::empty<typed<float>>({0});
  al::any_tensor<with_bare> y = al::empty<typed<float>>({0});
  const al::op_function<al::ops::sum> f;
  f.out(y, x, al::shape{0}, false);
  CHECK(y.rank() == 0);
  CHECK(y.as<typed<float>>().data()[0] == 0.0f);
  CHECK_THROWS_AS(f.out(x, x, al::shape{0}, false), al::output_error);
  CHECK(x.size() == 0);
}

TEST_CASE("dispatch/any: a result is cast to an output of no narrower category") {
  const any x = reals({1.5, 2.5});
  const any i = al::from_values<typed<std::int32_t>>({2}, {10, 20});
  any y = reals({0, 0});
  const std::byte* const place = y.bytes();
  al::mul.out(y, i, i);
  CHECK(y.bytes() == place);
  CHECK(values(y) == std::vector<float>{100, 400});
  al::lt.in_place(y, i.with<inner>());
  CHECK(values(y) == std::vector<float>{0, 0});
  CHECK(y.carries<inner>());
  any longer = reals({1, 2, 3});
  CHECK_THROWS_AS(
      al::lt.in_place(longer, any(al::from_values<typed<float>>({2, 3}, {1, 2, 3, 1, 2, 3}))),
      al::output_error);
  const auto hear = al::on_resize.exchange(nullptr);
  al::mul.out(longer, i, i);
  CHECK(values(longer) == std::vector<float>{100, 400});
  al::on_resize = hear;
  CHECK(values(i / 4) == std::vector<float>{2.5, 5});
  CHECK(values(i - x) == std::vector<float>{8.5, 17.5});
  CHECK(values<std::int32_t>(2 * i) == std::vector<std::int32_t>{20, 40});
}

TEST_CASE("dispatch/any: types that meet outside of the list are refused") {
  using narrow = al::any_tensor<two_types>;
  const narrow a = al::empty<typed<al::float16>>({1});
  const narrow b = al::empty<typed<al::bfloat16>>({1});
  try {
    al::call<al::ops::cat>(a, b, std::int64_t{0});
    FAIL("must throw");
  } catch (const al::unlisted_element& e) {
    CHECK(e.type == al::dtype::float32);
    CHECK(e.op == "cat");
  }
}

TEST_CASE("dispatch/any: a key's rule for the element type holds where the key is in the set") {
  using some = al::any_tensor<ruled>;
  const some x = al::from_values<typed<double>>({1}, {3});
  CHECK(al::mul(x, x).type() == al::dtype::float64);
  const some y = x.with<widened>();
  const some z = al::mul(y, x);
  CHECK(z.type() == al::dtype::float32);
  CHECK(z.as<typed<float, host, widened>>().data()[0] == 9.0f);
  const al::excluding<widened> off;
  CHECK(al::mul(y, x).type() == al::dtype::float64);
  const al::including<widened> on;
  CHECK(al::mul(x, x).type() == al::dtype::float64);  // excluded goes before included
}

namespace {
struct taped {
  using chips = al::chip_list<host>;
  using element_types = al::element_list<float>;
  using keys = al::make_key_set<al::keys::autograd, al::keys::backend<host>>;
};
}  // namespace

TEST_CASE("dispatch/any: the tape records calls at run time, for tensors that carry its key") {
  using some = al::any_tensor<taped>;
  using recorded = typed<float, host, al::keys::autograd>;
  const auto leaf = al::require_grad(al::from_values<recorded>({2}, {3, 4}));
  const some x = leaf;
  const some y = al::mul(x, al::mul(x, x.without<al::keys::autograd>()));
  al::backward(y.as<recorded>(), al::ones<recorded>({2}));
  CHECK(al::to_vector(al::gradient(leaf)) == std::vector<float>{18, 32});  // 2 x * x
  const some bare = x.without<al::keys::autograd>();
  constexpr al::op_function<al::ops::layer_norm_backward_weight> sums;
  const some row = al::from_values<recorded>({1, 2}, {3, 4});
  std::tuple<some, some> to{al::from_values<recorded>({2}, {5, 6}), leaf};
  CHECK_THROWS_AS(sums.out(to, row, row, 1e-5), al::not_recordable);  // before any is written
  CHECK(al::to_vector(std::get<0>(to).as<recorded>()) == std::vector<float>{5, 6});
  CHECK_FALSE(al::mul(bare, bare).carries<al::keys::autograd>());
  CHECK_FALSE(al::requires_grad(al::mul(bare, bare).as<recorded>()));
  const al::anomaly_mode watch;
  const some z = al::mul(x, y);
  const al::autograd::node& made = al::autograd::node_of(z.as<recorded>(), "test");
  CHECK(static_cast<int>(made.hooked->where.line()) == __LINE__ - 2);
  some changed = al::mul(x, x);
  al::mul.in_place(changed, y);
  const al::autograd::node& written = al::autograd::node_of(changed.as<recorded>(), "test");
  CHECK(static_cast<int>(written.hooked->where.line()) == __LINE__ - 2);
  const auto place_of = [](const some& t) {
    return static_cast<int>(al::autograd::node_of(t.as<recorded>(), "test").hooked->where.line());
  };
  const some infix = x * y, opposite = -x, less = 1 - x, twice = x * 2.0;
  CHECK(place_of(infix) == __LINE__ - 1);
  CHECK(place_of(opposite) == __LINE__ - 2);
  CHECK(place_of(less) == __LINE__ - 3);
  CHECK(place_of(twice) == __LINE__ - 4);
  changed += x;
  CHECK(place_of(changed) == __LINE__ - 1);
  changed *= 2;
  CHECK(place_of(changed) == __LINE__ - 1);
  changed /= y;
  CHECK(place_of(changed) == __LINE__ - 1);
  const some rounded = al::div(x, y, al::rounding::floor{});  // recorded, with zeros
  CHECK(place_of(rounded) == __LINE__ - 1);
}
