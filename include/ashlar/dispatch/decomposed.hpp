// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ashlar/core/dtype.hpp"
#include "ashlar/core/tensor.hpp"
#include "ashlar/core/view.hpp"
#include "ashlar/dispatch/allocate.hpp"
#include "ashlar/dispatch/call.hpp"
#include "ashlar/dispatch/op.hpp"
#include "ashlar/fwd.hpp"

namespace ashlar::detail {

/// The decomposition of an operator in the place of a kernel: its tensors carry the chip's key
/// alone, so that no key above has a second turn.
///
/// The narrow formats are computed in `float` and rounded once.
/// Cost: what the parts cost, and a copy of each result.
template <class Op>
struct decomposed {
  template <class Chip, class... A>
  static void impl(context<Chip>& ctx, const A&... args) {
    constexpr std::size_t outputs = (0 + ... + std::size_t{is_output<A>});
    const auto all = std::tie(args...);
    [&]<std::size_t... O, std::size_t... I>(std::index_sequence<O...>, std::index_sequence<I...>) {
      const auto results = decomposition<Op>{}(part(ctx, std::get<outputs + I>(all))...);
      if constexpr (outputs == 1) {
        write(ctx, std::get<0>(all), results);
      } else {
        (write(ctx, std::get<O>(all), std::get<O>(results)), ...);
      }
    }(std::make_index_sequence<outputs>{}, std::make_index_sequence<sizeof...(A) - outputs>{});
  }

 private:
  /// A tensor over elements that the caller keeps.
  template <class Chip, class T>
  static auto over(context<Chip>& ctx, const view<T>& v) {
    using element = std::remove_const_t<T>;
    using set = key_set<keys::backend<Chip>>;
    tensor_spec s = *v.spec;
    s.offset = 0;
    body_of<set>* const made = body_of<set>::make(s);
    made->data = reinterpret_cast<std::byte*>(const_cast<element*>(v.data));
    place(ctx, *made);
    return tensor<element, set>(made);
  }
  template <class Chip, class A>
  static auto part([[maybe_unused]] context<Chip>& ctx, const A& a) {
    if constexpr (!is_view<A>) {
      return a;
    } else if constexpr (NarrowFloating<std::remove_const_t<typename A::value_type>>) {
      return call<ops::cast<float>>(over(ctx, a));
    } else {
      return over(ctx, a);
    }
  }
  template <class Chip, class T>
  static void write(context<Chip>& ctx, const view<T>& out, const auto& result) {
    auto to = over(ctx, out);
    op_function<ops::copy>{}.in_place(to, result);
  }
};

}  // namespace ashlar::detail
