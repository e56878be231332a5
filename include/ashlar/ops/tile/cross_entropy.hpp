// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstdint>
#include <limits>

#include "ashlar/ops/cross_entropy.hpp"
#include "ashlar/ops/tile/rows.hpp"

/// The loss of a classifier as tile programs. A target that is no class stops the kernel
/// (`require`) on chips that can.
namespace ashlar {

namespace ops::programs {

/// The largest element of a row and the sum of `exp(x - largest)`.
template <Scalar C, int B, class X>
constexpr auto row_exponentials(tile::scope& k, const X& x, tile::index row) {
  constexpr double lowest = -std::numeric_limits<double>::infinity();
  const auto n = x.extent(1);
  const auto inside = x.outside(lowest);
  const auto read = [&](tile::index c) { return tile::cast<C>(tile::load<B>(inside, row, c)); };
  const auto largest = tile::max<0>(k.loop(
      0, n, B, [&](tile::index c, auto best) { return tile::max(best, read(c)); },
      k.full<C, B>(lowest)));
  const auto total = tile::sum<0>(k.loop(
      0, n, B, [&](tile::index c, auto sum) { return sum + tile::exp(read(c) - largest); },
      k.zeros<C, B>()));
  return std::tuple(largest, total);
}

/// The loss of each row; 0 where it is ignored.
template <Scalar T, std::integral I, int B = detail::tile_block>
struct cross_entropy_rows {
  static constexpr auto name = "cross_entropy_rows";
  using C = compute_type<T>;

  constexpr void operator()(tile::scope& k, tile::out<C, 1> losses, tile::in<T, 2> logits,
                            tile::in<I, 1> targets, tile::arg<std::int64_t> ignored) const {
    const auto row = k.program_id(0);
    const auto target = tile::cast<std::int64_t>(tile::load(targets, row));
    const auto counts = target != ignored;
    k.require(0, (!counts) | ((target >= 0) & (target < logits.extent(1))));
    k.branch(
        counts,
        [&] {
          const auto found = row_exponentials<C, B>(k, logits, row);
          const auto own = tile::cast<C>(tile::load(logits, row, target));
          tile::store(losses, tile::log(std::get<1>(found)) - (own - std::get<0>(found)), row);
        },
        [&] { tile::store(losses, k.constant<C>(0), row); });
  }
};

/// How many targets count, in `C`.
template <Scalar C, int B, class X>
constexpr auto count_targets(tile::scope& k, const X& targets, tile::index ignored) {
  const auto n = targets.extent(0);
  const auto places = k.iota<std::int64_t, 0, B>();
  const auto count = tile::sum<0>(k.loop(
      0, n, B,
      [&](tile::index c, auto sum) {
        const auto target = tile::cast<std::int64_t>(tile::load<B>(targets, c));
        const auto counts = (target != ignored) & (places < n - c);
        return sum + tile::cast<std::int64_t>(counts);
      },
      k.zeros<std::int64_t, B>()));
  return tile::cast<C>(count);
}

/// The mean of the losses of the rows that count: one program.
template <Scalar T, std::integral I, int B = detail::tile_block>
struct cross_entropy_mean {
  static constexpr auto name = "cross_entropy_mean";
  using C = compute_type<T>;

  constexpr void operator()(tile::scope& k, tile::out<T, 0> loss, tile::in<C, 1> losses,
                            tile::in<I, 1> targets, tile::arg<std::int64_t> ignored) const {
    const auto total = tile::sum<0>(k.loop(
        0, losses.extent(0), B,
        [&](tile::index c, auto sum) { return sum + tile::load<B>(losses, c); }, k.zeros<C, B>()));
    tile::store(loss, tile::cast<T>(total / count_targets<C, B>(k, targets, ignored)));
  }
};

/// What each row's gradient is multiplied with: `g / count`. One program.
template <Scalar T, std::integral I, int B = detail::tile_block>
struct cross_entropy_weight {
  static constexpr auto name = "cross_entropy_weight";
  using C = compute_type<T>;

  constexpr void operator()(tile::scope& k, tile::out<C, 1> weight, tile::in<T, 1> g,
                            tile::in<I, 1> targets, tile::arg<std::int64_t> ignored) const {
    tile::store(weight, tile::cast<C>(tile::load(g, 0)) / count_targets<C, B>(k, targets, ignored),
                0);
  }
};

/// `(softmax(logits) - one_hot(target)) * weight`; 0 in rows that are ignored.
template <Scalar T, std::integral I, int B = detail::tile_block>
struct cross_entropy_backward {
  static constexpr auto name = "cross_entropy_backward";
  using C = compute_type<T>;

  constexpr void operator()(tile::scope& k, tile::out<T, 2> d, tile::in<C, 1> weight,
                            tile::in<T, 2> logits, tile::in<I, 1> targets,
                            tile::arg<std::int64_t> ignored) const {
    const auto row = k.program_id(0);
    const auto n = logits.extent(1);
    const auto target = tile::cast<std::int64_t>(tile::load(targets, row));
    const auto counts = target != ignored;
    k.require(0, (!counts) | ((target >= 0) & (target < n)));
    const auto factor = tile::load(weight, 0);
    const auto places = k.iota<std::int32_t, 0, B>();
    k.branch(
        counts,
        [&] {
          const auto found = row_exponentials<C, B>(k, logits, row);
          k.loop(0, n, B, [&](tile::index c) {
            const auto x = tile::cast<C>(tile::load<B>(logits, row, c));
            const auto p = tile::exp(x - std::get<0>(found)) / std::get<1>(found);
            // One rounding of p - 1 in place of a difference of rounded products.
            const auto here = tile::min(tile::max(target - c, -1), B);  // of this block, or none
            const auto v = tile::select(places == tile::cast<std::int32_t>(here), p - 1, p);
            tile::store(d, tile::cast<T>(v * factor), row, c);
          });
        },
        [&] { k.loop(0, n, B, [&](tile::index c) { tile::store(d, k.zeros<T, B>(), row, c); }); });
  }
};

}  // namespace ops::programs

template <RunsTiles C>
struct tile_kernel<ops::cross_entropy, C> {
  template <Floating T, std::integral I>
  static void impl(context<C>& on, view<T> out, view<const T> logits, view<const I> targets,
                   std::int64_t ignore_index) {
    using namespace ops::detail;
    using compute = compute_type<T>;
    const auto losses = make_scratch<compute>(on, {targets.size()});
    run_tiles<ops::programs::cross_entropy_rows<T, I, fold_block<C>>>(
        on, {targets.size(), 1, 1}, losses.view(), logits, targets, ignore_index);
    run_tiles<ops::programs::cross_entropy_mean<T, I, fold_block<C>>>(
        on, {1, 1, 1}, out, view<const compute>(losses.view()), targets, ignore_index);
  }
};

template <RunsTiles C>
struct tile_kernel<ops::cross_entropy_backward, C> {
  template <Floating T, std::integral I>
  static void impl(context<C>& on, view<T> out, view<const T> g, view<const T> logits,
                   view<const I> targets, std::int64_t ignore_index) {
    using namespace ops::detail;
    using compute = compute_type<T>;
    const reshaped<T, C> arriving(on, g, {1});
    const auto weight = make_scratch<compute>(on, {1});
    run_tiles<ops::programs::cross_entropy_weight<T, I, fold_block<C>>>(
        on, {1, 1, 1}, weight.view(), arriving.get(), targets, ignore_index);
    run_tiles<ops::programs::cross_entropy_backward<T, I, fold_block<C>>>(
        on, {targets.size(), 1, 1}, out, view<const compute>(weight.view()), logits, targets,
        ignore_index);
  }
};

}  // namespace ashlar
