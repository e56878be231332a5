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
ASHLAR_INLINE void fold(frame<Source>& f) {
  constexpr tile::instruction i = instruction_of<Source, I>;
  using facts_of = facts<Source>;
  constexpr tile::tile_type type = facts_of::code.type_of(facts_of::code.operand(I, 0));
  constexpr auto single = single_combine(facts_of::code, I);
  auto& results = f.template get<I>();
  if constexpr (i.op == opcode::reduce && single.has_value()) {
    reduce_packets<*single, type, i.index, scalar_of<type.element>>(f.template operand<I, 0>(),
                                                                    std::get<0>(results));
  } else {
    constexpr int n = i.count;
    constexpr int yield = facts_of::first_yield(I);
    constexpr axis_extents e = around(type, i.index);
    constexpr std::int64_t kept = i.op == opcode::reduce ? type.size() / e.n : type.size();
    [&]<int... K>(std::integer_sequence<int, K...>) {
      const auto in =
          std::tuple(tile_memory<
                     typename std::remove_cvref_t<decltype(f.template operand<I, K>())>::value_type,
                     type.size()>(f.template operand<I, K>())...);
      std::tuple<tile_memory<
          typename std::remove_cvref_t<decltype(f.template operand<I, K>())>::value_type, kept>...>
          out;
      using values = std::tuple<
          typename std::remove_cvref_t<decltype(f.template operand<I, K>())>::value_type...>;
      const auto combine = [&](const values& a, const values& b) {
        ((f.template get<I + 1 + K>().value = std::get<K>(a)), ...);
        ((f.template get<I + 1 + n + K>().value = std::get<K>(b)), ...);
        run_region<Source, I + 1, yield>(f);
        return values{f.template operand<yield, K>().value...};
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
ASHLAR_INLINE void carry(frame<Source>& f) {
  [&]<int... K>(std::integer_sequence<int, K...>) __attribute__((always_inline)) {
    if constexpr (((facts<Source>::code.operand(Yield, K) >= To &&
                    facts<Source>::code.operand(Yield, K) < To + static_cast<int>(sizeof...(K))) ||
                   ...)) {
      const auto next = std::tuple(f.template operand<Yield, K>()...);  // they may change places
      (assign(f.template get<To + K>(), std::get<K>(next)), ...);
    } else {
      (assign(f.template get<To + K>(), f.template operand<Yield, K>()), ...);
    }
  }
  (std::make_integer_sequence<int, facts<Source>::code.at(Yield).count>{});
}

/// A product of matrices, as the blocked and packed kernel that gives the same bits: each element
/// adds up in the same order there, too.
template <class Source, int I>
ASHLAR_INLINE void multiply(frame<Source>& f) {
  using facts_of = facts<Source>;
  constexpr product_loop p = facts_of::product_of(I);
  constexpr tile::tile_type a_type = facts_of::code.type_of(p.a);
  constexpr tile::tile_type c_type = facts_of::code.type_of(I + 2);
  using T = scalar_of<a_type.element>;
  const auto place = [&]<int K>(std::integral_constant<int, K>) {
    return f.template get<K>().value;
  };
  const auto operand = [&]<int Load>(std::integral_constant<int, Load>) {
    constexpr int lead = facts_of::code.at(Load).count - 2;
    return [&]<int... Q>(std::integer_sequence<int, Q...>) {
      return product_operand<T>(f.arguments[facts_of::code.at(Load).index],
                                tile::constant_value<T>(facts_of::code.at(Load).value),
                                std::array<std::int64_t, static_cast<std::size_t>(lead)>{
                                    f.template operand<Load, Q>().value...});
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
      f.template get<I + 2>(), f.template operand<I, 3>(), a,
      place(std::integral_constant<int, row>{}), b, place(std::integral_constant<int, column>{}),
      f.template operand<I, 0>().value, f.template operand<I, 1>().value,
      f.template operand<I, 2>().value);
}

/// The rounds of a loop, one by one.
template <class Source, int I>
ASHLAR_INLINE void rounds(frame<Source>& f) {
  constexpr int carried = facts<Source>::code.at(I).count - 3;
  constexpr int yield = facts<Source>::first_yield(I);
  [&]<int... K>(std::integer_sequence<int, K...>) __attribute__((always_inline)) {
    (assign(f.template get<I + 2 + K>(), f.template operand<I, 3 + K>()), ...);
  }
  (std::make_integer_sequence<int, carried>{});
  const std::int64_t end = f.template operand<I, 1>().value;
  const std::int64_t step = f.template operand<I, 2>().value;
  if (step <= 0) [[unlikely]] {
    throw tile::execution_error(tile::execution_error::loop_step, written_place<Source, I>,
                                f.place);
  }
  const std::int64_t begin = f.template operand<I, 0>().value;
  if constexpr (facts<Source>::is_staged(I)) {
    staged_loop<Source, I>(f, begin, end, step);
  } else {
    for (std::int64_t n = begin; n < end;) {
      f.template get<I + 1>().value = n;
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
ASHLAR_INLINE void loop(frame<Source>& f) {
  // Small tiles stay in registers; for large ones memory is what counts.
  constexpr product_loop product = facts<Source>::product_of(I);
  if constexpr (product.found) {
    constexpr tile::tile_type c = facts<Source>::code.type_of(I + 2);
    if constexpr (c.size() > lanes * most_unrolled) {
      constexpr std::int64_t depth = facts<Source>::code.type_of(product.a).extent(1);
      constexpr tile::instruction by = instruction_of<Source, facts<Source>::code.operand(I, 2)>;
      if constexpr (by.op == opcode::constant && by.value == depth) {
        multiply<Source, I>(f);
      } else if (f.template operand<I, 2>().value == depth) [[likely]] {
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
ASHLAR_INLINE void repeat(frame<Source>& f) {
  constexpr int carried = facts<Source>::code.at(I).count;
  constexpr int ask = facts<Source>::first_yield(I);
  constexpr int body = ask + 1;
  constexpr int yield = facts<Source>::last_yield(I);
  const auto each = [&]<int... K>(std::integer_sequence<int, K...>) __attribute__((always_inline)) {
    (assign(f.template get<I + 1 + K>(), f.template operand<I, K>()), ...);
    for (;;) {
      run_region<Source, I + 1, ask>(f);
      if (!f.template operand<ask, 0>().value) {
        return;
      }
      (assign(f.template get<body + K>(), f.template get<I + 1 + K>()), ...);
      run_region<Source, body, yield>(f);
      carry<Source, yield, I + 1>(f);
    }
  };
  each(std::make_integer_sequence<int, carried>{});
}

template <class Source, int I>
ASHLAR_INLINE void branch(frame<Source>& f) {
  constexpr int first = facts<Source>::first_yield(I);
  constexpr int second = facts<Source>::last_yield(I);
  const auto take = [&]<int Begin, int Yield, int... K>(std::integer_sequence<int, Begin, Yield>,
                                                        std::integer_sequence<int, K...>) {
    run_region<Source, Begin, Yield>(f);
    (assign(std::get<K>(f.template get<I>()), f.template operand<Yield, K>()), ...);
  };
  constexpr auto results = std::make_integer_sequence<int, facts<Source>::code.at(first).count>{};
  if (f.template operand<I, 0>().value) {
    take(std::integer_sequence<int, I + 1, first>{}, results);
  } else {
    take(std::integer_sequence<int, first + 1, second>{}, results);
  }
}

template <class Source, int I>
ASHLAR_INLINE void result(frame<Source>& f) {
  constexpr int owner = facts<Source>::code.operand(I, 0);
  constexpr tile::instruction o = instruction_of<Source, owner>;
  constexpr int k = facts<Source>::code.at(I).index;
  if constexpr (o.op == opcode::loop) {
    assign(f.template get<I>(), f.template get<owner + 2 + k>());
  } else if constexpr (o.op == opcode::repeat) {
    assign(f.template get<I>(), f.template get<owner + 1 + k>());
  } else {
    assign(f.template get<I>(), std::get<static_cast<std::size_t>(k)>(f.template get<owner>()));
  }
}

}  // namespace ashlar::chip::host_codegen::detail
