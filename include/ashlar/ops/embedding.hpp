// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <concepts>
#include <cstdint>
#include <string_view>

#include "ashlar/chip/host/embedding.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/dispatch.hpp"
#include "ashlar/ops/fwd.hpp"
#include "ashlar/ops/meta_kernels.hpp"

/// Rows of a table, picked by number.
namespace ashlar {

namespace ops {

/// Row `ids[...]` of `weight` for each id.
///
/// Shapes: `weight`: (V, C); `ids`: (...), integers; the result: (..., C).
/// Throws: `shape_error`; `argument_error` for an id that is no row.
struct embedding {
  static constexpr std::string_view name = "embedding";
  static constexpr std::array arguments{argument{"weight"}, argument{"ids", true}};
  static constexpr tensor_spec meta(const tensor_spec& weight, const tensor_spec& ids) {
    if (weight.rank != 2) {
      throw shape_error(name, weight.shape(), ids.shape(), "the table must be (V, C)");
    }
    shape to(ids.shape());
    to.push_back(weight[1]);
    return contiguous_spec(weight.type, to.span());
  }
  struct derivative {
    static constexpr std::array needs{arg<1>.bit, 0u};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      return call<embedding_backward>(g, saved(arg<1>), saved.shape(arg<0>)[0]);
    }
  };
};

/// Row `v` is the sum of the rows of `g` where the id is `v`; `rows` of them.
struct embedding_backward {
  static constexpr std::string_view name = "embedding_backward";
  static constexpr std::array arguments{argument{"gradient"}, argument{"ids", true}};
  static constexpr tensor_spec meta(const tensor_spec& g, const tensor_spec& ids,
                                    std::int64_t rows) {
    bool fits = g.rank == ids.rank + 1;
    for (int i = 0; fits && i < ids.rank; ++i) {
      fits = g[i] == ids[i];
    }
    if (!fits) {
      throw shape_error(name, g.shape(), ids.shape(), "must be (..., C) and (...)");
    }
    return contiguous_spec(g.type, shape{rows, g[-1]}.span());
  }
  struct derivative {
    static constexpr std::array needs{arg<1>.bit, 0u};
    template <int I>
    static auto vjp(const auto& h, const auto& saved) {
      return call<embedding>(h, saved(arg<1>));
    }
  };
};

}  // namespace ops

template <>
struct kernel<ops::embedding, keys::backend<chip::host>> {
  template <class T, std::integral I>
  static void impl(context<chip::host>&, view<T> out, view<const T> weight, view<const I> ids) {
    chip::host_kernels::embedding(out, weight, ids);
  }
};
template <>
struct kernel<ops::embedding_backward, keys::backend<chip::host>> {
  template <Floating T, std::integral I>
  static void impl(context<chip::host>&, view<T> out, view<const T> g, view<const I> ids,
                   std::int64_t) {
    chip::host_kernels::embedding_backward(out, g, ids);
  }
};

inline constexpr op_function<ops::embedding> embedding;

}  // namespace ashlar
