// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <limits>
#include <tuple>

#include "ashlar/core/ceil_div.hpp"
#include "ashlar/ops/attention.hpp"
#include "ashlar/ops/tile/attention.hpp"
#include "ashlar/ops/tile/rows.hpp"

/// The gradients of attention as tile programs: probabilities are computed again from one number
/// for each query, so that memory stays linear in the sequence. Nothing is atomic: sums over
/// queries have one order.
///
/// Views: `q`, `g`, `y`: (B, H, Tq, Dh); keys and values come as (B, Hkv, Dh, Tk).
/// Source: Dao et al., "FlashAttention" (2022), algorithm 4.
namespace ashlar {

namespace ops::programs {

/// Where a block of queries stands, and what the parameters have in common.
struct attention_place {
  tile::index b, head, own;
  constexpr attention_place(tile::index batch, tile::index query_head, const auto& q,
                            const auto& keys)
      : b(batch), head(query_head), own(query_head / (q.extent(1) / keys.extent(1))) {}
};

/// `c + x y` over all channels, of the rows of `x` from `m` and the columns of `y` from `j`.
template <class C, int D, int M, int N>
constexpr auto over_channels(tile::scope& k, const attention_place& at, const auto& x,
                             const auto& y, tile::index m, tile::index j) {
  return k.loop(
      0, x.extent(3), D,
      [&](tile::index d, auto sum) {
        const auto rows = tile::load<M, D>(x, at.b, at.head, m, d);
        return tile::dot(rows, tile::load<D, N>(y, at.b, at.own, d, j), sum);
      },
      k.zeros<C, M, N>());
}

/// Probabilities and the gradients of the scores of a block of queries and keys.
template <class C, int D, int M, int N>
constexpr auto probabilities(tile::scope& k, const attention_place& at, const auto& g,
                             const auto& q, const auto& keys, const auto& v, const auto& noted,
                             tile::index m, tile::index j, tile::scalar<C> scale,
                             tile::index first) {
  const auto seen = tile::min(k.iota<std::int64_t, 0, M, 1>() + (m + first), keys.extent(3));
  const auto counts = k.iota<std::int64_t, 1, 1, N>() + j < seen;
  const auto infinite = noted.outside(-no_score);  // a query that is none: its weights are 0
  const auto whole = tile::load<M, 1>(infinite, at.b, at.head, m, 0);
  const auto delta = tile::load<M, 1>(noted, at.b, at.head, m, 1);
  const auto scores = over_channels<C, D, M, N>(k, at, q, keys, m, j);
  const auto p = tile::select(counts, tile::exp(scores * scale - whole), 0);
  const auto dp = over_channels<C, D, M, N>(k, at, g, v, m, j);
  return std::tuple(p, tile::select(counts, p * (dp - delta) * scale, 0));
}

/// For each query the logarithm of the sum of exponentials, and `sum(g y)`.
template <Scalar T, int D, int M = 16, int N = 64>
struct attention_note {
  static constexpr auto name = "attention_note";
  using C = compute_type<T>;

  constexpr void operator()(tile::scope& k, tile::out<C, 4> noted, tile::in<T, 4> g,
                            tile::in<T, 4> q, tile::in<T, 4> keys, tile::in<T, 4> y,
                            tile::arg<C> scale, tile::arg<std::int64_t> first) const {
    const attention_place at(k.program_id(2), k.program_id(1), q, keys);
    const auto m = k.program_id(0) * M;
    const auto seen = tile::min(k.iota<std::int64_t, 0, M, 1>() + (m + first), keys.extent(3));
    const auto last = tile::min(m + (M - 1) + first, keys.extent(3));
    const auto done = k.loop(
        0, last, N,
        [&](tile::index j, auto best, auto total) {
          const auto counts = k.iota<std::int64_t, 1, 1, N>() + j < seen;
          const auto all = over_channels<C, D, M, N>(k, at, q, keys, m, j);
          const auto scores = tile::select(counts, all * scale, no_score);
          const auto now = tile::max(best, tile::expand<1>(tile::max<1>(scores)));
          const auto shift = tile::select(now == no_score, 0, now);
          const auto sum = tile::expand<1>(tile::sum<1>(tile::exp(scores - shift)));
          return std::tuple(now, total * tile::exp(best - shift) + sum);
        },
        k.full<C, M, 1>(no_score), k.zeros<C, M, 1>());
    const auto total = std::get<1>(done);
    const auto whole = tile::select(total == 0, -no_score, std::get<0>(done) + tile::log(total));
    const auto delta = k.loop(
        0, q.extent(3), D,
        [&](tile::index d, auto sum) {
          const auto a = tile::cast<C>(tile::load<M, D>(g, at.b, at.head, m, d));
          const auto b = tile::cast<C>(tile::load<M, D>(y, at.b, at.head, m, d));
          return sum + tile::expand<1>(tile::sum<1>(a * b));
        },
        k.zeros<C, M, 1>());
    tile::store(noted, whole, at.b, at.head, m, 0);
    tile::store(noted, delta, at.b, at.head, m, 1);
  }
};

/// The gradient of `M` queries, `D` channels.
template <Scalar T, int D, int M = 16, int N = 64>
struct attention_backward_q {
  static constexpr auto name = "attention_backward_q";
  using C = compute_type<T>;

  constexpr void operator()(tile::scope& k, tile::out<T, 4> dq, tile::in<T, 4> g, tile::in<T, 4> q,
                            tile::in<T, 4> keys, tile::in<T, 4> v, tile::in<C, 4> noted,
                            tile::arg<C> scale, tile::arg<std::int64_t> first) const {
    const attention_place at(k.program_id(2) / q.extent(1), k.program_id(2) % q.extent(1), q, keys);
    const auto channel = k.program_id(1) * D;
    const auto m = k.program_id(0) * M;
    const auto sum = k.loop(
        0, tile::min(m + (M - 1) + first, keys.extent(3)), N,
        [&](tile::index j, auto acc) {
          const auto both =
              probabilities<C, D, M, N>(k, at, g, q, keys, v, noted, m, j, scale, first);
          const auto key = tile::cast<C>(tile::load<D, N>(keys, at.b, at.own, channel, j));
          return tile::dot(std::get<1>(both), tile::transpose(key), acc);
        },
        k.zeros<C, M, D>());
    tile::store(dq, tile::cast<T>(sum), at.b, at.head, m, channel);
  }
};

/// The gradients of `N` keys and values, `D` channels: over the query heads that read them.
template <Scalar T, int D, int M = 16, int N = 64>
struct attention_backward_kv {
  static constexpr auto name = "attention_backward_kv";
  using C = compute_type<T>;

  constexpr void operator()(tile::scope& k, tile::out<T, 4> dk, tile::out<T, 4> dv,
                            tile::in<T, 4> g, tile::in<T, 4> q, tile::in<T, 4> keys,
                            tile::in<T, 4> v, tile::in<C, 4> noted, tile::arg<C> scale,
                            tile::arg<std::int64_t> first) const {
    const auto b = k.program_id(2) / keys.extent(1);
    const auto own = k.program_id(2) % keys.extent(1);
    const auto group = q.extent(1) / keys.extent(1);
    const auto channel = k.program_id(1) * D;
    const auto j = k.program_id(0) * N;
    const auto sums = k.loop(
        own * group, (own + 1) * group, 1,
        [&](tile::index head, auto dkeys, auto dvalues) {
          const attention_place at(b, head, q, keys);
          return k.loop(
              0, q.extent(2), M,
              [&](tile::index m, auto into_k, auto into_v) {
                const auto both =
                    probabilities<C, D, M, N>(k, at, g, q, keys, v, noted, m, j, scale, first);
                const auto grad = tile::cast<C>(tile::load<M, D>(g, b, head, m, channel));
                const auto query = tile::cast<C>(tile::load<M, D>(q, b, head, m, channel));
                return std::tuple(tile::dot(tile::transpose(std::get<1>(both)), query, into_k),
                                  tile::dot(tile::transpose(std::get<0>(both)), grad, into_v));
              },
              dkeys, dvalues);
        },
        k.zeros<C, N, D>(), k.zeros<C, N, D>());
    tile::store(dk, tile::cast<T>(std::get<0>(sums)), b, own, j, channel);
    tile::store(dv, tile::cast<T>(std::get<1>(sums)), b, own, j, channel);
  }
};

}  // namespace ops::programs

template <RunsTiles C>
struct tile_kernel<ops::scaled_dot_product_attention_backward, C> {
  template <Floating T>
  static void impl(context<C>& on, view<T> dq, view<T> dk, view<T> dv, view<const T> g,
                   view<const T> q, view<const T> k, view<const T> v, view<const T> y, bool causal,
                   double factor) {
    using namespace ops::detail;
    using compute = compute_type<T>;
    const tensor_spec ks = geometry::transpose(*k.spec, -1, -2);
    const tensor_spec vs = geometry::transpose(*v.spec, -1, -2);
    const view<const T> keys{k.data, &ks};
    const view<const T> values{v.data, &vs};
    const std::int64_t first = causal ? k.extent(2) - q.extent(2) + 1 : k.extent(2);
    const auto by = static_cast<compute>(factor);
    const auto noted = make_scratch<compute>(on, {q.extent(0), q.extent(1), q.extent(2), 2});
    const view<const compute> notes = noted.view();
    with_head_block(q.extent(3), [&](auto width) {
      constexpr int m = query_block<C, T, width()>;
      constexpr int n = fold_block<C>;
      const std::int64_t rows = ceil_div(q.extent(2), m);
      const std::int64_t channels = ceil_div(q.extent(3), width());
      run_tiles<ops::programs::attention_note<T, width(), m, n>>(
          on, {rows, q.extent(1), q.extent(0)}, noted.view(), g, q, keys, y, by, first);
      run_tiles<ops::programs::attention_backward_q<T, width(), m, n>>(
          on, {rows, channels, q.extent(0) * q.extent(1)}, dq, g, q, keys, values, notes, by,
          first);
      run_tiles<ops::programs::attention_backward_kv<T, width(), m, n>>(
          on, {ceil_div(k.extent(2), n), channels, k.extent(0) * k.extent(1)}, dk, dv, g, q, keys,
          values, notes, by, first);
    });
  }
};

}  // namespace ashlar
