// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstdint>

#include "ashlar/chip/host/detail/attention_rows.hpp"

namespace ashlar::chip::host_kernels::detail {

/// One head of keys or values, (tokens, Dh) with any strides.
template <class T>
struct head_matrix {
  T* data;
  std::int64_t token_stride;
  std::int64_t dim_stride;
};

/// Up to 16 tokens as (Dh, 16), zero where there is no token.
template <class T>
void pack_panel(T* to, const head_matrix<const T>& from, std::int64_t tokens, std::int64_t dh) {
  if (tokens < panel_tokens) {
    std::fill_n(to, dh * panel_tokens, T(0));
  }
  for (std::int64_t t = 0; t < tokens; ++t) {
    const T* const row = from.data + t * from.token_stride;
    for (std::int64_t d = 0; d < dh; ++d) {
      to[d * panel_tokens + t] = row[d * from.dim_stride];
    }
  }
}

/// All tokens as panels of (Dh, 16), one after the other.
template <class T>
void pack_panels(T* to, const head_matrix<const T>& from, std::int64_t tokens, std::int64_t dh) {
  for (std::int64_t t = 0; t < tokens; t += panel_tokens) {
    pack_panel(to + t * dh, {from.data + t * from.token_stride, from.token_stride, from.dim_stride},
               std::min(panel_tokens, tokens - t), dh);
  }
}

/// Rows with `stride` elements from one to the next, the places after `dh` untouched.
template <class T>
void copy_head(T* to, std::int64_t stride, const head_matrix<const T>& from, std::int64_t tokens,
               std::int64_t dh) {
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t d = 0; d < dh; ++d) {
      to[t * stride + d] = from.data[t * from.token_stride + d * from.dim_stride];
    }
  }
}

/// Offsets of evenly spaced panels.
inline void fill_offsets(std::int64_t* offset, std::int64_t panels, std::int64_t step) {
  for (std::int64_t p = 0; p < panels; ++p) {
    offset[p] = p * step;
  }
}

}  // namespace ashlar::chip::host_kernels::detail
