// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string_view>
#include <tuple>
#include <vector>

#include "ashlar/autograd/function.hpp"
#include "ashlar/comm/collectives.hpp"
#include "ashlar/nn/moe.hpp"
#include "ashlar/nn/parameter.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/gather.hpp"
#include "ashlar/parallel/detail/transfer.hpp"
#include "ashlar/parallel/tensor_parallel.hpp"

/// Expert parallelism: each rank has its own tokens and some of a mixture's experts; tokens travel
/// to their experts and back.
///
/// Source: Lepikhin et al., GShard (2020).
namespace ashlar::parallel {

namespace detail {

/// Rows to and from all ranks; the gradients go the other way.
///
/// A second argument wants a gradient on every rank or on none, so that all of them record this,
/// or none does: the first may come from experts that saw nothing here.
template <class Endpoint>
struct exchange_rows_function {
  static constexpr std::string_view name = "exchange_rows";
  Endpoint* group;
  std::vector<std::int64_t> sent, received;  ///< rows by rank

  template <Tensor X>
  X forward(function_context&, const X& x, const X&) const {
    using T = typename X::value_type;
    const std::int64_t width = x.extent(1);
    const auto elements = [width](const std::vector<std::int64_t>& rows) {
      std::vector<std::size_t> counts;
      for (const std::int64_t n : rows) {
        counts.push_back(static_cast<std::size_t>(n * width));
      }
      return comm::partition(counts);
    };
    const comm::partition here = elements(sent);
    const comm::partition there = elements(received);
    std::vector<T> out(here.count()), in(there.count());
    read(x, std::span(out));
    comm::all_to_all(*group, std::span<const T>(out), here, std::span(in), there);
    const X rows = empty<X>({std::reduce(received.begin(), received.end()), width});
    write(std::span<const T>(in), rows);
    return rows;
  }
  template <Tensor X>
  std::tuple<X, X> backward(const function_context&, const X& g) const {
    return {apply_function(exchange_rows_function{group, received, sent}, g, g), X{}};
  }
};

}  // namespace detail

/// A mixture of which this rank has the experts `comm::chunk_of(experts, p, rank)`, by their
/// numbers in the whole; the others have no parameters here. The gate is a copy.
///
/// Throws: `argument_error`, on every rank alike, where there are fewer experts than ranks.
template <class Stack, class Endpoint>
[[nodiscard]] nn::moe<Stack> shard_experts(const nn::moe<Stack>& whole, const Endpoint& group) {
  const no_grad off;
  const comm::chunk own = detail::chunk_in(std::ssize(whole.experts), group.size(), group.rank());
  nn::moe<Stack> part = whole;
  for (std::size_t e = 0; e < part.experts.size(); ++e) {
    if (e < own.first || e >= own.last) {
      part.experts[e] = {};
    }
  }
  nn::named_parameters(part, [](std::string_view, auto& x) { x = clone(x); });
  return part;
}

/// What a mixture makes of this rank's tokens, where `part` is `shard_experts` of it.
///
/// An expert sees the tokens of rank 0 first; its gradients are those of the sum of all ranks'
/// losses, the gate's those of this rank's.
/// Shapes: `x`, the result: (..., C); another number of tokens on each rank, also none.
/// Requires: every rank calls it alike; so do backward passes, on ranks without tokens too.
/// Cost:   three all-to-alls forward, one of them of counts; two backward. Waits for the chip.
template <class Stack, class Endpoint>
[[nodiscard]] nn::parameter_of<Stack> expert_parallel(Endpoint& group, const nn::moe<Stack>& part,
                                                      const nn::parameter_of<Stack>& x) {
  using X = nn::parameter_of<Stack>;
  using numbers = tensor<std::int64_t, typename X::keys>;
  return part.mix(x, [&](const X& sorted, const std::vector<std::int64_t>& counts) -> X {
    const int p = group.size();
    const comm::partition owners(counts.size(), p);
    const comm::chunk own = owners.at(group.rank());
    const std::vector<std::size_t> mine(static_cast<std::size_t>(p), own.size());
    std::vector<std::int64_t> wanted(own.size() * static_cast<std::size_t>(p));  // [rank][expert]
    comm::all_to_all(group, std::span(counts), owners, std::span(wanted), comm::partition(mine));

    detail::exchange_rows_function<Endpoint> there{&group, {}, {}};
    std::vector<std::int64_t> first(wanted.size());  // where a rank's rows for an expert begin
    std::exclusive_scan(wanted.begin(), wanted.end(), first.begin(), std::int64_t{0});
    for (int rank = 0; rank < p; ++rank) {
      const comm::chunk theirs = owners.at(rank);
      const auto from = static_cast<std::size_t>(rank) * own.size();
      const auto sum = [](const auto& all, std::size_t begin, std::size_t n) {
        const auto at = all.begin() + static_cast<std::ptrdiff_t>(begin);
        return std::reduce(at, at + static_cast<std::ptrdiff_t>(n), std::int64_t{0});
      };
      there.sent.push_back(sum(counts, theirs.first, theirs.size()));
      there.received.push_back(sum(wanted, from, own.size()));
    }
    // By expert, then by rank; and back.
    std::vector<std::int64_t> here(counts.size()), by_expert,
        place(static_cast<std::size_t>(std::reduce(wanted.begin(), wanted.end())));
    for (std::size_t e = 0; e < own.size(); ++e) {
      for (std::size_t at = e; at < wanted.size(); at += own.size()) {
        here[own.first + e] += wanted[at];
        for (std::int64_t i = 0; i < wanted[at]; ++i) {
          place[static_cast<std::size_t>(first[at] + i)] = std::ssize(by_expert);
          by_expert.push_back(first[at] + i);
        }
      }
    }
    const auto pick = [](const X& rows, const std::vector<std::int64_t>& which) -> X {
      return index_select(rows, 0, from_values<numbers>({std::ssize(which)}, which));
    };
    const X arrived = apply_function(there, sorted, part.gate.weight);
    const X results = pick(part.through_experts(pick(arrived, by_expert), here), place);
    return apply_function(
        detail::exchange_rows_function<Endpoint>{&group, there.received, there.sent}, results,
        part.gate.weight);
  });
}

}  // namespace ashlar::parallel
