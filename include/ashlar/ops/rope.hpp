// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>

#include "ashlar/chip/host/host.hpp"
#include "ashlar/chip/host/rope.hpp"
#include "ashlar/dispatch.hpp"
#include "ashlar/ops/fwd.hpp"
#include "ashlar/ops/meta_kernels.hpp"

namespace ashlar {

namespace ops {

/// Rotary position embedding: turns pair `i` of each head by `position * theta^(-2i / Dh)`.
///
/// `interleaved`: pairs are channels (2i, 2i + 1), as in Llama's own checkpoints and GGUF; else
///                (i, i + Dh / 2), as in Hugging Face. `inverse` turns back.
/// Shapes: `x`, the result: (..., T, H, Dh), Dh even; `positions`: (T), integers.
/// Throws: `shape_error`; `argument_error` for an odd Dh.
struct rope {
  static constexpr std::string_view name = "rope";
  static constexpr std::array arguments{argument{"self"}, argument{"positions", true}};
  static constexpr tensor_spec meta(const tensor_spec& self, const tensor_spec& positions, double,
                                    bool, bool) {
    if (self.rank < 3 || positions.rank != 1 || self[-3] != positions[0]) {
      throw shape_error(name, self.shape(), positions.shape(), "must be (..., T, H, Dh) and (T)");
    }
    if (self[-1] % 2 != 0) {
      throw argument_error("ashlar::rope", "heads of " + std::to_string(self[-1]) +
                                               " channels; give an even number");
    }
    return contiguous_like(self, self.type);
  }
  struct derivative {
    static constexpr std::array needs{arg<1>.bit, 0u};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      return call<rope>(g, saved(arg<1>), saved(arg<2>), saved(arg<3>), !saved(arg<4>));
    }
  };
};

}  // namespace ops

template <>
struct kernel<ops::rope, keys::backend<chip::host>> {
  template <Floating T, std::integral I>
  static void impl(context<chip::host>&, view<T> out, view<const T> self, view<const I> positions,
                   double theta, bool interleaved, bool inverse) {
    using chip::host_kernels::rope_pairs;
    chip::host_kernels::rope(out, self, positions, theta,
                             interleaved ? rope_pairs::interleaved : rope_pairs::halves, inverse);
  }
};

/// `rope(x, positions, theta, interleaved, inverse = false)`.
inline constexpr struct rope_function : spelled_function<rope_function> {
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x,
                              const detail::AnyOrTensor auto& positions, double theta,
                              bool interleaved, bool inverse = false) {
    return to(op_function<ops::rope>{}, x, positions, theta, interleaved, inverse);
  }
} rope;

}  // namespace ashlar
