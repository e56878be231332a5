// SPDX-License-Identifier: Apache-2.0
#pragma once
// A new chip from outside the library: memory, a queue, and a translator of tile programs.
#include <ashlar/ashlar.hpp>
#include <ashlar/ops/tile.hpp>
#include <cstring>
#include <functional>
#include <map>

#include "chip_memory.hpp"
namespace al = ashlar;
namespace tile = ashlar::tile;
using tile::opcode;
struct toy_queue {  // launches wait here until somebody needs what they write
  static inline std::vector<std::function<void()>> pending;
  void wait() {
    for (const auto& launch : std::exchange(pending, {})) {
      launch();
    }
  }
};
using toy_memory = chip_memory<toy_queue>;

// --- the machine: registers are arrays of words; one of a single word goes with any other --------
using word = std::int64_t;  // an integer, or the bits of a double
struct instruction {
  opcode code{}, function{};         // `yield` jumps, `repeat` where its operand is 0; of `reduce`
  tile::tile_type type{}, result{};  // of the first operand; of what is written
  int index = 0;                     // a parameter, an axis, a place in the code
  word value = 0;
  std::vector<int> from{};  // registers
  int to = -1;              // a register
};
using executable = std::vector<instruction>;
inline word alu(opcode op, const instruction& i, word a, word b) {
  return tile::eval::with_scalar(i.type.element, [&]<class T>(std::type_identity<T>) -> word {
    const T x = tile::constant_value<T>(a), y = tile::constant_value<T>(b);
    const auto kind = tile::info(op).kind;
    if (op == opcode::cast) {
      return tile::eval::with_scalar(i.result.element, [&]<class To>(std::type_identity<To>) {
        return tile::constant_bits(tile::eval::cast<To>(x));
      });
    }
    return kind == tile::opcode_kind::compare ? word{tile::eval::compare(op, x, y)}
           : kind == tile::opcode_kind::unary ? tile::constant_bits(tile::eval::unary(op, x))
                                              : tile::constant_bits(tile::eval::binary(op, x, y));
  });
}
struct processor {  // runs an executable at one place of the grid
  std::span<const tile::argument> arguments;
  tile::grid place;
  std::vector<std::vector<word>> registers{};

  void run(const executable& program) {
    const auto last = std::ranges::max_element(program, {}, &instruction::to);
    registers.resize(last == program.end() ? 0 : std::size_t(last->to) + 1);
    for (std::size_t pc = 0; pc < program.size(); ++pc) {
      const instruction& i = program[pc];
      if (i.code == opcode::yield || i.code == opcode::repeat) {
        pc = i.code == opcode::repeat && in(i, 0, 0) != 0 ? pc : std::size_t(i.index) - 1;
        continue;
      }
      std::vector<word> words;
      while (std::ssize(words) < i.result.size()) {
        words.push_back(element(i, std::ssize(words)));
      }
      registers[std::size_t(i.to)] = std::move(words);
    }
  }
  word in(const instruction& i, std::size_t operand, word k) {
    const auto& r = registers[std::size_t(i.from[std::min(operand, i.from.size() - 1)])];
    return r[r.size() == 1 ? 0 : static_cast<std::size_t>(k)];
  }
  static word inner(const tile::tile_type& t, int axis) {  // elements between two along an axis
    return axis + 1 < t.rank ? t.extent(axis + 1) * inner(t, axis + 1) : 1;
  }
  static word along(const tile::tile_type& t, int axis, word k) {  // where element `k` stands
    return k / inner(t, axis) % t.extent(axis);
  }
  /// Element `k` of a tile that begins at the operands from `first` on; null outside the view.
  std::byte* address(const instruction& i, std::size_t first, word k) {
    const tile::argument& a = arguments[static_cast<std::size_t>(i.index)];
    word at = 0;
    bool inside = true;
    for (int axis = 0; axis < a.rank; ++axis) {
      const auto u = std::size_t(axis);
      const int own = axis - a.rank + i.result.rank;
      const word where = in(i, first + u, 0) + (own < 0 ? 0 : along(i.result, own, k));
      inside = inside && where >= 0 && where < a.extents[u];
      at += where * a.strides[u];
    }
    return !inside ? nullptr : toy_memory::place(a.data + at * word(al::size_of(a.element)));
  }
  word element(const instruction& i, word k) {  // number `k` of what an instruction writes
    const auto u = static_cast<std::size_t>(i.index);
    switch (i.code) {
      case opcode::constant:
        return i.value;
      case opcode::iota:
        return along(i.result, i.index, k);
      case opcode::program_id:
        return place[u];
      case opcode::extent:
        return arguments[u].extents[static_cast<std::size_t>(i.value)];
      case opcode::argument:
        return arguments[u].bits;
      case opcode::load:
      case opcode::store:
        return tile::eval::with_scalar(i.result.element, [&]<class T>(std::type_identity<T>) {
          const bool stores = i.code == opcode::store;
          T x = tile::constant_value<T>(stores ? in(i, 0, k) : i.value);
          if (std::byte* const at = address(i, stores ? 1 : 0, k)) {
            stores ? std::memcpy(at, &x, sizeof x) : std::memcpy(&x, at, sizeof x);
          }
          return tile::constant_bits(x);
        });
      case opcode::select:
        return in(i, in(i, 0, k) != 0 ? 1 : 2, k);
      case opcode::join:
        return in(i, static_cast<std::size_t>(k % 2), k / 2);
      case opcode::broadcast: {
        word from = 0;
        for (int own = 0, skip = i.result.rank - i.type.rank; own < i.type.rank; ++own) {
          from += along(i.result, own + skip, k) % i.type.extent(own) * inner(i.type, own);
        }
        return in(i, 0, from);
      }
      case opcode::dot: {
        const word n = i.result.extent(1);
        word sum = in(i, 2, k);
        for (word d = 0; d < i.type.extent(1); ++d) {
          const word x = in(i, 0, k / n * i.type.extent(1) + d);
          sum = alu(opcode::add, i, sum, alu(opcode::mul, i, x, in(i, 1, d * n + k % n)));
        }
        return sum;
      }
      case opcode::reduce: {  // the order of tile IR: sixteen lanes, then a tree
        const word step = inner(i.type, i.index);
        std::vector<word> lane;
        for (word e = 0; e < i.type.extent(i.index); ++e) {
          const word x = in(i, 0, (k / step * i.type.extent(i.index) + e) * step + k % step);
          word& l = e < 16 ? lane.emplace_back(x) : lane[static_cast<std::size_t>(e % 16)];
          l = e < 16 ? x : alu(i.function, i, l, x);
        }
        for (std::size_t h = 8; h > 0; h /= 2) {
          for (std::size_t l = 0; l < h && l + h < lane.size(); ++l) {
            lane[l] = alu(i.function, i, lane[l], lane[l + h]);
          }
        }
        return lane[0];
      }
      default:
        return alu(i.code, i, in(i, 0, k), in(i, 1, k));
    }
  }
};

// --- from a tile program to the machine's instructions -------------------------------------------
struct translator {
  const tile::program& p;
  executable code{};
  std::map<int, int> reg{};  // of each value
  int next = 0;
  int put(opcode op, tile::tile_type t, std::vector<int> from, int to = -1, int index = 0) {
    code.push_back({op, op, t, t, index, 0, std::move(from), to < 0 ? next++ : to});
    return code.back().to;
  }
  static bool has(opcode op) {
    return (op >= opcode::neg && op <= opcode::less_equal && op != opcode::bitcast) ||
           op == opcode::select || op == opcode::broadcast || op == opcode::reshape ||
           op == opcode::join;
  }
  void block(int at, int end) {
    while (at < end) {
      const tile::instruction& i = p.at(at);
      instruction to{i.op, i.op, i.type, i.type, i.index, i.value, {}, next++};
      for (const tile::value_id o : p.operands(at)) {
        to.from.push_back(reg[o]);
        to.type = p.type_of(p.operand(at, 0));
      }
      const int ends = std::max<int>(at, tile::at(tile::structure(p).first_yield, at));
      if (i.op == opcode::loop) {
        at = loop(at, ends);
      } else if (i.op == opcode::result) {
        reg[at] = reg[p.operand(at, 0) + 1 + i.index];
        at += 1;
      } else if (i.op == opcode::reduce && i.count == 1 && ends == at + 4 &&
                 p.operand(at + 3, 0) == at + 1) {
        to.function = p.at(at + 3).op;  // two inputs, one operation, its yield
        to.result = to.type.without(i.index);
        code.push_back(to);
        reg[at + 1] = to.to;  // where `result` looks
        at += 5;
      } else if (i.op <= opcode::store ? i.op != opcode::grid_size
                 : i.op == opcode::dot ? i.type.rank == 2 && i.type.element == to.type.element
                                       : has(i.op)) {
        to.code = i.op == opcode::reshape ? opcode::cast : i.op;
        to.result = i.op == opcode::store ? to.type : i.type;
        code.push_back(to);
        reg[at++] = to.to;
      } else {
        throw al::argument_error("toy", "no `" + std::string(tile::info(i.op).name) + "` here");
      }
    }
  }
  int loop(int at, int end) {  // first, end, step, carried...; inside: counter, carried...
    const int carried = p.at(at).count - 3;
    for (int k = 0; k <= carried; ++k) {
      const int from = p.operand(at, k == 0 ? 0 : 2 + k);
      reg[at + 1 + k] = put(opcode::cast, p.type_of(from), {reg[from]});
    }
    const int counter = reg[at + 1];
    const std::size_t top = code.size();
    const int more = put(opcode::less, tile::index_type, {counter, reg[p.operand(at, 1)]});
    put(opcode::repeat, {}, {more});
    block(at + 2 + carried, end);
    std::vector<int> beside;  // all are read before any is written
    for (const tile::value_id o : p.operands(end)) {
      beside.push_back(put(opcode::cast, p.type_of(o), {reg[o]}));
    }
    for (int k = 0; k < carried; ++k) {
      const int to = reg[at + 2 + k];
      reg[at + 1 + k] = put(opcode::cast, p.type_of(at + 2 + k), {beside[std::size_t(k)]}, to);
    }
    put(opcode::add, tile::index_type, {counter, reg[p.operand(at, 2)]}, counter);
    put(opcode::yield, {}, {}, -1, static_cast<int>(top));
    code[top + 1].index = static_cast<int>(code.size());
    return end + 1;
  }
};

// --- the chip ------------------------------------------------------------------------------------
struct toy {
  static constexpr al::chip_description description{.name = "toy", .vector_bytes = 8};
  using memory = toy_memory;
  using queue = toy_queue;
  struct codegen {
    static void run(al::context<toy>&, const tile::program& program, const tile::grid& n,
                    std::span<const tile::argument> arguments) {
      translator t{program};
      t.block(0, program.size);
      toy_queue::pending.emplace_back(
          [code = std::move(t.code), n, all = std::vector(arguments.begin(), arguments.end())] {
            for (word i = 0; i < n[0] * n[1] * n[2]; ++i) {
              processor{all, {i % n[0], i / n[0] % n[1], i / n[0] / n[1]}}.run(code);
            }
          });
    }
  };
};
