// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/builder.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/scalar.hpp"
#include "ashlar/tile/type.hpp"
#include "support/tile_launch.hpp"

/// What programs by chance are made of.
namespace tile_test {

using tile::opcode;
using tile::tile_type;
using tile::value_id;

/// What a program may contain: a chip that lacks something switches it off.
struct random_options {
  bool narrow_floats = true;  ///< float16, bfloat16
  bool doubles = true;
  bool bytes = true;      ///< int8, uint8
  bool functions = true;  ///< exp, log, tanh, sigmoid, erf
  bool places = true;     ///< gather, scatter, atomics
  bool matrices = true;   ///< dot, dot_scaled
  bool folds = true;      ///< reduce, scan
  bool control = true;    ///< loop, repeat, branch
  bool random = true;     ///< random_bits
  bool speech = false;    ///< print, and a require that holds
  int moves = 14;         ///< about how many things the program does

  // Off, so that a seed gives the program that it always gave; `everything` has them.
  bool float8 = false;            ///< float8_e4m3, float8_e5m2: loaded, cast, stored
  bool float8_arithmetic = true;  ///< and what else is done with floats
  bool saturation = false;        ///< casts that saturate, of numbers that are too large
  bool combines = false;    ///< reductions and scans by products and by Welford's, of three tiles
  bool captures = false;    ///< their regions use values from around them
  bool third_axis = false;  ///< of the grid
};

constexpr random_options everything(random_options o = {}) {
  o.float8 = o.saturation = o.combines = o.captures = o.third_axis = true;
  return o;
}

/// The values of a program that is being written, and its memory.
///
/// Every value carries a bound of its magnitude, so that floating-point numbers stay finite;
/// offsets stay small; integers may wrap, for that is defined.
class value_maker {
 protected:
  constexpr value_maker(std::uint64_t seed, const random_options& options)
      : dice_(seed), options_(options), b_("random") {}

  static constexpr double most = 100;

  struct known {
    value_id id;
    double bound;  ///< of a floating-point value's magnitude
  };

  [[nodiscard]] constexpr const tile_type& type_of(value_id v) const { return b_.type_of(v); }
  [[nodiscard]] constexpr bool is_float(value_id v) const {
    return ashlar::is_floating(type_of(v).element);
  }
  [[nodiscard]] constexpr bool room() const {
    return b_.so_far().size < 220 && b_.so_far().operand_count < 600;
  }
  [[nodiscard]] constexpr bool more_parameters(int kept) const {
    return b_.so_far().parameter_count < tile::program::max_parameters - kept;
  }

  // --- types and values --------------------------------------------------------------------------

  [[nodiscard]] constexpr bool computes_float8() const {
    return options_.float8 && options_.float8_arithmetic;
  }
  constexpr dtype random_float() {
    const int d = dice_.between(0, 9);
    return d == 0 && options_.doubles         ? dtype::float64
           : d == 1 && options_.narrow_floats ? dtype::float16
           : d == 2 && options_.narrow_floats ? dtype::bfloat16
           : d == 3 && computes_float8()      ? dtype::float8_e4m3
           : d == 4 && computes_float8()      ? dtype::float8_e5m2
                                              : dtype::float32;
  }
  constexpr dtype random_integer() {
    const int d = dice_.between(0, 5);
    return d == 0 && options_.bytes   ? dtype::int8
           : d == 1 && options_.bytes ? dtype::uint8
           : d == 2                   ? dtype::int64
                                      : dtype::int32;
  }
  constexpr tile_type random_type(dtype element) {
    tile_type t = tile::scalar_type(element);
    const int rank = dice_.one_of({1, 1, 2, 2, 2, 3});
    for (int a = 0; a < rank; ++a) {
      t.extents[static_cast<std::size_t>(t.rank++)] =
          rank == 1   ? dice_.one_of({1, 2, 7, 16, 17, 32, 33, 64})
          : rank == 2 ? dice_.one_of({1, 2, 3, 4, 5, 8, 16})
                      : dice_.one_of({1, 2, 3, 4});
    }
    return t;
  }

  /// Into the pool, made smaller where it could grow without end.
  constexpr void add(value_id v, double bound) {
    if (is_float(v) && bound > most) {
      v = tamed({v, bound}, 4);
      bound = 4;
    }
    pool_.push_back({v, bound});
  }
  constexpr known pick() {
    // Late values more often, so that chains form.
    const int n = static_cast<int>(pool_.size());
    return pool_[static_cast<std::size_t>(
        std::max(dice_.between(0, n - 1), dice_.between(0, n - 1)))];
  }

  constexpr value_id constant(dtype e, double value) { return b_.constant(e, value); }
  constexpr value_id constant_of(const tile_type& t, double value) {
    return b_.broadcast(constant(t.element, value), t);
  }
  /// A floating-point value within `limit`; any other as it is.
  constexpr value_id tamed(known x, double limit) {
    if (!is_float(x.id) || x.bound <= limit) {
      return x.id;
    }
    if (options_.functions && limit >= 1 && dice_.chance(30)) {
      return b_.unary(opcode::tanh, x.id);
    }
    const tile_type t = type_of(x.id);
    // One call at a time: compilers differ in the order of a call's arguments.
    const value_id below = b_.binary(opcode::min, x.id, constant_of(t, limit));
    return b_.binary(opcode::max, below, constant_of(t, -limit));
  }
  constexpr known tame(known x, double limit) {
    return {tamed(x, limit), is_float(x.id) ? std::min(x.bound, limit) : x.bound};
  }

  /// Any value as one of the element type `to`.
  constexpr known cast(known x, dtype to) {
    const dtype from = type_of(x.id).element;
    if (from == to) {
      return x;
    }
    if (ashlar::is_floating(to) && ashlar::is_integral(from)) {
      if (from == dtype::int32 || from == dtype::int64) {
        x.id = b_.binary(opcode::rem, x.id, constant_of(type_of(x.id), 17));
        x.bound = 16;
      } else {
        x.bound = from == dtype::boolean ? 1 : 255;
      }
    }
    const auto how = dice_.chance(80) || !ashlar::is_floating(to) ? tile::rounding::nearest_even
                     : options_.saturation && dice_.chance(50)    ? tile::rounding::saturating
                                                                  : tile::rounding::toward_zero;
    const known y{b_.cast(x.id, to, how), ashlar::is_floating(from) && x.bound < 1 ? 1 : x.bound};
    return y.bound > most ? tame(y, 4) : y;
  }

  /// A value of exactly this type.
  constexpr known make(const tile_type& t) {
    const int start = dice_.between(0, static_cast<int>(pool_.size()) - 1);
    const auto at = [&](std::size_t k) {
      return pool_[(static_cast<std::size_t>(start) + k) % pool_.size()];
    };
    if (dice_.chance(75)) {
      for (std::size_t k = 0; k < pool_.size(); ++k) {
        if (type_of(at(k).id) == t) {
          return at(k);
        }
      }
    }
    if (dice_.chance(60)) {
      for (std::size_t k = 0; k < pool_.size(); ++k) {
        const known x = at(k);
        if (tile::broadcasts_to(type_of(x.id).with(t.element), t)) {
          const known y = cast(x, t.element);
          return {b_.broadcast(y.id, t), y.bound};
        }
      }
    }
    const bool integers = t.element == dtype::int32 || t.element == dtype::int64;
    if (t.rank > 0 && integers && dice_.chance(40)) {
      return {b_.emit({.op = opcode::iota, .index = dice_.between(0, t.rank - 1), .type = t}), 0};
    }
    if (t.rank > 0 && dice_.chance(50)) {
      return {load(t), 2};
    }
    if (t.rank == 0 && dice_.chance(30) && more_parameters(6)) {
      return {argument(t.element), 2};
    }
    const double c = ashlar::is_floating(t.element) ? dice_.between(-16, 16) / 4.0
                     : t.element == dtype::boolean  ? dice_.between(0, 1)
                     : t.element == dtype::uint8    ? dice_.between(0, 8)
                                                    : dice_.between(-8, 8);
    return {constant_of(t, c), 4};
  }

  /// A value of this type that what one does next cannot take beyond the numbers of the type: those
  /// of float8_e4m3 end at 448, and NaN follows.
  constexpr known make_operand(const tile_type& t) { return within_range(make(t)); }
  constexpr known within_range(known x) {
    return type_of(x.id).element == dtype::float8_e4m3 ? tame(x, 16) : x;
  }

  /// A scalar parameter of its own.
  constexpr value_id argument(dtype element) {
    const int n = b_.add_parameter({element, -1, false});
    return b_.emit({.op = opcode::argument, .index = n, .type = tile::scalar_type(element)});
  }

  // --- memory ------------------------------------------------------------------------------------

  /// A small offset, sometimes below 0.
  constexpr value_id offset() {
    switch (dice_.between(0, 4)) {
      case 0:
        return b_.index(dice_.between(-4, 12));
      case 1:
        return b_.binary(opcode::mul, place_, b_.index(dice_.between(1, 8)));
      case 2: {
        const known x = pick();
        const bool fits = type_of(x.id) == tile::index_type;
        return b_.binary(opcode::rem, fits ? x.id : place_, b_.index(13));
      }
      default:
        return zero_;
    }
  }

  /// A view to read: one that is there, or a new one.
  constexpr int input(dtype element, int least_rank) {
    const tile::program& p = b_.so_far();
    for (int k = 0; k < p.parameter_count; ++k) {
      const tile::parameter& x = p.parameter_at(k);
      if (!x.written && x.element == element && x.rank >= least_rank &&
          (dice_.chance(60) || !more_parameters(7))) {
        return k;
      }
    }
    if (!more_parameters(4)) {
      return -1;
    }
    const int rank = std::min(tile::max_rank, least_rank + dice_.one_of({0, 0, 1}));
    return b_.add_parameter({element, static_cast<std::int8_t>(rank), false});
  }

  constexpr value_id load(const tile_type& t) {
    const int view = input(t.element, t.rank);
    if (view < 0) {
      return constant_of(t, 1);
    }
    std::vector<value_id> offsets;
    for (int a = 0; a < b_.so_far().parameter_at(view).rank; ++a) {
      offsets.push_back(offset());
    }
    std::int64_t outside = 0;
    if (dice_.chance(40)) {
      outside = ashlar::is_floating(t.element) ? tile::constant_bits(-1.5)
                                               : tile::constant_bits(std::int64_t{1});
    }
    return b_.emit({.op = opcode::load, .index = view, .value = outside, .type = t}, offsets);
  }

  /// To a view of its own, whose first axis belongs to the place in the grid.
  constexpr void store(value_id v) {
    const tile_type t = type_of(v);
    if (!more_parameters(0) || t.rank == tile::max_rank) {
      return;
    }
    const auto rank = static_cast<std::int8_t>(t.rank + 1);
    const int view = b_.add_parameter({t.element, rank, true});
    std::vector<value_id> operands{v, place_};
    for (int a = 0; a < t.rank; ++a) {
      operands.push_back(dice_.chance(70) ? zero_ : b_.index(dice_.between(-3, 5)));
    }
    b_.emit({.op = opcode::store, .index = view}, operands);
  }

  /// Indices of these extents, mostly inside a small view.
  constexpr value_id indices(const tile_type& like) {
    const known x = make(like.with(dtype::int64));
    return b_.binary(opcode::rem, x.id, constant_of(type_of(x.id), dice_.between(5, 19)));
  }

  constexpr void gather_or_scatter() {
    const known x = pick();
    const tile_type t = type_of(x.id);
    if (dice_.chance(50)) {
      const int view = input(t.element, 1);
      if (view < 0) {
        return;
      }
      std::vector<value_id> places;
      for (int a = 0; a < b_.so_far().parameter_at(view).rank; ++a) {
        places.push_back(dice_.chance(60) ? indices(t) : offset());
      }
      return add(b_.emit({.op = opcode::gather, .index = view, .value = 0, .type = t}, places), 2);
    }
    if (!more_parameters(3)) {
      return;
    }
    // Integers may meet those of other programs; the rest stays in its own row.
    const bool meets = t.element == dtype::int32 && dice_.chance(50);
    const opcode op = t.element == dtype::boolean
                          ? opcode::scatter
                          : dice_.one_of({opcode::scatter, opcode::atomic_add, opcode::atomic_max,
                                          opcode::atomic_min});
    const bool shared = meets && op != opcode::scatter;
    const int view = b_.add_parameter({t.element, static_cast<std::int8_t>(shared ? 1 : 2), true});
    std::vector<value_id> operands{x.id};
    if (!shared) {
      operands.push_back(place_);
    }
    operands.push_back(indices(t));
    b_.emit({.op = op, .index = view}, operands);
  }

  dice dice_;
  random_options options_;
  tile::builder b_;
  std::vector<known> pool_{};
  value_id place_ = 0;
  value_id zero_ = 0;
};

}  // namespace tile_test
