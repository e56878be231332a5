// SPDX-License-Identifier: Apache-2.0
// A chip with kernels for the prims alone has every operator, with the host's results.
#include "ashlar/ops/decompositions.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>

#include "ashlar/ops.hpp"
#include "ops/core_chip.hpp"
#include "ops/twins.hpp"

namespace al = ashlar;
namespace ops = ashlar::ops;

namespace {

using core_only::core_chip;
constexpr auto covered = al::dispatch::coverage<core_chip>();
static_assert(covered.count(al::found::missing) == 0);
static_assert(covered["gelu"].how == al::found::decomposition);
static_assert(covered["exp"].how == al::found::direct);

template <class... Op>
constexpr std::size_t count_of(ops::operators<Op...>) {
  return sizeof...(Op);
}
static_assert(count_of(ops::prims{}) <= 45);
/// Nothing is a prim and more.
template <class... Op>
constexpr bool none_decomposes(ops::operators<Op...>) {
  return ((!al::exists<al::decomposition<Op>> && !al::Composite<Op>)&&...);
}
static_assert(none_decomposes(ops::prims{}));
template <class Op, class... P>
constexpr bool is_in(ops::operators<P...>) {
  return (std::is_same_v<Op, P> || ...);
}
/// Every other operator has a way down.
template <class... Op>
constexpr bool all_lead_there(ops::operators<Op...>) {
  return ((is_in<Op>(ops::prims{}) || al::exists<al::decomposition<Op>> || al::Composite<Op>)&&...);
}
static_assert(all_lead_there(ops::all{}));

using core_keys = al::make_key_set<al::keys::backend<core_chip>>;
template <class T>
using on_core = al::tensor<T, core_keys>;
template <class T>
using plain = twins::plain<T>;

std::set<std::string> seen;

template <class A>
auto there(const A& a) {
  if constexpr (al::Tensor<A>) {
    return al::detail::carried<on_core<typename A::value_type>>(a);
  } else {
    return a;
  }
}

/// Both compute the same real function of numbers of size 2 or less. Each of at most `roundings`
/// steps errs by half a place of a value of at most `size`, in either of the two.
struct bound {
  double roundings = 0;
  double size = 1;
};
constexpr bound exact{0, 0};

template <class T>
void same(const on_core<T>& got, const plain<T>& want, const bound& b) {
  REQUIRE(al::same_shape(got.spec(), want.spec()));
  constexpr double unit = std::numeric_limits<al::compute_type<T>>::epsilon() / 2;
  const double rounded_once = std::is_same_v<T, al::bfloat16> && b.roundings > 0 ? 0x1p-8 : 0.0;
  twins::check_elements(
      got, [&](std::int64_t i) { return twins::at(want, i); }, rounded_once,
      2 * b.roundings * unit * b.size);
}

/// Calls `Op` on both chips, with dense and with scattered arguments.
template <class Op, class... A>
void check(const bound& b, const A&... args) {
  seen.emplace(al::detail::short_name<Op>());
  const auto compare = [&](const auto& want, const auto& got) {
    if constexpr (al::Tensor<std::remove_cvref_t<decltype(want)>>) {
      same(got, want, b);
    } else {
      [&]<std::size_t... I>(std::index_sequence<I...>) {
        (same(std::get<I>(got), std::get<I>(want), b), ...);
      }(std::make_index_sequence<std::tuple_size_v<std::remove_cvref_t<decltype(want)>>>{});
    }
  };
  const auto want = al::call<Op>(args...);
  compare(want, al::call<Op>(there(args)...));
  compare(want, al::call<Op>(there(twins::elsewhere(args))...));
}

template <class T = double>
plain<T> numbers(const al::shape& s, int salt) {
  return twins::numbers<plain<T>>(s, salt);
}
template <class I>
plain<I> ids(const al::shape& s, std::int64_t below) {
  auto x = al::empty<plain<I>>(s);
  for (std::int64_t i = 0; i < x.size(); ++i) {
    x.data()[i] = static_cast<I>(i * 7 % below);
  }
  return x;
}

template <class... Op>
void check_unary(const bound& b, ops::operators<Op...>) {
  for (const al::shape& s : {al::shape{}, {0}, {7}, {2, 3, 5}}) {
    (check<Op>(b, numbers(s, 1)), ...);
  }
}
template <class T, class... Op>
void check_binary(const bound& b, ops::operators<Op...>) {
  for (const auto& [s, t] : {std::pair{al::shape{}, al::shape{}},
                             {al::shape{0}, al::shape{0}},
                             {al::shape{2, 3, 5}, al::shape{3, 1}}}) {
    (check<Op>(b, numbers<T>(s, 1), numbers<T>(t, 2)), ...);
  }
}

const double not_a_number = std::nan("");
const double infinity = std::numeric_limits<double>::infinity();

}  // namespace

TEST_CASE("ops/decompositions: elementwise operators are the prims they say") {
  using ops::operators;
  check_unary(exact, operators<ops::neg, ops::abs, ops::sign, ops::square, ops::relu, ops::clone,
                               ops::logical_not>{});
  check_unary({12, 6}, operators<ops::sigmoid, ops::silu, ops::gelu, ops::gelu_tanh>{});
  check<ops::rsqrt>({4, 8},
                    al::add(al::square(numbers({2, 3, 5}, 1)), al::ones<plain<double>>({})));
  check_binary<double>(
      exact, operators<ops::minimum, ops::ne, ops::le, ops::gt, ops::ge, ops::relu_backward>{});
  check_binary<double>(
      {16, 12}, operators<ops::swiglu, ops::tanh_backward, ops::sigmoid_backward,
                          ops::silu_backward, ops::gelu_backward, ops::gelu_tanh_backward>{});
  for (const double alpha : {2.0, -3.0, 0.5}) {
    for (const double beta : {0.0, 1.5, -1.5}) {
      check<ops::scale>({2, 8}, numbers({2, 3, 5}, 1), alpha, beta);
      check<ops::scale>(exact, numbers<std::int64_t>({7}, 1), std::trunc(alpha), std::trunc(beta));
    }
  }
  const auto edges =
      al::from_values<plain<double>>({5}, {not_a_number, infinity, -infinity, 0.0, -2.0});
  const auto turned =
      al::from_values<plain<double>>({5}, {1.0, not_a_number, -infinity, -0.0, 3.0});
  check_unary(exact, operators<>{});
  for (const plain<double>& x : {edges, turned}) {
    check<ops::sign>(exact, x);
    check<ops::abs>(exact, x);
    check<ops::relu>(exact, x);
    check<ops::sigmoid>({4, 1}, x);
    for (const plain<double>& y : {edges, turned}) {
      check<ops::minimum>(exact, x, y);
      check<ops::le>(exact, x, y);
      check<ops::ne>(exact, x, y);
    }
  }
}

TEST_CASE("ops/decompositions: integers wrap around as in the kernels") {
  const auto least = al::from_values<plain<std::int8_t>>({4}, {-128, -1, 0, 127});
  const auto most = al::from_values<plain<std::uint8_t>>({4}, {255, 1, 0, 128});
  check<ops::neg>(exact, least);
  check<ops::neg>(exact, most);
  check<ops::abs>(exact, most);
  check<ops::sign>(exact, least);
  check<ops::sign>(exact, most);
  check<ops::minimum>(exact, most, al::neg(most));
  check<ops::min>(exact, least, al::shape{}, false);
  check<ops::min>(exact, most, al::shape{0}, true);
  check<ops::argmax>(exact, most, al::shape{0}, true);
}

TEST_CASE("ops/decompositions: 16-bit formats are computed in float and rounded once") {
  const auto x = numbers<al::bfloat16>({3, 17}, 1);
  check<ops::gelu>({12, 6}, x);
  check<ops::softmax>({40, 2}, x, std::int64_t{-1});
}

TEST_CASE("ops/decompositions: views are slices, permutations and reshapes") {
  const auto x = numbers({2, 3, 5}, 1);
  check<ops::narrow>(exact, x, std::int64_t{1}, std::int64_t{1}, std::int64_t{2});
  check<ops::unfold_backward>({3, 6}, al::unfold(numbers({2, 11, 3}, 1), 1, 3, 2, 2),
                              al::shape{2, 11, 3}, std::int64_t{1}, std::int64_t{3},
                              std::int64_t{2}, std::int64_t{2});
  // A view needs no kernel, so its decomposition is called by name.
  const auto as = [](const auto& a, const auto& b) {
    CHECK(a.spec() == b.spec());
    CHECK(a.data() == b.data());
  };
  for (const auto& v : {x, twins::scattered(x)}) {
    as(al::decomposition<ops::narrow>{}(v, 1, 1, 2), al::narrow(v, 1, 1, 2));
    as(al::decomposition<ops::select>{}(v, 1, -1), al::select(v, 1, -1));
    as(al::decomposition<ops::transpose>{}(v, 0, -1), al::transpose(v, 0, -1));
    const auto one = al::unsqueeze(v, 1);
    CHECK(al::same_shape(al::decomposition<ops::unsqueeze>{}(v, 1).spec(), one.spec()));
    twins::check_same(al::decomposition<ops::unsqueeze>{}(v, 1), one);
    twins::check_same(al::decomposition<ops::squeeze>{}(one, 1), v);
  }
}

TEST_CASE("ops/decompositions: reductions and rows") {
  for (const al::shape& s : {al::shape{1}, {7}, {2, 3, 5}, {3, 1, 4}}) {
    const auto x = numbers(s, 1);
    const bound sums{static_cast<double>(x.size()) + 2, 2.0 * static_cast<double>(x.size())};
    for (const bool keep : {false, true}) {
      check<ops::mean>(sums, x, al::shape{}, keep);
      check<ops::mean>(sums, x, al::shape{-1}, keep);
      check<ops::min>(exact, x, al::shape{0}, keep);
      check<ops::argmax>(exact, x, al::shape{-1}, keep);
      check<ops::argmax>(exact, x, al::shape{}, keep);
    }
    check<ops::sum_squares>({sums.roundings, 2 * sums.size}, x);
    for (const std::int64_t axis : {std::int64_t{0}, std::int64_t{-1}}) {
      const auto y = al::softmax(x, axis);
      check<ops::softmax>({20, 1}, x, axis);
      check<ops::log_softmax>({20, 6}, x, axis);
      check<ops::softmax_backward>({sums.roundings, 4}, y, x, axis);
      check<ops::log_softmax_backward>({sums.roundings, sums.size}, al::log(y), x, axis);
    }
  }
  check<ops::argmax>(exact, numbers({2, 3, 5}, 1), al::shape{0, 2}, false);
  check<ops::sum_to>({8, 16}, numbers({2, 3, 5}, 1), al::shape{3, 1});
  check<ops::sum_to>(exact, numbers({3, 5}, 1), al::shape{3, 5});
  check<ops::softmax>(exact, numbers({0, 3}, 1), std::int64_t{1});
  check<ops::softmax>(exact, numbers({3, 0}, 1), std::int64_t{1});
  const auto holes = al::from_values<plain<double>>({2, 3}, {1, -infinity, 2, not_a_number, 0, 1});
  check<ops::softmax>({20, 1}, holes, std::int64_t{1});
  check<ops::argmax>(exact, holes, al::shape{1}, false);
}

TEST_CASE("ops/decompositions: losses, tables and layers") {
  const auto logits = numbers({5, 7}, 1);
  auto targets = ids<std::int32_t>({5}, 7);
  targets.data()[2] = -100;
  const auto g = numbers({}, 3);
  for (const std::int64_t ignored : {std::int64_t{-100}, std::int64_t{0}}) {
    targets.data()[2] = static_cast<std::int32_t>(ignored);
    check<ops::cross_entropy>({40, 4}, logits, targets, ignored);
    check<ops::cross_entropy_backward>({40, 2}, g, logits, targets, ignored);
  }
  // A type that has no number for -100 or for some of the classes.
  check<ops::cross_entropy_backward>({40, 2}, g, numbers({3, 300}, 2), ids<std::uint8_t>({3}, 7),
                                     std::int64_t{-100});
  for (const al::shape& s : {al::shape{}, {0}, {2, 3}}) {
    const auto rows = ids<std::int32_t>(s, 5);
    check<ops::embedding>(exact, numbers({11, 3}, 1), rows);
    check<ops::embedding_backward>({8, 12}, al::embedding(numbers({11, 3}, 1), rows), rows,
                                   std::int64_t{11});
  }
  for (const al::shape& s : {al::shape{7}, {0, 7}, {2, 3, 7}}) {
    const auto x = numbers(s, 1);
    const auto w = numbers({5, 7}, 2);
    check<ops::linear>({8, 28}, x, w);
    check<ops::linear_bias>({9, 30}, x, w, numbers({5}, 3));
    const auto c = numbers({7}, 4);
    const auto h = numbers(s, 5);
    // One over the size of a row is at most 1 here, so all parts are below 16.
    check<ops::rms_norm>({24, 16}, x, c, 0.5);
    check<ops::layer_norm>({40, 16}, x, c, numbers({7}, 6), 0.5);
    check<ops::rms_norm_backward_x>({48, 32}, h, x, c, 0.5);
    check<ops::rms_norm_backward_weight>({48, 64}, h, x, 0.5);
    check<ops::layer_norm_backward_x>({64, 32}, h, x, c, 0.5);
    check<ops::layer_norm_backward_weight>({64, 64}, h, x, 0.5);
  }
}

TEST_CASE("ops/decompositions: attention, side by side and paged") {
  struct sizes {
    std::int64_t b, h, hkv, tq, tk, d;
  };
  for (const auto& [b, h, hkv, tq, tk, d] :
       {sizes{1, 1, 1, 1, 1, 1}, {2, 6, 2, 3, 5, 7}, {1, 2, 2, 5, 3, 4}, {1, 2, 1, 3, 0, 4}}) {
    const auto q = numbers({b, h, tq, d}, 1);
    const auto k = numbers({b, hkv, tk, d}, 2);
    const auto v = numbers({b, hkv, tk, d}, 3);
    const auto g = numbers({b, h, tq, d}, 4);
    for (const bool causal : {false, true}) {
      // Scores are at most 4 * 7 * 0.3; errors of theirs stay that large in the weights.
      check<ops::scaled_dot_product_attention>({64, 16}, q, k, v, causal, 0.3);
      const auto y = al::scaled_dot_product_attention(q, k, v, causal, 0.3);
      check<ops::scaled_dot_product_attention_backward>({128, 64}, g, q, k, v, y, causal, 0.3);
    }
  }
  {  // Places are counted in numbers that know 297 from 296, also where scores do not.
    using half = plain<al::bfloat16>;
    const auto x = al::ones<half>({1, 1, 300, 1});
    const auto g = al::zeros<half>({1, 1, 300, 1});
    g.data()[296] = al::bfloat16(1.0F);
    const auto dv = std::get<2>(
        al::decomposition<ops::scaled_dot_product_attention_backward>{}(g, x, x, x, x, true, 1.0));
    CHECK(static_cast<float>(dv.data()[296]) > 0.0F);
    CHECK(static_cast<float>(dv.data()[297]) == 0.0F);
  }
  const auto key_cache = numbers({6, 2, 3, 4}, 1);
  auto value_cache = numbers({6, 2, 4, 3}, 2);
  twins::at(value_cache, 2 * 24 + 3 * 3) =
      not_a_number;  // block 2, offset 3: nobody has written it
  const auto tables = al::from_values<plain<std::int32_t>>({2, 3}, {5, 2, -1, 1, 3, 4});
  const auto sequence = al::from_values<plain<std::int32_t>>({3}, {0, 1, 0});
  const auto position = al::from_values<plain<std::int32_t>>({3}, {6, 11, 0});
  check<ops::paged_attention>({64, 16}, numbers({3, 4, 3}, 3), key_cache, value_cache, tables,
                              sequence, position, 0.3);
}

// Runs last: the cases above have to have run.
TEST_CASE("ops/decompositions: every decomposition has been compared") {
  for (const al::coverage_row& row : covered.rows) {
    if (row.how == al::found::decomposition) {
      CHECK_MESSAGE(seen.contains(std::string(row.name)), row.name);
    }
  }
}
