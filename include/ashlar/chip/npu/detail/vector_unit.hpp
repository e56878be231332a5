// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "ashlar/chip/npu/detail/across.hpp"
#include "ashlar/chip/npu/detail/job.hpp"
#include "ashlar/chip/npu/detail/number.hpp"
#include "ashlar/chip/npu/detail/runs.hpp"
#include "ashlar/simd/extra.hpp"
#include "ashlar/simd/math.hpp"
#include "ashlar/simd/memory.hpp"
#include "ashlar/simd/vec.hpp"
#include "ashlar/tile/functions.hpp"
#include "ashlar/tile/opcode.hpp"
#include "ashlar/tile/scalar.hpp"

/// What vector instructions do to the scratchpad. Floating types are computed in float by the
/// functions of the host's vectors, so that both give the same bits; integers in int64, cut off.
namespace ashlar::chip::npu_isa::detail {

/// `out = f(in...)` on whole vectors; the last one may hold rubbish beyond `n`.
template <class T, class F, class... In>
void map_floats(std::int64_t n, T* out, const F& f, const In*... in) {
  for (std::int64_t k = 0; k < n; k += simd::lanes) {
    simd::store(out + k, f(simd::load(in + k)...));
  }
}
template <class F, class... In>
void map_integers(std::int64_t n, std::int64_t* out, const F& f, const In*... in) {
  for (std::int64_t k = 0; k < n; ++k) {
    out[k] = f(in[k]...);
  }
}
template <std::floating_point T>
void unary(opcode op, std::int64_t n, T* out, const T* a) {
  namespace fn = tile::fn;
  switch (op) {
    case opcode::v_neg:
      return map_floats(n, out, fn::neg{}, a);
    case opcode::v_abs:
      return map_floats(n, out, fn::abs{}, a);
    case opcode::v_exp:
      return map_floats(n, out, fn::exp{}, a);
    case opcode::v_log:
      return map_floats(n, out, fn::log{}, a);
    case opcode::v_sqrt:
      return map_floats(n, out, fn::sqrt{}, a);
    case opcode::v_rsqrt:
      return map_floats(n, out, fn::rsqrt{}, a);
    case opcode::v_tanh:
      return map_floats(n, out, fn::tanh{}, a);
    case opcode::v_sigmoid:
      return map_floats(n, out, fn::sigmoid{}, a);
    case opcode::v_erf:
      return map_floats(
          n, out, [](const simd::vec<T>& x) { return simd::erf(x); }, a);
    case opcode::v_floor:
      return map_floats(
          n, out, [](const simd::vec<T>& x) { return simd::floor(x); }, a);
    default:
      std::copy_n(a, n, out);
  }
}
inline void unary(opcode op, std::int64_t n, std::int64_t* out, const std::int64_t* a) {
  namespace fn = tile::fn;
  switch (op) {
    case opcode::v_neg:
      return map_integers(n, out, fn::neg{}, a);
    case opcode::v_abs:
      return map_integers(n, out, fn::abs{}, a);
    case opcode::v_not:
      return map_integers(
          n, out, [](std::int64_t x) { return ~x; }, a);
    default:
      std::copy_n(a, n, out);
  }
}

template <std::floating_point T>
void binary(opcode op, element, std::int64_t n, T* out, const T* a, const T* b) {
  namespace fn = tile::fn;
  switch (op) {
    case opcode::v_add:
      return map_floats(n, out, fn::add{}, a, b);
    case opcode::v_sub:
      return map_floats(n, out, fn::sub{}, a, b);
    case opcode::v_mul:
      return map_floats(n, out, fn::mul{}, a, b);
    case opcode::v_div:
      return map_floats(n, out, fn::div{}, a, b);
    case opcode::v_min:
      return map_floats(n, out, fn::minimum{}, a, b);
    default:
      return map_floats(n, out, fn::maximum{}, a, b);
  }
}
inline void binary(opcode op, element e, std::int64_t n, std::int64_t* out, const std::int64_t* a,
                   const std::int64_t* b) {
  namespace fn = tile::fn;
  const int bits = 8 * size_of(e);
  const auto amount = [bits](std::int64_t y) { return static_cast<int>(y & (bits - 1)); };
  const auto low = [bits](std::int64_t x) {
    return static_cast<std::uint64_t>(x) & (bits == 64 ? ~0ull : (1ull << bits) - 1);
  };
  switch (op) {
    case opcode::v_add:
      return map_integers(n, out, fn::add{}, a, b);
    case opcode::v_sub:
      return map_integers(n, out, fn::sub{}, a, b);
    case opcode::v_mul:
      return map_integers(n, out, fn::mul{}, a, b);
    case opcode::v_div:
      return map_integers(n, out, fn::div{}, a, b);
    case opcode::v_min:
      return map_integers(n, out, fn::minimum{}, a, b);
    case opcode::v_max:
      return map_integers(n, out, fn::maximum{}, a, b);
    case opcode::v_and:
      return map_integers(
          n, out, [](std::int64_t x, std::int64_t y) { return x & y; }, a, b);
    case opcode::v_or:
      return map_integers(
          n, out, [](std::int64_t x, std::int64_t y) { return x | y; }, a, b);
    case opcode::v_xor:
      return map_integers(
          n, out, [](std::int64_t x, std::int64_t y) { return x ^ y; }, a, b);
    case opcode::v_shl:
      return map_integers(
          n, out,
          [&](std::int64_t x, std::int64_t y) {
            return static_cast<std::int64_t>(static_cast<std::uint64_t>(x) << amount(y));
          },
          a, b);
    case opcode::v_shr:
      return map_integers(
          n, out, [&](std::int64_t x, std::int64_t y) { return x >> amount(y); }, a, b);
    case opcode::v_shru:
      return map_integers(
          n, out,
          [&](std::int64_t x, std::int64_t y) {
            return static_cast<std::int64_t>(low(x) >> amount(y));
          },
          a, b);
    default:  // mulhu, of 32 bits
      return map_integers(
          n, out,
          [&](std::int64_t x, std::int64_t y) {
            return static_cast<std::int64_t>((low(x) * low(y)) >> 32);
          },
          a, b);
  }
}

template <class T>
void compare(opcode op, std::int64_t n, std::int64_t* out, const T* a, const T* b) {
  const auto each = [&](const auto& f) {
    for (std::int64_t k = 0; k < n; ++k) {
      out[k] = f(a[k], b[k]) ? 1 : 0;
    }
  };
  switch (op) {
    case opcode::v_eq:
      return each(tile::fn::equal{});
    case opcode::v_ne:
      return each(tile::fn::not_equal{});
    case opcode::v_lt:
      return each(tile::fn::less{});
    case opcode::v_le:
      return each(tile::fn::less_equal{});
    case opcode::v_gt:
      return each(tile::fn::greater{});
    default:
      return each(tile::fn::greater_equal{});
  }
}

/// Calls `f(i, j, n)` for the chunks of a box, row by row.
template <class F>
void for_each_chunk(std::int64_t rows, std::int64_t cols, const F& f) {
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < cols; j += vector_chunk) {
      f(i, j, std::min<std::int64_t>(vector_chunk, cols - j));
    }
  }
}

template <class T>
void run_elementwise(scratchpad& pad, const job& w) {
  const opcode op = w.i->op;
  chunk<T> a{}, b{}, c{}, out{};
  chunk<std::int64_t> truth{};
  for_each_chunk(w.rows, w.cols, [&](std::int64_t i, std::int64_t j, std::int64_t n) {
    if (op == opcode::v_select) {
      read_run(pad, w.a, i, j, n, truth.data());
      read_run(pad, w.b, i, j, n, b.data());
      read_run(pad, w.c, i, j, n, c.data());
      for (std::size_t k = 0; k < static_cast<std::size_t>(n); ++k) {
        out[k] = truth[k] != 0 ? b[k] : c[k];
      }
      return write_run(pad, w.dst, i, j, n, out.data());
    }
    read_run(pad, w.a, i, j, n, a.data());
    if (op < opcode::v_add) {
      unary(op, n, out.data(), a.data());
      if (op == opcode::v_not && w.i->type == element::boolean) {
        compare(opcode::v_eq, n, truth.data(), a.data(), chunk<T>{}.data());
        return write_run(pad, w.dst, i, j, n, truth.data());
      }
      return write_run(pad, w.dst, i, j, n, out.data());
    }
    read_run(pad, w.b, i, j, n, b.data());
    if (op >= opcode::v_eq && op <= opcode::v_ge) {
      compare(op, n, truth.data(), a.data(), b.data());
      return write_run(pad, w.dst, i, j, n, truth.data());
    }
    if (op == opcode::v_fma) {
      read_run(pad, w.c, i, j, n, c.data());
      if constexpr (std::is_floating_point_v<T>) {
        map_floats(
            n, out.data(),
            [](const auto& x, const auto& y, const auto& z) { return simd::madd(x, y, z); },
            a.data(), b.data(), c.data());
      } else {
        const tile::fn::add add;
        const tile::fn::mul mul;
        map_integers(
            n, out.data(),
            [&](std::int64_t x, std::int64_t y, std::int64_t z) { return add(mul(x, y), z); },
            a.data(), b.data(), c.data());
      }
    } else {
      binary(op, w.i->type, n, out.data(), a.data(), b.data());
    }
    write_run(pad, w.dst, i, j, n, out.data());
  });
}

/// Rounds to `to`, a floating type: to nearest even, or towards zero.
template <class T>
void write_rounded(std::byte* p, element to, T x, bool toward_zero) {
  namespace eval = tile::eval;
  const auto how = toward_zero ? tile::rounding::toward_zero : tile::rounding::nearest_even;
  switch (to) {
    case element::f64:
      return write_as(p, static_cast<double>(x));
    case element::f16:
      return write_as(p, eval::cast<float16>(x, how).bits);
    case element::bf16:
      return write_as(p, eval::cast<bfloat16>(x, how).bits);
    case element::e4m3:
      return write_as(p, eval::cast<float8_e4m3>(x, how).bits);
    case element::e5m2:
      return write_as(p, eval::cast<float8_e5m2>(x, how).bits);
    default:
      return write_float(p, to, eval::cast<float>(x, how));
  }
}

/// From a floating type, in `T`.
template <class T>
void run_float_cast(scratchpad& pad, const job& w) {
  const element to = w.i->type;
  for (std::int64_t i = 0; i < w.rows; ++i) {
    for (std::int64_t j = 0; j < w.cols; ++j) {
      T x{};
      read_run(pad, w.a, i, j, 1, &x);
      std::byte* out = pad.at(w.dst.base + i * w.dst.row_step + j * w.dst.col_step);
      if (is_floating(to)) {
        write_rounded(out, to, x, w.i->mode == 1);
      } else {
        write_integer(out, to, to_integer(x, to));
      }
    }
  }
}

inline void run_cast(scratchpad& pad, const job& w) {
  const element to = w.i->type;
  const element from = w.i->from;
  if (from == element::f64) {
    return run_float_cast<double>(pad, w);
  }
  if (is_floating(from) && (to == element::f64 || w.i->mode == 1)) {
    return run_float_cast<float>(pad, w);
  }
  if (to == element::f64) {
    for (std::int64_t i = 0; i < w.rows; ++i) {
      for (std::int64_t j = 0; j < w.cols; ++j) {
        std::int64_t n = 0;
        read_run(pad, w.a, i, j, 1, &n);
        const auto x = static_cast<double>(n);
        write_run(pad, w.dst, i, j, 1, &x);
      }
    }
    return;
  }
  chunk<float> x{};
  chunk<std::int64_t> n64{};
  for_each_chunk(w.rows, w.cols, [&](std::int64_t i, std::int64_t j, std::int64_t n) {
    const auto count = static_cast<std::size_t>(n);
    if (is_floating(from)) {
      read_run(pad, w.a, i, j, n, x.data());
      for (std::size_t k = 0; k < count && !is_floating(to); ++k) {
        n64[k] = to_integer(x[k], to);
      }
    } else {
      read_run(pad, w.a, i, j, n, n64.data());
      for (std::size_t k = 0; k < count && is_floating(to); ++k) {
        x[k] = static_cast<float>(n64[k]);
      }
    }
    if (is_floating(to)) {
      write_run(pad, w.dst, i, j, n, x.data());
    } else {
      write_run(pad, w.dst, i, j, n, n64.data());
    }
  });
}

/// Copies whose elements are bits: copy, fill, transpose.
inline void run_moves(scratchpad& pad, const job& w) {
  const auto size = static_cast<std::size_t>(size_of(w.i->type));
  const bool swapped = w.i->op == opcode::v_transpose;
  std::array<std::byte, 8> constant{};
  const bool fixed = !w.a.scratch;
  if (fixed && w.i->op == opcode::v_copy && is_floating(w.i->type) && size < 8) {
    write_float(constant.data(), w.i->type,
                std::bit_cast<float>(static_cast<std::uint32_t>(w.a.scalar)));
  } else if (fixed) {
    std::memcpy(constant.data(), &w.a.scalar, 8);
  }
  for (std::int64_t i = 0; i < w.rows; ++i) {
    for (std::int64_t j = 0; j < w.cols; ++j) {
      const std::byte* from = fixed     ? constant.data()
                              : swapped ? pad.at(w.a.base + j * w.a.row_step + i * w.a.col_step)
                                        : pad.at(w.a.base + i * w.a.row_step + j * w.a.col_step);
      std::memmove(pad.at(w.dst.base + i * w.dst.row_step + j * w.dst.col_step), from, size);
    }
  }
}

inline void run_iota(scratchpad& pad, const job& w) {
  for (std::int64_t i = 0; i < w.rows; ++i) {
    for (std::int64_t j = 0; j < w.cols; ++j) {
      write_integer(pad.at(w.dst.base + i * w.dst.row_step + j * w.dst.col_step), w.i->type,
                    tile::fn::add{}(w.x, w.i->axis == 0 ? i : j));
    }
  }
}

template <class T>
void run_numbers(scratchpad& pad, const job& w) {
  const opcode op = w.i->op;
  if (op == opcode::v_argmin || op == opcode::v_argmax) {
    run_arg<T>(pad, w);
  } else if (is_reduction(op)) {
    run_reduction<T>(pad, w);
  } else if (is_scan(op)) {
    run_scan<T>(pad, w);
  } else if (op == opcode::v_scatter || op == opcode::v_scatter_add) {
    run_scatter<T>(pad, w);
  } else {
    run_elementwise<T>(pad, w);
  }
}

/// Requires: every box lies in the scratchpad.
inline void run_vector(scratchpad& pad, const job& w) {
  switch (w.i->op) {
    case opcode::v_copy:
    case opcode::v_fill:
    case opcode::v_transpose:
      return run_moves(pad, w);
    case opcode::v_cast:
      return run_cast(pad, w);
    case opcode::v_iota:
      return run_iota(pad, w);
    case opcode::v_gather:
      return run_gather(pad, w);
    case opcode::v_print:  // the machine tells whoever listens
      return;
    default:
      return w.i->type == element::f64 ? run_numbers<double>(pad, w)
             : is_floating(w.i->type)  ? run_numbers<float>(pad, w)
                                       : run_numbers<std::int64_t>(pad, w);
  }
}

}  // namespace ashlar::chip::npu_isa::detail
