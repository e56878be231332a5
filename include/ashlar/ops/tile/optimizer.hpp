// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "ashlar/ops/optimizer.hpp"
#include "ashlar/ops/tile/rows.hpp"

/// Optimizer steps as tile programs: one pass over parameter, gradient and state.
namespace ashlar {

namespace ops::programs {

/// One step of AdamW; the numbers are those of `host_kernels::adamw_step`.
template <Scalar T, Scalar G, Scalar M, int B = detail::tile_block>
struct adamw_step {
  static constexpr auto name = "adamw_step";
  using C = compute_type<T>;

  constexpr void operator()(tile::scope& k, tile::out<T, 4> param, tile::out<M, 4> first,
                            tile::out<M, 4> second, tile::in<G, 4> grad, tile::arg<C> scale,
                            tile::arg<C> weight1, tile::arg<C> beta2, tile::arg<C> weight2,
                            tile::arg<C> keep, tile::arg<C> root, tile::arg<C> eps,
                            tile::arg<C> rate) const {
    const detail::grid_place at(k, param.extent(1));
    const auto c = k.program_id(0) * B;
    const auto read = [&](const auto& from) {
      return tile::cast<C>(tile::load<B>(from, at.i0, at.i1, at.i2, c));
    };
    const auto write = [&](const auto& to, auto v) { tile::store(to, v, at.i0, at.i1, at.i2, c); };
    const auto g = read(grad) * scale;
    const auto before = read(first);
    const auto m = before + weight1 * (g - before);
    const auto v = read(second) * beta2 + weight2 * (g * g);
    write(first, tile::cast<M>(m));
    write(second, tile::cast<M>(v));
    write(param, tile::cast<T>(read(param) * keep - rate * (m / (tile::sqrt(v) / root + eps))));
  }
};

/// One step of stochastic gradient descent.
template <Scalar T, Scalar G, Scalar M, bool Momentum, int B = detail::tile_block>
struct sgd_step {
  static constexpr auto name = "sgd_step";
  using C = compute_type<T>;

  constexpr void operator()(tile::scope& k, tile::out<T, 4> param, tile::out<M, 4> held,
                            tile::in<G, 4> grad, tile::arg<C> scale, tile::arg<C> decay,
                            tile::arg<C> momentum, tile::arg<C> ahead, tile::arg<C> rate) const {
    const detail::grid_place at(k, param.extent(1));
    const auto c = k.program_id(0) * B;
    const auto read = [&](const auto& from) {
      return tile::cast<C>(tile::load<B>(from, at.i0, at.i1, at.i2, c));
    };
    const auto p = read(param);
    const auto d = read(grad) * scale + decay * p;
    const auto step = [&] {
      if constexpr (Momentum) {
        const auto b = momentum * read(held) + d;
        tile::store(held, tile::cast<M>(b), at.i0, at.i1, at.i2, c);
        // Nesterov looks one step ahead: d + momentum b, else b alone.
        return tile::select(ahead != 0, d + momentum * b, b);
      } else {
        return d;
      }
    }();
    tile::store(param, tile::cast<T>(p - rate * step), at.i0, at.i1, at.i2, c);
  }
};

}  // namespace ops::programs

namespace ops::detail {
template <class X>
using element_of = typename std::remove_cvref_t<X>::value_type;
}  // namespace ops::detail

template <RunsTiles C>
struct tile_kernel<ops::adamw_step, C> {
  static void impl(context<C>& on, auto& param, auto& grad, auto& m, auto& v,
                   const adamw_options& options, std::int64_t step, double grad_scale) {
    using namespace ops::detail;
    using T = element_of<decltype(param)>;
    using G = element_of<decltype(grad)>;
    require_alike(ops::adamw_step::name, param, grad, m, v);
    require_step(step);
    const auto number = static_cast<double>(step);
    const double correction1 = 1.0 - std::pow(options.beta1, number);
    const double correction2 = 1.0 - std::pow(options.beta2, number);
    const auto c = [](double x) { return static_cast<compute_type<T>>(x); };
    constexpr int block = row_block<C, T, 4>;
    if (param.size() > 0) {
      each_merged(
          [&](const auto& x) {
            run_tiles<ops::programs::adamw_step<T, G, element_of<decltype(m)>, block>>(
                on, grid_over(x[0], block), x[0], x[1], x[2], x[3], c(grad_scale),
                c(1.0 - options.beta1), c(options.beta2), c(1.0 - options.beta2),
                c(1.0 - options.lr * options.weight_decay), c(std::sqrt(correction2)),
                c(options.eps), c(options.lr / correction1));
          },
          param.view(), m.view(), v.view(), view<const G>(grad.view()));
    }
    ++param.body()->root().version;
    ++m.body()->root().version;
    ++v.body()->root().version;
  }
  static void impl(context<C>& on, auto& param, auto& grad, auto& m, auto& v,
                   const Tensor auto& step, const adamw_options& options, double grad_scale) {
    impl(on, param, grad, m, v, options, ops::detail::step_in(step), grad_scale);
  }
};

template <RunsTiles C>
struct tile_kernel<ops::sgd_step, C> {
  static void impl(context<C>& on, auto& param, auto& grad, auto& momentum,
                   const sgd_options& options, double grad_scale) {
    using namespace ops::detail;
    using T = element_of<decltype(param)>;
    using G = element_of<decltype(grad)>;
    using M = element_of<decltype(momentum)>;
    const auto c = [](double x) { return static_cast<compute_type<T>>(x); };
    constexpr int block = row_block<C, T, 3>;
    const auto run = [&]<class K>(std::type_identity<K>, const auto& held) {
      if (param.size() == 0) {
        return;
      }
      each_merged(
          [&](const auto& x) {
            run_tiles<K>(on, grid_over(x[0], block), x[0], x[1], x[2], c(grad_scale),
                         c(options.weight_decay), c(options.momentum),
                         c(options.nesterov ? 1.0 : 0.0), c(options.lr));
          },
          param.view(), held, view<const G>(grad.view()));
    };
    require_alike(ops::sgd_step::name, param, grad);
    if (options.momentum != 0.0) {
      require_alike(ops::sgd_step::name, param, momentum);
      run(std::type_identity<ops::programs::sgd_step<T, G, M, true, block>>{}, momentum.view());
      ++momentum.body()->root().version;
    } else {  // without momentum that tensor may be anything
      run(std::type_identity<ops::programs::sgd_step<T, G, T, false, block>>{}, param.view());
    }
    ++param.body()->root().version;
  }
};

}  // namespace ashlar
