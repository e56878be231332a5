// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <limits>
#include <tuple>
#include <type_traits>

#include "ashlar/core/ceil_div.hpp"
#include "ashlar/ops/attention.hpp"
#include "ashlar/ops/paged_attention.hpp"
#include "ashlar/ops/tile/rows.hpp"

/// Attention as tile programs: keys pass in blocks, each query keeps the largest score, the sum of
/// exponentials and the weighted values so far, so that memory is linear in the sequence.
///
/// A query has the same bits alone, in a batch, and from a paged cache. Heads wider than `D` are
/// done in parts: each program gives `D` channels and adds up the scores over all.
/// Source: Dao et al., "FlashAttention" (2022).
namespace ashlar {

namespace ops::programs {

inline constexpr double no_score = -std::numeric_limits<double>::infinity();

/// Takes a block of scores and values into what `M` queries have so far; scores that do not count
/// are -infinity.
template <class C, int M, int N, int D>
constexpr auto attend_block(tile::tile<C, M, N> scores, tile::tile<C, N, D> values,
                            tile::tile<C, M, 1> best, tile::tile<C, M, 1> total,
                            tile::tile<C, M, D> sum) {
  const auto now = tile::max(best, tile::expand<1>(tile::max<1>(scores)));
  // Where nothing counts yet any finite number does: all exponentials are 0.
  const auto shift = tile::select(now == no_score, 0, now);
  const auto p = tile::exp(scores - shift);
  const auto kept = tile::exp(best - shift);
  return std::tuple(now, total * kept + tile::expand<1>(tile::sum<1>(p)),
                    tile::dot(p, values, sum * kept));
}

/// `softmax(scale * q k^T) v` of `M` queries of a head, `D` channels of the result. `first` is how
/// many keys query 0 sees; each later one sees one more.
template <Scalar T, int D, int M = 16, int N = 64>
struct attention {
  static constexpr auto name = "attention";
  static constexpr int queries = M;
  using C = compute_type<T>;

  constexpr void operator()(tile::scope& k, tile::out<T, 4> y, tile::in<T, 4> q,
                            tile::in<T, 4> keys, tile::in<T, 4> v, tile::arg<C> scale,
                            tile::arg<std::int64_t> first) const {
    const auto b = k.program_id(2) / q.extent(1);
    const auto head = k.program_id(2) % q.extent(1);
    const auto own = head / (q.extent(1) / v.extent(1));
    const auto channel = k.program_id(1) * D;
    const auto m = k.program_id(0) * M;
    const auto seen = tile::min(k.iota<std::int64_t, 0, M, 1>() + (m + first), v.extent(2));
    const auto last = tile::min(m + (M - 1) + first, v.extent(2));
    const auto columns = k.iota<std::int64_t, 1, 1, N>();
    const auto done = k.loop(
        0, last, N,
        [&](tile::index j, auto best, auto total, auto sum) {
          const auto scores = k.loop(
              0, q.extent(3), D,
              [&](tile::index d, auto s) {
                const auto x = tile::load<M, D>(q, b, head, m, d);
                return tile::dot(x, tile::load<D, N>(keys, b, own, d, j), s);
              },
              k.zeros<C, M, N>());
          const auto counted = tile::select(columns + j < seen, scores * scale, no_score);
          const auto values = tile::cast<C>(tile::load<N, D>(v, b, own, j, channel));
          return attend_block(counted, values, best, total, sum);
        },
        k.full<C, M, 1>(no_score), k.zeros<C, M, 1>(), k.zeros<C, M, D>());
    const auto total = std::get<1>(done);
    const auto result = tile::select(total == 0, 0, std::get<2>(done) / total);
    tile::store(y, tile::cast<T>(result), b, head, m, channel);
  }
};

/// The same for one row of a serving step, its keys and values found through the block table. Both
/// caches come as (blocks, Hkv, block_tokens, Dh).
template <Scalar T, int D, int N = 64>
struct paged_attention {
  static constexpr auto name = "paged_attention";
  using C = compute_type<T>;

  constexpr void operator()(tile::scope& k, tile::out<T, 3> y, tile::in<T, 3> q,
                            tile::in<T, 4> keys, tile::in<T, 4> v, tile::in<std::int32_t, 2> tables,
                            tile::in<std::int32_t, 1> sequence, tile::in<std::int32_t, 1> position,
                            tile::arg<C> scale) const {
    using places = tile::tile<std::int64_t, N, D>;
    const auto row = k.program_id(2);
    const auto head = k.program_id(1);
    const auto own = head / (q.extent(1) / v.extent(1));
    const auto channel = k.program_id(0) * D;
    const auto length = v.extent(2);
    const auto s = tile::cast<std::int64_t>(tile::load(sequence, row));
    const auto last = tile::cast<std::int64_t>(tile::load(position, row));
    k.require(0, (s >= 0) & (s < tables.extent(0)));
    k.require(1, (last >= 0) & (last / length < tables.extent(1)));
    const auto tokens = k.iota<std::int64_t, 0, N, 1>();
    const auto along = k.iota<std::int64_t, 1, 1, D>();
    const auto done = k.loop(
        0, last + 1, N,
        [&](tile::index j, auto best, auto total, auto sum) {
          const auto at = tokens + j;
          const auto counts = at <= last;
          const auto block =
              tile::cast<std::int64_t>(tile::gather<N, 1>(tables.outside(-1), s, at / length));
          k.require(2, (!counts) | ((block >= 0) & (block < v.extent(0))));
          // Outside the cache where a token does not count: it reads as 0, not as what is there.
          const auto from = tile::broadcast<places>(tile::select(counts, block, -1));
          const auto token = tile::broadcast<places>(at % length);
          const auto scores = k.loop(
              0, q.extent(2), D,
              [&](tile::index d, auto to) {
                const auto x = tile::reshape<1, D>(tile::load<D>(q, row, head, d));
                const auto key =
                    tile::gather<N, D>(keys, from, own, token, tile::broadcast<places>(along + d));
                return tile::dot(x, tile::transpose(key), to);
              },
              k.zeros<C, 1, N>());
          const auto counted = tile::select(tile::transpose(counts), scores * scale, no_score);
          const auto values = tile::cast<C>(
              tile::gather<N, D>(v, from, own, token, tile::broadcast<places>(along + channel)));
          return attend_block(counted, values, best, total, sum);
        },
        k.full<C, 1, 1>(no_score), k.zeros<C, 1, 1>(), k.zeros<C, 1, D>());
    const auto result = tile::reshape<D>(std::get<2>(done) / std::get<1>(done));
    tile::store(y, tile::cast<T>(result), row, head, channel);
  }
};

/// The same for `M` rows at a time, whatever sequences they are of: the keys of a sequence pass
/// once for all its rows. With finite values in the cache each row has the bits of
/// `paged_attention`.
template <Scalar T, int D, int M = 16, int N = 64>
struct paged_prefill {
  static constexpr auto name = "paged_prefill";
  using C = compute_type<T>;

  constexpr void operator()(tile::scope& k, tile::out<T, 3> y, tile::in<T, 3> q,
                            tile::in<T, 4> keys, tile::in<T, 4> v, tile::in<std::int32_t, 2> tables,
                            tile::in<std::int32_t, 1> sequence, tile::in<std::int32_t, 1> position,
                            tile::arg<C> scale) const {
    using places = tile::tile<std::int64_t, N, D>;
    const auto m = k.program_id(2) * M;
    const auto head = k.program_id(1);
    const auto own = head / (q.extent(1) / v.extent(1));
    const auto channel = k.program_id(0) * D;
    const auto length = v.extent(2);
    const auto number_of = [&](const auto& of_rows) {
      return tile::reshape<M, 1>(tile::cast<std::int64_t>(tile::load<M>(of_rows, m)));
    };
    const auto rows = k.iota<std::int64_t, 0, M, 1>() + m;
    const auto here = rows < q.extent(0);
    const auto s = number_of(sequence);
    const auto last = number_of(position);
    k.require(0, (!here) | ((s >= 0) & (s < tables.extent(0))));
    k.require(1, (!here) | ((last >= 0) & (last / length < tables.extent(1))));
    const auto largest = [](const auto& of_rows) { return tile::max<0>(tile::max<1>(of_rows)); };
    const auto tokens = k.iota<std::int64_t, 0, N, 1>();
    const auto columns = k.iota<std::int64_t, 1, 1, N>();
    const auto along = k.iota<std::int64_t, 1, 1, D>();
    const auto done = k.loop(
        0, tile::min(q.extent(0) - m, M), 1,
        [&](tile::index r, auto best, auto total, auto sum) {
          const auto from_table = tile::cast<std::int64_t>(tile::load(sequence, m + r));
          const auto mine = here & (s == from_table);
          // The first row of a sequence does the work for all of them.
          const auto before = largest(tile::select(mine & (rows < m + r), rows, -1));
          const auto end = largest(tile::select(mine, last + 1, 0));
          return k.loop(
              0, tile::select(before < 0, end, 0), N,
              [&](tile::index j, auto b, auto t, auto w) {
                const auto at = tokens + j;
                const auto counts = at < end;
                const auto block = tile::cast<std::int64_t>(
                    tile::gather<N, 1>(tables.outside(-1), from_table, at / length));
                k.require(2, (!counts) | ((block >= 0) & (block < v.extent(0))));
                const auto from = tile::broadcast<places>(tile::select(counts, block, -1));
                const auto token = tile::broadcast<places>(at % length);
                const auto scores = k.loop(
                    0, q.extent(2), D,
                    [&](tile::index d, auto to) {
                      const auto x = tile::reshape<M, D>(tile::load<M, 1, D>(q, m, head, d));
                      const auto key = tile::gather<N, D>(keys, from, own, token,
                                                          tile::broadcast<places>(along + d));
                      return tile::dot(x, tile::transpose(key), to);
                    },
                    k.zeros<C, M, N>());
                const auto counted =
                    tile::select(mine & (columns + j <= last), scores * scale, no_score);
                const auto values = tile::cast<C>(tile::gather<N, D>(
                    v, from, own, token, tile::broadcast<places>(along + channel)));
                const auto now = attend_block(counted, values, b, t, w);
                // Other sequences' rows keep theirs, whatever these values are.
                return std::tuple(tile::select(mine, std::get<0>(now), b),
                                  tile::select(mine, std::get<1>(now), t),
                                  tile::select(mine, std::get<2>(now), w));
              },
              best, total, sum);
        },
        k.full<C, M, 1>(no_score), k.zeros<C, M, 1>(), k.zeros<C, M, D>());
    const auto result = tile::cast<T>(std::get<2>(done) / std::get<1>(done));
    tile::store(y, tile::reshape<M, 1, D>(result), m, head, channel);
  }
};

/// One program for a block of channels of a token's head. Both caches come as in `paged_attention`.
template <Scalar T, int B = detail::tile_block>
struct cache_write {
  static constexpr auto name = "cache_write";

  constexpr void operator()(tile::scope& k, tile::out<T, 4> keys, tile::out<T, 4> values,
                            tile::in<T, 3> key, tile::in<T, 3> value,
                            tile::in<std::int64_t, 1> slots) const {
    const auto row = k.program_id(2);
    const auto head = k.program_id(1);
    const auto c = k.program_id(0) * B;
    const auto slot = tile::load(slots, row);
    const auto block = slot / keys.extent(2);
    k.require(0, (slot >= 0) & (block < keys.extent(0)));
    const auto token = slot % keys.extent(2);
    tile::store(keys, tile::load<B>(key, row, head, c), block, head, token, c);
    tile::store(values, tile::load<B>(value, row, head, c), block, head, token, c);
  }
};

}  // namespace ops::programs

namespace ops::detail {
/// Queries that one program takes on chip `C`, of `D` channels.
template <class C, class T, int D>
inline constexpr int query_block = chip::blocks_of<C>::queries(
    C::description, {.head = D, .key_block = fold_block<C>, .element = dtype_of<T>});

/// Calls `f(width)` with the channels that one program does of heads of `n`.
template <class F>
void with_head_block(std::int64_t n, const F& f) {
  if (n <= 64) {
    f(std::integral_constant<int, 64>{});
  } else {
    f(std::integral_constant<int, 128>{});
  }
}
}  // namespace ops::detail

template <RunsTiles C>
struct tile_kernel<ops::scaled_dot_product_attention, C> {
  template <Floating T>
  static void impl(context<C>& on, view<T> out, view<const T> q, view<const T> k, view<const T> v,
                   bool causal, double factor) {
    using namespace ops::detail;
    const tensor_spec turned = geometry::transpose(*k.spec, -1, -2);
    const std::int64_t first = causal ? k.extent(2) - q.extent(2) + 1 : k.extent(2);
    with_head_block(q.extent(3), [&](auto width) {
      constexpr int m = query_block<C, T, width()>;
      using kernel = ops::programs::attention<T, width(), m, fold_block<C>>;
      run_tiles<kernel>(
          on, {ceil_div(q.extent(2), m), ceil_div(q.extent(3), width()), q.extent(0) * q.extent(1)},
          out, q, view<const T>{k.data, &turned}, v, static_cast<compute_type<T>>(factor), first);
    });
  }
};

template <RunsTiles C>
struct tile_kernel<ops::paged_attention, C> {
  template <Floating T>
  static void impl(context<C>& on, view<T> out, view<const T> q, view<const T> key_cache,
                   view<const T> value_cache, view<const std::int32_t> block_tables,
                   view<const std::int32_t> sequence, view<const std::int32_t> position,
                   double factor) {
    using namespace ops::detail;
    const tensor_spec turned = geometry::transpose(*key_cache.spec, -1, -2);
    with_head_block(q.extent(2), [&](auto width) {
      const auto run = [&]<class Kernel>(std::type_identity<Kernel>, std::int64_t rows) {
        run_tiles<Kernel>(on, {ceil_div(q.extent(2), width()), q.extent(1), rows}, out, q,
                          view<const T>{key_cache.data, &turned}, value_cache, block_tables,
                          sequence, position, static_cast<compute_type<T>>(factor));
      };
      // Where sequences are is known on the chip only; so much is sure: with twice as many rows as
      // sequences there are prompts among them. Both give the same bits.
      constexpr int m = query_block<C, T, width()>;
      using of_prompts = ops::programs::paged_prefill<T, width(), m, fold_block<C>>;
      using of_tokens = ops::programs::paged_attention<T, width(), fold_block<C>>;
      if (q.extent(0) >= 2 * block_tables.extent(0)) {
        run(std::type_identity<of_prompts>{}, ceil_div(q.extent(0), m));
      } else {
        run(std::type_identity<of_tokens>{}, q.extent(0));
      }
    });
  }
};

template <RunsTiles C>
struct tile_kernel<ops::cache_write, C> {
  static void impl(context<C>& on, const auto& key_cache, const auto& value_cache, const auto& k,
                   const auto& v, const auto& slots) {
    using namespace ops::detail;
    using T = typename std::remove_cvref_t<decltype(k)>::value_type;
    constexpr auto op = ops::cache_write::name;
    require_cache(op, key_cache.spec(), value_cache.spec());
    for (const tensor_spec* x : {&k.spec(), &v.spec()}) {
      if (x->rank != 3 || (*x)[1] != key_cache.extent(1) || (*x)[2] != key_cache.extent(2)) {
        throw shape_error(op, x->shape(), value_cache.shape(), "new tokens are (N, Hkv, Dh)");
      }
    }
    if (slots.rank() != 1 || slots.extent(0) != k.extent(0) || v.extent(0) != k.extent(0)) {
      throw shape_error(op, slots.shape(), k.shape(), "one slot, key and value for each token");
    }
    const tensor_spec turned = geometry::transpose(key_cache.spec(), -1, -2);
    constexpr int block = row_block<C, T>;
    run_tiles<ops::programs::cache_write<T, block>>(
        on, {ceil_div(k.extent(2), block), k.extent(1), k.extent(0)},
        view<T>{key_cache.view().data, &turned}, value_cache.view(), view<const T>(k.view()),
        view<const T>(v.view()), view<const std::int64_t>(slots.view()));
    ++key_cache.body()->root().version;
    ++value_cache.body()->root().version;
  }
};

}  // namespace ashlar
