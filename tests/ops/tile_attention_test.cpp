// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <vector>

#include "ashlar/ops/tile/attention.hpp"
#include "ops/attention_samples.hpp"
#include "support/tile_chip.hpp"

using namespace tile_test;
using X = twins::plain<float>;

namespace {
/// Scores are chains over Dh of products of at most 4, then Tk weights that add up to 1.
tolerance attended(std::int64_t keys, std::int64_t width) {
  return {static_cast<double>(keys + 4 * width) + 16, 4};
}
}  // namespace

TEST_CASE("ops/tile_attention: any lengths, causal or not, grouped queries, any head size") {
  std::vector<attention_sample> samples(std::begin(attention_samples), std::end(attention_samples));
  samples.push_back({1, 1, 2, 4, 130});  // a head of three blocks
  for (const attention_sample& s : samples) {
    const auto q = s.q();
    const auto k = s.k();
    const auto v = s.v();
    for (const bool causal : {false, true}) {
      check_both(
          attended(s.keys, s.width),
          [&](const auto& a, const auto& b, const auto& c) {
            return al::scaled_dot_product_attention(a, b, c, causal);
          },
          q, k, v);
    }
  }
}

TEST_CASE("ops/tile_attention: 16-bit formats are the rounded float result") {
  using H = twins::plain<al::bfloat16>;
  const auto q = twins::numbers<H>({1, 2, 5, 8}, 1);
  const auto k = twins::numbers<H>({1, 2, 9, 8}, 2);
  const auto v = twins::numbers<H>({1, 2, 9, 8}, 3);
  const auto wide = [](const H& x) { return al::call<al::ops::cast<float>>(x); };
  const auto want = al::call<al::ops::cast<al::bfloat16>>(
      al::scaled_dot_product_attention(wide(q), wide(k), wide(v), true));
  check_close(al::scaled_dot_product_attention(moved(q), moved(k), moved(v), true), want,
              attended(9, 8));
}

TEST_CASE("ops/tile_attention: a paged cache gives the bits of keys side by side") {
  constexpr std::int64_t heads = 4;
  constexpr std::int64_t kv_heads = 2;
  for (const std::int64_t width : {5, 64, 66}) {
    for (const std::int64_t length : {1, 3, 16}) {
      constexpr std::int64_t tokens = 67;
      const std::int64_t blocks = (tokens + length - 1) / length + 2;
      auto keys = al::full<X>({blocks, kv_heads, width, length}, std::nanf(""));
      auto values = al::full<X>({blocks, kv_heads, length, width}, std::nanf(""));
      const auto k = twins::numbers<X>({tokens, kv_heads, width}, 2);
      const auto v = twins::numbers<X>({tokens, kv_heads, width}, 3);
      auto tables = al::empty<twins::plain<std::int32_t>>({1, blocks - 2});
      for (std::int64_t i = 0; i < tables.size(); ++i) {
        tables.data()[i] = static_cast<std::int32_t>(blocks - 1 - i);
      }
      const auto slots = al::empty<twins::plain<std::int64_t>>({tokens});
      for (std::int64_t i = 0; i < tokens; ++i) {
        slots.data()[i] = tables.data()[i / length] * length + i % length;
      }
      auto there_keys = moved(keys);
      auto there_values = moved(values);
      al::cache_write(keys, values, k, v, slots);
      al::cache_write(there_keys, there_values, moved(k), moved(v), moved(slots));
      check_close(there_keys, keys, exact);
      check_close(there_values, values, exact);

      const auto q = twins::numbers<X>({3, heads, width}, 1);
      const auto sequence = al::zeros<twins::plain<std::int32_t>>({3});
      const auto position = al::from_values<twins::plain<std::int32_t>>({3}, {0, 40, 66});
      const auto got = al::paged_attention(moved(q), there_keys, there_values, moved(tables),
                                           moved(sequence), moved(position), 0.3);
      check_close(got, al::paged_attention(q, keys, values, tables, sequence, position, 0.3),
                  attended(tokens, width));
      // The last row's query against all tokens side by side.
      const auto one = al::unsqueeze(al::permute(al::narrow(q, 0, 2, 1), {1, 0, 2}), 0);
      const auto all = [](const X& x) { return al::unsqueeze(al::permute(x, {1, 0, 2}), 0); };
      const auto same = al::scaled_dot_product_attention(
          moved(al::clone(one)), moved(al::clone(all(k))), moved(al::clone(all(v))), true, 0.3);
      twins::check_same(al::clone(al::reshape(back(same), {heads, width})),
                        al::clone(al::select(back(got), 0, 2)));
    }
  }
}

TEST_CASE("ops/tile_attention: rows of several sequences have the bits that each has alone") {
  for (const std::int64_t width : {5, 66}) {
    for (const std::int64_t length : {3, 16}) {
      const paged_step step(width, length, paged_step::mixed());
      const std::int64_t n = step.sequence.size();
      const auto q = twins::numbers<X>({n, 4, width}, 1);
      const auto attend = [&](const auto& queries, const auto& sequence, const auto& position) {
        return al::paged_attention(moved(queries), moved(step.keys), moved(step.values),
                                   moved(step.tables), moved(sequence), moved(position), 0.3);
      };
      const auto got = attend(q, step.sequence, step.position);
      check_close(got,
                  al::paged_attention(q, step.keys, step.values, step.tables, step.sequence,
                                      step.position, 0.3),
                  attended(70, width));
      for (std::int64_t i = 0; i < n; ++i) {
        const auto one = [&](const auto& x) { return al::clone(al::narrow(x, 0, i, 1)); };
        twins::check_same(back(attend(one(q), one(step.sequence), one(step.position))),
                          one(back(got)));
      }
    }
  }
}

TEST_CASE("ops/tile_attention: what is no number stays in its sequence") {
  paged_step step(5, 16, paged_step::mixed());
  for (std::int64_t i = 0; i < step.values.size(); ++i) {  // of the last sequence
    if (i / (2 * 16 * 5) % 3 == 2) {
      step.values.data()[i] = std::nanf("");
    }
  }
  const auto q = twins::numbers<X>({step.sequence.size(), 4, 5}, 1);
  const auto got =
      back(al::paged_attention(moved(q), moved(step.keys), moved(step.values), moved(step.tables),
                               moved(step.sequence), moved(step.position), 0.3));
  for (std::int64_t i = 0; i < got.size(); ++i) {
    CHECK(std::isnan(got.data()[i]) == (step.sequence.data()[i / (4 * 5)] == 2));
  }
}

TEST_CASE("ops/tile_attention: rows, blocks and slots that are none stop the kernel") {
  const auto keys = moved(al::zeros<X>({2, 1, 4, 2}));
  const auto values = moved(al::zeros<X>({2, 1, 2, 4}));
  const auto k = moved(al::zeros<X>({1, 1, 4}));
  const auto slot = moved(al::from_values<twins::plain<std::int64_t>>({1}, {4}));
  const auto numbers = [](std::initializer_list<std::int32_t> all) {
    const auto n = static_cast<std::int64_t>(all.size());
    return moved(al::from_values<twins::plain<std::int32_t>>({n}, all));
  };
  // One row for the form of tokens, three for that of prompts.
  const auto stops = [&](const auto& tables, const auto& sequence, const auto& position) {
    const auto q = moved(al::zeros<X>({sequence.size(), 1, 4}));
    CHECK_THROWS_AS(al::paged_attention(q, keys, values, tables, sequence, position, 1.0),
                    al::tile::execution_error);
  };
  const auto table = moved(al::from_values<twins::plain<std::int32_t>>({1, 2}, {0, 1}));
  const auto wrong = moved(al::from_values<twins::plain<std::int32_t>>({1, 2}, {0, 2}));
  stops(table, numbers({1}), numbers({0}));
  stops(table, numbers({0}), numbers({4}));
  stops(wrong, numbers({0}), numbers({2}));
  stops(table, numbers({0, -1, 0}), numbers({0, 0, 0}));
  stops(table, numbers({0, 0, 0}), numbers({0, 1, 4}));
  stops(wrong, numbers({0, 0, 0}), numbers({0, 1, 2}));
  CHECK_THROWS_AS(al::cache_write(keys, values, k, k, slot), al::tile::execution_error);
  CHECK_THROWS_AS(al::cache_write(keys, values, values, k, slot), al::shape_error);
}
