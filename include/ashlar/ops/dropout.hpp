// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

#include "ashlar/dispatch.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/comparison.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/fwd.hpp"
#include "ashlar/ops/random.hpp"

namespace ashlar {

namespace ops {

/// Zeros in a share `p` of the places, and `x / (1 - p)` in the others.
///
/// The zeros stand where `uniform` with that seed and offset, of the type of `x`, draws less than
/// `p`: a function of (seed, offset, place) alone, the same on every chip.
/// Throws: `argument_error` for a `p` outside of [0, 1].
struct dropout {
  static constexpr std::string_view name = "dropout";
  static constexpr bool floating = true;
  static constexpr std::array arguments{argument{"self"}};
  static constexpr bool elementwise = true;
  static constexpr bool captured_in_parts = true;
  static constexpr tensor_spec meta(const tensor_spec& self, double p, std::uint64_t,
                                    std::uint64_t) {
    if (!(p >= 0.0 && p <= 1.0)) {
      throw argument_error("ashlar::dropout",
                           "p = " + std::to_string(p) + "; give a number from 0 to 1");
    }
    return contiguous_like(self, self.type);
  }
  struct composite {
    template <class X>
    X operator()(const X& x, double p, std::uint64_t seed, std::uint64_t offset) const {
      detail::require_defined(name, x);
      static_cast<void>(meta(x.spec(), p, seed, offset));
      if (p == 1.0) {
        return call<fill>(x, 0.0);
      }
      X drawn = empty<X>(shape(x.shape()));  // beside the tape
      op_function<uniform>{}.in_place(drawn, seed, offset, 0.0, 1.0);
      const auto kept = call<ge>(drawn, detail::scalar_like(x, p));
      return call<where>(kept, call<scale>(x, 1.0 / (1.0 - p), 0.0), detail::scalar_like(x, 0.0));
    }
  };
  struct derivative {
    static constexpr std::array needs{0u};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      return call<dropout>(g, saved(arg<1>), saved(arg<2>), saved(arg<3>));
    }
  };
};

}  // namespace ops

/// `dropout(x, p, seed, offset = 0)`.
inline constexpr struct dropout_function : spelled_function<dropout_function> {
  template <class X, std::integral Seed, std::integral Offset = std::uint64_t>
    requires(FloatingTensor<X> || detail::is_any<X>)
  static constexpr auto spell(auto to, const X& x, double p, Seed seed, Offset offset = 0) {
    return to(op_function<ops::dropout>{}, x, p, static_cast<std::uint64_t>(seed),
              static_cast<std::uint64_t>(offset));
  }
} dropout;

}  // namespace ashlar
