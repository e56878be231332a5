// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ashlar/autograd/function.hpp"
#include "ashlar/comm/collectives.hpp"
#include "ashlar/comm/transport.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/nn/linear.hpp"
#include "ashlar/nn/module.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/views.hpp"
#include "ashlar/parallel/detail/transfer.hpp"

/// Linear layers of which every rank of a group has a part.
///
/// A layer cut by columns of its output in front of one cut by rows of its input, with anything
/// elementwise between them, costs one all-reduce forward and one backward: a transformer's layer,
/// two such pairs, costs four.
/// Source: Megatron-LM (Shoeybi et al., 2019).
namespace ashlar::parallel {

namespace detail {

/// The sum of all ranks' `x`, or what another operation makes of them, the same bits on each.
template <class Algorithm, comm::ReduceOp Op = comm::sum_op, class Endpoint, Tensor X>
[[nodiscard]] X summed(Endpoint& group, const X& x) {
  std::vector<wire_type<typename X::value_type>> all(static_cast<std::size_t>(x.size()));
  read(x, std::span(all));
  comm::all_reduce<Algorithm>(group, std::span(all), Op{});
  const X sum = empty<X>(shape(x.shape()));
  write(std::span<const wire_type<typename X::value_type>>(all), sum);
  return sum;
}

template <class Endpoint, class Algorithm>
struct leave_group;

/// The input of layers that are cut by columns: each rank's gradient of it is a summand.
template <class Endpoint, class Algorithm>
struct enter_group {
  static constexpr std::string_view name = "enter_group";
  Endpoint* group;
  template <Tensor X>
  X forward(function_context&, const X& x) const {
    return x;
  }
  template <Tensor X>
  X backward(const function_context&, const X& g) const {
    return apply_function(leave_group<Endpoint, Algorithm>{group}, g);
  }
};
/// The output of layers that are cut by rows: each rank has a summand.
template <class Endpoint, class Algorithm>
struct leave_group {
  static constexpr std::string_view name = "leave_group";
  Endpoint* group;
  template <Tensor X>
  X forward(function_context&, const X& x) const {
    return summed<Algorithm>(*group, x);
  }
  template <Tensor X>
  X backward(const function_context&, const X& g) const {
    return apply_function(enter_group<Endpoint, Algorithm>{group}, g);
  }
};

/// What one rank has of an axis whose entries stay together by `unit`.
///
/// Throws: `argument_error`, on every rank alike, where there is not something for each.
[[nodiscard]] inline comm::chunk chunk_in(std::int64_t extent, int ranks, int rank,
                                          std::int64_t unit = 1) {
  if (unit < 1 || extent % unit != 0 || extent / unit < ranks) {
    throw argument_error("ashlar::parallel", "an axis of " + std::to_string(extent) +
                                                 " in units of " + std::to_string(unit) + " for " +
                                                 std::to_string(ranks) +
                                                 " ranks; there must be something for each");
  }
  const comm::chunk units = comm::chunk_of(static_cast<std::size_t>(extent / unit), ranks, rank);
  const auto each = static_cast<std::size_t>(unit);
  return {units.first * each, units.last * each};
}

/// A part of an axis, as a view.
template <Tensor X>
[[nodiscard]] X view_of(const X& whole, int axis, comm::chunk part) {
  return narrow(whole, axis, static_cast<std::int64_t>(part.first),
                static_cast<std::int64_t>(part.size()));
}
/// A copy of this rank's share of an axis.
template <class Endpoint, Tensor X>
[[nodiscard]] X share_of(const Endpoint& group, const X& whole, int axis) {
  const no_grad off;
  return clone(view_of(whole, axis, chunk_in(whole.extent(axis), group.size(), group.rank())));
}

}  // namespace detail

/// `x`, the same on every rank, as the input of layers that are cut by columns.
///
/// Cost: nothing forward; one all-reduce of the gradient backward.
template <class Algorithm = comm::ring, class Endpoint, Tensor X>
[[nodiscard]] X enter_tensor_parallel(Endpoint& group, const X& x) {
  return group.size() == 1 ? x
                           : apply_function(detail::enter_group<Endpoint, Algorithm>{&group}, x);
}
/// The sum of all ranks' `x`, as the output of layers that are cut by rows.
///
/// Cost: one all-reduce forward; nothing backward.
template <class Algorithm = comm::ring, class Endpoint, Tensor X>
[[nodiscard]] X leave_tensor_parallel(Endpoint& group, const X& x) {
  return group.size() == 1 ? x
                           : apply_function(detail::leave_group<Endpoint, Algorithm>{&group}, x);
}

/// This rank's outputs of a linear layer: `y_r = x W_r^T + b_r`.
///
/// Requires: the endpoint outlives it; every rank of the group calls it alike.
template <class Stack, class Endpoint, class Algorithm = comm::ring>
class column_parallel {
 public:
  using parameter = nn::parameter_of<Stack>;
  BOOST_HANA_DEFINE_STRUCT(column_parallel, (parameter, weight), (parameter, bias));

  /// Throws: `argument_error` where there are fewer outputs than ranks.
  [[nodiscard]] static column_parallel of(const nn::linear<Stack>& whole, Endpoint& group) {
    column_parallel part;
    part.group_ = &group;
    part.weight = detail::share_of(group, whole.weight, 0);
    if (whole.bias) {
      part.bias = detail::share_of(group, whole.bias, 0);
    }
    return part;
  }

  /// Shapes: `x`: (..., in), the same on every rank; result: (..., this rank's outputs).
  auto operator()(const auto& x) const {
    const auto shared = enter_tensor_parallel<Algorithm>(*group_, x);
    return bias ? linear(shared, weight, bias) : linear(shared, weight);
  }

 private:
  Endpoint* group_ = nullptr;
};

/// A linear layer of which this rank has its inputs' part: `y = sum_r x_r W_r^T + b`.
///
/// Requires: as `column_parallel`.
template <class Stack, class Endpoint, class Algorithm = comm::ring>
class row_parallel {
 public:
  using parameter = nn::parameter_of<Stack>;
  BOOST_HANA_DEFINE_STRUCT(row_parallel, (parameter, weight), (parameter, bias));

  /// Throws: `argument_error` where there are fewer inputs than ranks.
  [[nodiscard]] static row_parallel of(const nn::linear<Stack>& whole, Endpoint& group) {
    row_parallel part;
    part.group_ = &group;
    part.weight = detail::share_of(group, whole.weight, 1);
    if (whole.bias) {
      const no_grad off;
      part.bias = clone(whole.bias);
    }
    return part;
  }

  /// Shapes: `x`: (..., this rank's inputs); result: (..., out), the same on every rank.
  auto operator()(const auto& x) const {
    const auto y = leave_tensor_parallel<Algorithm>(*group_, linear(x, weight));
    return bias ? add(y, bias) : y;
  }

 private:
  Endpoint* group_ = nullptr;
};

}  // namespace ashlar::parallel
