// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "ashlar/chip/host/codegen/elementwise.hpp"
#include "ashlar/chip/host/codegen/value.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/opcode.hpp"
#include "ashlar/tile/scalar.hpp"

/// Elementwise instructions as loops over memory: one for each operation and element type, with the
/// bits that compiled kernels have.
namespace ashlar::chip::strips {

using tile::opcode;
using tile::opcode_kind;

inline constexpr int lanes = simd::lanes;
struct work;
/// Computes elements 0 to n - 1 of `w.out`. Requires: n >= 1.
using kernel = void (*)(const work& w, std::int64_t n);

/// What a kernel computes with.
struct work {
  std::byte* out = nullptr;
  const std::byte* in[3] = {};
  bool fixed[3] = {};  ///< sixteen elements stand for all of them
  opcode op = opcode::add;
  tile::rounding how = tile::rounding::nearest_even;
};

namespace detail {

namespace code = host_codegen;

template <class T>
const T* typed(const std::byte* p) {
  return reinterpret_cast<const T*>(p);
}
template <class T>
T* typed(std::byte* p) {
  return reinterpret_cast<T*>(p);
}

/// `f` of packets of one operand type after the other.
template <class R, class... S, class F>
ASHLAR_INLINE void each_packet(const work& w, std::int64_t n, const F& f) {
  [&]<std::size_t... K>(std::index_sequence<K...>) __attribute__((always_inline)) {
    R* const out = typed<R>(w.out);
    const std::int64_t step[] = {(w.fixed[K] ? 0 : 1)...};
    std::int64_t i = 0;
    for (; i + lanes <= n; i += lanes) {
      code::store_packet<R>(out + i, f(code::load_packet<S>(typed<S>(w.in[K]) + i * step[K])...));
    }
    if (i < n) {
      const auto last = [&]<class T>(const T* p, std::int64_t by) {
        alignas(64) T rest[lanes]{};
        std::copy_n(p + i * by, n - i, rest);
        return code::load_packet<T>(rest);
      };
      alignas(64) R rest[lanes];
      code::store_packet<R>(rest, f(last(typed<S>(w.in[K]), step[K])...));
      std::copy_n(rest, n - i, out + i);
    }
  }
  (std::index_sequence_for<S...>{});
}

template <opcode Op, class T>
void unary(const work& w, std::int64_t n) {
  each_packet<T, T>(
      w, n, [](const auto& x) __attribute__((always_inline)) {
        return code::apply<Op>(std::type_identity<T>{}, x);
      });
}
template <opcode Op, class T>
void binary(const work& w, std::int64_t n) {
  using R = std::conditional_t<tile::info(Op).kind == opcode_kind::compare, bool, T>;
  each_packet<R, T, T>(
      w, n, [](const auto& x, const auto& y) __attribute__((always_inline)) {
        return code::apply<Op>(std::type_identity<T>{}, x, y);
      });
}
template <class T>
void fma(const work& w, std::int64_t n) {
  each_packet<T, T, T, T>(
      w, n, [](const auto& x, const auto& y, const auto& z) __attribute__((always_inline)) {
        return code::apply_fma<T>(x, y, z);
      });
}
template <class T>
void select(const work& w, std::int64_t n) {
  each_packet<T, bool, T, T>(
      w, n, [](const auto& m, const auto& yes, const auto& no) __attribute__((always_inline)) {
        return code::apply_select<T>(m, yes, no);
      });
}

/// What has no vectors, and what is done once: one element after the other.
template <class T>
void unary_by_element(const work& w, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    typed<T>(w.out)[i] =
        tile::eval::unary<code::host_math>(w.op, typed<T>(w.in[0])[w.fixed[0] ? 0 : i]);
  }
}
template <class T>
void binary_by_element(const work& w, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    typed<T>(w.out)[i] = tile::eval::binary(w.op, typed<T>(w.in[0])[w.fixed[0] ? 0 : i],
                                            typed<T>(w.in[1])[w.fixed[1] ? 0 : i]);
  }
}
template <class T>
void compare_by_element(const work& w, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    typed<bool>(w.out)[i] = tile::eval::compare(w.op, typed<T>(w.in[0])[w.fixed[0] ? 0 : i],
                                                typed<T>(w.in[1])[w.fixed[1] ? 0 : i]);
  }
}

// --- casts ---------------------------------------------------------------------------------------

template <class T>
void widen(const work& w, std::int64_t n) {
  each_packet<float, T>(
      w, n,
      [](const auto& x) __attribute__((always_inline)) { return code::detail::widened<T>(x); });
}
template <class T>
void narrow(const work& w, std::int64_t n) {
  if (w.how == tile::rounding::nearest_even) {
    each_packet<T, float>(
        w, n,
        [](const auto& x) __attribute__((always_inline)) { return code::detail::narrowed<T>(x); });
    return;
  }
  for (std::int64_t i = 0; i < n; ++i) {
    typed<T>(w.out)[i] = tile::eval::cast<T>(typed<float>(w.in[0])[w.fixed[0] ? 0 : i], w.how);
  }
}
template <class To, class From>
void convert(const work& w, std::int64_t n) {
  const From* from = typed<From>(w.in[0]);
  To* to = typed<To>(w.out);
  if (w.fixed[0]) {
    std::fill_n(to, n, tile::eval::cast<To>(*from, w.how));
    return;
  }
  for (std::int64_t i = 0; i < n; ++i) {
    to[i] = tile::eval::cast<To>(from[i], w.how);
  }
}
template <class T>
void same(const work& w, std::int64_t n) {
  const T* from = typed<T>(w.in[0]);
  if (w.fixed[0]) {
    std::fill_n(typed<T>(w.out), n, *from);
  } else {
    std::memmove(w.out, w.in[0], static_cast<std::size_t>(n) * sizeof(T));
  }
}
inline void to_truth(const work& w, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    typed<bool>(w.out)[i] = w.in[0][w.fixed[0] ? 0 : i] != std::byte{0};
  }
}

template <class F>
kernel with_lane(dtype d, const F& f) {
  switch (d) {
    case dtype::float32:
      return f(std::type_identity<float>());
    case dtype::float64:
      return f(std::type_identity<double>());
    default:
      return nullptr;
  }
}
template <class F>
kernel with_integer(dtype d, const F& f) {
  switch (d) {
    case dtype::int8:
      return f(std::type_identity<std::int8_t>());
    case dtype::uint8:
      return f(std::type_identity<std::uint8_t>());
    case dtype::int32:
      return f(std::type_identity<std::int32_t>());
    case dtype::int64:
      return f(std::type_identity<std::int64_t>());
    default:
      return nullptr;
  }
}
/// A type in which one computes.
template <class F>
kernel with_computed(dtype d, const F& f) {
  if (d == dtype::boolean) {
    return f(std::type_identity<bool>());
  }
  return is_floating(d) ? with_lane(d, f) : with_integer(d, f);
}
/// A type of so many bytes, to move elements.
template <class F>
decltype(auto) with_bytes(std::size_t size, const F& f) {
  switch (size) {
    case 1:
      return f(std::type_identity<std::int8_t>());
    case 2:
      return f(std::type_identity<bfloat16>());
    case 4:
      return f(std::type_identity<float>());
    default:
      return f(std::type_identity<double>());
  }
}

template <opcode... Ops>
struct ops_of {
  template <class T>
  static kernel unary_kernel(opcode op) {
    kernel found = nullptr;
    static_cast<void>(((op == Ops && (found = &unary<Ops, T>, true)) || ...));
    return found;
  }
  template <class T>
  static kernel binary_kernel(opcode op) {
    kernel found = nullptr;
    static_cast<void>(((op == Ops && (found = &binary<Ops, T>, true)) || ...));
    return found;
  }
};
using functions = ops_of<opcode::neg, opcode::abs, opcode::exp, opcode::log, opcode::sqrt,
                         opcode::rsqrt, opcode::tanh, opcode::sigmoid, opcode::erf, opcode::floor>;
using arithmetic =
    ops_of<opcode::add, opcode::sub, opcode::mul, opcode::div, opcode::min, opcode::max>;
using on_integers = ops_of<opcode::add, opcode::sub, opcode::mul, opcode::min, opcode::max,
                           opcode::bit_and, opcode::bit_or, opcode::bit_xor>;
using comparisons = ops_of<opcode::equal, opcode::not_equal, opcode::less, opcode::less_equal>;

}  // namespace detail

/// The kernel of an elementwise operation whose operands (of `select`, the second and third) have
/// elements in which one computes; null where it has none. `one`: of scalars.
inline kernel kernel_of(opcode op, dtype d, bool one) {
  namespace s = detail;
  const opcode_kind kind = tile::info(op).kind;
  if (op == opcode::select) {
    return s::with_bytes(size_of(d),
                         []<class T>(std::type_identity<T>) -> kernel { return &s::select<T>; });
  }
  if (op == opcode::fma) {
    return s::with_lane(d, []<class T>(std::type_identity<T>) -> kernel { return &s::fma<T>; });
  }
  if (kind == opcode_kind::unary) {
    if (is_floating(d)) {
      return s::with_lane(
          d, [op]<class T>(std::type_identity<T>) { return s::functions::unary_kernel<T>(op); });
    }
    return d == dtype::boolean ? &s::unary<opcode::bit_not, bool>
                               : s::with_integer(d, []<class T>(std::type_identity<T>) -> kernel {
                                   return &s::unary_by_element<T>;
                                 });
  }
  if (kind == opcode_kind::compare) {
    return s::with_computed(d, [op, one]<class T>(std::type_identity<T>) {
      return one ? &s::compare_by_element<T> : s::comparisons::binary_kernel<T>(op);
    });
  }
  if (kind != opcode_kind::binary) {
    return nullptr;
  }
  return s::with_computed(d, [op, one]<class T>(std::type_identity<T>) {
    kernel found = nullptr;
    if (!one && std::floating_point<T>) {
      if constexpr (std::floating_point<T>) {
        found = s::arithmetic::binary_kernel<T>(op);
      }
    } else if (!one && !std::same_as<T, bool>) {
      if constexpr (std::integral<T> && !std::same_as<T, bool>) {
        found = s::on_integers::binary_kernel<T>(op);
      }
    }
    return found != nullptr ? found : &s::binary_by_element<T>;
  });
}

/// The kernel of a cast, one of whose types is `float32` where the other one is narrow.
inline kernel cast_kernel(dtype from, dtype to) {
  namespace s = detail;
  if (from == to) {
    return s::with_bytes(size_of(from),
                         []<class T>(std::type_identity<T>) -> kernel { return &s::same<T>; });
  }
  if (is_narrow_floating(from) || is_narrow_floating(to)) {
    return tile::eval::with_scalar(
        is_narrow_floating(from) ? from : to, [&]<class T>(std::type_identity<T>) -> kernel {
          if constexpr (NarrowFloating<T>) {
            return is_narrow_floating(from) ? &s::widen<T> : &s::narrow<T>;
          } else {
            return nullptr;
          }
        });
  }
  return s::with_computed(from, [to]<class From>(std::type_identity<From>) {
    return s::with_computed(
        to, []<class To>(std::type_identity<To>) -> kernel { return &s::convert<To, From>; });
  });
}

/// The kernel of a `bitcast`: bytes as they are, but for the truth of a byte.
inline kernel bitcast_kernel(dtype to) {
  return to == dtype::boolean
             ? &detail::to_truth
             : detail::with_bytes(size_of(to), []<class T>(std::type_identity<T>) -> kernel {
                 return &detail::same<T>;
               });
}

}  // namespace ashlar::chip::strips
