// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <type_traits>
#include <vector>

#include "ashlar/chip/npu/builder.hpp"
#include "ashlar/chip/npu/simulator.hpp"
#include "ashlar/core/dtype.hpp"

/// Runs one operation on the simulator, from matrices and to a matrix.
namespace npu_harness {

namespace chip = ashlar::chip;
namespace isa = ashlar::chip::npu_isa;

template <class T>
constexpr isa::element element_of() {
  if constexpr (std::is_same_v<T, std::uint8_t>) {
    return isa::element::u8;
  } else if constexpr (std::is_same_v<T, std::int8_t>) {
    return isa::element::i8;
  } else if constexpr (std::is_same_v<T, std::int32_t>) {
    return isa::element::i32;
  } else if constexpr (std::is_same_v<T, std::int64_t>) {
    return isa::element::i64;
  } else if constexpr (std::is_same_v<T, ashlar::float16>) {
    return isa::element::f16;
  } else if constexpr (std::is_same_v<T, ashlar::bfloat16>) {
    return isa::element::bf16;
  } else if constexpr (std::is_same_v<T, double>) {
    return isa::element::f64;
  } else {
    return isa::element::f32;
  }
}

/// Row-major values; `type` says what the bytes mean where `T` does not.
template <class T>
struct matrix {
  std::int32_t rows = 0, cols = 0;
  std::vector<T> v;
  isa::element type = element_of<T>();

  matrix(std::int32_t r, std::int32_t c, isa::element e = element_of<T>())
      : rows(r), cols(c), v(static_cast<std::size_t>(r * c)), type(e) {}
  matrix(std::int32_t r, std::int32_t c, const std::function<T(std::int32_t, std::int32_t)>& f,
         isa::element e = element_of<T>())
      : matrix(r, c, e) {
    for (std::int32_t i = 0; i < r; ++i) {
      for (std::int32_t j = 0; j < c; ++j) {
        (*this)(i, j) = f(i, j);
      }
    }
  }
  T& operator()(std::int32_t i, std::int32_t j) {
    return v[static_cast<std::size_t>(i * cols + j)];
  }
  const T& operator()(std::int32_t i, std::int32_t j) const {
    return v[static_cast<std::size_t>(i * cols + j)];
  }
};

/// The bits of a value, all NaN alike.
template <class T>
std::uint64_t bits_of(T x) {
  if constexpr (!std::is_integral_v<T>) {
    const auto f = static_cast<float>(x);
    if (f != f) {
      return ~0ull;
    }
  }
  std::uint64_t bits = 0;
  std::memcpy(&bits, &x, sizeof(T));
  return bits;
}

/// How many elements differ in a bit.
template <class T>
int differences(const matrix<T>& a, const matrix<T>& b) {
  if (a.v.size() != b.v.size()) {
    return -1;
  }
  int n = 0;
  for (std::size_t i = 0; i < a.v.size(); ++i) {
    n += bits_of(a.v[i]) != bits_of(b.v[i]) ? 1 : 0;
  }
  return n;
}

using body = std::function<void(isa::builder&, std::span<const isa::scratch_tile>)>;

/// A matrix without its C++ type, so that `evaluate` is compiled once.
struct raw {
  isa::element type;
  std::int32_t rows, cols;
  std::span<std::byte> bytes;

  template <class T>
  raw(matrix<T>& m)
      : type(m.type), rows(m.rows), cols(m.cols), bytes(std::as_writable_bytes(std::span(m.v))) {}
};

/// Loads every matrix into a tile whose rows have gaps, runs `f(builder, tiles)` and stores the
/// first tile.
inline void evaluate_raw(const body& f, const std::vector<raw>& matrices) {
  constexpr chip::npu_description machine{};
  isa::builder b(static_cast<int>(matrices.size()));
  std::vector<isa::region> regions;
  std::vector<std::int64_t> arguments;
  std::vector<isa::scratch_tile> tiles;
  const auto view = [&](std::size_t i) {
    const raw& m = matrices[i];
    return isa::global_view{m.type, b.argument(static_cast<int>(i)), m.rows, m.cols, m.cols};
  };
  for (std::size_t i = 0; i < matrices.size(); ++i) {
    const raw& m = matrices[i];
    regions.push_back(isa::region::of(m.bytes));
    arguments.push_back(regions.back().address);
    tiles.push_back(b.allocate(m.type, m.rows, m.cols, m.cols + 3));
    b.load(0, tiles.back(), view(i), 0, 0);
  }
  b.barrier({isa::vector_unit, isa::matrix_unit, isa::dma_unit(0)});
  f(b, tiles);
  b.barrier({isa::vector_unit, isa::matrix_unit, isa::dma_unit(0)});
  b.store(0, tiles[0], view(0), 0, 0);
  isa::simulate(machine, b.finish(), regions, arguments);
}

/// Returns: what `f(builder, tiles)` leaves in the tile of `out`, the first one, which it finds
/// with the contents of `out`.
template <class R, class... T>
matrix<R> evaluate(const body& f, matrix<R> out, matrix<T>... in) {
  evaluate_raw(f, {raw(out), raw(in)...});
  return out;
}

}  // namespace npu_harness
