// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <concepts>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>

#include "ashlar/chip/host/cross_entropy.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/dispatch.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/comparison.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/detail/from_prims.hpp"
#include "ashlar/ops/elementwise.hpp"
#include "ashlar/ops/fwd.hpp"
#include "ashlar/ops/meta_kernels.hpp"
#include "ashlar/ops/softmax.hpp"
#include "ashlar/ops/views.hpp"

/// The loss of a classifier, fused with its softmax.
namespace ashlar {

namespace ops {

/// The mean over rows of `log(sum(exp(logits))) - logits[target]`.
///
/// Shapes: `logits`: (N, V); `targets`: (N), integers; the result has no dimensions.
/// Rows whose target is `ignore_index` do not count; NaN where none does.
/// Throws: `shape_error`; `argument_error` for a target that is no class.
struct cross_entropy {
  static constexpr std::string_view name = "cross_entropy";
  static constexpr std::array arguments{argument{"logits"}, argument{"targets", true}};
  static constexpr tensor_spec meta(const tensor_spec& logits, const tensor_spec& targets,
                                    std::int64_t) {
    if (logits.rank != 2 || targets.rank != 1 || targets[0] != logits[0]) {
      throw shape_error(name, logits.shape(), targets.shape(),
                        "logits must be (N, V) and targets (N)");
    }
    return contiguous_spec(logits.type, {});
  }
  struct derivative {
    static constexpr std::array needs{arg<0>.bit | arg<1>.bit, 0u};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      return call<cross_entropy_backward>(g, saved(arg<0>), saved(arg<1>), saved(arg<2>));
    }
  };
};

/// `(softmax(logits) - one_hot(targets)) * g / N`
struct cross_entropy_backward {
  static constexpr std::string_view name = "cross_entropy_backward";
  static constexpr std::array arguments{argument{"gradient"}, argument{"logits"},
                                        argument{"targets", true}};
  static constexpr tensor_spec meta(const tensor_spec& g, const tensor_spec& logits,
                                    const tensor_spec& targets, std::int64_t ignore_index) {
    if (g.size != 1) {
      throw shape_error(name, g.shape(), shape{}.span(), "the gradient has one element");
    }
    const tensor_spec loss = cross_entropy::meta(logits, targets, ignore_index);
    return contiguous_like(logits, promote(loss.type, g.type));
  }
};

}  // namespace ops

template <>
struct decomposition<ops::cross_entropy_backward> : detail::parts::from_prims {
  using parts = ops::operators<ops::arange, ops::fill, ops::eq, ops::ne, ops::cast<float>,
                               ops::cast<std::int64_t>, ops::where, ops::mul, ops::sub, ops::div,
                               ops::sum_to, ops::softmax>;
  auto operator()(const auto& g, const auto& logits, const auto& targets,
                  std::int64_t ignore_index) const {
    using T = typename std::remove_cvref_t<decltype(logits)>::value_type;
    using ops::detail::scalar_like;
    // As int64: a narrow type may have no number for a class or for `ignore_index`.
    const auto column =
        call<ops::unsqueeze>(ops::detail::in_type<std::int64_t>(targets), std::int64_t{1});
    const auto classes = ops::detail::places(targets, logits.extent(1));
    const auto counts =
        call<ops::ne>(column, scalar_like(column, static_cast<double>(ignore_index)));
    const auto share = call<ops::div>(g, call<ops::sum_to>(call<ops::cast<T>>(counts), shape{}));
    const auto hot = call<ops::cast<T>>(call<ops::eq>(column, classes));
    const auto away = call<ops::sub>(call<ops::softmax>(logits, std::int64_t{-1}), hot);
    // Not a product with 0: where nothing counts, the share is NaN.
    return call<ops::where>(counts, call<ops::mul>(away, share), scalar_like(logits, 0.0));
  }
};

template <>
struct kernel<ops::cross_entropy, keys::backend<chip::host>> {
  template <Floating T, std::integral I>
  static void impl(context<chip::host>&, view<T> out, view<const T> logits, view<const I> targets,
                   std::int64_t ignore_index) {
    chip::host_kernels::cross_entropy(out, logits, targets, ignore_index,
                                      chip::host_kernels::loss_reduction::mean);
  }
};
template <>
struct kernel<ops::cross_entropy_backward, keys::backend<chip::host>> {
  template <Floating T, std::integral I>
  static void impl(context<chip::host>&, view<T> out, view<const T> g, view<const T> logits,
                   view<const I> targets, std::int64_t ignore_index) {
    chip::host_kernels::cross_entropy_backward(out, g, logits, targets, ignore_index,
                                               chip::host_kernels::loss_reduction::mean);
  }
};

/// `cross_entropy(logits, targets, ignore_index = -100)`.
inline constexpr struct cross_entropy_function : spelled_function<cross_entropy_function> {
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& logits,
                              const detail::AnyOrTensor auto& targets,
                              std::int64_t ignore_index = -100) {
    return to(op_function<ops::cross_entropy>{}, logits, targets, ignore_index);
  }
} cross_entropy;

}  // namespace ashlar
