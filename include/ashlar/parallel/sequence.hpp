// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/autograd/function.hpp"
#include "ashlar/comm/collectives.hpp"
#include "ashlar/comm/schedule.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/parallel/detail/transfer.hpp"

/// Sequence parallelism: what treats each token on its own, norms and residuals, has a part of the
/// tokens on each rank of a tensor parallel group.
///
/// `gather_rows` stands where `enter_tensor_parallel` does, `reduce_rows` where
/// `leave_tensor_parallel` does. An all-reduce is a reduce-scatter and an all-gather, so nothing
/// more is sent. Parameters that saw a part of the tokens need `sum_gradients`.
/// Source: Korthikanti et al. (2022), section 4.2.
namespace ashlar::parallel {

namespace detail {

/// Rank r has the rows `comm::chunk_of(rows, p, r)`.
template <class Endpoint>
[[nodiscard]] comm::partition elements_of_rows(const Endpoint& group, std::int64_t rows,
                                               std::int64_t width) {
  std::vector<std::size_t> counts;
  for (int rank = 0; rank < group.size(); ++rank) {
    counts.push_back(comm::chunk_of(static_cast<std::size_t>(rows), group.size(), rank).size() *
                     static_cast<std::size_t>(width));
  }
  return comm::partition(counts);
}

template <class Endpoint, Tensor X>
[[nodiscard]] X all_rows(Endpoint& group, const X& own, std::int64_t rows) {
  const std::int64_t width = own.extent(1);
  const comm::partition parts = elements_of_rows(group, rows, width);
  std::vector<typename X::value_type> all(parts.count());
  const comm::chunk place = parts.at(group.rank());
  if (own.size() != static_cast<std::int64_t>(place.size())) {
    throw shape_error("ashlar::parallel::gather_rows", own.shape(), shape{rows, width}.span(),
                      "this rank's rows are not those of the whole on the right");
  }
  const auto part = std::span(all).subspan(place.first, place.size());
  read(own, part);
  comm::all_gather(group, std::span<const typename X::value_type>(part), std::span(all), parts);
  const X whole = empty<X>({rows, width});
  write(std::span<const typename X::value_type>(all), whole);
  return whole;
}

template <class Algorithm, class Endpoint, Tensor X>
[[nodiscard]] X sum_of_own_rows(Endpoint& group, const X& all) {
  using W = wire_type<typename X::value_type>;
  const std::int64_t width = all.extent(1);
  std::vector<W> values(static_cast<std::size_t>(all.size()));
  read(all, std::span(values));
  const std::span<const W> own = comm::reduce_scatter<Algorithm>(
      group, std::span(values), elements_of_rows(group, all.extent(0), width));
  const auto rows =
      comm::chunk_of(static_cast<std::size_t>(all.extent(0)), group.size(), group.rank());
  const X sum = empty<X>({static_cast<std::int64_t>(rows.size()), width});
  write(own, sum);
  return sum;
}

template <class Endpoint, class Algorithm>
struct reduce_rows_function;

template <class Endpoint, class Algorithm>
struct gather_rows_function {
  static constexpr std::string_view name = "gather_rows";
  Endpoint* group;
  std::int64_t rows;
  template <Tensor X>
  X forward(function_context&, const X& x) const {
    return all_rows(*group, x, rows);
  }
  template <Tensor X>
  X backward(const function_context&, const X& g) const {
    return apply_function(reduce_rows_function<Endpoint, Algorithm>{group, rows}, g);
  }
};
template <class Endpoint, class Algorithm>
struct reduce_rows_function {
  static constexpr std::string_view name = "reduce_rows";
  Endpoint* group;
  std::int64_t rows;
  template <Tensor X>
  X forward(function_context&, const X& x) const {
    return sum_of_own_rows<Algorithm>(*group, x);
  }
  template <Tensor X>
  X backward(const function_context&, const X& g) const {
    return apply_function(gather_rows_function<Endpoint, Algorithm>{group, rows}, g);
  }
};

}  // namespace detail

/// All ranks' rows, as the input of layers that are cut by columns.
///
/// Shapes: `own`: (`comm::chunk_of(rows, p, rank)`, C); result: (rows, C), the same on every rank.
/// Throws: `shape_error`.
/// Cost:   an all-gather forward, a reduce-scatter of the gradient backward.
template <class Algorithm = comm::ring, class Endpoint, Tensor X>
[[nodiscard]] X gather_rows(Endpoint& group, const X& own, std::int64_t rows) {
  return apply_function(detail::gather_rows_function<Endpoint, Algorithm>{&group, rows}, own);
}
/// This rank's rows of the sum of all ranks' `x`, as the output of layers that are cut by rows.
///
/// Shapes: `x`: (rows, C); result: (`comm::chunk_of(rows, p, rank)`, C).
/// Cost:   a reduce-scatter forward, an all-gather of the gradient backward.
template <class Algorithm = comm::ring, class Endpoint, Tensor X>
[[nodiscard]] X reduce_rows(Endpoint& group, const X& x) {
  return apply_function(detail::reduce_rows_function<Endpoint, Algorithm>{&group, x.extent(0)}, x);
}

/// Replaces the gradients of parameters by their sums over the ranks, in one all-reduce.
///
/// Requires: every rank gives as many parameters of the same shapes.
/// Effects:  a parameter without a gradient on this rank counts as zeros, and has one afterwards.
template <class Algorithm = comm::ring, class Endpoint, Tensor X>
void sum_gradients(Endpoint& group, const std::vector<X>& parameters) {
  using W = detail::wire_type<typename X::value_type>;
  if (group.size() == 1) {
    return;
  }
  std::size_t count = 0;
  for (const X& p : parameters) {
    count += static_cast<std::size_t>(p.size());
  }
  std::vector<W> all(count);
  const auto place = [&all, at = std::size_t{0}](const X& p) mutable {
    const auto n = static_cast<std::size_t>(p.size());
    return std::span(all).subspan(std::exchange(at, at + n), n);
  };
  auto from = place;
  for (const X& p : parameters) {
    const auto part = from(p);
    if (const auto& g = gradient(p)) {
      detail::read(X(g), part);
    }
  }
  comm::all_reduce<Algorithm>(group, std::span(all));
  const no_grad off;
  auto to = place;
  for (const X& p : parameters) {
    const X sum = empty<X>(shape(p.shape()));
    detail::write(std::span<const W>(to(p)), sum);
    gradient(p) = sum;
  }
}

}  // namespace ashlar::parallel
