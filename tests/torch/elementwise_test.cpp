// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "torch/peer.hpp"

using namespace peer;

namespace {

using in = const std::vector<at::Tensor>&;

template <class T>
using element = typename T::value_type::value_type;  // of a span of tensors

}  // namespace

TEST_CASE("torch/elementwise: arithmetic agrees") {
  const settings twice{.twice = true};
  const auto two = broadcasting(2);
  check(
      "add", two, [](auto x) { return al::add(x[0], x[1]); },
      [](in x) { return at::add(x[0], x[1]); });
  check(
      "sub", two, [](auto x) { return al::sub(x[0], x[1]); },
      [](in x) { return at::sub(x[0], x[1]); });
  check(
      "mul", two, [](auto x) { return al::mul(x[0], x[1]); },
      [](in x) { return at::mul(x[0], x[1]); }, twice);
  check(
      "div", two, [](auto x) { return al::div(x[0], x[1]); },
      [](in x) { return at::div(x[0], x[1]); }, {.make = positive, .twice = true});
  check(
      "maximum", two, [](auto x) { return al::maximum(x[0], x[1]); },
      [](in x) { return at::maximum(x[0], x[1]); }, {.make = whole});
  check(
      "minimum", two, [](auto x) { return al::minimum(x[0], x[1]); },
      [](in x) { return at::minimum(x[0], x[1]); }, {.make = whole});
  check(
      "where", broadcasting(3), [](auto x) { return al::where(al::gt(x[2], x[0]), x[0], x[1]); },
      [](in x) { return at::where(at::gt(x[2], x[0]), x[0], x[1]); });
  check(
      "mixed types", two,
      [](auto x) {
        using T = element<decltype(x)>;
        using U = std::conditional_t<std::is_same_v<T, float>, double, float>;
        return al::cast<T>(al::mul(x[0], al::cast<U>(x[1])));
      },
      [](in x) {
        const auto other = x[0].scalar_type() == at::kFloat ? at::kDouble : at::kFloat;
        return at::mul(x[0], x[1].to(other)).to(x[0].scalar_type());
      },
      {.relative64 = 1e-6});
}

TEST_CASE("torch/elementwise: functions of one tensor agree") {
  const settings twice{.twice = true};
  const settings root{.make = positive, .twice = true};
  const auto one = alike(1);
  check(
      "neg", one, [](auto x) { return al::neg(x[0]); }, [](in x) { return at::neg(x[0]); });
  check(
      "abs", one, [](auto x) { return al::abs(x[0]); }, [](in x) { return at::abs(x[0]); },
      {.make = whole});
  check(
      "sign", one, [](auto x) { return al::sign(x[0]); }, [](in x) { return at::sign(x[0]); },
      {.make = whole});
  check(
      "square", one, [](auto x) { return al::square(x[0]); }, [](in x) { return at::square(x[0]); },
      twice);
  check(
      "scale", one, [](auto x) { return al::scale(x[0], -1.5, 0.25); },
      [](in x) { return x[0] * -1.5 + 0.25; });
  check(
      "numbers", one, [](auto x) { return 2 - (x[0] * 3.0 + 1) / 4; },
      [](in x) { return 2 - (x[0] * 3.0 + 1) / 4; });
  check(
      "over", one, [](auto x) { return 2.5 / x[0]; }, [](in x) { return 2.5 / x[0]; }, root);
  for (const double p : {0.0, 1.0, 2.0, 3.0, 5.0, -1.0, -2.0, 0.5, -0.5, 1.7, 2.3}) {
    check(
        "pow " + std::to_string(p), one, [p](auto x) { return al::pow(x[0], p); },
        [p](in x) { return at::pow(x[0], p); },
        {.make = positive, .twice = p == 3.0 || p == 1.7, .rounds = 6});
  }
  check(
      "exp", one, [](auto x) { return al::exp(x[0]); }, [](in x) { return at::exp(x[0]); }, twice);
  check(
      "log", one, [](auto x) { return al::log(x[0]); }, [](in x) { return at::log(x[0]); }, root);
  check(
      "sqrt", one, [](auto x) { return al::sqrt(x[0]); }, [](in x) { return at::sqrt(x[0]); },
      root);
  check(
      "rsqrt", one, [](auto x) { return al::rsqrt(x[0]); }, [](in x) { return at::rsqrt(x[0]); },
      root);
  check(
      "tanh", one, [](auto x) { return al::tanh(x[0]); }, [](in x) { return at::tanh(x[0]); },
      twice);
}

TEST_CASE("torch/elementwise: activations agree") {
  const settings twice{.twice = true};
  const auto one = alike(1);
  check(
      "sigmoid", one, [](auto x) { return al::sigmoid(x[0]); },
      [](in x) { return at::sigmoid(x[0]); }, twice);
  check(
      "relu", one, [](auto x) { return al::relu(x[0]); }, [](in x) { return at::relu(x[0]); },
      {.make = whole, .twice = true});
  check(
      "silu", one, [](auto x) { return al::silu(x[0]); }, [](in x) { return at::silu(x[0]); },
      twice);
  check(
      "gelu", one, [](auto x) { return al::gelu(x[0]); }, [](in x) { return at::gelu(x[0]); },
      twice);
  check(
      "gelu_tanh", one, [](auto x) { return al::gelu_tanh(x[0]); },
      [](in x) { return at::gelu(x[0], "tanh"); }, twice);
}

TEST_CASE("torch/elementwise: copies and in-place forms agree") {
  const auto two = alike(2);
  check(
      "clone", alike(1), [](auto x) { return al::clone(x[0]); }, [](in x) { return x[0].clone(); });
  check(
      "copy", broadcasting(2),
      [](auto x) {
        const auto to = al::add(x[0], x[1]);
        return al::copy(to, x[1]);
      },
      [](in x) { return (x[0] + x[1]).copy_(x[1]); });
  check(
      "add in place", two,
      [](auto x) {
        auto y = al::clone(al::exp(x[0]));
        y += al::mul(x[1], x[1]);
        y -= x[0];
        return y;
      },
      [](in x) { return at::exp(x[0]).clone().add_(x[1] * x[1]).sub_(x[0]); });
  check(
      "mul in place", two,
      [](auto x) {
        auto y = al::add(x[0], x[1]);
        y *= x[1];
        y *= 3.0;
        al::sigmoid.in_place(y);
        return y;
      },
      [](in x) { return (x[0] + x[1]).mul_(x[1]).mul_(3.0).sigmoid_(); });
}

TEST_CASE("torch/elementwise: mixed element types give equal values") {
  generator bits(5);
  const auto mix = [&]<class A, class B>(std::type_identity<A>, std::type_identity<B>) {
    const auto a = random_tensor<plain<A>>({33}, bits, [](double u) { return 40 * u + 41; });
    const auto b = random_tensor<plain<B>>({33}, bits, [](double u) { return 40 * u + 41; });
    const auto sum = al::add(a, b);
    // What is compared is the type and the conversion, so one rounding to 16 bits may differ.
    compare("sum of mixed types", sum, at::add(copied(a), copied(b)), 0);
    compare("product of mixed types", al::mul(a, b), at::mul(copied(a), copied(b)), 0);
  };
  constexpr auto is = []<class T>(T) { return std::type_identity<T>{}; };
  mix(is(std::uint8_t{}), is(std::int32_t{}));
  mix(is(std::int8_t{}), is(std::int64_t{}));
  mix(is(std::int64_t{}), is(float{}));
  mix(is(std::int32_t{}), is(double{}));
  mix(is(bool{}), is(std::int32_t{}));
  mix(is(bool{}), is(float{}));
}

TEST_CASE("torch/elementwise: element types meet where PyTorch's do") {
  using al::dtype;
  const std::vector<std::pair<dtype, at::ScalarType>> types{
      {dtype::boolean, at::kBool},      {dtype::uint8, at::kByte},
      {dtype::int8, at::kChar},         {dtype::int32, at::kInt},
      {dtype::int64, at::kLong},        {dtype::float16, at::kHalf},
      {dtype::bfloat16, at::kBFloat16}, {dtype::float32, at::kFloat},
      {dtype::float64, at::kDouble}};
  const auto theirs = [&](at::ScalarType t) {
    const auto found = std::ranges::find(types, t, [](const auto& both) { return both.second; });
    return found == types.end() ? dtype::int32 : found->first;  // int16 is none of ours
  };
  for (const auto& [a, their_a] : types) {
    for (const auto& [b, their_b] : types) {
      for (const int rank_a : {0, 2}) {
        for (const int rank_b : {0, 2}) {
          const at::Tensor x = at::zeros(std::vector<std::int64_t>(rank_a, 2), their_a);
          const at::Tensor y = at::zeros(std::vector<std::int64_t>(rank_b, 2), their_b);
          al::met_types met;
          met.meet(a, rank_a);
          met.meet(b, rank_b);
          CHECK(met.type() == theirs(at::result_type(x, y)));
        }
      }
      CHECK(al::can_cast(a, b) == at::can_cast(their_a, their_b));
    }
    const at::Tensor x = at::zeros({2}, their_a);
    CHECK(al::promote_with_number<bool>(a) == theirs(at::result_type(x, true)));
    CHECK(al::promote_with_number<int>(a) == theirs(at::result_type(x, std::int64_t{2})));
    CHECK(al::promote_with_number<double>(a) == theirs(at::result_type(x, 2.5)));
  }
}

TEST_CASE("torch/elementwise: integers divide alike") {
  const auto a = al::from_values<plain<std::int32_t>>({6}, {7, -7, 7, -7, 0, 9});
  const auto b = al::from_values<plain<std::int32_t>>({6}, {2, 2, -2, -2, 3, 3});
  const at::Tensor x = copied(a);
  const at::Tensor y = copied(b);
  compare("div", al::div(a, b), at::div(x, y), 0);
  compare("div by a number", a / 4, x / 4, 0);
  compare("trunc", al::div(a, b, al::rounding::trunc{}), at::div(x, y, "trunc"), 0);
  compare("floor", al::div(a, b, al::rounding::floor{}), at::div(x, y, "floor"), 0);
  compare("pow", al::pow(a, 3), at::pow(x, 3), 0);
  generator bits(5);
  const auto u = random_tensor<plain<float>>({101}, bits, [](double r) { return 20 * r; });
  const auto v = al::full<plain<float>>({}, 1.75);
  compare("floor", al::div(u, v, al::rounding::floor{}), at::div(copied(u), copied(v), "floor"), 0);
  compare("trunc", al::div(u, v, al::rounding::trunc{}), at::div(copied(u), copied(v), "trunc"), 0);
  compare("sqrt", al::sqrt(al::mul(a, a)), at::sqrt(x * x), 1e-6);
}

TEST_CASE("torch/elementwise: NaN, infinities and edges agree") {
  const auto check_edges = []<class T>(std::type_identity<T>) {
    const T nan = std::numeric_limits<T>::quiet_NaN();
    const T inf = std::numeric_limits<T>::infinity();
    const T small = std::numeric_limits<T>::denorm_min();
    const std::vector<T> edges{nan,   inf,   -inf,   T(0),   -T(0),   T(1),    T(-1),
                               small, T(90), T(-90), T(800), T(-800), T(1e30), T(-1e30)};
    const auto n = static_cast<std::int64_t>(edges.size());
    const auto x = al::from_values<plain<T>>({n}, edges);
    const at::Tensor y = copied(x);
    const double relative = sizeof(T) == 4 ? 1e-5 : 1e-12;
    const auto same = [&](const std::string& name, const auto& ours, const at::Tensor& theirs) {
      const auto a = al::to_vector(ours);
      const at::Tensor b = theirs.to(at::kDouble).contiguous();
      for (std::size_t i = 0; i < a.size(); ++i) {
        const auto v = static_cast<double>(a[i]);
        const double w = b.data_ptr<double>()[i];
        // Results below the normal numbers may be flushed to zero.
        const bool close =
            v == w || (std::isnan(v) && std::isnan(w)) ||
            std::abs(v - w) <=
                relative * std::abs(w) + static_cast<double>(std::numeric_limits<T>::min());
        CHECK_MESSAGE(close, name, " of element ", i, ": ", v, ", LibTorch has ", w);
      }
    };
    same("relu", al::relu(x), at::relu(y));
    same("abs", al::abs(x), at::abs(y));
    same("exp", al::exp(x), at::exp(y));
    same("sqrt", al::sqrt(x), at::sqrt(y));
    same("tanh", al::tanh(x), at::tanh(y));
    same("sigmoid", al::sigmoid(x), at::sigmoid(y));
    same("square", al::square(x), at::square(y));
    // Of normal numbers: the logarithm of smaller ones is off by a few units of 1.
    const auto normal = al::where(al::gt(x, al::full<plain<T>>({}, 0.0)),
                                  al::maximum(x, al::full<plain<T>>({}, 1e-30)), x);
    same("log", al::log(normal), at::log(copied(normal)));
    const auto rows = al::unsqueeze(x, 1);
    const at::Tensor their_rows = y.unsqueeze(1);
    same("maximum", al::maximum(rows, x), at::maximum(their_rows, y));
    same("minimum", al::minimum(rows, x), at::minimum(their_rows, y));
    same("div", al::div(rows, x), at::div(their_rows, y));
    same("eq", al::eq(rows, x), at::eq(their_rows, y));
    same("ne", al::ne(rows, x), at::ne(their_rows, y));
    same("lt", al::lt(rows, x), at::lt(their_rows, y));
    same("le", al::le(rows, x), at::le(their_rows, y));
    same("gt", al::gt(rows, x), at::gt(their_rows, y));
    same("ge", al::ge(rows, x), at::ge(their_rows, y));
    same("logical_not", al::logical_not(x), at::logical_not(y));
  };
  check_edges(std::type_identity<float>{});
  check_edges(std::type_identity<double>{});
}
