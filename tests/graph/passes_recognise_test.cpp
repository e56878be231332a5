// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "ashlar/graph/capture.hpp"
#include "ashlar/graph/eager.hpp"
#include "ashlar/graph/passes/fold_constants.hpp"
#include "ashlar/graph/passes/recognise.hpp"
#include "ashlar/ops/random.hpp"

namespace al = ashlar;
namespace graph = ashlar::graph;

namespace recognise_test {

using host_keys = al::make_key_set<al::keys::backend<al::chip::host>>;
using plain = al::tensor<float, host_keys>;
using real = graph::capturable<plain>;
using flags = graph::capturable<al::tensor<bool, host_keys>>;
constexpr double u = 0x1p-24;

/// Names of the calls, in order.
std::string calls(const graph::graph& g) {
  std::string all;
  for (const graph::node& n : g.nodes) {
    if (n.kind == graph::node_kind::call) {
      all += std::string(n.op->name) + " ";
    }
  }
  return all;
}
/// What becomes of a function: norms, then attention, with constants for what it takes from
/// outside.
template <class F, class... X>
graph::graph recognised(const F& f, const X&... x) {
  const graph::graph g = graph::fold_constants(graph::freeze(graph::capture(f, x...)));
  const graph::graph now = graph::recognise_attention<plain>(graph::recognise_norms<plain>(g));
  verify(now);
  return now;
}
double largest(const real& x) {
  double most = 0;
  for (const float e : al::to_vector(x)) {
    most = std::max(most, std::abs(static_cast<double>(e)));
  }
  return most;
}
/// The operator alone is left, and differs by `bound` at most.
template <class F, class... X>
void check_is(const std::string& name, double bound, const F& f, const X&... x) {
  const graph::graph now = recognised(f, x...);
  CHECK(calls(now) == name + " ");
  const auto got = al::to_vector(real(graph::eager{}.compile(now)(x...)[0]));
  const auto wanted = al::to_vector(f(x...));
  REQUIRE(got.size() == wanted.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    REQUIRE(std::abs(static_cast<double>(got[i]) - static_cast<double>(wanted[i])) <= bound);
  }
}
/// Nothing is recognised.
template <class F, class... X>
void check_not(const F& f, const X&... x) {
  CHECK(calls(recognised(f, x...)) ==
        calls(graph::fold_constants(graph::freeze(graph::capture(f, x...)))));
}

/// Every way to write a norm; `eps` and `axis` are run-time numbers.
struct norm {
  unsigned way = 0;
  double eps = 1e-5, alpha = 1.0;
  std::int64_t axis = -1;

  auto operator()(const auto& x, const auto& w) const {
    const auto squares = (way & 1u) != 0 ? al::mul(x, x) : al::square(x);
    const auto variance = al::scale(al::mean(squares, axis, true), alpha, eps);
    const auto y = (way & 2u) != 0   ? al::div(x, al::sqrt(variance))
                   : (way & 4u) != 0 ? al::mul(al::rsqrt(variance), x)
                                     : al::mul(x, al::rsqrt(variance));
    return (way & 8u) != 0 ? al::mul(w, y) : al::mul(y, w);
  }
  auto operator()(const auto& x, const auto& w, const auto& b) const {
    const auto y = (*this)(al::sub(x, al::mean(x, axis, true)), w);
    return (way & 16u) != 0 ? al::add(b, y) : al::add(y, b);
  }
};

enum class masked { no, added, added_first, chosen };
struct attention {
  masked how = masked::no;
  int place = 0;  ///< of the factor: scores, queries, nowhere
  double factor = 0.25, beta = 0.0;
  std::int64_t a = -2, b = -1, softmax_axis = -1;
  real mask{}, low{};
  flags sees{};

  auto operator()(const auto& q, const auto& k, const auto& v) const {
    const auto turned = al::transpose(k, a, b);
    const auto product = al::matmul(place == 1 ? al::scale(q, factor, beta) : q, turned);
    const auto scores = place == 0 ? al::scale(product, factor, beta) : product;
    const auto seen = how == masked::added         ? al::add(scores, mask)
                      : how == masked::added_first ? al::add(mask, scores)
                      : how == masked::chosen      ? al::where(sees, scores, low)
                                                   : scores;
    return al::matmul(al::softmax(seen, softmax_axis), v);
  }
};
/// With a mask under which query i sees j <= i + `shift`.
attention with_mask(masked how, std::int64_t queries, std::int64_t keys, std::int64_t shift,
                    float low = -std::numeric_limits<float>::infinity()) {
  std::vector<float> added;
  std::vector<float> sees;
  for (std::int64_t i = 0; i < queries; ++i) {
    for (std::int64_t j = 0; j < keys; ++j) {
      sees.push_back(j <= i + shift ? 1.0f : 0.0f);
      added.push_back(j <= i + shift ? 0.0f : low);
    }
  }
  attention f{.how = how};
  f.mask = al::from_values<real>({queries, keys}, added);
  f.low = al::full<real>({}, low);
  f.sees = al::cast<bool>(al::from_values<real>({1, 1, queries, keys}, sees));
  return f;
}

}  // namespace recognise_test

using namespace recognise_test;

TEST_CASE("graph/recognise: norms in parts are the operators, however they are written") {
  for (const auto& e :
       std::array<std::array<std::int64_t, 2>, 5>{{{1, 1}, {3, 2}, {0, 5}, {7, 61}, {5, 1021}}}) {
    const std::int64_t rows = e[0];
    const std::int64_t columns = e[1];
    CAPTURE(columns);
    const real x = al::randn<real>({2, rows, columns}, 1);
    const real w = al::randn<real>({columns}, 2);
    const real b = al::randn<real>({columns}, 3);
    const bool all = columns == 61;
    for (unsigned way = 0; way < 32; way += all ? 1 : 13) {
      CAPTURE(way);
      const norm f{.way = way, .eps = 1e-2, .axis = way % 3 == 0 ? 2 : -1};
      // Sums of n terms of one sign; then six roundings. Of a row with a mean, that of the mean
      // is one more such sum. What is normalised is at most sqrt(n), and x / sqrt(eps).
      const double n = static_cast<double>(columns);
      const double size = std::min(std::sqrt(n), 10 * largest(x)) * largest(w);
      if (way < 16) {
        check_is("rms_norm", (n + 8) * u * size, f, x, w);
      }
      check_is("layer_norm", (n + 8) * u * (size + 10 * largest(x) * largest(w) + largest(b)), f, x,
               w, b);
    }
  }
}
TEST_CASE("graph/recognise: what is nearly a norm stays as it is") {
  const real x = al::randn<real>({6, 6}, 1);
  const real w = al::randn<real>({6}, 2);
  check_not(norm{.axis = 0}, x, w);
  check_not(norm{.alpha = 2.0}, x, w);
  check_not(norm{.eps = -1e-5}, x, w);
  check_not(norm{}, x, al::randn<real>({6, 6}, 3));
  check_not(norm{}, x, al::randn<real>({1}, 3));
  const auto part = [](const auto& a) {
    return al::rsqrt(al::scale(al::mean(al::square(a), -1, true), 1.0, 1e-5));
  };
  // Of another tensor; the inverse comes out; a sum in place of a mean.
  check_not([&](const auto& a, const auto& c) { return al::mul(al::mul(c, part(a)), w); }, x,
            al::randn<real>({6, 6}, 4));
  check_not(
      [&](const auto& a) {
        const auto inverse = part(a);
        return std::tuple(al::mul(al::mul(a, inverse), w), inverse);
      },
      x);
  check_not(
      [&](const auto& a) {
        const auto variance = al::scale(al::sum(al::square(a), -1, true), 1.0, 1e-5);
        return al::mul(al::mul(a, al::rsqrt(variance)), w);
      },
      x);
  // A mean of other numbers than those that are centred.
  const auto centred = [&](const auto& a, const auto& c) {
    const auto y = al::sub(a, al::mean(c, -1, true));
    return al::add(norm{}(y, w), w);
  };
  CHECK(calls(recognised(centred, x, al::neg(x))) == "mean sub rms_norm add ");
}
TEST_CASE("graph/recognise: attention in parts is the operator") {
  for (const auto& e : std::array<std::array<std::int64_t, 3>, 5>{
           {{1, 1, 1}, {3, 3, 8}, {0, 2, 3}, {7, 61, 5}, {67, 67, 33}}}) {
    const std::int64_t queries = e[0];
    const std::int64_t keys = e[1];
    const std::int64_t head = e[2];
    CAPTURE(keys);
    const real q = al::randn<real>({2, 3, queries, head}, 1);
    const real k = al::randn<real>({2, 3, keys, head}, 2);
    const real v = al::randn<real>({2, 3, keys, head}, 3);
    const double d = static_cast<double>(head);
    const double scores = (d + 4) * u * d * largest(q) * largest(k);
    const double bound = largest(v) * 2 * (2 * scores + (static_cast<double>(keys) + 8) * u);
    int way = 0;
    for (const masked how : {masked::no, masked::added, masked::added_first, masked::chosen}) {
      for (const int place : {0, 1, 2}) {
        CAPTURE(way);
        attention f = with_mask(how, queries, keys, keys - queries,
                                how == masked::chosen ? -1e30f : -INFINITY);
        f.place = place;
        f.factor = place == 1 ? 0.125 : 0.25;
        f.a = way % 2 == 0 ? -2 : 3;
        f.b = way % 2 == 0 ? 3 : -2;
        f.softmax_axis = way % 3 == 0 ? 3 : -1;
        check_is("scaled_dot_product_attention", bound, f, q, k, v);
        ++way;
      }
    }
  }
}
TEST_CASE("graph/recognise: what is nearly attention stays as it is") {
  const auto make = [](std::int64_t heads, std::uint64_t seed) {
    return al::randn<real>({2, heads, 4, 4}, seed);
  };
  const real q = make(4, 1);
  const real k = make(4, 2);
  const real v = make(4, 3);
  check_not(attention{.beta = 0.5}, q, k, v);
  check_not(attention{.softmax_axis = 2}, q, k, v);
  check_not(attention{.a = 1, .b = 2}, q, k, v);
  check_not(attention{}, q, make(1, 4), make(1, 5));  // one head for all: by broadcasting
  check_not(attention{}, q, k, make(1, 5));
  for (const masked how : {masked::added, masked::chosen}) {
    check_not(with_mask(how, 4, 4, 1), q, k, v);         // sees one key too many
    check_not(with_mask(how, 4, 4, -1), q, k, v);        // query 0 sees nothing
    check_not(with_mask(how, 4, 4, 0, -1e4f), q, k, v);  // not low enough
  }
  // Masks and numbers with an axis more than the scores: so has the result.
  attention more = with_mask(masked::added, 4, 4, 0);
  more.mask = al::reshape(more.mask, {1, 1, 1, 4, 4});
  check_not(more, q, k, v);
  more = with_mask(masked::chosen, 4, 4, 0);
  more.low = al::reshape(more.low, {1, 1, 1, 1, 1});
  check_not(more, q, k, v);
  const attention f = with_mask(masked::added, 4, 4, 0);
  // A mask that may change; scores that come out.
  CHECK(calls(graph::recognise_attention<plain>(graph::capture(f, q, k, v))) ==
        calls(graph::capture(f, q, k, v)));
  check_not(
      [](const auto& a, const auto& b, const auto& c) {
        const auto p = al::softmax(al::matmul(a, al::transpose(b, -2, -1)), -1);
        return std::tuple(al::matmul(p, c), p);
      },
      q, k, v);
}
