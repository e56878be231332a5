// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ashlar/chip/host/codegen/value.hpp"
#include "ashlar/config.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/program.hpp"

/// What the code generator asks of a program while it writes code: regions, uses, and the C++ type
/// of each value. A `Source` is a type with `static constexpr tile::program code`.
namespace ashlar::chip::host_codegen {

/// A view of a launch, as the kernel sees it.
struct bound_argument {
  std::byte* data = nullptr;
  std::array<std::int64_t, tile::max_rank> extent{};
  std::array<std::int64_t, tile::max_rank> stride{};
  std::int64_t bits = 0;  ///< of a scalar, as `tile::constant_bits`
};

/// A matrix operand that `dot` reads where it lies, or from `copy` where it is not all there.
template <Scalar T, std::int64_t Size>
struct direct_tile {
  using value_type = T;
  const T* data;
  std::int64_t row;
  std::int64_t column;
  alignas(64) T copy[static_cast<std::size_t>(Size)];
};

/// A value-less instruction.
struct nothing {};

template <class Source>
struct facts {
  static constexpr const tile::program& code = Source::code;
  static constexpr int size = code.size;

  static constexpr int yield_of(int begin) { return tile::region_end(code, begin); }

  /// How many instructions of a region, or of the program (`end` = size), stand at its top level.
  static constexpr int count(int begin, int end) {
    int n = 0;
    for (int i = begin; i < end; i = tile::next_after(code, i)) {
      ++n;
    }
    return n;
  }
  template <int Begin, int End>
  static constexpr auto top_level = [] {
    std::array<int, static_cast<std::size_t>(count(Begin, End)) + 1> list{};
    std::size_t n = 0;
    for (int i = Begin; i < End; i = tile::next_after(code, i)) {
      list[n++] = i;
    }
    return list;
  }();

  /// Where the second region of an instruction begins.
  static constexpr int second_region(int owner) { return yield_of(owner + 1) + 1; }
  static constexpr int last_yield(int owner) {
    return info(code.at(owner).op).regions == 2 ? yield_of(second_region(owner))
                                                : yield_of(owner + 1);
  }

  /// A load that only `dot` uses, as a matrix of its own element type, before anything is written.
  static constexpr bool is_direct(int i) {
    const tile::instruction& l = code.at(i);
    const bool floats = l.type.element == dtype::float32 || l.type.element == dtype::float64;
    if (l.op != tile::opcode::load || l.type.rank != 2 || !floats) {
      return false;
    }
    int last = i;
    for (int j = i + 1; j < size; ++j) {
      const auto operands = code.operands(j);
      for (std::size_t k = 0; k < operands.size(); ++k) {
        if (operands[k] == i) {
          if (code.at(j).op != tile::opcode::dot || k == 2) {
            return false;
          }
          last = j;
        }
      }
    }
    for (int j = i + 1; j < last; ++j) {
      if (info(code.at(j).op).effect) {
        return false;
      }
    }
    return last > i;
  }
};

namespace detail {

template <tile::tile_type Type>
using plain_value =
    std::conditional_t<Type.rank == 0, scalar_value<scalar_of<Type.element>>,
                       tile_value<scalar_of<Type.element>, Type.size()>>;

template <class Source, int I>
consteval auto value_tag();

/// The results of an instruction with regions, side by side.
template <class Source, int I>
consteval auto results_tag() {
  using f = facts<Source>;
  constexpr tile::instruction i = f::code.at(I);
  constexpr int yield = f::last_yield(I);
  return []<int... K>(std::integer_sequence<int, K...>) {
    constexpr bool folds = i.op == tile::opcode::reduce || i.op == tile::opcode::scan;
    constexpr auto type = [](int k) {
      if (!folds) {
        return f::code.type_of(f::code.operand(yield, k));
      }
      const tile::tile_type t = f::code.type_of(f::code.operand(I, k));
      return i.op == tile::opcode::reduce ? t.without(i.index) : t;
    };
    return std::type_identity<std::tuple<plain_value<type(K)>...>>{};
  }(std::make_integer_sequence<int, f::code.at(yield).count>{});
}

template <class Source, int I>
consteval auto value_tag() {
  using f = facts<Source>;
  constexpr tile::instruction i = f::code.at(I);
  if constexpr (i.op == tile::opcode::reduce || i.op == tile::opcode::scan ||
                i.op == tile::opcode::branch) {
    return results_tag<Source, I>();
  } else if constexpr (!i.type.is_value()) {
    return std::type_identity<nothing>{};
  } else if constexpr (f::is_direct(I)) {
    return std::type_identity<direct_tile<scalar_of<i.type.element>, i.type.size()>>{};
  } else {
    return std::type_identity<plain_value<i.type>>{};
  }
}

template <class Source, int I>
struct slot {
  typename decltype(value_tag<Source, I>())::type value;
};

template <class Source, class Sequence>
struct slots;
template <class Source, int... I>
struct slots<Source, std::integer_sequence<int, I...>> : slot<Source, I>... {};

}  // namespace detail

/// All values of one program of the grid, and where it stands.
template <class Source>
struct frame : detail::slots<Source, std::make_integer_sequence<int, facts<Source>::size>> {
  const bound_argument* arguments;
  std::array<std::int64_t, 3> place;
  std::array<std::int64_t, 3> grid;

  template <int I>
  ASHLAR_INLINE auto& get() {
    return static_cast<detail::slot<Source, I>&>(*this).value;
  }
  /// The value of operand `K` of instruction `I`.
  template <int I, int K>
  ASHLAR_INLINE auto& operand() {
    return get<facts<Source>::code.operand(I, K)>();
  }
};

}  // namespace ashlar::chip::host_codegen
