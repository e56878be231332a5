// SPDX-License-Identifier: Apache-2.0
#include "ashlar/ops/attention.hpp"

#include <cmath>
#include <cstdint>
#include <tuple>
#include <vector>

#include "ashlar/ops/paged_attention.hpp"
#include "ops/twins.hpp"

using namespace twins;

namespace {

/// One output element of attention, in double.
template <class X>
double attended(const X& q, const X& k, const X& v, bool causal, double factor, std::int64_t b,
                std::int64_t h, std::int64_t t, std::int64_t d) {
  const std::int64_t keys = k.extent(2);
  const std::int64_t kv = h / (q.extent(1) / k.extent(1));
  const std::int64_t seen = causal ? std::min(keys, t + keys - q.extent(2) + 1) : keys;
  double total = 0;
  double value = 0;
  for (std::int64_t j = 0; j < seen; ++j) {
    double score = 0;
    for (std::int64_t c = 0; c < q.extent(3); ++c) {
      score += static_cast<double>(q.view()(b, h, t, c)) * k.view()(b, kv, j, c);
    }
    const double weight = std::exp(score * factor);
    total += weight;
    value += weight * v.view()(b, kv, j, d);
  }
  return seen > 0 ? value / total : 0.0;
}

struct sample {
  al::shape q, k;
  bool causal;
};

}  // namespace

TEST_CASE("ops/attention: values equal the naive twin's and stand as (B, T, H, Dh)") {
  const std::vector<sample> samples{
      {{1, 1, 1, 1}, {1, 1, 1, 1}, false}, {{2, 4, 5, 8}, {2, 2, 5, 8}, true},
      {{1, 3, 2, 7}, {1, 1, 19, 7}, true}, {{1, 2, 3, 4}, {1, 2, 5, 4}, false},
      {{0, 2, 3, 4}, {0, 2, 3, 4}, true},  {{1, 2, 0, 4}, {1, 2, 3, 4}, true},
      {{1, 2, 3, 4}, {1, 2, 2, 4}, true}};
  for (const auto& [sq, sk, causal] : samples) {
    const auto q = numbers<plain<float>>(sq, 1);
    const auto k = numbers<plain<float>>(sk, 2);
    const auto v = numbers<plain<float>>(sk, 3);
    const auto y = al::scaled_dot_product_attention(q, k, v, causal, 0.3);
    REQUIRE(al::same_shape(y.spec(), q.spec()));
    CHECK(al::transpose(y, 1, 2).contiguous());
    check_elements(
        y,
        [&, &s = sq, c = causal](std::int64_t i) {
          return attended(q, k, v, c, 0.3, i / (s[1] * s[2] * s[3]), i / (s[2] * s[3]) % s[1],
                          i / s[3] % s[2], i % s[3]);
        },
        1e-5, 1e-6);  // sums of up to 19 weights and values
    check_same(
        al::scaled_dot_product_attention(scattered(q), scattered(k), scattered(v), causal, 0.3), y);
    check_meta(
        y, al::scaled_dot_product_attention(ghost_of(q), ghost_of(k), ghost_of(v), causal, 0.3));
  }
  const auto q = numbers<plain<float>>({1, 2, 3, 16}, 1);
  check_same(al::scaled_dot_product_attention(q, q, q),
             al::scaled_dot_product_attention(q, q, q, false, 0.25));
}

TEST_CASE("ops/attention: bfloat16 is the float result, rounded once") {
  using low = al::bfloat16;
  const auto narrow = [](const auto& x) { return al::cast<low>(x); };
  const auto wide = [](const auto& x) { return al::cast<float>(x); };
  for (const std::int64_t tokens : {0, 1, 5, 19}) {
    const auto q = narrow(numbers<plain<float>>({2, 4, tokens, 7}, 1));
    const auto k = scattered(narrow(numbers<plain<float>>({2, 2, tokens, 7}, 2)));
    const auto v = narrow(numbers<plain<float>>({2, 2, tokens, 7}, 3));
    const auto g = narrow(numbers<plain<float>>({2, 4, tokens, 7}, 4));
    const auto y = al::scaled_dot_product_attention(q, k, v, true, 0.3);
    CHECK(al::transpose(y, 1, 2).contiguous());
    check_same(y, narrow(al::scaled_dot_product_attention(wide(q), wide(k), wide(v), true, 0.3)));
    using backward = al::ops::scaled_dot_product_attention_backward;
    const auto mine = al::call<backward>(g, q, k, v, y, true, 0.3);
    const auto same = al::call<backward>(wide(g), wide(q), wide(k), wide(v), wide(y), true, 0.3);
    check_same(std::get<0>(mine), narrow(std::get<0>(same)));
    check_same(std::get<1>(mine), narrow(std::get<1>(same)));
    check_same(std::get<2>(mine), narrow(std::get<2>(same)));
  }
}

TEST_CASE("ops/attention: shapes that do not fit are refused") {
  const auto q = al::zeros<plain<float>>({1, 4, 3, 8});
  const auto with = [&](const al::shape& k, const al::shape& v) {
    static_cast<void>(al::scaled_dot_product_attention(q, al::zeros<plain<float>>(k),
                                                       al::zeros<plain<float>>(v), true));
  };
  CHECK_THROWS_AS(with({1, 3, 3, 8}, {1, 3, 3, 8}), al::shape_error);
  CHECK_THROWS_AS(with({2, 2, 3, 8}, {2, 2, 3, 8}), al::shape_error);
  CHECK_THROWS_AS(with({1, 2, 3, 7}, {1, 2, 3, 7}), al::shape_error);
  CHECK_THROWS_AS(with({1, 2, 3, 8}, {1, 2, 4, 8}), al::shape_error);
  CHECK_THROWS_AS(with({2, 3, 8}, {2, 3, 8}), al::shape_error);
}

TEST_CASE_TEMPLATE("ops/paged_attention: a paged cache gives the bits of a contiguous one", T,
                   float, al::float16) {
  constexpr std::int64_t heads = 4, kv = 2, width = 8, page = 4, tokens = 11;
  const auto q = al::cast<T>(numbers<plain<float>>({1, heads, tokens, width}, 1));
  const auto k = al::cast<T>(numbers<plain<float>>({1, kv, tokens, width}, 2));
  const auto v = al::cast<T>(numbers<plain<float>>({1, kv, tokens, width}, 3));
  auto key_cache = al::zeros<plain<T>>({8, kv, width, page});
  auto value_cache = al::zeros<plain<T>>({8, kv, page, width});
  const std::vector<std::int32_t> blocks{6, 1, 3};
  const auto tables = al::from_values<plain<std::int32_t>>({1, 3}, blocks);
  auto slots = al::zeros<plain<std::int64_t>>({tokens});
  for (std::int64_t t = 0; t < tokens; ++t) {
    at(slots, t) = blocks[static_cast<std::size_t>(t / page)] * page + t % page;
  }
  const auto rows = [](const auto& x) { return al::transpose(al::select(x, 0, 0), 0, 1); };
  al::cache_write(key_cache, value_cache, rows(k), rows(v), slots);
  const auto sequence = al::zeros<plain<std::int32_t>>({tokens});
  const auto position = al::arange<plain<std::int32_t>>(tokens);
  const auto y =
      al::paged_attention(rows(q), key_cache, value_cache, tables, sequence, position, 0.3);
  check_same(y, rows(al::scaled_dot_product_attention(q, k, v, true, 0.3)));
  check_meta(y, al::paged_attention(ghost_of(rows(q)), ghost_of(key_cache), ghost_of(value_cache),
                                    ghost_of(tables), ghost_of(sequence), ghost_of(position), 0.3));
  al::cache_write(ghost_of(key_cache), ghost_of(value_cache), ghost_of(rows(k)), ghost_of(rows(v)),
                  ghost_of(slots));

  at(slots, 0) = 32;
  CHECK_THROWS_AS(al::cache_write(key_cache, value_cache, rows(k), rows(v), slots),
                  al::argument_error);
  CHECK_THROWS_AS(al::paged_attention(rows(q), key_cache, value_cache, tables, sequence,
                                      al::narrow(position, 0, 0, 3), 0.3),
                  al::shape_error);
}
