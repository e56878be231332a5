// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/argument.hpp"
#include "ashlar/tile/builder.hpp"
#include "ashlar/tile/interpret.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/scalar.hpp"
#include "ashlar/tile/verify.hpp"

/// Programs and arguments by chance, the same for one seed everywhere.
namespace tile_test {

namespace tile = ashlar::tile;
using ashlar::dtype;
using tile::opcode;
using tile::tile_type;
using tile::value_id;

class dice {
 public:
  explicit dice(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}

  std::uint64_t bits() {  // splitmix64
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  /// From `low` to `high`, both included.
  int between(int low, int high) {
    return low + static_cast<int>(bits() % static_cast<std::uint64_t>(high - low + 1));
  }
  bool chance(int percent) { return between(1, 100) <= percent; }
  template <class T>
  T one_of(std::initializer_list<T> all) {
    return all.begin()[between(0, static_cast<int>(all.size()) - 1)];
  }

 private:
  std::uint64_t state_;
};

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
};

/// Writes one program. Every value carries a bound of its magnitude, so that floating-point numbers
/// stay finite; offsets stay small; integers may wrap, for that is defined.
///
/// No program of the grid depends on another: what is written is not read, and each has its own
/// places, or integers that add up in any order.
class program_maker {
 public:
  program_maker(std::uint64_t seed, const random_options& options)
      : dice_(seed), options_(options), b_("random") {}

  tile::program run() {
    const value_id x = b_.emit({.op = opcode::program_id, .index = 0, .type = tile::index_type});
    const value_id y = b_.emit({.op = opcode::program_id, .index = 1, .type = tile::index_type});
    const value_id n = b_.emit({.op = opcode::grid_size, .index = 0, .type = tile::index_type});
    place_ = b_.binary(opcode::add, x, b_.binary(opcode::mul, y, n));
    zero_ = b_.index(0);
    for (const value_id v : {x, y, place_, zero_}) {
      add(v, 64);
    }
    for (int i = 0; i < 2; ++i) {
      add(load(random_type(dtype::float32)), 2);
    }
    for (int i = dice_.between(options_.moves / 2, options_.moves); i > 0 && room(); --i) {
      move(0);
    }
    for (int i = 0; i < 3; ++i) {
      store(pick().id);
    }
    tile::program p = b_.finish();
    tile::expect_valid(p);
    return p;
  }

 private:
  static constexpr double most = 100;

  struct known {
    value_id id;
    double bound;  ///< of a floating-point value's magnitude
  };

  [[nodiscard]] const tile_type& type_of(value_id v) const { return b_.type_of(v); }
  [[nodiscard]] bool is_float(value_id v) const { return ashlar::is_floating(type_of(v).element); }
  [[nodiscard]] bool room() const {
    return b_.so_far().size < 220 && b_.so_far().operand_count < 600;
  }
  [[nodiscard]] bool more_parameters(int kept) const {
    return b_.so_far().parameter_count < tile::program::max_parameters - kept;
  }

  // --- types and values --------------------------------------------------------------------------

  dtype random_float() {
    const int d = dice_.between(0, 9);
    return d == 0 && options_.doubles         ? dtype::float64
           : d == 1 && options_.narrow_floats ? dtype::float16
           : d == 2 && options_.narrow_floats ? dtype::bfloat16
                                              : dtype::float32;
  }
  dtype random_integer() {
    const int d = dice_.between(0, 5);
    return d == 0 && options_.bytes   ? dtype::int8
           : d == 1 && options_.bytes ? dtype::uint8
           : d == 2                   ? dtype::int64
                                      : dtype::int32;
  }
  tile_type random_type(dtype element) {
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
  void add(value_id v, double bound) {
    if (is_float(v) && bound > most) {
      v = tamed({v, bound}, 4);
      bound = 4;
    }
    pool_.push_back({v, bound});
  }
  known pick() {
    // Late values more often, so that chains form.
    const int n = static_cast<int>(pool_.size());
    return pool_[static_cast<std::size_t>(
        std::max(dice_.between(0, n - 1), dice_.between(0, n - 1)))];
  }

  value_id constant(dtype e, double value) { return b_.constant(e, value); }
  value_id constant_of(const tile_type& t, double value) {
    return b_.broadcast(constant(t.element, value), t);
  }
  /// A floating-point value within `limit`; any other as it is.
  value_id tamed(known x, double limit) {
    if (!is_float(x.id) || x.bound <= limit) {
      return x.id;
    }
    if (options_.functions && limit >= 1 && dice_.chance(30)) {
      return b_.unary(opcode::tanh, x.id);
    }
    const tile_type t = type_of(x.id);
    return b_.binary(opcode::max, b_.binary(opcode::min, x.id, constant_of(t, limit)),
                     constant_of(t, -limit));
  }
  known tame(known x, double limit) {
    return {tamed(x, limit), is_float(x.id) ? std::min(x.bound, limit) : x.bound};
  }

  /// Any value as one of the element type `to`.
  known cast(known x, dtype to) {
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
                                                                  : tile::rounding::toward_zero;
    const known y{b_.cast(x.id, to, how), ashlar::is_floating(from) && x.bound < 1 ? 1 : x.bound};
    return y.bound > most ? tame(y, 4) : y;
  }

  /// A value of exactly this type.
  known make(const tile_type& t) {
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

  /// A scalar parameter of its own.
  value_id argument(dtype element) {
    const int n = b_.add_parameter({element, -1, false});
    return b_.emit({.op = opcode::argument, .index = n, .type = tile::scalar_type(element)});
  }

  // --- memory ------------------------------------------------------------------------------------

  /// A small offset, sometimes below 0.
  value_id offset() {
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
  int input(dtype element, int least_rank) {
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

  value_id load(const tile_type& t) {
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
  void store(value_id v) {
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
  value_id indices(const tile_type& like) {
    const known x = make(like.with(dtype::int64));
    return b_.binary(opcode::rem, x.id, constant_of(type_of(x.id), dice_.between(5, 19)));
  }

  void gather_or_scatter() {
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

  // --- what a program does -----------------------------------------------------------------------

  void move(int depth) {
    const int d = dice_.between(0, 99);
    if (d < 42) {
      elementwise();
    } else if (d < 50) {
      shape();
    } else if (d < 56) {
      add(load(random_type(dice_.chance(60) ? random_float() : random_integer())), 2);
    } else if (d < 62) {
      store(pick().id);
    } else if (d < 68) {
      options_.places ? gather_or_scatter() : elementwise();
    } else if (d < 74) {
      options_.matrices ? matrix() : elementwise();
    } else if (d < 85) {
      options_.folds ? fold() : elementwise();
    } else if (d < 86 && options_.speech) {
      speak();
    } else if (d < 88) {
      options_.random ? random_bits() : elementwise();
    } else if (!options_.control || depth >= 2) {
      elementwise();
    } else if (d < 93) {
      loop(depth);
    } else if (d < 96) {
      repeat(depth);
    } else {
      branch(depth);
    }
  }

  void elementwise() {
    const known x = pick();
    const int d = dice_.between(0, 9);
    if (d == 0) {
      const known y = cast(x, dice_.chance(50) ? random_float() : random_integer());
      return add(y.id, y.bound);
    }
    if (d <= 2 && type_of(x.id).element != dtype::boolean) {
      const known y = make(type_of(x.id));
      const opcode op =
          dice_.one_of({opcode::equal, opcode::not_equal, opcode::less, opcode::less_equal});
      const value_id m = b_.binary(op, x.id, y.id);
      add(m, 0);
      return add(b_.select(m, x.id, y.id), std::max(x.bound, y.bound));
    }
    if (type_of(x.id).element == dtype::boolean) {
      const opcode op = dice_.one_of({opcode::bit_and, opcode::bit_or, opcode::bit_xor});
      const value_id y = b_.binary(op, x.id, make(type_of(x.id)).id);
      return add(dice_.chance(50) ? y : b_.unary(opcode::bit_not, y), 0);
    }
    is_float(x.id) ? floats(x) : integers(x);
  }

  void integers(known x) {
    const opcode op = dice_.one_of({opcode::add, opcode::sub, opcode::mul, opcode::div, opcode::rem,
                                    opcode::min, opcode::max, opcode::bit_and, opcode::bit_or,
                                    opcode::bit_xor, opcode::shift_left, opcode::shift_right,
                                    opcode::neg, opcode::abs, opcode::bit_not, opcode::bitcast});
    if (op == opcode::bitcast) {
      const dtype e = type_of(x.id).element;
      if (e != dtype::int8 && e != dtype::uint8) {
        return;
      }
      const auto to = type_of(x.id).with(e == dtype::int8 ? dtype::uint8 : dtype::int8);
      return add(b_.emit({.op = op, .type = to}, {x.id}), 0);
    }
    add(tile::info(op).operands == 1 ? b_.unary(op, x.id)
                                     : b_.binary(op, x.id, make(type_of(x.id)).id),
        0);
  }

  void floats(known x) {
    const tile_type t = type_of(x.id);
    const auto magnitude_and = [&](known v, double c) {
      return b_.binary(opcode::add, b_.unary(opcode::abs, v.id), constant_of(t, c));
    };
    switch (dice_.between(0, options_.functions ? 15 : 10)) {
      case 0:
      case 1: {
        const known y = make(t);
        return add(b_.binary(dice_.one_of({opcode::add, opcode::sub}), x.id, y.id),
                   x.bound + y.bound);
      }
      case 2:
      case 3: {
        const known y = make(t);
        return add(b_.binary(opcode::mul, x.id, y.id), x.bound * y.bound);
      }
      case 4: {
        const known y = make(t);
        return add(b_.binary(dice_.one_of({opcode::min, opcode::max}), x.id, y.id),
                   std::max(x.bound, y.bound));
      }
      case 5: {
        const known y = make(t);
        const known z = make(t);
        return add(b_.fma(x.id, y.id, z.id), x.bound * y.bound + z.bound);
      }
      case 6:
        return add(b_.binary(opcode::div, x.id, magnitude_and(make(t), 0.5)), 2 * x.bound);
      case 7:
        return add(b_.unary(dice_.one_of({opcode::neg, opcode::abs}), x.id), x.bound);
      case 8:
        return add(b_.unary(opcode::floor, x.id), x.bound + 1);
      case 9:
        return add(b_.unary(opcode::sqrt, b_.unary(opcode::abs, x.id)), x.bound + 1);
      case 10:
        return add(b_.unary(opcode::rsqrt, magnitude_and(x, 0.5)), 2);
      case 11:
        return add(b_.unary(opcode::exp, tamed(x, 4)), 60);
      case 12:
        return add(b_.unary(opcode::log, magnitude_and(x, 1)), x.bound);
      case 13:
        return add(b_.unary(opcode::tanh, x.id), 1);
      case 14:
        return add(b_.unary(opcode::sigmoid, x.id), 1);
      default:
        return add(b_.unary(opcode::erf, x.id), 1);
    }
  }

  void shape() {
    const known x = pick();
    const tile_type t = type_of(x.id);
    const int last = t.rank - 1;
    const auto size = static_cast<std::int32_t>(t.size());
    const auto with_last = [&](std::int32_t n) {
      tile_type r = t;
      r.extents[static_cast<std::size_t>(last)] = n;
      return r;
    };
    switch (dice_.between(0, 5)) {
      case 0:
        return add(b_.reshape(x.id, dice_.chance(50)   ? tile_type(t.element, {size})
                                    : dice_.chance(50) ? tile_type(t.element, {size, 1})
                                                       : tile_type(t.element, {1, size})),
                   x.bound);
      case 1: {
        if (t.rank < 2) {
          return;
        }
        std::array<int, 4> axes{0, 1, 2, 3};
        const auto n = static_cast<std::size_t>(t.rank);
        for (std::size_t a = n - 1; a > 0; --a) {
          std::swap(axes[a], axes[static_cast<std::size_t>(dice_.between(0, static_cast<int>(a)))]);
        }
        return add(b_.transpose(x.id, std::span<const int>(axes.data(), n)), x.bound);
      }
      case 2:
        if (t.rank > 0 && t.extent(last) % 2 == 0) {
          add(b_.emit({.op = opcode::split,
                       .index = dice_.between(0, 1),
                       .type = with_last(t.extent(last) / 2)},
                      {x.id}),
              x.bound);
        }
        return;
      case 3:
        if (t.rank > 0 && size <= 64) {
          const known y = make(t);
          add(b_.emit({.op = opcode::join, .type = with_last(2 * t.extent(last))}, {x.id, y.id}),
              std::max(x.bound, y.bound));
        }
        return;
      case 4:
        if (t.rank > 0 && size <= 64 && options_.bytes) {
          const known y = cast(x, dice_.one_of({dtype::int8, dtype::uint8}));
          const auto to = with_last(2 * t.extent(last)).with(type_of(y.id).element);
          add(b_.emit({.op = opcode::unpack_nibbles, .type = to}, {y.id}), 0);
        }
        return;
      default:
        if (t.rank > 0 && t.rank < 3 && size <= 64) {
          tile_type to = t;
          to.rank = static_cast<std::int8_t>(t.rank + 1);
          to.extents = {2, t.extent(0), t.rank > 1 ? t.extent(1) : 0};
          add(b_.broadcast(x.id, to), x.bound);
        }
        return;
    }
  }

  void matrix() {
    const bool scaled = dice_.chance(20);
    const std::int32_t m = dice_.one_of({1, 2, 3, 5, 8});
    const std::int32_t n = dice_.one_of({1, 2, 4, 7, 16});
    const std::int32_t k = scaled ? dice_.one_of({32, 64}) : dice_.one_of({1, 3, 4, 8, 17});
    const dtype e = scaled                               ? dtype::float32
                    : options_.bytes && dice_.chance(15) ? dtype::int8
                                                         : random_float();
    const dtype to = tile::detail::accumulator_of(e);
    if (scaled) {
      const dtype narrow = options_.narrow_floats ? dtype::bfloat16 : dtype::float32;
      const known a = tame(make({narrow, {m, k}}), 2);
      const known sa = tame(make({dtype::float32, {m, k / 32}}), 2);
      const known b = tame(make({narrow, {k, n}}), 2);
      const known sb = tame(make({dtype::float32, {k / 32, n}}), 2);
      const known c = make({to, {m, n}});
      return add(b_.emit({.op = opcode::dot_scaled, .type = type_of(c.id)},
                         {a.id, sa.id, b.id, sb.id, c.id}),
                 c.bound + 16 * k);
    }
    const bool batched = dice_.chance(20);
    const auto shaped = [&](dtype d, std::int32_t r, std::int32_t s) {
      return batched ? tile_type(d, {2, r, s}) : tile_type(d, {r, s});
    };
    const known a = tame(make(shaped(e, m, k)), 4);
    const known b = tame(make(shaped(e, k, n)), 4);
    const known c = make(shaped(to, m, n));
    add(b_.emit({.op = opcode::dot, .type = type_of(c.id)}, {a.id, b.id, c.id}), c.bound + 16 * k);
  }

  void random_bits() {
    const known counters = make(random_type(dtype::int64));
    const value_id seed = dice_.chance(50) ? place_ : b_.index(dice_.between(0, 1 << 30));
    add(b_.emit({.op = opcode::random_bits, .type = type_of(counters.id).with(dtype::int32)},
                {seed, counters.id}),
        0);
  }

  void speak() {
    const value_id x = pick().id;
    if (dice_.chance(50) || type_of(x).element == dtype::boolean) {
      b_.emit({.op = opcode::print, .index = dice_.between(0, 9)}, {x});
    } else {
      b_.emit({.op = opcode::require, .index = dice_.between(0, 9)},
              {b_.binary(opcode::less_equal, x, x)});
    }
  }

  // --- regions -----------------------------------------------------------------------------------

  void fold() {
    known x = pick();
    if (type_of(x.id).rank == 0 || type_of(x.id).element == dtype::boolean) {
      x = {load(random_type(random_float())), 2};
    }
    const tile_type t = type_of(x.id);
    const int axis = dice_.between(0, t.rank - 1);
    const bool scan = dice_.chance(30);
    tile::instruction i{.op = scan ? opcode::scan : opcode::reduce, .index = axis};
    i.value = scan ? dice_.between(0, 1) : 0;
    const auto result_type = [&](const tile_type& of) { return scan ? of : of.without(axis); };
    if (dice_.chance(25)) {  // the largest and where it is
      const tile_type places = t.with(dtype::int32);
      const value_id at = b_.emit({.op = opcode::iota, .index = axis, .type = places});
      const value_id owner = b_.emit(i, {x.id, at});
      const std::array<tile_type, 4> inputs{
          tile::scalar_type(t.element), tile::scalar_type(dtype::int32),
          tile::scalar_type(t.element), tile::scalar_type(dtype::int32)};
      const value_id a = b_.begin_region(inputs);
      const auto input = [&](int k) { return static_cast<value_id>(a + k); };
      const value_id less = b_.binary(opcode::less, a, input(2));
      const std::array<value_id, 2> given{b_.select(less, input(2), a),
                                          b_.select(less, input(3), input(1))};
      b_.yield(given);
      add(b_.result(owner, 0, result_type(t)), x.bound);
      return add(b_.result(owner, 1, result_type(places)), 0);
    }
    const opcode with = dice_.one_of({opcode::add, opcode::add, opcode::max, opcode::min});
    const value_id owner = b_.emit(i, {x.id});
    const std::array<tile_type, 2> inputs{tile::scalar_type(t.element),
                                          tile::scalar_type(t.element)};
    const value_id a = b_.begin_region(inputs);
    const std::array<value_id, 1> given{b_.binary(with, a, static_cast<value_id>(a + 1))};
    b_.yield(given);
    add(b_.result(owner, 0, result_type(t)),
        with == opcode::add ? x.bound * t.extent(axis) : x.bound);
  }

  /// A few moves inside a region; what they made is gone afterwards.
  void moves(int depth) {
    for (int i = dice_.between(1, 4); i > 0 && room(); --i) {
      move(depth + 1);
    }
  }

  std::vector<known> pick_carried() {
    std::vector<known> carried;
    for (int k = dice_.between(1, 3); k > 0; --k) {
      carried.push_back(tame(pick(), 4));
    }
    return carried;
  }
  /// What a region gives for `carried`: of its types, within its bounds.
  std::vector<value_id> next_of(const std::vector<known>& carried) {
    std::vector<value_id> next;
    for (const known& x : carried) {
      next.push_back(tamed(make(type_of(x.id)), 4));
    }
    return next;
  }
  void add_results(value_id owner, const std::vector<known>& carried, int from) {
    for (std::size_t k = 0; k < carried.size(); ++k) {
      add(b_.result(owner, static_cast<int>(k) + from, type_of(carried[k].id)), 4);
    }
  }

  void loop(int depth) {
    const std::vector<known> carried = pick_carried();
    const value_id step = b_.index(dice_.between(1, 3));
    const value_id first = b_.index(dice_.between(-2, 1));
    value_id last = b_.index(dice_.between(0, 6));
    const int view = b_.so_far().parameter_count - 1;
    if (dice_.chance(30) && b_.so_far().parameter_at(view).is_view()) {
      const value_id n = b_.emit({.op = opcode::extent, .index = view, .type = tile::index_type});
      last = b_.binary(opcode::min, n, last);
    }
    std::vector<value_id> operands{first, last, step};
    std::vector<tile_type> inputs{tile::index_type};
    for (const known& x : carried) {
      operands.push_back(x.id);
      inputs.push_back(type_of(x.id));
    }
    const value_id owner = b_.emit({.op = opcode::loop}, operands);
    const std::size_t outside = pool_.size();
    const value_id in = b_.begin_region(inputs);
    for (std::size_t k = 0; k < inputs.size(); ++k) {
      add(static_cast<value_id>(in + static_cast<int>(k)), 4);
    }
    moves(depth);
    b_.yield(next_of(carried));
    pool_.resize(outside);
    add_results(owner, carried, 0);
  }

  void repeat(int depth) {
    const std::vector<known> carried = pick_carried();
    std::vector<value_id> operands{zero_};
    std::vector<tile_type> inputs{tile::index_type};
    for (const known& x : carried) {
      operands.push_back(x.id);
      inputs.push_back(type_of(x.id));
    }
    const value_id owner = b_.emit({.op = opcode::repeat}, operands);
    const std::size_t outside = pool_.size();
    const value_id asked = b_.begin_region(inputs);
    const std::array<value_id, 1> goes_on{
        b_.binary(opcode::less, asked, b_.index(dice_.between(0, 4)))};
    b_.yield(goes_on);
    const value_id in = b_.begin_region(inputs);
    for (std::size_t k = 0; k < inputs.size(); ++k) {
      add(static_cast<value_id>(in + static_cast<int>(k)), 4);
    }
    moves(depth);
    std::vector<value_id> next = next_of(carried);
    next.insert(next.begin(), b_.binary(opcode::add, in, b_.index(1)));
    b_.yield(next);
    pool_.resize(outside);
    add_results(owner, carried, 1);
  }

  void branch(int depth) {
    const std::vector<known> like = pick_carried();
    const known x = make(tile::index_type);
    const value_id condition =
        b_.binary(opcode::equal, b_.binary(opcode::rem, x.id, b_.index(2)), zero_);
    const value_id owner = b_.emit({.op = opcode::branch}, {condition});
    const std::size_t outside = pool_.size();
    for (int r = 0; r < 2; ++r) {
      moves(depth);
      b_.yield(next_of(like));
      pool_.resize(outside);
    }
    add_results(owner, like, 0);
  }

  dice dice_;
  random_options options_;
  tile::builder b_;
  std::vector<known> pool_{};
  value_id place_ = 0;
  value_id zero_ = 0;
};

/// Returns: a program that `verify` accepts.
inline tile::program random_program(std::uint64_t seed, const random_options& options = {}) {
  return program_maker(seed, options).run();
}

/// Memory and scalars for a program: small floating-point numbers, small integers, views of any
/// extents from 0 on, dense or not. The contents are the same for one seed.
class random_launch {
 public:
  random_launch(const tile::program& p, std::uint64_t seed) {
    dice d(seed ^ 0x5bd1e995u);
    size = {d.between(1, 3), d.between(1, 2), 1};
    for (int k = 0; k < p.parameter_count; ++k) {
      add(p.parameter_at(k), d);
    }
  }

  [[nodiscard]] std::vector<tile::argument> arguments() {
    std::vector<tile::argument> all = arguments_;
    for (std::size_t k = 0; k < all.size(); ++k) {
      if (all[k].rank >= 0) {
        all[k].data = buffers[k].data();
      }
    }
    return all;
  }

  tile::grid size{};
  std::vector<std::vector<std::byte>> buffers{};  ///< one per parameter; of scalars, empty

 private:
  static double number(dtype e, dice& d) {
    return ashlar::is_floating(e) ? d.between(-512, 512) / 256.0
           : e == dtype::boolean  ? d.between(0, 1)
           : e == dtype::uint8    ? d.between(0, 255)
           : e == dtype::int8     ? d.between(-128, 127)
                                  : d.between(-20, 20);
  }

  void add(const tile::parameter& p, dice& d) {
    tile::argument x;
    x.element = p.element;
    x.rank = p.rank;
    x.writable = p.written;
    buffers.emplace_back();
    if (p.rank < 0) {
      const double v = number(p.element, d);
      x.bits = ashlar::is_floating(p.element) ? tile::constant_bits(v)
                                              : tile::constant_bits(static_cast<std::int64_t>(v));
      arguments_.push_back(x);
      return;
    }
    // Axes from the fastest to the slowest in memory, with gaps now and then.
    std::array<std::size_t, 4> order{3, 2, 1, 0};
    if (d.chance(30)) {
      std::swap(order[static_cast<std::size_t>(d.between(0, 3))], order[3]);
    }
    std::int64_t step = 1;
    for (const std::size_t a : order) {
      if (a >= static_cast<std::size_t>(p.rank)) {
        continue;
      }
      const bool row = p.written && a == 0 && p.rank > 1;
      x.extents[a] = row && d.chance(80) ? size[0] * size[1]
                     : d.chance(3)       ? 0
                                         : d.between(1, p.rank < 3 ? 20 : 5);
      x.strides[a] = step;
      step *= std::max<std::int64_t>(x.extents[a], 1);
      step += d.chance(15) ? 3 : 0;
    }
    std::vector<std::byte>& memory = buffers.back();
    memory.resize(static_cast<std::size_t>(step) * ashlar::size_of(p.element));
    tile::eval::with_scalar(p.element, [&]<class T>(std::type_identity<T>) {
      for (std::int64_t i = 0; i < step; ++i) {
        const double v = number(p.element, d);
        T element{};
        if constexpr (std::same_as<T, ashlar::float16> || std::same_as<T, ashlar::bfloat16>) {
          element = T(static_cast<float>(v));
        } else {
          element = static_cast<T>(v);
        }
        tile::detail::set_element(memory.data(), i, element);
      }
    });
    arguments_.push_back(x);
  }

  std::vector<tile::argument> arguments_{};
};

/// Runs a program on the interpreter. Returns: every buffer afterwards.
template <class Math = tile::eval::std_math>
std::vector<std::vector<std::byte>> interpreted(const tile::program& p, std::uint64_t seed) {
  random_launch launch(p, seed);
  tile::interpret<Math>(p, launch.size, launch.arguments());
  return launch.buffers;
}

}  // namespace tile_test
