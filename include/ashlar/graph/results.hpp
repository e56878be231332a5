// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/core/tensor.hpp"
#include "ashlar/dispatch/keys.hpp"

/// Results by type: tensors, tuples and ranges of them, and what is no tensor.
namespace ashlar::graph::detail {

template <class R>
concept TupleOfResults = requires { std::tuple_size<R>::value; };

/// How many tensors each range of a result has, in order: what types do not say.
template <class R>
void count_ranges(const R& r, std::vector<std::size_t>& counts) {
  if constexpr (Tensor<R>) {
  } else if constexpr (TupleOfResults<R>) {
    std::apply([&](const auto&... x) { (count_ranges(x, counts), ...); }, r);
  } else {
    counts.push_back(r.size());
    for (const auto& x : r) {
      count_ranges(x, counts);
    }
  }
}

/// Puts tensors back into a result's type, one after the other.
class rebuilder {
 public:
  rebuilder(std::span<const tensor_handle> tensors, std::span<const std::size_t> counts)
      : tensors_(tensors), counts_(counts) {}

  template <class R>
  [[nodiscard]] R make() {
    if constexpr (Tensor<R>) {
      return R(tensors_[tensor_++]);
    } else if constexpr (TupleOfResults<R>) {
      return [&]<std::size_t... I>(std::index_sequence<I...>) {
        return R{make<std::tuple_element_t<I, R>>()...};  // braces: from left to right
      }(std::make_index_sequence<std::tuple_size_v<R>>{});
    } else {
      R all;
      const std::size_t count = counts_[range_++];
      for (std::size_t i = 0; i < count; ++i) {
        all.push_back(make<typename R::value_type>());
      }
      return all;
    }
  }

 private:
  std::span<const tensor_handle> tensors_;
  std::span<const std::size_t> counts_;
  std::size_t tensor_ = 0, range_ = 0;
};

/// The same result with tensors of other keys; what is no tensor is itself.
template <class R, class From>
[[nodiscard]] R with_keys_of(const From& r) {
  if constexpr (Tensor<R>) {
    return R(static_cast<const tensor_handle&>(r));
  } else if constexpr (std::is_same_v<R, From>) {
    return r;
  } else if constexpr (TupleOfResults<R>) {
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      return R{with_keys_of<std::tuple_element_t<I, R>>(std::get<I>(r))...};
    }(std::make_index_sequence<std::tuple_size_v<R>>{});
  } else {
    R all;
    for (const auto& x : r) {
      all.push_back(with_keys_of<typename R::value_type>(x));
    }
    return all;
  }
}

}  // namespace ashlar::graph::detail
