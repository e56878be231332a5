// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "ashlar/core/geometry.hpp"
#include "ashlar/ops/batch_norm.hpp"
#include "ashlar/ops/tile/rows.hpp"

/// Normalisation of channels as tile programs.
namespace ashlar {

namespace ops::programs {

/// Statistics in two passes, so that nothing cancels for channels far from zero, then the result:
/// one program for each channel.
///
/// Places along the last axis are added up in `B` partial sums for each image, these over images in
/// their order, then with each other.
/// Shapes: `x`, `y`: (C, B, places of an image); all else: (C).
template <Scalar T, int B = detail::tile_block>
struct batch_norm_train {
  static constexpr auto name = "batch_norm_train";
  using C = compute_type<T>;

  constexpr void operator()(tile::scope& k, tile::out<T, 3> y, tile::out<T, 1> mean,
                            tile::out<T, 1> variance, tile::in<T, 3> x, tile::in<T, 1> weight,
                            tile::in<T, 1> bias, tile::arg<C> eps) const {
    const auto channel = k.program_id(0);
    const auto images = x.extent(1);
    const auto n = x.extent(2);
    const auto count = tile::cast<C>(images * n);
    const auto columns = k.iota<std::int64_t, 0, B>();
    const auto zero = k.zeros<C, B>();
    const auto read = [&](tile::index i, tile::index c) {
      return tile::cast<C>(tile::load<B>(x, channel, i, c));
    };
    const auto mean_of = [&](const auto& term) {
      const auto sums = k.loop(
          0, images, 1,
          [&](tile::index i, auto total) {
            return total +
                   k.loop(
                       0, n, B, [&](tile::index c, auto acc) { return acc + term(i, c); }, zero);
          },
          zero);
      return tile::sum<0>(sums) / count;
    };
    const auto center = mean_of(read);
    const auto spread = mean_of([&](tile::index i, tile::index c) {
      // Beyond the end x is 0 and x - mean is not.
      const auto rest = tile::select(columns < n - c, read(i, c) - center, 0);
      return rest * rest;
    });
    const auto factor = tile::cast<C>(tile::load(weight, channel)) / tile::sqrt(spread + eps);
    const auto shift = tile::cast<C>(tile::load(bias, channel));
    k.loop(0, images, 1, [&](tile::index i) {
      k.loop(0, n, B, [&](tile::index c) {
        tile::store(y, tile::cast<T>((read(i, c) - center) * factor + shift), channel, i, c);
      });
    });
    tile::store(mean, tile::cast<T>(center), channel);
    tile::store(variance, tile::cast<T>(spread), channel);
  }
};

}  // namespace ops::programs

namespace ops::detail {

/// `(x - mean) / sqrt(variance + eps) * weight + bias` of one element.
struct normalised {
  double eps = 0.0;

  template <class V>
  constexpr V operator()(const V& x, const V& mean, const V& variance, const V& weight,
                         const V& bias) const {
    return (x - mean) * (weight / tile::sqrt(variance + eps)) + bias;
  }
};

}  // namespace ops::detail

template <RunsTiles C>
struct tile_kernel<ops::batch_norm, C> {
  template <Floating T>
  static void impl(context<C>& on, view<T> out, view<const T> self, view<const T> center,
                   view<const T> spread, view<const T> weight, view<const T> bias, double eps) {
    const auto beside = [&](const view<const T>& c) {
      tensor_spec s = *c.spec;
      while (s.rank + 1 < self.rank()) {
        s = geometry::unsqueeze(s, -1);
      }
      return s;
    };
    const tensor_spec specs[]{beside(center), beside(spread), beside(weight), beside(bias)};
    ops::detail::run_map(
        on, ops::detail::normalised{eps}, out, self, view<const T>{center.data, &specs[0]},
        view<const T>{spread.data, &specs[1]}, view<const T>{weight.data, &specs[2]},
        view<const T>{bias.data, &specs[3]});
  }
};

template <RunsTiles C>
struct tile_kernel<ops::batch_norm_train, C> {
  template <Floating T>
  static void impl(context<C>& on, view<T> out, view<T> center, view<T> spread, view<const T> self,
                   view<const T> weight, view<const T> bias, double eps) {
    using namespace ops::detail;
    shape order{1, 0};
    std::int64_t places = 1;
    for (int a = 2; a < self.rank(); ++a) {
      order.push_back(a);
      places *= self.extent(a);
    }
    // One place of an image: the batch is the row.
    const bool flat = self.rank() == 2;
    const shape rows{self.extent(1), flat ? 1 : self.extent(0), flat ? self.extent(0) : places};
    const tensor_spec from = geometry::permute(*self.spec, order);
    const tensor_spec to = geometry::permute(*out.spec, order);
    const reshaped<T, C> x(on, view<const T>{self.data, &from}, rows);
    into_shape(on, view<T>{out.data, &to}, rows, [&](const view<T>& y) {
      run_tiles<ops::programs::batch_norm_train<T, fold_block<C>>>(
          on, {rows[0], 1, 1}, y, center, spread, x.get(), weight, bias,
          static_cast<compute_type<T>>(eps));
    });
  }
};

}  // namespace ashlar
