// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <utility>
#include <vector>

#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/builder.hpp"
#include "ashlar/tile/interpret.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/rules.hpp"
#include "ashlar/tile/scalar.hpp"
#include "ashlar/tile/type.hpp"
#include "ashlar/tile/verify.hpp"
#include "support/tile_launch.hpp"
#include "support/tile_random_values.hpp"

/// Programs by chance, the same for one seed everywhere.
namespace tile_test {

/// Writes one program.
///
/// No program of the grid depends on another: what is written is not read, and each has its own
/// places, or integers that add up in any order.
class program_maker : value_maker {
 public:
  constexpr program_maker(std::uint64_t seed, const random_options& options)
      : value_maker(seed, options) {}

  constexpr tile::program run() {
    const value_id x = b_.emit({.op = opcode::program_id, .index = 0, .type = tile::index_type});
    const value_id y = b_.emit({.op = opcode::program_id, .index = 1, .type = tile::index_type});
    const value_id n = b_.emit({.op = opcode::grid_size, .index = 0, .type = tile::index_type});
    place_ = b_.binary(opcode::add, x, b_.binary(opcode::mul, y, n));
    if (options_.third_axis) {
      const value_id z = b_.emit({.op = opcode::program_id, .index = 2, .type = tile::index_type});
      const value_id m = b_.emit({.op = opcode::grid_size, .index = 1, .type = tile::index_type});
      const value_id below = b_.binary(opcode::mul, z, b_.binary(opcode::mul, n, m));
      place_ = b_.binary(opcode::add, place_, below);
    }
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
  // --- what a program does -----------------------------------------------------------------------

  constexpr void move(int depth) {
    if ((options_.float8 || options_.saturation) && dice_.chance(6)) {
      return there_and_back();
    }
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

  constexpr void elementwise() {
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

  constexpr void integers(known x) {
    const opcode op = dice_.one_of({opcode::add, opcode::sub, opcode::mul, opcode::div, opcode::rem,
                                    opcode::min, opcode::max, opcode::bit_and, opcode::bit_or,
                                    opcode::bit_xor, opcode::shift_left, opcode::shift_right,
                                    opcode::neg, opcode::abs, opcode::bit_not, opcode::bitcast});
    if (op == opcode::bitcast) {
      if (!options_.bytes) {
        return;
      }
      const bool is_unsigned = type_of(x.id).element == dtype::uint8;
      x = is_unsigned ? x : cast(x, dtype::int8);
      const auto to = type_of(x.id).with(is_unsigned ? dtype::int8 : dtype::uint8);
      return add(b_.emit({.op = op, .type = to}, {x.id}), 0);
    }
    add(tile::info(op).operands == 1 ? b_.unary(op, x.id)
                                     : b_.binary(op, x.id, make(type_of(x.id)).id),
        0);
  }

  /// To a narrower type, often from numbers that it does not hold, and back.
  constexpr void there_and_back() {
    const bool doubles = options_.doubles && dice_.chance(30);
    const known x = cast(pick(), doubles ? dtype::float64 : dtype::float32);
    const tile_type t = type_of(x.id);
    std::vector<dtype> narrower;
    if (t.element == dtype::float64) {
      narrower.push_back(dtype::float32);
    }
    if (options_.narrow_floats) {
      narrower.insert(narrower.end(), {dtype::float16, dtype::bfloat16});
    }
    if (options_.float8) {
      narrower.insert(narrower.end(), {dtype::float8_e4m3, dtype::float8_e5m2});
    }
    if (narrower.empty()) {
      return;
    }
    const dtype to =
        narrower[static_cast<std::size_t>(dice_.between(0, static_cast<int>(narrower.size()) - 1))];
    value_id wide = x.id;
    auto how = tile::rounding::nearest_even;
    if (options_.saturation && dice_.chance(70)) {
      // Of the numbers of float32 hardly one is too large for bfloat16.
      const double factor = t.element == dtype::float64 && dice_.chance(50) ? 1e38 : 1000;
      wide = b_.binary(opcode::mul, wide, constant_of(t, factor));
      how = dice_.one_of({tile::rounding::saturating, tile::rounding::toward_zero});
    }
    const value_id narrow = b_.cast(wide, to, how);
    if (dice_.chance(50)) {
      store(narrow);
    }
    // All that is beyond float32 by now is infinite, which `tamed` takes in, too.
    add(tamed({b_.cast(narrow, dtype::float32), 1e40}, 4), 4);
  }

  constexpr void floats(known x) {
    x = within_range(x);
    const tile_type t = type_of(x.id);
    const auto magnitude_and = [&](known v, double c) {
      const value_id a = b_.unary(opcode::abs, v.id);
      return b_.binary(opcode::add, a, constant_of(t, c));
    };
    switch (dice_.between(0, options_.functions ? 15 : 10)) {
      case 0:
      case 1: {
        const known y = make_operand(t);
        return add(b_.binary(dice_.one_of({opcode::add, opcode::sub}), x.id, y.id),
                   x.bound + y.bound);
      }
      case 2:
      case 3: {
        const known y = make_operand(t);
        return add(b_.binary(opcode::mul, x.id, y.id), x.bound * y.bound);
      }
      case 4: {
        const known y = make_operand(t);
        return add(b_.binary(dice_.one_of({opcode::min, opcode::max}), x.id, y.id),
                   std::max(x.bound, y.bound));
      }
      case 5: {
        const known y = make_operand(t);
        const known z = make_operand(t);
        return add(b_.fma(x.id, y.id, z.id), x.bound * y.bound + z.bound);
      }
      case 6:
        return add(b_.binary(opcode::div, x.id, magnitude_and(make_operand(t), 0.5)), 2 * x.bound);
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

  constexpr void shape() {
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

  constexpr void matrix() {
    const bool scaled = dice_.chance(20);
    const std::int32_t m = dice_.one_of({1, 2, 3, 5, 8});
    const std::int32_t n = dice_.one_of({1, 2, 4, 7, 16});
    const std::int32_t k = scaled ? dice_.one_of({32, 64}) : dice_.one_of({1, 3, 4, 8, 17});
    const dtype e = scaled                               ? dtype::float32
                    : options_.bytes && dice_.chance(15) ? dtype::int8
                                                         : random_float();
    const dtype to = tile::detail::accumulator_of(e);
    if (scaled) {
      const dtype narrow = computes_float8() && dice_.chance(60)
                               ? dice_.one_of({dtype::float8_e4m3, dtype::float8_e5m2})
                           : options_.narrow_floats ? dtype::bfloat16
                                                    : dtype::float32;
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

  constexpr void random_bits() {
    const known counters = make(random_type(dtype::int64));
    const value_id seed = dice_.chance(50) ? place_ : b_.index(dice_.between(0, 1 << 30));
    add(b_.emit({.op = opcode::random_bits, .type = type_of(counters.id).with(dtype::int32)},
                {seed, counters.id}),
        0);
  }

  constexpr void speak() {
    const value_id x = pick().id;
    if (dice_.chance(50) || type_of(x).element == dtype::boolean) {
      b_.emit({.op = opcode::print, .index = dice_.between(0, 9)}, {x});
    } else {
      b_.emit({.op = opcode::require, .index = dice_.between(0, 9)},
              {b_.binary(opcode::less_equal, x, x)});
    }
  }

  // --- regions -----------------------------------------------------------------------------------

  /// Of a reduction or scan along an axis of a tile of type `t`.
  static constexpr tile_type result_type(const tile::instruction& i, const tile_type& t) {
    return i.op == opcode::scan ? t : t.without(i.index);
  }

  /// The reduction or scan `i` of one tile by `combine(a, b)`.
  template <class Combine>
  constexpr value_id folded(const tile::instruction& i, value_id x, const Combine& combine) {
    const tile_type t = type_of(x);
    const value_id owner = b_.emit(i, {x});
    const std::array<tile_type, 2> inputs{tile::scalar_type(t.element),
                                          tile::scalar_type(t.element)};
    const value_id a = b_.begin_region(inputs);
    const std::array<value_id, 1> given{combine(a, static_cast<value_id>(a + 1))};
    b_.yield(given);
    return b_.result(owner, 0, result_type(i, t));
  }

  /// Of numbers up to 1, that it stays one.
  constexpr void product(const tile::instruction& i, known x) {
    add(folded(i, tamed(x, 1),
               [&](value_id a, value_id b) { return b_.binary(opcode::mul, a, b); }),
        1);
  }

  /// With a value from outside of the region: at most this, or integers that add up with it.
  constexpr void clamped(const tile::instruction& i, known x) {
    const known c = make(tile::scalar_type(type_of(x.id).element));
    const bool floats = is_float(x.id);
    const value_id y = folded(i, x.id, [&](value_id a, value_id b) {
      const value_id both = b_.binary(floats ? opcode::max : opcode::add, a, b);
      return b_.binary(floats ? opcode::min : opcode::add, both, c.id);
    });
    add(y, std::max(x.bound, c.bound));
  }

  /// Mean, sum of squares of the distances from it, and count, as Welford combines them.
  constexpr void moments(const tile::instruction& i, known x) {
    const bool narrow = ashlar::size_of(type_of(x.id).element) == 1 || !is_float(x.id);
    x = tame(cast(x, narrow ? dtype::float32 : type_of(x.id).element), 4);
    const tile_type t = type_of(x.id);
    const value_id zeros = constant_of(t, 0);
    const value_id ones = constant_of(t, 1);
    const value_id owner = b_.emit(i, {x.id, zeros, ones});
    std::array<tile_type, 6> inputs{};
    inputs.fill(tile::scalar_type(t.element));
    const value_id first = b_.begin_region(inputs);
    const auto input = [&](int k) { return static_cast<value_id>(first + k); };
    const value_id count = b_.binary(opcode::add, input(2), input(5));
    const value_id part = b_.binary(opcode::div, input(5), count);
    const value_id far = b_.binary(opcode::sub, input(3), input(0));
    const value_id mean = b_.fma(far, part, input(0));
    const value_id squares = b_.binary(opcode::add, input(1), input(4));
    const value_id weight = b_.binary(opcode::mul, input(2), part);
    const value_id between = b_.binary(opcode::mul, b_.binary(opcode::mul, far, far), weight);
    b_.yield(std::array<value_id, 3>{mean, b_.binary(opcode::add, squares, between), count});
    add(b_.result(owner, 0, result_type(i, t)), 5);
    add(b_.result(owner, 1, result_type(i, t)), 20.0 * t.extent(i.index));
    add(b_.result(owner, 2, result_type(i, t)), t.extent(i.index));
  }

  constexpr void fold() {
    known x = pick();
    if (type_of(x.id).rank == 0 || type_of(x.id).element == dtype::boolean) {
      x = {load(random_type(random_float())), 2};
    }
    if (ashlar::size_of(type_of(x.id).element) == 1) {
      x = tame(x, 4);  // 64 of them still have a sum of the type
    }
    const tile_type t = type_of(x.id);
    const int axis = dice_.between(0, t.rank - 1);
    const bool scan = dice_.chance(30);
    tile::instruction i{.op = scan ? opcode::scan : opcode::reduce, .index = axis};
    i.value = scan ? dice_.between(0, 1) : 0;
    if (options_.combines && dice_.chance(40)) {
      return dice_.chance(50) ? product(i, x) : moments(i, x);
    }
    if (options_.captures && dice_.chance(30)) {
      return clamped(i, x);
    }
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
      add(b_.result(owner, 0, result_type(i, t)), x.bound);
      return add(b_.result(owner, 1, result_type(i, places)), 0);
    }
    const opcode with = dice_.one_of({opcode::add, opcode::add, opcode::max, opcode::min});
    add(folded(i, x.id, [&](value_id a, value_id b) { return b_.binary(with, a, b); }),
        with == opcode::add ? x.bound * t.extent(axis) : x.bound);
  }

  /// A few moves inside a region; what they made is gone afterwards.
  constexpr void moves(int depth) {
    for (int i = dice_.between(1, 4); i > 0 && room(); --i) {
      move(depth + 1);
    }
  }

  constexpr std::vector<known> pick_carried() {
    std::vector<known> carried;
    for (int k = dice_.between(1, 3); k > 0; --k) {
      carried.push_back(tame(pick(), 4));
    }
    return carried;
  }
  /// What a region gives for `carried`: of its types, within its bounds.
  constexpr std::vector<value_id> next_of(const std::vector<known>& carried) {
    std::vector<value_id> next;
    for (const known& x : carried) {
      next.push_back(tamed(make(type_of(x.id)), 4));
    }
    return next;
  }
  constexpr void add_results(value_id owner, const std::vector<known>& carried, int from) {
    for (std::size_t k = 0; k < carried.size(); ++k) {
      add(b_.result(owner, static_cast<int>(k) + from, type_of(carried[k].id)), 4);
    }
  }

  constexpr void loop(int depth) {
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

  constexpr void repeat(int depth) {
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

  constexpr void branch(int depth) {
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
};

/// Returns: a program that `verify` accepts.
constexpr tile::program random_program(std::uint64_t seed, const random_options& options = {}) {
  return program_maker(seed, options).run();
}

/// Runs a program on the interpreter. Returns: every buffer afterwards.
template <class Math = tile::eval::std_math>
std::vector<std::vector<std::byte>> interpreted(const tile::program& p, std::uint64_t seed) {
  random_launch launch(p, seed);
  tile::interpret<Math>(p, launch.size, launch.arguments());
  return launch.buffers;
}

}  // namespace tile_test
