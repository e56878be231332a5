// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ashlar/chip/host/codegen/value.hpp"
#include "ashlar/chip/host/product.hpp"
#include "ashlar/config.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/argument.hpp"
#include "ashlar/tile/lifetime.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/structure.hpp"

/// What the code generator asks of a program while it writes code: regions, uses, and the C++ type
/// of each value. A `Source` is a type with `static constexpr tile::program code`, and perhaps
/// `static constexpr product_order order`.
namespace ashlar::chip::host_codegen {

/// A matrix operand that `dot` reads where it lies, or from `copy` where it is not all there.
template <Scalar T, std::int64_t Size>
struct direct_tile {
  using value_type = T;
  const T* data;
  std::int64_t row;
  std::int64_t column;
  alignas(64) T copy[static_cast<std::size_t>(Size)];
};

/// A loop that adds up one matrix product, block by block along K.
struct product_loop {
  bool found = false;
  int a = -1;           ///< the load of A: [..., row, counter]
  int b = -1;           ///< the load of B: [..., counter, column], or [..., column, counter]
  bool turned = false;  ///< B is loaded by its columns and transposed
};

/// How the program's products add up: as the interpreter does, unless it says otherwise.
template <class Source>
inline constexpr product_order order_of = [] {
  if constexpr (requires { Source::order; }) {
    return Source::order;
  } else {
    return product_order::chain;
  }
}();

/// Elements that `dot` multiplies.
constexpr bool is_multiplied(dtype element) {
  return is_floating(element) || element == dtype::int8;
}
/// Whether one product over all of K has the groups that a `dot` of A after the other has.
constexpr bool keeps_groups(product_order order, const tile::tile_type& a) {
  return a.element != dtype::bfloat16 || !adds_groups<bfloat16>(order) ||
         a.extent(a.rank - 1) % simd::step_size<bfloat16> == 0;
}

/// A value-less instruction.
struct nothing {};

/// What loads and stores ask of a view. A frame has its own, whose address nobody takes: what is
/// written through a pointer then cannot have changed it.
struct view_in_frame {
  std::byte* data;
  std::int64_t extents[tile::max_rank];
  std::int64_t strides[tile::max_rank];

  ASHLAR_INLINE view_in_frame() {}
  ASHLAR_INLINE explicit view_in_frame(const tile::argument& a) : data(a.data) {
    unrolled<tile::max_rank>([&](auto k) __attribute__((always_inline)) {
      extents[k] = a.extents[static_cast<std::size_t>(k())];
      strides[k] = a.strides[static_cast<std::size_t>(k())];
    });
  }
};

template <class Source>
struct facts {
  static constexpr const tile::program& code = Source::code;
  static constexpr int size = code.size;
  static constexpr tile::structure structure{code};
  static constexpr tile::lifetimes lifetimes{code, structure};

  /// Programs of the grid for which a second thread pays.
  static constexpr std::int64_t grain = [] {
    std::int64_t elements = 1;
    bool loops = false;
    for (int i = 0; i < size; ++i) {
      const tile::instruction& x = code.at(i);
      elements += x.type.is_value() ? x.type.size() : 0;
      loops = loops || x.op == tile::opcode::loop || x.op == tile::opcode::repeat;
    }
    constexpr std::int64_t enough = 1 << 17;  // elements computed while threads start
    return std::max<std::int64_t>(enough / (loops ? elements * 32 : elements), 1);
  }();

  /// Whether large results may be written past the caches: each place is written once and nothing
  /// is read back.
  static constexpr bool may_stream = [] {
    for (int i = 0; i < size; ++i) {
      const tile::opcode op = code.at(i).op;
      if (info(op).regions > 0 || (tile::writes(op) && op != tile::opcode::store) ||
          (tile::reads(op) && code.parameter_at(code.at(i).index).written)) {
        return false;
      }
    }
    return true;
  }();
  /// Whether this launch does so: what it writes is more than the last cache keeps for its readers.
  static bool streams(std::span<const tile::argument> arguments) {
    if constexpr (may_stream) {
      constexpr std::int64_t enough = 32 << 20;  // bytes
      for (int k = 0; k < code.parameter_count; ++k) {
        const tile::argument& a = arguments[static_cast<std::size_t>(k)];
        auto bytes = static_cast<std::int64_t>(size_of(code.parameter_at(k).element));
        for (int axis = 0; axis < a.rank; ++axis) {
          bytes *= a.extents[static_cast<std::size_t>(axis)];
        }
        if (code.parameter_at(k).written && bytes >= enough) {
          return true;
        }
      }
    }
    return false;
  }

  /// The `yield` of an instruction's first region, and that of its last.
  static constexpr int first_yield(int owner) { return tile::at(structure.first_yield, owner); }
  static constexpr int last_yield(int owner) { return tile::at(structure.last_yield, owner); }

  /// How many instructions of a region, or of the program (`end` = size), stand at its top level.
  static constexpr int count(int begin, int end) {
    int n = 0;
    for (int i = begin; i < end; i = structure.after(code, i)) {
      ++n;
    }
    return n;
  }
  template <int Begin, int End>
  static constexpr auto top_level = [] {
    std::array<int, static_cast<std::size_t>(count(Begin, End)) + 1> list{};
    std::size_t n = 0;
    for (int i = Begin; i < End; i = structure.after(code, i)) {
      list[n++] = i;
    }
    return list;
  }();

  /// What a loop does, where it is `acc = dot(a[row, i], b[i, column], acc)` and nothing else.
  static constexpr product_loop product_of(int owner) {
    using tile::opcode;
    product_loop p;
    const tile::instruction& o = code.at(owner);
    if (o.op != opcode::loop || o.count != 4) {
      return p;
    }
    const int counter = owner + 1;
    const int yield = first_yield(owner);
    const int length = yield - counter - 2;
    const int dot = yield - 1;
    if ((length != 3 && length != 4) || code.at(dot).op != opcode::dot ||
        code.operand(yield, 0) != dot || code.operand(dot, 2) != counter + 1) {
      return p;
    }
    const auto load = [&](int i, int outside, int along) {
      const tile::instruction& l = code.at(i);
      if (i <= counter + 1 || l.op != opcode::load || l.count < 2 || l.type.rank != 2 ||
          !is_multiplied(l.type.element)) {
        return false;
      }
      const int lead = l.count - 2;
      for (int k = 0; k < lead; ++k) {
        if (code.operand(i, k) >= owner) {
          return false;
        }
      }
      return code.operand(i, lead + outside) < owner && code.operand(i, lead + along) == counter;
    };
    p.a = code.operand(dot, 0);
    p.b = code.operand(dot, 1);
    p.turned = length == 4 && p.b > counter + 1 && code.at(p.b).op == opcode::transpose;
    if (p.turned) {
      p.b = code.operand(p.b, 0);
    }
    p.found = (length == 3 || p.turned) && load(p.a, 0, 1) &&
              load(p.b, p.turned ? 0 : 1, p.turned ? 1 : 0) && p.a != p.b &&
              keeps_groups(order_of<Source>, code.type_of(p.a));
    return p;
  }

  /// A large tile whose packet `k` comes of packets `k` (or of rows): see `run_group`.
  static constexpr bool is_packetwise(int i) {
    const tile::instruction& x = code.at(i);
    if (x.type.size() <= lanes * most_unrolled || x.type.rank < 1) {
      return false;
    }
    if (x.op == tile::opcode::broadcast) {
      const tile::tile_type& from = code.type_of(code.operand(i, 0));
      const std::int32_t row = x.type.extent(x.type.rank - 1);
      return from.size() == 1 ||
             (from.rank > 0 && from.extent(from.rank - 1) == row && row % lanes == 0);
    }
    const auto kind = info(x.op).kind;
    return kind == tile::opcode_kind::unary || kind == tile::opcode_kind::binary ||
           kind == tile::opcode_kind::compare || kind == tile::opcode_kind::ternary;
  }

  /// How many instructions from `list[at]` on go packet by packet together.
  static constexpr std::size_t group_length(const auto& list, std::size_t at) {
    std::size_t n = 0;
    while (at + n + 1 < list.size() && is_packetwise(list[at + n]) &&
           code.type_of(list[at + n]).size() == code.type_of(list[at]).size()) {
      // A broadcast reads its operand as a whole: that must be there before the group begins.
      if (code.at(list[at + n]).op == tile::opcode::broadcast) {
        for (std::size_t k = 0; k < n; ++k) {
          if (code.operand(list[at + n], 0) == list[at + k]) {
            return n;
          }
        }
      }
      ++n;
    }
    return std::max<std::size_t>(n, 1);
  }
  static constexpr bool has_groups(const auto& list) {
    for (std::size_t k = 0; k + 1 < list.size(); ++k) {
      if (group_length(list, k) > 1) {
        return true;
      }
    }
    return false;
  }

  /// Whether an instruction for which `inside` is false uses the value.
  static constexpr bool used_beside(int value, const auto& inside) {
    for (int j = value + 1; j < size; ++j) {
      for (const tile::value_id o : code.operands(j)) {
        if (o == value && !inside(j)) {
          return true;
        }
      }
    }
    return false;
  }

  /// The type of result `k` of an instruction with regions.
  static constexpr tile::tile_type result_type(int owner, int k) {
    const tile::instruction& o = code.at(owner);
    if (o.op != tile::opcode::reduce && o.op != tile::opcode::scan) {
      return code.type_of(code.operand(last_yield(owner), k));
    }
    const tile::tile_type t = code.type_of(code.operand(owner, k));
    return o.op == tile::opcode::reduce ? t.without(o.index) : t;
  }

  /// A load or store of a line whose offsets do not change in the loop around it, but for those
  /// that are its counter.
  static constexpr bool is_line_of(int owner, int i) {
    const tile::instruction& x = code.at(i);
    const bool store = x.op == tile::opcode::store;
    const tile::tile_type t = store ? code.type_of(code.operand(i, 0)) : x.type;
    const std::int64_t n = t.rank > 0 ? t.extent(t.rank - 1) : 0;
    if (n != t.size() || n % lanes != 0 || is_direct(i)) {
      return false;
    }
    for (int k = store ? 1 : 0; k < x.count; ++k) {
      if (code.operand(i, k) >= owner && code.operand(i, k) != owner + 1) {
        return false;
      }
    }
    return true;
  }
  /// Whether the blocks that a loop reads and writes are found before its body runs: all are lines
  /// (see `is_line_of`), nothing is read once something is written, and there are no regions.
  static constexpr bool is_staged(int owner) {
    if (owner < 0 || code.at(owner).op != tile::opcode::loop) {
      return false;
    }
    bool lines = false;
    bool written = false;
    for (int i = owner + 2; i < first_yield(owner); ++i) {
      const tile::opcode op = code.at(i).op;
      const bool access = op == tile::opcode::load || op == tile::opcode::store;
      const bool scalar = op == tile::opcode::load && code.at(i).type.rank == 0;
      const bool reads_late = written && op == tile::opcode::load;
      if (info(op).regions > 0 || reads_late || (!access && (info(op).effect || tile::reads(op))) ||
          (access && !scalar && !is_line_of(owner, i))) {
        return false;
      }
      lines = lines || (access && !scalar);
      written = written || op == tile::opcode::store;
    }
    return lines;
  }
  /// A load or store whose loop has found its block.
  static constexpr bool is_staged_line(int i) {
    const tile::instruction& x = code.at(i);
    return (x.op == tile::opcode::store || (x.op == tile::opcode::load && x.type.rank > 0)) &&
           is_staged(tile::at(structure.owner, i));
  }
  template <int Owner>
  static constexpr auto staged_lines = [] {
    constexpr auto each = [](const auto& f) {
      for (int i = Owner + 2; i < first_yield(Owner); ++i) {
        if (is_staged_line(i)) {
          f(i);
        }
      }
    };
    constexpr std::size_t n = [each] {
      std::size_t lines = 0;
      each([&](int) { ++lines; });
      return lines;
    }();
    std::array<int, n> list{};
    std::size_t k = 0;
    each([&](int i) { list[k++] = i; });
    return list;
  }();

  /// A load that only `dot` uses, in packets of C's rows, before anything is written.
  static constexpr bool is_direct(int i) {
    const tile::instruction& l = code.at(i);
    if (l.op != tile::opcode::load || l.type.rank != 2 || !is_multiplied(l.type.element)) {
      return false;
    }
    for (int j = i + 1; j < size; ++j) {
      const auto operands = code.operands(j);
      for (std::size_t k = 0; k < operands.size(); ++k) {
        if (operands[k] == i && (code.at(j).op != tile::opcode::dot || k == 2 ||
                                 code.type_of(j).extent(1) % lanes != 0)) {
          return false;
        }
      }
    }
    const int last = tile::at(lifetimes.last_use, i);  // of a loop that reads it again, its end
    for (int j = i + 1; j < last; ++j) {
      if (info(code.at(j).op).effect) {
        return false;
      }
    }
    return last > i;
  }
};

namespace detail {

template <dtype Element, int Rank, std::int64_t Size>
struct plain_value {
  using type = tile_value<scalar_of<Element>, Size>;
};
template <dtype Element, std::int64_t Size>
struct plain_value<Element, 0, Size> {
  using type = scalar_value<scalar_of<Element>>;
};

/// The results of an instruction with regions, side by side.
template <class Source, int I>
consteval auto results_tag() {
  using f = facts<Source>;
  return []<int... K>(std::integer_sequence<int, K...>) {
    return std::type_identity<
        std::tuple<typename plain_value<f::result_type(I, K).element, f::result_type(I, K).rank,
                                        f::result_type(I, K).size()>::type...>>{};
  }(std::make_integer_sequence<int, f::code.at(f::last_yield(I)).count>{});
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
    return plain_value<i.type.element, i.type.rank, i.type.size()>{};
  }
}

/// Where a frame has the value of instruction `I`. A frame is cast to it where the value is used: a
/// function for each would be one more to compile.
template <class Source, int I>
struct slot {
  typename decltype(value_tag<Source, I>())::type x;
};

/// That of operand `K` of instruction `I`.
template <class Source, int I, int K>
using operand_slot = slot<Source, facts<Source>::code.operand(I, K)>;

template <class Source, class Sequence>
struct slots;
template <class Source, int... I>
struct slots<Source, std::integer_sequence<int, I...>> : slot<Source, I>... {};

}  // namespace detail

/// All values of one program of the grid, and where it stands.
template <class Source>
struct frame : detail::slots<Source, std::make_integer_sequence<int, facts<Source>::size>> {
  const tile::argument* arguments;
  view_in_frame views[static_cast<std::size_t>(std::max(facts<Source>::code.parameter_count, 1))];
  std::byte* lines[static_cast<std::size_t>(facts<Source>::size)];  ///< of staged loads and stores
  std::int64_t there[static_cast<std::size_t>(facts<Source>::size)];  ///< elements of such a line
  tile::grid place;
  tile::grid grid;
  bool streams;  ///< see `facts::streams`
};

template <class Source, int I>
inline constexpr tile::instruction instruction_of = facts<Source>::code.at(I);

/// Where instruction `I`, a loop or one that speaks, stands in the program as it was written.
template <class Source, int I>
inline constexpr int written_place = [] {
  if constexpr (requires { Source::written; }) {
    return tile::written_place(facts<Source>::code, I, Source::written);
  } else {
    return I;
  }
}();

}  // namespace ashlar::chip::host_codegen
