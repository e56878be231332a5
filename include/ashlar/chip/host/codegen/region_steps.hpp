// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ashlar/chip/host/codegen/product.hpp"
#include "ashlar/chip/host/codegen/reduce.hpp"
#include "ashlar/chip/host/codegen/source.hpp"
#include "ashlar/chip/host/codegen/staged_loop.hpp"
#include "ashlar/chip/host/codegen/value.hpp"
#include "ashlar/config.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/scalar.hpp"

/// Instructions with regions, and their results.
namespace ashlar::chip::host_codegen::detail {

/// Input `K` of the region that begins at `begin` is instruction `begin + K`.
template <class Source, int I>
ASHLAR_TILE_STEP void fold(frame<Source>& f) {
  constexpr tile::instruction i = instruction_of<Source, I>;
  using facts_of = facts<Source>;
  constexpr tile::tile_type type = facts_of::code.type_of(facts_of::code.operand(I, 0));
  constexpr auto single = single_combine(facts_of::code, I);
  auto& results = static_cast<slot<Source, I>&>(f).x;
  if constexpr (i.op == opcode::reduce && single.has_value()) {
    reduce_packets<*single, type, i.index, scalar_of<type.element>>(
        static_cast<operand_slot<Source, I, 0>&>(f).x, std::get<0>(results));
  } else {
    constexpr int n = i.count;
    constexpr int yield = facts_of::first_yield(I);
    constexpr axis_extents e = around(type, i.index);
    constexpr std::int64_t kept = i.op == opcode::reduce ? type.size() / e.n : type.size();
    [&]<int... K>(std::integer_sequence<int, K...>) {
      const auto in = std::tuple(
          tile_memory<typename std::remove_cvref_t<
                          decltype(static_cast<operand_slot<Source, I, K>&>(f).x)>::value_type,
                      type.size()>(static_cast<operand_slot<Source, I, K>&>(f).x)...);
      std::tuple<
          tile_memory<typename std::remove_cvref_t<
                          decltype(static_cast<operand_slot<Source, I, K>&>(f).x)>::value_type,
                      kept>...>
          out;
      using values = std::tuple<typename std::remove_cvref_t<
          decltype(static_cast<operand_slot<Source, I, K>&>(f).x)>::value_type...>;
      const auto combine = [&](const values& a, const values& b) {
        ((static_cast<slot<Source, I + 1 + K>&>(f).x.value = std::get<K>(a)), ...);
        ((static_cast<slot<Source, I + 1 + n + K>&>(f).x.value = std::get<K>(b)), ...);
        run_region<Source, I + 1, yield>(f);
        return values{static_cast<operand_slot<Source, yield, K>&>(f).x.value...};
      };
      for (std::int64_t o = 0; o < e.outer; ++o) {
        for (std::int64_t c = 0; c < e.inner; ++c) {
          const auto at = [&](std::int64_t k) { return (o * e.n + k) * e.inner + c; };
          const auto read = [&](std::int64_t k) {
            return values{std::get<K>(in).element[at(k)]...};
          };
          if constexpr (i.op == opcode::reduce) {
            values lane[lanes];
            for (std::int64_t k = 0; k < e.n; ++k) {
              lane[k % lanes] = k < lanes ? read(k) : combine(lane[k % lanes], read(k));
            }
            const values all =
                combined_lanes(lane, static_cast<int>(std::min<std::int64_t>(e.n, lanes)), combine);
            ((std::get<K>(out).element[o * e.inner + c] = std::get<K>(all)), ...);
          } else {
            values all{};
            for (std::int64_t k = 0; k < e.n; ++k) {
              const std::int64_t place = i.value == 1 ? e.n - 1 - k : k;
              all = k == 0 ? read(place) : combine(all, read(place));
              ((std::get<K>(out).element[at(place)] = std::get<K>(all)), ...);
            }
          }
        }
      }
      const auto give = [](auto& to, const auto& from) {
        if constexpr (requires { to.value; }) {
          to.value = from.element[0];
        } else {
          from.read_into(to);
        }
      };
      (give(std::get<K>(results), std::get<K>(out)), ...);
    }(std::make_integer_sequence<int, n>{});
  }
}

/// Gives the operands of `Yield` to the values `To`, `To + 1` ... at once.
template <class Source, int Yield, int To>
ASHLAR_TILE_STEP void carry(frame<Source>& f) {
  [&]<int... K>(std::integer_sequence<int, K...>) ASHLAR_TILE_LAMBDA {
    if constexpr (((facts<Source>::code.operand(Yield, K) >= To &&
                    facts<Source>::code.operand(Yield, K) < To + static_cast<int>(sizeof...(K))) ||
                   ...)) {
      const auto next = std::tuple(
          static_cast<operand_slot<Source, Yield, K>&>(f).x...);  // they may change places
      (assign(static_cast<slot<Source, To + K>&>(f).x, std::get<K>(next)), ...);
    } else {
      (assign(static_cast<slot<Source, To + K>&>(f).x,
              static_cast<operand_slot<Source, Yield, K>&>(f).x),
       ...);
    }
  }(std::make_integer_sequence<int, facts<Source>::code.at(Yield).count>{});
}

/// A product of matrices, as the blocked and packed kernel that gives the same bits: each element
/// adds up in the same order there, too.
template <class Source, int I>
ASHLAR_TILE_STEP void multiply(frame<Source>& f) {
  using facts_of = facts<Source>;
  constexpr product_loop p = facts_of::product_of(I);
  constexpr tile::tile_type a_type = facts_of::code.type_of(p.a);
  constexpr tile::tile_type c_type = facts_of::code.type_of(I + 2);
  using T = scalar_of<a_type.element>;
  const auto place = [&]<int K>(std::integral_constant<int, K>) {
    return static_cast<slot<Source, K>&>(f).x.value;
  };
  const auto operand = [&]<int Load>(std::integral_constant<int, Load>) {
    constexpr int lead = facts_of::code.at(Load).count - 2;
    return [&]<int... Q>(std::integer_sequence<int, Q...>) {
      return product_operand<T>(f.arguments[facts_of::code.at(Load).index],
                                tile::constant_value<T>(facts_of::code.at(Load).value),
                                std::array<std::int64_t, static_cast<std::size_t>(lead)>{
                                    static_cast<operand_slot<Source, Load, Q>&>(f).x.value...});
    }(std::make_integer_sequence<int, lead>{});
  };
  const product_operand<T> a = operand(std::integral_constant<int, p.a>{});
  product_operand<T> b = operand(std::integral_constant<int, p.b>{});
  if constexpr (p.turned) {
    b.turn();
  }
  constexpr int row = facts_of::code.operand(p.a, facts_of::code.at(p.a).count - 2);
  constexpr int column =
      facts_of::code.operand(p.b, facts_of::code.at(p.b).count - (p.turned ? 2 : 1));
  multiply_blocks<order_of<Source>, c_type.extent(0), c_type.extent(1), a_type.extent(1)>(
      static_cast<slot<Source, I + 2>&>(f).x, static_cast<operand_slot<Source, I, 3>&>(f).x, a,
      place(std::integral_constant<int, row>{}), b, place(std::integral_constant<int, column>{}),
      static_cast<operand_slot<Source, I, 0>&>(f).x.value,
      static_cast<operand_slot<Source, I, 1>&>(f).x.value,
      static_cast<operand_slot<Source, I, 2>&>(f).x.value);
}

/// The rounds of a loop, one by one.
template <class Source, int I>
ASHLAR_TILE_STEP void rounds(frame<Source>& f) {
  constexpr int carried = facts<Source>::code.at(I).count - 3;
  constexpr int yield = facts<Source>::first_yield(I);
  [&]<int... K>(std::integer_sequence<int, K...>) ASHLAR_TILE_LAMBDA {
    (assign(static_cast<slot<Source, I + 2 + K>&>(f).x,
            static_cast<operand_slot<Source, I, 3 + K>&>(f).x),
     ...);
  }(std::make_integer_sequence<int, carried>{});
  const std::int64_t end = static_cast<operand_slot<Source, I, 1>&>(f).x.value;
  const std::int64_t step = static_cast<operand_slot<Source, I, 2>&>(f).x.value;
  if (step <= 0) [[unlikely]] {
    throw tile::execution_error(tile::execution_error::loop_step, written_place<Source, I>,
                                f.place);
  }
  const std::int64_t begin = static_cast<operand_slot<Source, I, 0>&>(f).x.value;
  if constexpr (facts<Source>::is_staged(I)) {
    staged_loop<Source, I>(f, begin, end, step);
  } else {
    for (std::int64_t n = begin; n < end;) {
      static_cast<slot<Source, I + 1>&>(f).x.value = n;
      run_region<Source, I + 1, yield>(f);
      carry<Source, yield, I + 2>(f);
      if (end - n <= step) {
        break;
      }
      n += step;
    }
  }
}

template <class Source, int I>
ASHLAR_TILE_STEP void loop(frame<Source>& f) {
  // Small tiles stay in registers; for large ones memory is what counts.
  constexpr product_loop product = facts<Source>::product_of(I);
  if constexpr (product.found) {
    constexpr tile::tile_type c = facts<Source>::code.type_of(I + 2);
    if constexpr (c.size() > lanes * most_unrolled) {
      constexpr std::int64_t depth = facts<Source>::code.type_of(product.a).extent(1);
      constexpr tile::instruction by = instruction_of<Source, facts<Source>::code.operand(I, 2)>;
      if constexpr (by.op == opcode::constant && by.value == depth) {
        multiply<Source, I>(f);
      } else if (static_cast<operand_slot<Source, I, 2>&>(f).x.value == depth) [[likely]] {
        multiply<Source, I>(f);
      } else {
        rounds<Source, I>(f);
      }
      return;
    }
  }
  rounds<Source, I>(f);
}

template <class Source, int I>
ASHLAR_TILE_STEP void repeat(frame<Source>& f) {
  constexpr int carried = facts<Source>::code.at(I).count;
  constexpr int ask = facts<Source>::first_yield(I);
  constexpr int body = ask + 1;
  constexpr int yield = facts<Source>::last_yield(I);
  const auto each = [&]<int... K>(std::integer_sequence<int, K...>) ASHLAR_TILE_LAMBDA {
    (assign(static_cast<slot<Source, I + 1 + K>&>(f).x,
            static_cast<operand_slot<Source, I, K>&>(f).x),
     ...);
    for (;;) {
      run_region<Source, I + 1, ask>(f);
      if (!static_cast<operand_slot<Source, ask, 0>&>(f).x.value) {
        return;
      }
      (assign(static_cast<slot<Source, body + K>&>(f).x,
              static_cast<slot<Source, I + 1 + K>&>(f).x),
       ...);
      run_region<Source, body, yield>(f);
      carry<Source, yield, I + 1>(f);
    }
  };
  each(std::make_integer_sequence<int, carried>{});
}

template <class Source, int I>
ASHLAR_TILE_STEP void branch(frame<Source>& f) {
  constexpr int first = facts<Source>::first_yield(I);
  constexpr int second = facts<Source>::last_yield(I);
  const auto take = [&]<int Begin, int Yield, int... K>(std::integer_sequence<int, Begin, Yield>,
                                                        std::integer_sequence<int, K...>) {
    run_region<Source, Begin, Yield>(f);
    (assign(std::get<K>(static_cast<slot<Source, I>&>(f).x),
            static_cast<operand_slot<Source, Yield, K>&>(f).x),
     ...);
  };
  constexpr auto results = std::make_integer_sequence<int, facts<Source>::code.at(first).count>{};
  if (static_cast<operand_slot<Source, I, 0>&>(f).x.value) {
    take(std::integer_sequence<int, I + 1, first>{}, results);
  } else {
    take(std::integer_sequence<int, first + 1, second>{}, results);
  }
}

template <class Source, int I>
ASHLAR_TILE_STEP void result(frame<Source>& f) {
  constexpr int owner = facts<Source>::code.operand(I, 0);
  constexpr tile::instruction o = instruction_of<Source, owner>;
  constexpr int k = facts<Source>::code.at(I).index;
  if constexpr (o.op == opcode::loop) {
    assign(static_cast<slot<Source, I>&>(f).x, static_cast<slot<Source, owner + 2 + k>&>(f).x);
  } else if constexpr (o.op == opcode::repeat) {
    assign(static_cast<slot<Source, I>&>(f).x, static_cast<slot<Source, owner + 1 + k>&>(f).x);
  } else {
    assign(static_cast<slot<Source, I>&>(f).x,
           std::get<static_cast<std::size_t>(k)>(static_cast<slot<Source, owner>&>(f).x));
  }
}

}  // namespace ashlar::chip::host_codegen::detail
