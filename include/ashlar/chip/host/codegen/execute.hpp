// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ashlar/chip/host/codegen/dot.hpp"
#include "ashlar/chip/host/codegen/elementwise.hpp"
#include "ashlar/chip/host/codegen/memory.hpp"
#include "ashlar/chip/host/codegen/product.hpp"
#include "ashlar/chip/host/codegen/reduce.hpp"
#include "ashlar/chip/host/codegen/shape.hpp"
#include "ashlar/chip/host/codegen/source.hpp"
#include "ashlar/chip/host/codegen/value.hpp"
#include "ashlar/config.hpp"
#include "ashlar/core/philox.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/scalar.hpp"

/// One step per instruction, chosen while compiling: what remains is straight code and loops.
namespace ashlar::chip::host_codegen {

namespace detail {

template <class Source, int Begin, int End>
ASHLAR_INLINE void run_region(frame<Source>& f);

template <class Source, int I>
inline constexpr tile::instruction instruction_of = facts<Source>::code.at(I);

// --- leaves --------------------------------------------------------------------------------------

template <class Source, int I>
ASHLAR_INLINE void leaf(frame<Source>& f) {
  constexpr tile::instruction i = instruction_of<Source, I>;
  using T = scalar_of<i.type.element>;
  auto& to = f.template get<I>();
  if constexpr (i.op == opcode::constant) {
    to.value = tile::constant_value<T>(i.value);
  } else if constexpr (i.op == opcode::iota) {
    fill_iota<i.type, i.index>(to);
  } else if constexpr (i.op == opcode::program_id) {
    to.value = f.place[static_cast<std::size_t>(i.index)];
  } else if constexpr (i.op == opcode::grid_size) {
    to.value = f.grid[static_cast<std::size_t>(i.index)];
  } else if constexpr (i.op == opcode::extent) {
    to.value = f.arguments[i.index].extents[static_cast<std::size_t>(i.value)];
  } else if constexpr (i.op == opcode::argument) {
    to.value = tile::constant_value<T>(f.arguments[i.index].bits);
  }
}

// --- memory --------------------------------------------------------------------------------------

/// The scalar operands from `From` on: offsets.
template <class Source, int I, int From>
ASHLAR_INLINE auto offsets(frame<Source>& f) {
  constexpr int n = facts<Source>::code.at(I).count - From;
  return [&]<int... K>(std::integer_sequence<int, K...>) __attribute__((always_inline)) {
    return std::array<std::int64_t, static_cast<std::size_t>(n)>{
        f.template operand<I, From + K>().value...};
  }
  (std::make_integer_sequence<int, n>{});
}

template <class Source, int I>
ASHLAR_INLINE void load(frame<Source>& f) {
  constexpr tile::instruction i = instruction_of<Source, I>;
  using T = scalar_of<i.type.element>;
  constexpr int view_rank = facts<Source>::code.parameter_at(i.index).rank;
  const T fill = tile::constant_value<T>(i.value);
  const auto b = block<const T, i.type>::template make<view_rank>(f.arguments[i.index],
                                                                  offsets<Source, I, 0>(f));
  auto& to = f.template get<I>();
  if constexpr (i.type.rank == 0) {
    to.value = b.some ? b.data[b.at] : fill;
  } else if constexpr (facts<Source>::is_direct(I)) {
    if (b.whole && b.unit()) [[likely]] {
      to.data = b.data + b.at;
      to.row = b.stride[0];
    } else {
      gather_block<i.type>(to.copy, b, fill);
      to.data = to.copy;
      to.row = i.type.extent(1);
    }
    to.column = 1;
  } else {
    load_block<i.type>(to, b, fill);
  }
}

template <class Source, int I>
ASHLAR_INLINE void store(frame<Source>& f) {
  constexpr tile::instruction i = instruction_of<Source, I>;
  constexpr tile::tile_type type = facts<Source>::code.type_of(facts<Source>::code.operand(I, 0));
  using T = scalar_of<type.element>;
  constexpr int view_rank = facts<Source>::code.parameter_at(i.index).rank;
  const auto b =
      block<T, type>::template make<view_rank>(f.arguments[i.index], offsets<Source, I, 1>(f));
  const auto& from = f.template operand<I, 0>();
  if constexpr (type.rank == 0) {
    if (b.some) {
      b.data[b.at] = from.value;
    }
  } else {
    store_block<type>(from, b);
  }
}

/// Calls `f(place in the tile, pointer or null)` for the element that each index names.
template <class Source, int I, int From, class T, std::int64_t Size, class F>
ASHLAR_INLINE void each_indexed(frame<Source>& f, const F& visit) {
  constexpr int n = facts<Source>::code.at(I).count - From;
  const auto in_memory = [](const auto& v) {
    using V = std::remove_cvref_t<decltype(v)>;
    if constexpr (std::is_same_v<V, scalar_value<std::int64_t>>) {
      return v;
    } else {
      return tile_memory<std::int64_t, V::size>(v);
    }
  };
  const auto at = [](const auto& v, std::int64_t k) {
    if constexpr (requires { v.value; }) {
      return v.value;
    } else {
      return v.element[k];
    }
  };
  [&]<int... K>(std::integer_sequence<int, K...>) {
    const auto indices = std::tuple(in_memory(f.template operand<I, From + K>())...);
    for (std::int64_t k = 0; k < Size; ++k) {
      const std::array<std::int64_t, static_cast<std::size_t>(n)> index{
          at(std::get<K>(indices), k)...};
      visit(k, element_at<T>(f.arguments[instruction_of<Source, I>.index], index));
    }
  }(std::make_integer_sequence<int, n>{});
}

template <class Source, int I>
void gather(frame<Source>& f) {
  constexpr tile::instruction i = instruction_of<Source, I>;
  using T = scalar_of<i.type.element>;
  const T fill = tile::constant_value<T>(i.value);
  constexpr std::int64_t size = i.type.size();
  tile_memory<T, size> to;
  each_indexed<Source, I, 0, const T, size>(
      f, [&](std::int64_t k, const T* p) { to.element[k] = p != nullptr ? *p : fill; });
  if constexpr (i.type.rank == 0) {
    f.template get<I>().value = to.element[0];
  } else {
    to.read_into(f.template get<I>());
  }
}

template <class Source, int I>
void scatter(frame<Source>& f) {
  constexpr tile::tile_type type = facts<Source>::code.type_of(facts<Source>::code.operand(I, 0));
  using T = scalar_of<type.element>;
  const auto run = [&](const T* from) {
    each_indexed<Source, I, 1, T, type.size()>(f, [&](std::int64_t k, T* p) {
      if (p != nullptr) {
        change<instruction_of<Source, I>.op>(p, from[k]);
      }
    });
  };
  const auto& from = f.template operand<I, 0>();
  if constexpr (type.rank == 0) {
    run(&from.value);
  } else {
    run(tile_memory<T, type.size()>(from).element);
  }
}

// --- elementwise ---------------------------------------------------------------------------------

template <class Source, int I>
ASHLAR_INLINE void elementwise(frame<Source>& f) {
  constexpr tile::instruction i = instruction_of<Source, I>;
  constexpr tile::opcode_kind kind = info(i.op).kind;
  auto& to = f.template get<I>();
  const auto& a = f.template operand<I, 0>();
  using A = typename std::remove_cvref_t<decltype(a)>::value_type;
  using R = scalar_of<i.type.element>;
  constexpr auto how = static_cast<tile::rounding>(i.index);
  constexpr std::type_identity<A> as{};
  if constexpr (i.type.rank == 0) {
    if constexpr (i.op == opcode::cast) {
      to.value = tile::eval::cast<R>(a.value, how);
    } else if constexpr (i.op == opcode::bitcast) {
      to.value = tile::eval::bitcast<R>(a.value);
    } else if constexpr (kind == opcode_kind::unary) {
      to.value = apply<i.op>(as, a.value);
    } else if constexpr (i.op == opcode::select) {
      to.value = a.value ? f.template operand<I, 1>().value : f.template operand<I, 2>().value;
    } else if constexpr (i.op == opcode::fma) {
      to.value = tile::eval::fma<host_math>(a.value, f.template operand<I, 1>().value,
                                            f.template operand<I, 2>().value);
    } else {
      to.value = apply<i.op>(as, a.value, f.template operand<I, 1>().value);
    }
  } else {
    constexpr int packets = std::remove_cvref_t<decltype(to)>::packets;
    each_vector<packets>([&](auto k) __attribute__((always_inline)) {
      if constexpr (i.op == opcode::cast) {
        to.part[k] = apply_cast<R, A>(a.part[k], how);
      } else if constexpr (i.op == opcode::bitcast) {
        to.part[k] = apply_bitcast<R, A>(a.part[k]);
      } else if constexpr (kind == opcode_kind::unary) {
        to.part[k] = apply<i.op>(as, a.part[k]);
      } else if constexpr (i.op == opcode::select) {
        to.part[k] = apply_select<R>(a.part[k], f.template operand<I, 1>().part[k],
                                     f.template operand<I, 2>().part[k]);
      } else if constexpr (i.op == opcode::fma) {
        to.part[k] = apply_fma<R>(a.part[k], f.template operand<I, 1>().part[k],
                                  f.template operand<I, 2>().part[k]);
      } else {
        to.part[k] = apply<i.op>(as, a.part[k], f.template operand<I, 1>().part[k]);
      }
    });
  }
}

// --- regions -------------------------------------------------------------------------------------

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
    constexpr int yield = facts_of::yield_of(I + 1);
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
/// is one chain of `madd` in the order of K there, too.
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
  product_operand<T> a{f.arguments[facts_of::code.at(p.a).index],
                       tile::constant_value<T>(facts_of::code.at(p.a).value)};
  product_operand<T> b{f.arguments[facts_of::code.at(p.b).index],
                       tile::constant_value<T>(facts_of::code.at(p.b).value)};
  if constexpr (p.turned) {
    b.turn();
  }
  constexpr int row = facts_of::code.operand(p.a, 0);
  constexpr int column = facts_of::code.operand(p.b, p.turned ? 0 : 1);
  multiply_blocks<c_type.extent(0), c_type.extent(1), a_type.extent(1)>(
      f.template get<I + 2>(), f.template operand<I, 3>(), a,
      place(std::integral_constant<int, row>{}), b, place(std::integral_constant<int, column>{}),
      f.template operand<I, 0>().value, f.template operand<I, 1>().value,
      f.template operand<I, 2>().value);
}

template <class Source, int I>
ASHLAR_INLINE void loop(frame<Source>& f) {
  // Small tiles stay in registers; for large ones memory is what counts.
  constexpr product_loop product = facts<Source>::product_of(I);
  if constexpr (product.found) {
    constexpr tile::tile_type c = facts<Source>::code.type_of(I + 2);
    if constexpr (c.size() > lanes * most_unrolled) {
      if (f.template operand<I, 2>().value == facts<Source>::code.type_of(product.a).extent(1))
          [[likely]] {
        multiply<Source, I>(f);
        return;
      }
    }
  }
  constexpr int carried = facts<Source>::code.at(I).count - 3;
  constexpr int yield = facts<Source>::yield_of(I + 1);
  [&]<int... K>(std::integer_sequence<int, K...>) __attribute__((always_inline)) {
    (assign(f.template get<I + 2 + K>(), f.template operand<I, 3 + K>()), ...);
  }
  (std::make_integer_sequence<int, carried>{});
  const std::int64_t end = f.template operand<I, 1>().value;
  const std::int64_t step = f.template operand<I, 2>().value;
  if (step <= 0) [[unlikely]] {
    throw tile::execution_error("loop: its step is not positive", I, f.place);
  }
  for (std::int64_t n = f.template operand<I, 0>().value; n < end;) {
    f.template get<I + 1>().value = n;
    run_region<Source, I + 1, yield>(f);
    carry<Source, yield, I + 2>(f);
    if (end - n <= step) {
      break;
    }
    n += step;
  }
}

template <class Source, int I>
ASHLAR_INLINE void repeat(frame<Source>& f) {
  constexpr int carried = facts<Source>::code.at(I).count;
  constexpr int ask = facts<Source>::yield_of(I + 1);
  constexpr int body = ask + 1;
  constexpr int yield = facts<Source>::yield_of(body);
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
  constexpr int first = facts<Source>::yield_of(I + 1);
  constexpr int second = facts<Source>::yield_of(first + 1);
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

// --- for people ----------------------------------------------------------------------------------

template <class Source, int I>
void say(frame<Source>& f) {
  constexpr tile::instruction i = instruction_of<Source, I>;
  const auto& x = f.template operand<I, 0>();
  using V = std::remove_cvref_t<decltype(x)>;
  using T = typename V::value_type;
  const auto visit = [&](const T* p, std::int64_t n) {
    if constexpr (i.op == opcode::require) {
      for (std::int64_t k = 0; k < n; ++k) {
        if (!p[k]) {
          throw tile::execution_error("require: an element is false", I, f.place, i.index);
        }
      }
    } else {
      std::fprintf(stderr, "print %d (%lld, %lld, %lld):", i.index,
                   static_cast<long long>(f.place[0]), static_cast<long long>(f.place[1]),
                   static_cast<long long>(f.place[2]));
      for (std::int64_t k = 0; k < n; ++k) {
        std::fprintf(stderr, " %.9g", static_cast<double>(p[k]));
      }
      std::fprintf(stderr, "\n");
    }
  };
  if constexpr (requires { x.value; }) {
    visit(&x.value, 1);
  } else {
    visit(tile_memory<T, V::size>(x).element, V::size);
  }
}

template <class Source, int I>
void random_bits(frame<Source>& f) {
  const auto seed = static_cast<std::uint64_t>(f.template operand<I, 0>().value);
  const auto word = [seed](std::int64_t counter) {
    return static_cast<std::int32_t>(philox_block(seed, static_cast<std::uint64_t>(counter))[0]);
  };
  const auto& counters = f.template operand<I, 1>();
  auto& to = f.template get<I>();
  if constexpr (requires { to.value; }) {
    to.value = word(counters.value);
  } else {
    constexpr std::int64_t size = std::remove_cvref_t<decltype(to)>::size;
    const tile_memory<std::int64_t, size> from(counters);
    tile_memory<std::int32_t, size> bits;
    for (std::int64_t k = 0; k < size; ++k) {
      bits.element[k] = word(from.element[k]);
    }
    bits.read_into(to);
  }
}

template <class Source, int I>
ASHLAR_INLINE void step(frame<Source>& f) {
  constexpr tile::instruction i = instruction_of<Source, I>;
  constexpr tile::opcode_kind kind = info(i.op).kind;
  using facts_of = facts<Source>;
  if constexpr (kind == opcode_kind::leaf) {
    leaf<Source, I>(f);
  } else if constexpr (i.op == opcode::load) {
    load<Source, I>(f);
  } else if constexpr (i.op == opcode::store) {
    store<Source, I>(f);
  } else if constexpr (i.op == opcode::gather) {
    gather<Source, I>(f);
  } else if constexpr (kind == opcode_kind::memory) {
    scatter<Source, I>(f);
  } else if constexpr (kind == opcode_kind::shape) {
    constexpr tile::tile_type from = facts_of::code.type_of(facts_of::code.operand(I, 0));
    if constexpr (i.op == opcode::join) {
      join<from>(f.template get<I>(), f.template operand<I, 0>(), f.template operand<I, 1>());
    } else {
      reshaped<i.op, from, i.type, i.op == opcode::split ? i.index : i.value>(
          f.template get<I>(), f.template operand<I, 0>());
    }
  } else if constexpr (i.op == opcode::dot) {
    dot<facts_of::code.type_of(facts_of::code.operand(I, 0)), i.type>(
        f.template get<I>(), f.template operand<I, 0>(), f.template operand<I, 1>(),
        f.template operand<I, 2>());
  } else if constexpr (i.op == opcode::dot_scaled) {
    dot_scaled<facts_of::code.type_of(facts_of::code.operand(I, 0)), i.type>(
        f.template get<I>(), f.template operand<I, 0>(), f.template operand<I, 1>(),
        f.template operand<I, 2>(), f.template operand<I, 3>(), f.template operand<I, 4>());
  } else if constexpr (i.op == opcode::reduce || i.op == opcode::scan) {
    fold<Source, I>(f);
  } else if constexpr (i.op == opcode::loop) {
    loop<Source, I>(f);
  } else if constexpr (i.op == opcode::repeat) {
    repeat<Source, I>(f);
  } else if constexpr (i.op == opcode::branch) {
    branch<Source, I>(f);
  } else if constexpr (i.op == opcode::result) {
    result<Source, I>(f);
  } else if constexpr (i.op == opcode::random_bits) {
    random_bits<Source, I>(f);
  } else if constexpr (i.op == opcode::print || i.op == opcode::require) {
    say<Source, I>(f);
  } else {
    elementwise<Source, I>(f);
  }
}

template <class Source, int Begin, int End>
ASHLAR_INLINE void run_region(frame<Source>& f) {
  constexpr auto& list = facts<Source>::template top_level<Begin, End>;
  [&]<std::size_t... K>(std::index_sequence<K...>) __attribute__((always_inline)) {
    (step<Source, list[K]>(f), ...);
  }
  (std::make_index_sequence<list.size() - 1>{});
}

}  // namespace detail

template <class Source>
ASHLAR_INLINE void execute_in(frame<Source>& f, const tile::argument* arguments,
                              const tile::grid& place, const tile::grid& grid) {
  f.arguments = arguments;
  f.place = place;
  f.grid = grid;
  detail::run_region<Source, 0, facts<Source>::size>(f);
}

/// One program of the grid.
template <class Source>
void execute(const tile::argument* arguments, const tile::grid& place, const tile::grid& grid) {
  constexpr std::size_t most_on_stack = 64 * 1024;
  if constexpr (sizeof(frame<Source>) > most_on_stack) {
    static thread_local const auto own = std::make_unique_for_overwrite<frame<Source>>();
    execute_in(*own, arguments, place, grid);
  } else {
    frame<Source> f;
    execute_in(f, arguments, place, grid);
  }
}

}  // namespace ashlar::chip::host_codegen
