// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ashlar/core/view.hpp"
#include "ashlar/dispatch/op.hpp"
#include "ashlar/dispatch/step.hpp"
#include "ashlar/fwd.hpp"

namespace ashlar::detail {

/// Calls the kernel `Run` with all views, then `Op::precompute(...)` of the inputs' specs and the
/// attributes.
template <class Op, class Run>
class precomputed {
  template <std::size_t... I, class All>
  static auto run(auto& on, std::index_sequence<I...>, const typename Op::precomputed& values,
                  const All& all) -> decltype(Run::impl(on, std::get<I>(all)..., values)) {
    return Run::impl(on, std::get<I>(all)..., values);
  }

 public:
  static constexpr output_kind outputs = [] {
    if constexpr (requires { Run::outputs; }) {
      return Run::outputs;
    } else {
      return output_kind::raw_strided;
    }
  }();

  template <class Chip, class... A>
    requires requires(context<Chip>& on, const A&... args) {
      run(on, std::make_index_sequence<(0 + ... + std::size_t{is_view<A>})>{},
          std::declval<typename Op::precomputed>(), std::tie(args...));
    }
  static void impl(context<Chip>& on, const A&... args) {
    constexpr std::size_t views = (0 + ... + std::size_t{is_view<A>});
    constexpr std::size_t outs = (0 + ... + std::size_t{is_output<A>});
    const auto all = std::tie(args...);
    const auto values = [&]<std::size_t... I, std::size_t... K>(std::index_sequence<I...>,
                                                                std::index_sequence<K...>) {
      return Op::precompute(*std::get<outs + I>(all).spec..., std::get<views + K>(all)...);
    }(std::make_index_sequence<views - outs>{}, std::make_index_sequence<sizeof...(A) - views>{});
    run(on, std::make_index_sequence<views>{}, values, all);
  }
};

}  // namespace ashlar::detail
