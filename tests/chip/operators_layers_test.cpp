// SPDX-License-Identifier: Apache-2.0
// `check` compares what a program computes with the host's kernels in double precision, and records
// it; `check_on_every_chip` runs it again everywhere and compares the bits (support/replay.hpp).
#include <cmath>
#include <cstdint>
#include <tuple>

#include "ashlar/ops/activation.hpp"
#include "ashlar/ops/tile/copies.hpp"
#include "ashlar/ops/tile/embedding.hpp"
#include "ashlar/ops/tile/epilogue.hpp"
#include "ashlar/ops/tile/matmul.hpp"
#include "ashlar/ops/tile/optimizer.hpp"
#include "ashlar/ops/tile/random.hpp"
#include "ashlar/ops/tile/rope.hpp"
#include "support/replay.hpp"

namespace {

namespace al = ashlar;
namespace ops = ashlar::ops;
using replay::check;
using replay::check_against;
using tile_test::exact;
using tile_test::tolerance;
template <class T>
using plain = twins::plain<T>;

/// Chains over K of products of at most 4.
tolerance chain(std::int64_t k) {
  return {static_cast<double>(k) + 1, 4.0 * static_cast<double>(k) + 2};
}

template <class T>
void products() {
  constexpr auto blocks = ops::detail::product_blocks<replay::recorder, T>;
  const std::int64_t extents[][3] = {{0, 3, 5},
                                     {1, 1, 0},
                                     {1, blocks.n + 1, blocks.k - 1},
                                     {blocks.m + 1, 7, blocks.k + 1},
                                     {blocks.m - 1, blocks.n - 1, 13}};
  for (const auto& [m, n, k] : extents) {
    const auto a = twins::numbers<plain<T>>({m, k}, 1);
    const auto b = twins::numbers<plain<T>>({k, n}, 2);
    check<ops::matmul>(
        chain(k), [](const auto& x, const auto& y) { return al::matmul(x, y); }, a, b);
  }
}

template <class I>
plain<I> picks(const al::shape& s, std::int64_t below) {
  const auto ids = al::empty<plain<I>>(s);
  for (std::int64_t i = 0; i < ids.size(); ++i) {
    ids.data()[i] = static_cast<I>(i * 7 % below);
  }
  return ids;
}

}  // namespace

TEST_CASE("chip/operators: products are the same on every chip") {
  products<float>();
  products<al::bfloat16>();
  const auto x = twins::numbers<plain<float>>({2, 3, 37}, 1);
  const auto w = twins::numbers<plain<float>>({65, 37}, 2);
  const auto b = twins::numbers<plain<float>>({65}, 3);
  const auto many = twins::numbers<plain<float>>({2, 37, 5}, 4);
  check<ops::matmul>(
      chain(37), [](const auto& u, const auto& v) { return al::matmul(u, v); }, x, many);
  check<ops::linear>(
      chain(37), [](const auto& u, const auto& v) { return al::linear(u, v); }, x, w);
  check<ops::linear_bias>(
      chain(38), [](const auto& u, const auto& v, const auto& z) { return al::linear(u, v, z); }, x,
      w, b);
  for (const al::shape& s : {al::shape{37}, {0, 37}, {3, 5, 37}}) {
    al::shape to = s;
    to[to.rank() - 1] = 65;
    const auto u = twins::numbers<plain<float>>(s, 1);
    const auto r = twins::numbers<plain<float>>(to, 5);
    // An activation of a few steps, and a sum.
    const tolerance near{38 + 10, 4.0 * 38 + 4};
    check<ops::dense<ops::gelu>>(
        near, [](const auto&... a) { return al::dense<ops::gelu>(a...); }, u, w, b, r);
    check<ops::dense<void>>(
        near, [](const auto&... a) { return al::dense<void>(a...); }, u, w, b);
  }
  replay::check_on_every_chip();
  replay::check_seen<ops::matmul, ops::linear, ops::linear_bias, ops::dense<ops::gelu>>();
}

TEST_CASE("chip/operators: tables, rotations, counting and copies are the same on every chip") {
  for (const std::int64_t columns : {1, 63, 129}) {
    for (const al::shape& s : {al::shape{}, {0}, {2, 3, 2}}) {
      const auto table = twins::numbers<plain<float>>({11, columns}, 1);
      const auto ids = picks<std::int32_t>(s, 5);
      check<ops::embedding>(
          exact, [](const auto& w, const auto& i) { return al::embedding(w, i); }, table, ids);
      check<ops::embedding_backward>(
          {12, 24},
          [](const auto& d, const auto& i) {
            return al::call<ops::embedding_backward>(d, i, std::int64_t{11});
          },
          al::embedding(table, ids), ids);
    }
  }
  auto positions = picks<std::int64_t>({3}, 5);
  positions.data()[2] = 100003;
  for (const std::int64_t width : {2, 62, 66}) {
    const auto x = twins::numbers<plain<float>>({2, 3, 2, width}, 1);
    for (const bool interleaved : {false, true}) {
      // Angles are off by about 2^-50 of themselves in double; then four roundings.
      check<ops::rope>(
          {4, 4},
          [&](const auto& v, const auto& p) {
            return al::rope(v, p, 10000.0, interleaved, interleaved);
          },
          x, positions);
    }
  }
  const auto count = [](const auto& x) { return al::call<ops::arange>(x, 1.0, 0.25); };
  const auto f = twins::numbers<plain<float>>({2, 3, 2, 3, 5});
  const auto i = twins::numbers<plain<std::int32_t>>({131});
  check_against<ops::arange>(count(f), exact, count, f);
  check_against<ops::arange>(count(i), exact, count, i);
  check<ops::cat>(
      exact, [](const auto& x, const auto& y, const auto& z) { return al::cat(x, y, z, 1); },
      twins::numbers<plain<float>>({2, 3, 5}, 1), twins::numbers<plain<float>>({2, 0, 5}, 2),
      twins::numbers<plain<float>>({2, 4, 5}, 3));
  check<ops::slice_backward>(
      exact,
      [](const auto& g) {
        return al::call<ops::slice_backward>(g, al::shape{2, 9, 5}, std::int64_t{1},
                                             std::int64_t{1}, std::int64_t{7}, std::int64_t{2});
      },
      twins::numbers<plain<float>>({2, 3, 5}, 1));
  replay::check_on_every_chip();
  replay::check_seen<ops::embedding, ops::embedding_backward, ops::rope, ops::arange, ops::cat,
                     ops::slice_backward>();
}

TEST_CASE("chip/operators: random numbers and optimizer steps are the same on every chip") {
  const auto uniform = [](const auto& v) {
    return al::uniform(v, 0xFEDCBA9876543210u, (1u << 31) * 7ull, -1.0, 3.0);
  };
  const auto normal = [](const auto& v) { return al::normal(v, 42, 5, 0.5, 2.0); };
  for (const al::shape& s : {al::shape{}, {65}, {3, 43}}) {
    const auto f = twins::numbers<plain<float>>(s);
    const auto h = twins::numbers<plain<al::bfloat16>>(s);
    check_against<ops::uniform>(uniform(f), exact, uniform, f);
    check_against<ops::uniform>(uniform(h), exact, uniform, h);
    // log, sqrt, sine and cosine are each right to about two places of double.
    check_against<ops::normal>(normal(f), tolerance{8, 8}, normal, f);
    check_against<ops::normal>(normal(h), tolerance{8, 8}, normal, h);
    for (const double p : {0.25, 1.0}) {
      const auto drop = [&](const auto& v) {
        return al::dropout(v, p, 0xFEDCBA9876543210u, (1u << 31) * 7ull);
      };
      check_against<ops::dropout>(drop(f), exact, drop, f);
      check_against<ops::dropout>(drop(h), exact, drop, h);
    }
  }
  for (const al::shape& s : {al::shape{}, {65}, {3, 1, 2, 2, 7}}) {
    const auto p = twins::numbers<plain<float>>(s, 1);
    const auto g = twins::numbers<plain<float>>(s, 2);
    const auto m = twins::numbers<plain<float>>(s, 3);
    const auto v = al::square(twins::numbers<plain<float>>(s, 4));
    check<ops::adamw_step>(
        {16, 16},
        [](const auto&... x) {
          std::tuple now{al::clone(x)...};
          auto& [p1, g1, m1, v1] = now;
          al::adamw_step(p1, g1, m1, v1, {.lr = 0.1}, 3, 0.5);
          return now;
        },
        p, g, m, v);
    for (const bool nesterov : {false, true}) {
      for (const double momentum : {0.0, 0.9}) {
        const al::sgd_options options{
            .lr = 0.1, .momentum = momentum, .weight_decay = 0.01, .nesterov = nesterov};
        check<ops::sgd_step>(
            {8, 8},
            [&](const auto&... x) {
              std::tuple now{al::clone(x)...};
              auto& [p1, g1, m1] = now;
              al::sgd_step(p1, g1, m1, options);
              return now;
            },
            p, g, m);
      }
    }
  }
  replay::check_on_every_chip();
  replay::check_seen<ops::uniform, ops::normal, ops::dropout, ops::adamw_step, ops::sgd_step>();
}
