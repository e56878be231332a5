// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "ashlar/autograd/function.hpp"
#include "ashlar/comm/schedule.hpp"
#include "ashlar/comm/transport.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/attention.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/math.hpp"
#include "ashlar/ops/matmul.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/views.hpp"
#include "ashlar/parallel/detail/transfer.hpp"

/// Context parallelism: attention over a text of which each rank has some of the tokens.
///
/// Source: Liu et al., Ring Attention (2023); the softmax in blocks as in Milakov and Gimelshein
///         (2018).
namespace ashlar::parallel {

/// Which tokens of a text a rank has: one run of them, or with `zigzag` two, the r-th of the first
/// half and its mirror image in the second, so that ranks have equal work under a causal mask.
struct context_layout {
  std::int64_t tokens = 0;  ///< of the whole text
  int ranks = 1;
  bool zigzag = true;

  struct run {
    int number;  ///< in the order of the text
    std::int64_t first, last;
    [[nodiscard]] std::int64_t size() const { return last - first; }
  };
  /// In the order in which a rank has them; empty ones are left out.
  [[nodiscard]] std::vector<run> runs(int rank) const {
    comm::detail::check_rank("ashlar::parallel::context_layout", rank, ranks);
    std::vector<run> own;
    const auto add = [&](int number, int of) {
      const comm::chunk c = comm::chunk_of(static_cast<std::size_t>(tokens), of, number);
      if (c.size() > 0) {
        own.push_back(
            {number, static_cast<std::int64_t>(c.first), static_cast<std::int64_t>(c.last)});
      }
    };
    add(rank, zigzag ? 2 * ranks : ranks);
    if (zigzag) {
      add(2 * ranks - 1 - rank, 2 * ranks);
    }
    return own;
  }
  /// Where this rank's tokens stand in the text.
  [[nodiscard]] std::vector<std::int32_t> positions(int rank) const {
    std::vector<std::int32_t> all;
    for (const run& r : runs(rank)) {
      for (std::int64_t i = r.first; i < r.last; ++i) {
        all.push_back(static_cast<std::int32_t>(i));
      }
    }
    return all;
  }
  [[nodiscard]] std::int64_t size(int rank) const {
    std::int64_t n = 0;
    for (const run& r : runs(rank)) {
      n += r.size();
    }
    return n;
  }
};

struct ring_options {
  bool causal = true;
  double scale = 1.0;  ///< of the scores: 1 / sqrt(Dh) in most models
  int tag = 31000;     ///< of the messages; `tag + 1` too
};

namespace detail {

/// Keys and values of one rank's runs, or their gradients.
template <Tensor X>
struct context_block {
  std::vector<X> keys, values;
};

/// Attention of this rank's queries, and what goes round for it.
template <class Endpoint, Tensor X>
class context_ring {
  using T = typename X::value_type;
  using block = context_block<X>;

 public:
  context_ring(Endpoint& group, const context_layout& layout, const ring_options& options,
               const X& q, const X& k)
      : group_(group),
        layout_(layout),
        options_(options),
        batch_(q.extent(0)),
        kv_heads_(k.extent(1)),
        shared_(q.extent(1) / k.extent(1)),
        width_(q.extent(3)),
        own_(layout.runs(group.rank())) {}

  /// (B, h, T, Dh) -> (B, Hkv, h / Hkv * T of a run, Dh) each: heads that share keys stand one
  /// after the other.
  [[nodiscard]] std::vector<X> cut(const X& x) const {
    std::vector<X> parts;
    std::int64_t at = 0;
    for (const auto& r : own_) {
      const X part = narrow(x, 2, std::exchange(at, at + r.size()), r.size());
      parts.push_back(contiguous(
          reshape(part, shape{batch_, kv_heads_, x.extent(1) / kv_heads_ * r.size(), width_})));
    }
    return parts;
  }
  /// The reverse, of `heads` heads.
  [[nodiscard]] X join(const std::vector<X>& parts, std::int64_t heads) const {
    const X whole = empty<X>({batch_, heads, layout_.size(group_.rank()), width_});
    std::int64_t at = 0;
    for (std::size_t i = 0; i < own_.size(); ++i) {
      const std::int64_t n = own_[i].size();
      X place = narrow(whole, 2, std::exchange(at, at + n), n);
      op_function<ops::copy>{}.in_place(place, reshape(parts[i], shape{batch_, heads, n, width_}));
    }
    return whole;
  }

  /// Shows every rank's block, this rank's own first, to `see(runs, block)`, while the next one is
  /// under way.
  template <class See>
  void go_round(block now, const See& see) const {
    const int p = group_.size();
    for (int step = 0; step < p; ++step) {
      const int source = (group_.rank() - step + p) % p;
      const auto before = layout_.runs((source - 1 + p) % p);
      if (step + 1 == p) {
        see(layout_.runs(source), now);
        return;
      }
      const std::vector<T> out = packed(now);
      std::vector<T> in(size_of(before));
      auto sent =
          group_.isend((group_.rank() + 1) % p, std::as_bytes(std::span(out)), options_.tag);
      auto received = group_.irecv((group_.rank() - 1 + p) % p,
                                   std::as_writable_bytes(std::span(in)), options_.tag);
      see(layout_.runs(source), now);
      group_.wait(received);
      group_.wait(sent);
      now = unpacked(before, in);
    }
  }
  /// Gradients of the block of `runs` go on to the next rank; returns those that come here.
  [[nodiscard]] block pass_on(const block& gradients, int source) const {
    const int p = group_.size();
    if (p == 1) {
      return gradients;
    }
    const auto before = layout_.runs((source - 1 + p) % p);
    const std::vector<T> out = packed(gradients);
    std::vector<T> in(size_of(before));
    auto sent =
        group_.isend((group_.rank() + 1) % p, std::as_bytes(std::span(out)), options_.tag + 1);
    auto received = group_.irecv((group_.rank() - 1 + p) % p, std::as_writable_bytes(std::span(in)),
                                 options_.tag + 1);
    group_.wait(received);
    group_.wait(sent);
    return unpacked(before, in);
  }
  [[nodiscard]] block zeros_of(const std::vector<context_layout::run>& runs) const {
    return unpacked(runs, std::vector<T>(size_of(runs)));
  }

  [[nodiscard]] bool sees(const context_layout::run& query, const context_layout::run& key) const {
    return !options_.causal || key.number <= query.number;
  }
  /// Scaled scores of a run of queries and one of keys; far below every other where a query does
  /// not see a key.
  [[nodiscard]] X scores(const X& q, const X& k, const context_layout::run& query,
                         const context_layout::run& key) const {
    const X all = scale(matmul(q, transpose(k, -2, -1)), options_.scale);
    return options_.causal && key.number == query.number ? add(all, mask(query.size())) : all;
  }
  [[nodiscard]] const std::vector<context_layout::run>& own() const { return own_; }

 private:
  /// (G n, n)
  [[nodiscard]] X mask(std::int64_t n) const {
    std::vector<T> values;
    for (std::int64_t row = 0; row < shared_ * n; ++row) {
      for (std::int64_t key = 0; key < n; ++key) {
        // Not -inf, which has no difference with itself; every query sees itself, so exp gives 0.
        values.push_back(static_cast<T>(key <= row % n ? 0.0 : -1e30));
      }
    }
    return from_values<X>({shared_ * n, n}, values);
  }
  [[nodiscard]] std::size_t size_of(const std::vector<context_layout::run>& runs) const {
    std::int64_t tokens = 0;
    for (const auto& r : runs) {
      tokens += r.size();
    }
    return static_cast<std::size_t>(2 * batch_ * kv_heads_ * tokens * width_);
  }
  [[nodiscard]] std::vector<T> packed(const block& b) const {
    std::vector<T> all;
    for (const auto* parts : {&b.keys, &b.values}) {
      for (const X& x : *parts) {
        all.resize(all.size() + static_cast<std::size_t>(x.size()));
        read(x, std::span(all).last(static_cast<std::size_t>(x.size())));
      }
    }
    return all;
  }
  [[nodiscard]] block unpacked(const std::vector<context_layout::run>& runs,
                               const std::vector<T>& from) const {
    block b;
    std::size_t at = 0;
    for (auto* parts : {&b.keys, &b.values}) {
      for (const auto& r : runs) {
        const X x = empty<X>({batch_, kv_heads_, r.size(), width_});
        const auto n = static_cast<std::size_t>(x.size());
        write(std::span<const T>(from).subspan(std::exchange(at, at + n), n), x);
        parts->push_back(x);
      }
    }
    return b;
  }

  Endpoint& group_;
  const context_layout& layout_;
  const ring_options& options_;
  std::int64_t batch_, kv_heads_, shared_, width_;
  std::vector<context_layout::run> own_;
};

template <class Endpoint>
struct ring_attention_function {
  static constexpr std::string_view name = "ring_attention";
  Endpoint* group;
  context_layout layout;
  ring_options options;

  template <Tensor X>
  X forward(function_context& kept, const X& q, const X& k, const X& v) const {
    const context_ring<Endpoint, X> ring(*group, layout, options, q, k);
    const std::vector<X> queries = ring.cut(q);
    struct softmax {  // of a run of queries, so far
      X peak, sum, values;
    };
    std::vector<softmax> state(queries.size());
    ring.go_round({ring.cut(k), ring.cut(v)}, [&](const auto& runs, const auto& block) {
      for (std::size_t i = 0; i < queries.size(); ++i) {
        for (std::size_t j = 0; j < runs.size(); ++j) {
          if (!ring.sees(ring.own()[i], runs[j])) {
            continue;
          }
          const X s = ring.scores(queries[i], block.keys[j], ring.own()[i], runs[j]);
          softmax& now = state[i];
          const X highest = max(s, -1, true);
          const X peak = now.peak ? maximum(now.peak, highest) : highest;
          const X p = exp(sub(s, peak));
          X total = sum(p, -1, true);
          X values = matmul(p, block.values[j]);
          if (now.peak) {
            const X shrink = exp(sub(now.peak, peak));
            total = add(mul(now.sum, shrink), total);
            values = add(mul(now.values, shrink), values);
          }
          now = {peak, total, values};
        }
      }
    });
    std::vector<X> results;
    for (const softmax& s : state) {
      results.push_back(div(s.values, s.sum));
    }
    const X y = ring.join(results, q.extent(1));
    for (const X* x : {&q, &k, &v, &y}) {
      kept.save(*x);
    }
    for (const softmax& s : state) {  // the logarithm of the sum of exponents
      kept.save(X(add(s.peak, log(s.sum))));
    }
    return y;
  }

  template <Tensor X>
  std::tuple<X, X, X> backward(const function_context& kept, const X& g) const {
    if (grad_enabled()) {
      throw not_recordable(name, "its gradient has no gradient; do not create a graph");
    }
    const X q = kept.saved<X>(0);
    const X k = kept.saved<X>(1);
    const context_ring<Endpoint, X> ring(*group, layout, options, q, k);
    const std::vector<X> queries = ring.cut(q);
    const std::vector<X> above = ring.cut(g);
    const std::vector<X> results = ring.cut(kept.saved<X>(3));
    std::vector<X> logs, inner, dq;
    for (std::size_t i = 0; i < queries.size(); ++i) {
      logs.push_back(kept.saved<X>(4 + i));
      inner.push_back(sum(mul(above[i], results[i]), -1, true));
      dq.emplace_back();
    }
    int source = group->rank();
    context_block<X> gradients = ring.zeros_of(ring.own());
    ring.go_round({ring.cut(k), ring.cut(kept.saved<X>(2))},
                  [&](const auto& runs, const auto& block) {
                    for (std::size_t i = 0; i < queries.size(); ++i) {
                      for (std::size_t j = 0; j < runs.size(); ++j) {
                        if (!ring.sees(ring.own()[i], runs[j])) {
                          continue;
                        }
                        const X s = ring.scores(queries[i], block.keys[j], ring.own()[i], runs[j]);
                        const X p = exp(sub(s, logs[i]));
                        const X dp = matmul(above[i], transpose(block.values[j], -2, -1));
                        const X ds = scale(mul(p, sub(dp, inner[i])), options.scale);
                        const X dqi = matmul(ds, block.keys[j]);
                        dq[i] = dq[i] ? add(dq[i], dqi) : dqi;
                        X& dk = gradients.keys[j];
                        X& dv = gradients.values[j];
                        dk = add(dk, matmul(transpose(ds, -2, -1), queries[i]));
                        dv = add(dv, matmul(transpose(p, -2, -1), above[i]));
                      }
                    }
                    gradients = ring.pass_on(gradients, source);
                    source = (source - 1 + group->size()) % group->size();
                  });
    return {ring.join(dq, q.extent(1)), ring.join(gradients.keys, k.extent(1)),
            ring.join(gradients.values, k.extent(1))};
  }
};

}  // namespace detail

/// `scaled_dot_product_attention` of a text that is divided among the ranks as `layout` says: keys
/// and values go round, and each rank adds up what its queries see of them.
///
/// Shapes: `q`, the result: (B, H, this rank's tokens, Dh); `k`, `v`: (B, Hkv, this rank's tokens,
///         Dh), H a multiple of Hkv; in the order of `layout.positions(rank)`.
/// Throws: `shape_error`; what the transport throws; `not_recordable` in a backward pass that is to
///         have gradients itself.
/// Cost:   p - 1 messages of a rank's keys and values forward, under way while the ones before are
///         used; backward p more with their gradients. Scores of one run of queries and one of
///         keys are in memory at a time; they are computed again backward.
template <class Endpoint, Tensor X>
[[nodiscard]] X ring_attention(Endpoint& group, const context_layout& layout, const X& q,
                               const X& k, const X& v, const ring_options& options = {}) {
  constexpr const char* entity = "ashlar::parallel::ring_attention";
  if (layout.ranks != group.size()) {
    throw argument_error(entity, "a layout for " + std::to_string(layout.ranks) +
                                     " ranks in a group of " + std::to_string(group.size()));
  }
  ops::detail::require_attention(entity, q.spec(), k.spec(), v.spec());
  const std::int64_t tokens = layout.size(group.rank());
  if (q.extent(2) != tokens || k.extent(2) != tokens) {
    throw shape_error(entity, q.shape(), k.shape(),
                      "queries and keys have this rank's tokens, " + std::to_string(tokens));
  }
  return apply_function(detail::ring_attention_function<Endpoint>{&group, layout, options}, q, k,
                        v);
}

}  // namespace ashlar::parallel
