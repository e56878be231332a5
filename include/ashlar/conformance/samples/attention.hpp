// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <vector>

#include "ashlar/conformance/samples/layers.hpp"
#include "ashlar/ops/attention.hpp"
#include "ashlar/ops/paged_attention.hpp"

/// Samples of attention, and of the paged cache.
namespace ashlar::conformance {

namespace detail {

/// Extents of one attention over a batch of two: one and none of everything, grouped queries, more
/// queries than keys, heads over one block.
struct attention_case {
  std::int64_t heads, kv_heads, queries, keys, width;
};
inline constexpr attention_case attention_cases[] = {
    {1, 1, 1, 1, 1},   {2, 2, 17, 17, 5}, {4, 2, 5, 65, 16}, {3, 1, 5, 3, 8},
    {2, 1, 3, 70, 65}, {2, 2, 3, 0, 4},   {1, 1, 0, 4, 4},   {2, 1, 2, 3, 2}};

inline void list_attention(sample_list& all, bool backward,
                           void (*prepare)(std::vector<numbers>&, const settings&)) {
  for (const attention_case& c : attention_cases) {
    const given q{{2, c.heads, c.queries, c.width}};
    const given k{{2, c.kv_heads, c.keys, c.width}};
    // Chains over Dh for scores and their gradients, then over keys, or over all queries that read
    // a key; a term is a weight times a gradient of at most 4 Dh times a number of at most 2.
    const auto width = static_cast<double>(c.width);
    const auto over = static_cast<double>(c.keys + (backward ? c.queries * c.heads : 0));
    const tolerance allowed{over + 4 * width + 16, backward ? 16 * std::sqrt(width) : 4};
    for (const bool causal : {false, true}) {
      sample s{.in = {q, k, k},
               .with = {.number = {1 / std::sqrt(width)}, .flag = {causal}},
               .allowed = allowed,
               .gradient = c.width <= 2 && c.keys > 0};
      if (backward) {
        s.in = {q, q, k, k, q};
        s.prepare = prepare;
      }
      all.add(s);
    }
  }
  sample refused{.in = {{{2, 3, 1, 4}}, {{2, 2, 1, 4}}, {{2, 2, 1, 4}}},
                 .with = {.number = {0.5}},
                 .refused = true};
  if (backward) {
    refused.in.insert(refused.in.begin(), refused.in[0]);
    refused.in.push_back(refused.in[0]);
  }
  all.add(refused);
}

/// The weights of one query's keys, of which it sees the first `seen`.
template <class Score>
std::vector<double> weights(std::int64_t seen, const Score& score) {
  std::vector<double> w(static_cast<std::size_t>(seen > 0 ? seen : 0));
  double top = -INFINITY;
  for (std::size_t j = 0; j < w.size(); ++j) {
    w[j] = score(static_cast<std::int64_t>(j));
    top = std::max(top, w[j]);
  }
  double sum = 0;
  for (double& x : w) {
    x = std::exp(x - top);
    sum += x;
  }
  for (double& x : w) {
    x /= sum;
  }
  return w;
}

/// Calls `use(row of q, row of the first key, weights)` for each query.
template <class Use>
void each_query(const numbers& q, const numbers& k, const settings& with, const Use& use) {
  const std::int64_t heads = q.extents[1];
  const std::int64_t queries = q.extents[2];
  const std::int64_t keys = k.extents[2];
  const std::int64_t width = q.extents[3];
  for (std::int64_t row = 0; row < q.extents[0] * heads * queries; ++row) {
    const std::int64_t i = row % queries;
    const std::int64_t head = row / queries % heads;
    const std::int64_t batch = row / queries / heads;
    const std::int64_t first = (batch * k.extents[1] + head * k.extents[1] / heads) * keys;
    const std::int64_t seen = with.flag[0] ? i + keys - queries + 1 : keys;
    use(row, first, weights(std::min(seen, keys), [&](std::int64_t j) {
          double score = 0;
          for (std::int64_t d = 0; d < width; ++d) {
            score += q[row * width + d] * k[(first + j) * width + d];
          }
          return score * with.number[0];
        }));
  }
}
inline numbers attention_of(const numbers& q, const numbers& k, const numbers& v,
                            const settings& with) {
  numbers y(q.extents);
  const std::int64_t width = q.extents[3];
  each_query(q, k, with, [&](std::int64_t row, std::int64_t first, const std::vector<double>& w) {
    for (std::int64_t at = 0; at < static_cast<std::int64_t>(w.size()) * width; ++at) {
      y[row * width + at % width] +=
          w[static_cast<std::size_t>(at / width)] * v[first * width + at];
    }
  });
  return y;
}

}  // namespace detail

template <>
struct samples<ops::scaled_dot_product_attention> {
  template <class T>
  using arguments = types<T, T, T>;
  static std::tuple<bool, double> attributes(const settings& s) { return {s.flag[0], s.number[0]}; }
  static void list(sample_list& all) { detail::list_attention(all, false, nullptr); }
  static std::vector<numbers> twin(const question& q) {
    return {detail::attention_of(q.in[0], q.in[1], q.in[2], q.with)};
  }
};
template <>
struct samples<ops::scaled_dot_product_attention_backward> {
  template <class T>
  using arguments = types<T, T, T, T, T>;
  /// The result that it is given must be that of its arguments: narrow types round it.
  template <class T>
  static constexpr bool takes = std::floating_point<T>;
  static std::tuple<bool, double> attributes(const settings& s) { return {s.flag[0], s.number[0]}; }
  static void list(sample_list& all) {
    detail::list_attention(all, true, [](std::vector<numbers>& in, const settings& with) {
      in[4] = detail::attention_of(in[1], in[2], in[3], with);
    });
  }
  static std::vector<numbers> twin(const question& ask) {
    const numbers& g = ask.in[0];
    const numbers& q = ask.in[1];
    const numbers& k = ask.in[2];
    const numbers& v = ask.in[3];
    std::vector<numbers> all{numbers(q.extents), numbers(k.extents), numbers(k.extents)};
    const std::int64_t width = q.extents[3];
    detail::each_query(
        q, k, ask.with, [&](std::int64_t row, std::int64_t first, const std::vector<double>& w) {
          std::vector<double> slope(w.size());
          double mean = 0;
          for (std::size_t j = 0; j < w.size(); ++j) {
            for (std::int64_t d = 0; d < width; ++d) {
              const std::int64_t key = (first + static_cast<std::int64_t>(j)) * width + d;
              slope[j] += g[row * width + d] * v[key];
              all[2][key] += w[j] * g[row * width + d];
            }
            mean += w[j] * slope[j];
          }
          for (std::size_t j = 0; j < w.size(); ++j) {
            const double s = w[j] * (slope[j] - mean) * ask.with.number[0];
            for (std::int64_t d = 0; d < width; ++d) {
              const std::int64_t key = (first + static_cast<std::int64_t>(j)) * width + d;
              all[0][row * width + d] += s * k[key];
              all[1][key] += s * q[row * width + d];
            }
          }
        });
    return all;
  }
};

/// Three sequences whose blocks alternate; rows of some tokens and of a chunk of others.
template <>
struct samples<ops::paged_attention> {
  template <class T>
  using arguments = types<T, T, T, std::int32_t, std::int32_t, std::int32_t>;
  static std::tuple<double> attributes(const settings& s) { return {s.number[0]}; }
  static void list(sample_list& all) {
    for (const std::int64_t width : {std::int64_t{1}, std::int64_t{5}, std::int64_t{66}}) {
      for (const std::int64_t rows :
           {std::int64_t{0}, std::int64_t{1}, std::int64_t{3}, std::int64_t{40}}) {
        all.add_once({.in = {{{rows, 4, width}},
                             {{15, 2, width, 16}},
                             {{15, 2, 16, width}},
                             {{3, 5}},
                             {{rows}},
                             {{rows}}},
                      .with = {.number = {0.3}},
                      .allowed = {static_cast<double>(70 + 4 * width) + 16, 4},
                      .prepare = prepare});
      }
    }
    all.add_once({.in = {{{2, 3, 4}}, {{1, 2, 4, 8}}, {{1, 2, 8, 4}}, {{1, 1}}, {{2}}, {{2}}},
                  .with = {.number = {0.3}},
                  .refused = true,
                  .prepare = prepare});
  }
  static std::vector<numbers> twin(const question& ask) {
    const numbers& q = ask.in[0];
    const shape& cache = ask.in[1].extents;
    const std::int64_t heads = q.extents[1];
    const std::int64_t width = q.extents[2];
    const std::int64_t length = cache[3];
    numbers y(q.extents);
    for (std::int64_t row = 0; row < q.extents[0] * heads; ++row) {
      const std::int64_t token = row / heads;
      const auto block = [&](std::int64_t j) {  // the row of its block and head
        const double at =
            ask.in[3]
                  [static_cast<std::int64_t>(ask.in[4][token]) * ask.in[3].extents[1] + j / length];
        return static_cast<std::int64_t>(at) * cache[1] + row % heads * cache[1] / heads;
      };
      const auto w =
          detail::weights(static_cast<std::int64_t>(ask.in[5][token]) + 1, [&](std::int64_t j) {
            double score = 0;
            for (std::int64_t d = 0; d < width; ++d) {
              score += q[row * width + d] * ask.in[1][(block(j) * width + d) * length + j % length];
            }
            return score * ask.with.number[0];
          });
      for (std::size_t j = 0; j < w.size(); ++j) {
        const auto key = static_cast<std::int64_t>(j);
        for (std::int64_t d = 0; d < width; ++d) {
          y[row * width + d] += w[j] * ask.in[2][(block(key) * length + key % length) * width + d];
        }
      }
    }
    return {y};
  }

 private:
  static void prepare(std::vector<numbers>& in, const settings&) {
    const std::int64_t sequences = in[3].extents[0];
    const std::int64_t each = in[3].extents[1];
    for (std::int64_t i = 0; i < in[3].size(); ++i) {
      in[3][i] = static_cast<double>(i % each * sequences + i / each);
    }
    const std::int64_t most = each * in[1].extents[3];
    for (std::int64_t i = 0; i < in[4].size(); ++i) {  // single tokens, then a chunk
      in[4][i] = static_cast<double>(i < 3 ? i % sequences : 1 % sequences);
      in[5][i] = static_cast<double>(i < 3 ? (i * 37 + 2) % most : (i + 20) % most);
    }
  }
};
template <>
struct samples<ops::cache_write> : plain_samples {
  template <class T>
  using arguments = types<T, T, T, T, std::int64_t>;
  template <class T>
  static constexpr bool takes = std::floating_point<T>;
  static constexpr std::array writes{0, 1};
  static void list(sample_list& all) {
    for (const std::int64_t rows : {std::int64_t{0}, std::int64_t{1}, std::int64_t{4}}) {
      all.add_once({.in = {{{6, 2, 7, 5}},
                           {{6, 2, 5, 7}},
                           {{rows, 2, 7}},
                           {{rows, 2, 7}, values::away},
                           {{rows}, values::index, 30}}});
    }
  }
  static std::vector<numbers> twin(const question& q) {
    std::vector<numbers> all{q.in[0], q.in[1]};
    const shape& cache = q.in[0].extents;
    const std::int64_t length = cache[3];
    for (std::int64_t i = 0; i < q.in[2].size(); ++i) {
      const std::int64_t d = i % cache[2];
      const std::int64_t head = i / cache[2] % cache[1];
      const auto slot = static_cast<std::int64_t>(q.in[4][i / cache[2] / cache[1]]);
      const std::int64_t at = slot / length * cache[1] + head;
      all[0][(at * cache[2] + d) * length + slot % length] = q.in[2][i];
      all[1][(at * length + slot % length) * cache[2] + d] = q.in[3][i];
    }
    return all;
  }
};

}  // namespace ashlar::conformance
