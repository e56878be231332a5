// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "ashlar/chip/host/strips/folds.hpp"
#include "ashlar/chip/host/strips/kernels.hpp"
#include "ashlar/chip/host/strips/memory.hpp"
#include "ashlar/chip/host/strips/plan.hpp"
#include "ashlar/core/philox.hpp"
#include "ashlar/tile/argument.hpp"
#include "ashlar/tile/detail/interpreter.hpp"
#include "ashlar/tile/program.hpp"

/// Runs a plan, one program of the grid after the other.
namespace ashlar::chip::strips {

/// What one thread has of a plan while it runs: memory for every value, and where each lies. One
/// class, because every kind of step reads and moves the same places.
class machine {
 public:
  /// Bytes of memory that a machine wants, at a multiple of 64.
  static std::size_t bytes_for(const plan& p) {
    return static_cast<std::size_t>(p.bytes) + p.offsets.size() * sizeof(std::byte*);
  }

  /// `direct`: no view that the program writes shares memory with another that it uses.
  machine(const plan& p, std::byte* memory, const tile::grid& size,
          std::span<const tile::argument> arguments, bool direct)
      : p_(p),
        code_(p.code),
        memory_(memory),
        data_(reinterpret_cast<std::byte**>(memory + p.bytes)),
        size_(size),
        arguments_(arguments),
        direct_(direct) {
    for (std::size_t v = 0; v < p.offsets.size(); ++v) {
      data_[v] = p.offsets[v] < 0 ? nullptr : memory + p.offsets[v];
    }
    for (const int i : p.kept) {
      keep(code_.at(i), data_[i]);
    }
  }

  void run(const tile::grid& place) {
    place_ = place;
    run(p_.blocks[index(p_.top)]);
  }

 private:
  using pointers = std::array<std::byte*, max_folded>;

  static std::size_t index(int i) { return static_cast<std::size_t>(i); }
  [[nodiscard]] std::byte* data(const place& at) const { return data_[at.value]; }
  [[nodiscard]] std::byte* value(tile::value_id v) const { return data(p_.at(v)); }
  [[nodiscard]] std::byte* operand(int i, int k) const { return value(code_.operand(i, k)); }
  template <class T>
  [[nodiscard]] T scalar(int i, int k) const {
    return *reinterpret_cast<const T*>(operand(i, k));
  }
  [[nodiscard]] std::byte* room(int v) const { return memory_ + p_.offsets[index(v)]; }

  static void fill(std::byte* to, dtype d, std::int64_t bits, std::int64_t n) {
    tile::eval::with_scalar(d, [&]<class T>(std::type_identity<T>) {
      std::fill_n(reinterpret_cast<T*>(to), n, tile::constant_value<T>(bits));
    });
  }

  static void keep(const tile::instruction& i, std::byte* to) {
    if (i.op == opcode::constant) {
      return fill(to, i.type.element, i.value, lanes);
    }
    tile::detail::for_each_place(i.type, [&](std::int64_t k, const auto& place) {
      const std::int64_t n = place[index(i.index)];
      if (i.type.element == dtype::int32) {
        reinterpret_cast<std::int32_t*>(to)[k] = static_cast<std::int32_t>(n);
      } else {
        reinterpret_cast<std::int64_t*>(to)[k] = n;
      }
    });
  }

  void run(const std::vector<step>& block) {
    for (const step& s : block) {
      run(s);
    }
  }

  void run(const step& s) {
    switch (s.kind) {
      case step_kind::group:
        return group(s);
      case step_kind::leaf:
        return leaf(s.at);
      case step_kind::load:
        return load(s.at);
      case step_kind::store:
        return store(s.at);
      case step_kind::gather:
      case step_kind::scatter:
        return scattered(s.at);
      case step_kind::splat:
        return detail::with_bytes(size_of(code_.type_of(s.at).element),
                                  [&]<class T>(std::type_identity<T>) {
                                    std::fill_n(reinterpret_cast<T*>(value_of(s.at)), lanes,
                                                *reinterpret_cast<const T*>(operand(s.at, 0)));
                                  });
      case step_kind::shape:
        return shape(s.at);
      case step_kind::dot:
      case step_kind::dot_scaled:
        return matrix(s);
      case step_kind::random_bits:
        return random_bits(s.at);
      case step_kind::fold:
        return code_.at(s.at).op == opcode::reduce ? reduce(s) : scan(s);
      case step_kind::loop:
        return loop(s);
      case step_kind::repeat:
        return repeat(s);
      case step_kind::branch: {
        const int taken = scalar<bool>(s.at, 0) ? 0 : 1;
        run(p_.blocks[index(s.blocks[index(taken)])]);
        return keep_results(s.at, p_.yield_of(s.at, taken));
      }
      case step_kind::say:
        return say(s.at);
    }
  }
  [[nodiscard]] std::byte* value_of(int i) const { return value(static_cast<tile::value_id>(i)); }

  // --- elementwise -------------------------------------------------------------------------------

  /// Elements `from` to `from + n - 1`.
  ASHLAR_INLINE void run(const call& c, std::int64_t from, std::int64_t n) const {
    const auto at = [from](const place& x) __attribute__((always_inline)) {
      return x.fixed || x.local ? 0 : from * x.element;
    };
    work w;
    w.op = c.op;
    w.how = c.how;
    w.out = data(c.out) + at(c.out);
    for (int k = 0; k < c.count; ++k) {
      const place& x = c.in[index(k)];
      w.in[k] = data(x) + at(x);
      w.fixed[k] = x.fixed;
    }
    c.run(w, n);
  }

  void group(const step& s) {
    for (const int store : s.through) {
      if (const auto there = direct_ ? block_of(store, 1) : located{}; there.whole && there.dense) {
        data_[p_.at(code_.operand(store, 0)).value] = there.first;
      }
    }
    const std::int64_t by = s.calls.size() > 1 ? p_.strip : s.size;
    for (std::int64_t from = 0; from < s.size; from += by) {
      for (const call& c : s.calls) {
        run(c, from, std::min(by, s.size - from));
      }
    }
  }

  void leaf(int at) {
    const tile::instruction& i = code_.at(at);
    auto& to = *reinterpret_cast<std::int64_t*>(value_of(at));
    switch (i.op) {
      case opcode::program_id:
        to = place_[index(i.index)];
        return;
      case opcode::grid_size:
        to = size_[index(i.index)];
        return;
      case opcode::extent:
        to = arguments_[index(i.index)].extents[static_cast<std::size_t>(i.value)];
        return;
      default:
        return fill(value_of(at), i.type.element, arguments_[index(i.index)].bits, 1);
    }
  }

  // --- memory ------------------------------------------------------------------------------------

  [[nodiscard]] coordinates offsets(int at, int first) const {
    coordinates all{};
    for (int k = first; k < code_.at(at).count; ++k) {
      all[index(k - first)] = scalar<std::int64_t>(at, k);
    }
    return all;
  }
  [[nodiscard]] const tile::argument& view_of(int at) const {
    return arguments_[index(code_.at(at).index)];
  }
  [[nodiscard]] located block_of(int at, int first_offset) const {
    const tile::tile_type& t =
        first_offset == 0 ? code_.type_of(at) : code_.type_of(code_.operand(at, 0));
    return locate(view_of(at), t, offsets(at, first_offset));
  }

  /// A block that is all there is read where it lies.
  void load(int at) {
    const tile::instruction& i = code_.at(at);
    const located there = block_of(at, 0);
    if (direct_ && there.whole && there.dense) {
      data_[at] = there.first;
      return;
    }
    data_[at] = room(at);
    if (there.whole && there.dense) {
      std::memcpy(data_[at], there.first,
                  static_cast<std::size_t>(i.type.size()) * size_of(i.type.element));
      return;
    }
    alignas(8) std::byte outside[8];
    fill(outside, i.type.element, i.value, 1);
    read_block(data_[at], view_of(at), i.type, offsets(at, 0), outside);
  }

  void store(int at) {
    const place from = p_.at(code_.operand(at, 0));
    const tile::tile_type& t = code_.type_of(code_.operand(at, 0));
    const located there = block_of(at, 1);
    if (!there.whole || !there.dense) {
      write_block(data(from), view_of(at), t, offsets(at, 1));
    } else if (data(from) != there.first) {
      std::memmove(there.first, data(from),
                   static_cast<std::size_t>(t.size()) * size_of(t.element));
    }
    // What its group wrote through has its room again.
    if (p_.offsets[index(from.value)] >= 0) {
      restore(from.value);
    }
  }
  void restore(int v) {
    if (v >= code_.size || code_.at(v).op != opcode::load) {
      data_[v] = room(v);
    }
  }

  void scattered(int at) {
    const tile::instruction& i = code_.at(at);
    const bool reads = i.op == opcode::gather;
    const tile::tile_type& t = reads ? i.type : code_.type_of(code_.operand(at, 0));
    std::array<const std::int64_t*, tile::max_rank> indices{};
    std::array<bool, tile::max_rank> fixed{};
    const int skip = reads ? 0 : 1;
    for (int k = skip; k < i.count; ++k) {
      indices[index(k - skip)] = reinterpret_cast<const std::int64_t*>(operand(at, k));
      fixed[index(k - skip)] = code_.type_of(code_.operand(at, k)).is_scalar();
    }
    const tile::argument& view = view_of(at);
    if (i.op == opcode::gather || i.op == opcode::scatter) {
      alignas(8) std::byte outside[8];
      fill(outside, t.element, i.value, 1);
      detail::with_bytes(size_of(t.element), [&]<class T>(std::type_identity<T>) {
        T* const tile = reinterpret_cast<T*>(reads ? value_of(at) : operand(at, 0));
        each_indexed<T>(view, t.size(), indices, fixed, [&](std::int64_t k, T* there) {
          if (reads) {
            tile[k] = there != nullptr ? *there : *reinterpret_cast<const T*>(outside);
          } else if (there != nullptr) {
            *there = tile[k];
          }
        });
      });
      return;
    }
    tile::eval::with_scalar(t.element, [&]<class T>(std::type_identity<T>) {
      const T* const tile = reinterpret_cast<const T*>(operand(at, 0));
      each_indexed<T>(view, t.size(), indices, fixed, [&](std::int64_t k, T* there) {
        if (there == nullptr) {
          return;
        }
        i.op == opcode::atomic_add   ? host_codegen::change<opcode::atomic_add>(there, tile[k])
        : i.op == opcode::atomic_max ? host_codegen::change<opcode::atomic_max>(there, tile[k])
                                     : host_codegen::change<opcode::atomic_min>(there, tile[k]);
      });
    });
  }

  void shape(int at) {
    const tile::instruction& i = code_.at(at);
    const tile::tile_type& from = code_.type_of(code_.operand(at, 0));
    if (i.op != opcode::broadcast && i.op != opcode::transpose) {
      return reshape_pairs(i, from, value_of(at), operand(at, 0),
                           i.op == opcode::join ? operand(at, 1) : nullptr);
    }
    const auto dense = tile::detail::strides_of(from);
    coordinates steps{};
    for (int a = 0; a < i.type.rank; ++a) {
      if (i.op == opcode::transpose) {
        steps[index(a)] = dense[static_cast<std::size_t>((i.value >> (4 * a)) & 15)];
      } else if (const int b = a - (i.type.rank - from.rank); b >= 0 && from.extent(b) > 1) {
        steps[index(a)] = dense[index(b)];
      }
    }
    detail::with_bytes(size_of(from.element), [&]<class T>(std::type_identity<T>) {
      read_strided(reinterpret_cast<T*>(value_of(at)), reinterpret_cast<const T*>(operand(at, 0)),
                   i.type, steps);
    });
  }

  // --- other tiles -------------------------------------------------------------------------------

  void matrix(const step& s) {
    const tile::instruction& i = code_.at(s.at);
    const bool scaled = i.op == opcode::dot_scaled;
    const int second = scaled ? 2 : 1;
    const tile::tile_type& a = code_.type_of(code_.operand(s.at, 0));
    const tile::tile_type& b = code_.type_of(code_.operand(s.at, second));
    const std::byte* x = operand(s.at, 0);
    const std::byte* y = operand(s.at, second);
    if (!s.calls.empty()) {
      run(s.calls[0], 0, a.size());
      run(s.calls[1], 0, b.size());
      x = room(s.wide[0]);
      y = room(s.wide[1]);
    }
    std::byte* const to = value_of(s.at);
    std::memcpy(to, operand(s.at, scaled ? 4 : 2),
                static_cast<std::size_t>(i.type.size()) * size_of(i.type.element));
    const int r = a.rank;
    const std::int64_t m = a.extent(r - 2);
    const std::int64_t k = a.extent(r - 1);
    const std::int64_t n = b.extent(r - 1);
    if (scaled) {
      return detail::scaled_product(reinterpret_cast<float*>(to), reinterpret_cast<const float*>(x),
                                    reinterpret_cast<const float*>(operand(s.at, 1)),
                                    reinterpret_cast<const float*>(y),
                                    reinterpret_cast<const float*>(operand(s.at, 3)), m, n, k);
    }
    const auto all = [&]<class T>(T*) {
      for (std::int64_t z = 0; z < (r == 3 ? a.extent(0) : 1); ++z) {
        detail::product(reinterpret_cast<T*>(to) + z * m * n,
                        reinterpret_cast<const T*>(x) + z * m * k,
                        reinterpret_cast<const T*>(y) + z * k * n, m, n, k);
      }
    };
    i.type.element == dtype::float64   ? all(static_cast<double*>(nullptr))
    : i.type.element == dtype::float32 ? all(static_cast<float*>(nullptr))
                                       : all(static_cast<std::int32_t*>(nullptr));
  }

  void random_bits(int at) {
    const auto seed = static_cast<std::uint64_t>(scalar<std::int64_t>(at, 0));
    const auto* counters = reinterpret_cast<const std::int64_t*>(operand(at, 1));
    auto* to = reinterpret_cast<std::int32_t*>(value_of(at));
    for (std::int64_t k = 0; k < code_.type_of(at).size(); ++k) {
      to[k] =
          static_cast<std::int32_t>(philox_block(seed, static_cast<std::uint64_t>(counters[k]))[0]);
    }
  }

  void say(int at) {
    const tile::instruction& i = code_.at(at);
    const tile::tile_type& t = code_.type_of(code_.operand(at, 0));
    const std::byte* x = operand(at, 0);
    if (i.op == opcode::print) {
      std::fputs(tile::detail::print_text(i.index, place_, t, x).c_str(), stderr);
      return;
    }
    for (std::int64_t k = 0; k < t.size(); ++k) {
      if (x[k] == std::byte{0}) {
        throw tile::execution_error(tile::execution_error::requirement, at, place_, i.index);
      }
    }
  }

  // --- regions -----------------------------------------------------------------------------------

  [[nodiscard]] std::size_t bytes_of(int v) const {
    const tile::tile_type& t = code_.type_of(v);
    return static_cast<std::size_t>(t.size()) * size_of(t.element);
  }
  /// What a `yield` gives becomes the owner's results.
  void keep_results(int owner, int yield) {
    for (int k = 0; k < code_.at(yield).count; ++k) {
      std::memcpy(data_[p_.result_of(owner, k)], operand(yield, k),
                  bytes_of(code_.operand(yield, k)));
    }
  }
  void begin_carried(int owner, int first) {
    for (int k = first; k < code_.at(owner).count; ++k) {
      std::memcpy(data_[p_.result_of(owner, k - first)], operand(owner, k),
                  bytes_of(code_.operand(owner, k)));
    }
  }
  /// The results so far become the inputs of a region from `first` on.
  void carry(int owner, int first, int count) {
    for (int k = 0; k < count; ++k) {
      std::memcpy(data_[first + k], data_[p_.result_of(owner, k)], bytes_of(first + k));
    }
  }

  void loop(const step& s) {
    const auto last = scalar<std::int64_t>(s.at, 1);
    const auto by = scalar<std::int64_t>(s.at, 2);
    auto i = scalar<std::int64_t>(s.at, 0);
    if (by <= 0) {
      throw tile::execution_error(tile::execution_error::loop_step, s.at, place_);
    }
    begin_carried(s.at, 3);
    const int carried = code_.at(s.at).count - 3;
    while (i < last) {
      *reinterpret_cast<std::int64_t*>(data_[s.at + 1]) = i;
      carry(s.at, s.at + 2, carried);
      run(p_.blocks[index(s.blocks[0])]);
      keep_results(s.at, p_.yield_of(s.at, 0));
      // The counter may come near the largest number.
      if (static_cast<std::uint64_t>(last) - static_cast<std::uint64_t>(i) <=
          static_cast<std::uint64_t>(by)) {
        break;
      }
      i += by;
    }
  }

  void repeat(const step& s) {
    const int carried = code_.at(s.at).count;
    const int ask = p_.yield_of(s.at, 0);
    begin_carried(s.at, 0);
    for (std::int64_t round = 0;; ++round) {
      carry(s.at, s.at + 1, carried);
      run(p_.blocks[index(s.blocks[0])]);
      if (!scalar<bool>(ask, 0)) {
        return;
      }
      if (round >= tile::interpret_options{}.repeat_limit) {
        throw tile::execution_error("repeat: more rounds than the limit allows", s.at, place_);
      }
      carry(s.at, ask + 1, carried);
      run(p_.blocks[index(s.blocks[1])]);
      keep_results(s.at, p_.yield_of(s.at, 1));
    }
  }

  // --- reductions and scans ----------------------------------------------------------------------

  /// The elements of every operand from `a` on take in those from `b` on: a = combine(a, b).
  void combine(const step& s, const fold_plan& f, const pointers& a, const pointers& b,
               std::int64_t n) {
    const int count = code_.at(s.at).count;
    if (f.single != nullptr) {
      work w;
      w.op = f.op;
      w.out = a[0];
      w.in[0] = a[0];
      w.in[1] = b[0];
      return f.single(w, n);
    }
    const int yield = p_.yield_of(s.at, 0);
    const std::int64_t most = f.by_element ? 1 : fold_plan::most;
    for (std::int64_t from = 0; from < n; from += most) {
      const std::int64_t m = std::min(most, n - from);
      for (int k = 0; k < count; ++k) {
        const std::int64_t at = from * p_.at(static_cast<tile::value_id>(s.at + 1 + k)).element;
        if (f.by_element) {
          std::memcpy(data_[s.at + 1 + k], a[index(k)] + at, bytes_of(s.at + 1 + k));
          std::memcpy(data_[s.at + 1 + count + k], b[index(k)] + at, bytes_of(s.at + 1 + k));
        } else {
          data_[s.at + 1 + k] = a[index(k)] + at;
          data_[s.at + 1 + count + k] = b[index(k)] + at;
        }
      }
      if (f.by_element) {
        run(p_.blocks[index(s.blocks[0])]);
      } else {
        for (const call& c : f.body) {
          run(c, 0, m);
        }
      }
      give(s, f, a, from, m, yield);
    }
  }

  /// What the region gives goes to `a`, all of it read before any is written: it may be an input.
  void give(const step& s, const fold_plan& f, const pointers& a, std::int64_t from, std::int64_t m,
            int yield) {
    const int count = code_.at(s.at).count;
    alignas(64) std::byte kept[max_folded * 8 * fold_plan::most];
    for (int k = 0; k < count; ++k) {
      const place from_place = f.by_element ? p_.at(code_.operand(yield, k)) : f.given[index(k)];
      copy_elements(kept + static_cast<std::int64_t>(k) * 8 * fold_plan::most, from_place, m);
    }
    for (int k = 0; k < count; ++k) {
      const std::int64_t element = p_.at(static_cast<tile::value_id>(s.at + 1 + k)).element;
      std::memcpy(a[index(k)] + from * element,
                  kept + static_cast<std::int64_t>(k) * 8 * fold_plan::most,
                  static_cast<std::size_t>(m * element));
    }
  }
  void copy_elements(std::byte* to, const place& from, std::int64_t n) const {
    if (!from.fixed) {
      std::memcpy(to, data(from), static_cast<std::size_t>(n * from.element));
      return;
    }
    detail::with_bytes(static_cast<std::size_t>(from.element), [&]<class T>(std::type_identity<T>) {
      std::fill_n(reinterpret_cast<T*>(to), n, *reinterpret_cast<const T*>(data(from)));
    });
  }

  /// `rows` rows of `n` elements, the rows `step` elements apart, so that element j of row i comes
  /// to place j * rows + i.
  static void turn(std::byte* to, const std::byte* from, std::int64_t rows, std::int64_t n,
                   std::int64_t step, std::int64_t element) {
    detail::with_bytes(static_cast<std::size_t>(element), [&]<class T>(std::type_identity<T>) {
      const T* const x = reinterpret_cast<const T*>(from);
      for (std::int64_t i = 0; i < rows; ++i) {
        for (std::int64_t j = 0; j < n; ++j) {
          reinterpret_cast<T*>(to)[j * rows + i] = x[i * step + j];
        }
      }
    });
  }

  void begin_fold(const fold_plan& f) {
    for (const int i : f.leaves) {
      leaf(i);
    }
    for (const auto& [from, splat] : f.captured) {
      place one = from;
      one.fixed = true;
      copy_elements(data_[splat], one, lanes);
    }
  }

  void reduce(const step& s) {
    const fold_plan& f = p_.folds[index(s.more)];
    const std::int64_t outer = f.extents.outer;
    const std::int64_t n = f.extents.n;
    const std::int64_t inner = f.extents.inner;
    const dtype d = code_.type_of(code_.operand(s.at, 0)).element;
    if (f.single != nullptr && inner == 1) {
      const auto by_rows = [&]<class T>(T* to) {
        return detail::reduce_rows_by(f.op, to, reinterpret_cast<const T*>(operand(s.at, 0)), outer,
                                      n);
      };
      std::byte* const to = data_[f.results[0]];
      if ((d == dtype::float32 && by_rows(reinterpret_cast<float*>(to))) ||
          (d == dtype::float64 && by_rows(reinterpret_cast<double*>(to)))) {
        return;
      }
    }
    begin_fold(f);
    const std::int64_t width = std::min<std::int64_t>(n, lanes);
    // Lanes lie one behind the other, each with the elements that are reduced side by side.
    const bool turned = inner == 1 && outer > 1;
    const std::int64_t across = inner == 1 ? outer : inner;
    const auto count = f.sums.size();
    pointers a{};
    pointers b{};
    for (std::int64_t o = 0; o < (inner == 1 ? 1 : outer); ++o) {
      const auto block = [&](std::size_t k, std::int64_t e, std::int64_t rows, std::byte* room) {
        const place x = p_.at(code_.operand(s.at, static_cast<int>(k)));
        std::byte* const from = data(x) + (o * n + e) * inner * x.element;
        if (!turned) {
          return from;
        }
        turn(room, data(x) + e * x.element, outer, rows, n, x.element);
        return room;
      };
      const auto element = [&](std::size_t k) {
        return p_.at(code_.operand(s.at, static_cast<int>(k))).element;
      };
      for (std::size_t k = 0; k < count; ++k) {
        a[k] = data_[f.sums[k]];
        const std::byte* first = block(k, 0, width, a[k]);
        if (first != a[k]) {
          std::memcpy(a[k], first, static_cast<std::size_t>(width * across * element(k)));
        }
      }
      for (std::int64_t e = width; e < n; e += lanes) {
        const std::int64_t rows = std::min<std::int64_t>(lanes, n - e);
        for (std::size_t k = 0; k < count; ++k) {
          b[k] = block(k, e, rows, data_[f.blocks[k]]);
        }
        combine(s, f, a, b, rows * across);
      }
      for (std::int64_t half = lanes / 2; half > 0; half /= 2) {
        const std::int64_t rows = std::min(half, width - half);
        if (rows <= 0) {
          continue;
        }
        for (std::size_t k = 0; k < count; ++k) {
          b[k] = a[k] + half * across * element(k);
        }
        combine(s, f, a, b, rows * across);
      }
      for (std::size_t k = 0; k < count; ++k) {
        std::memcpy(data_[f.results[k]] + o * inner * element(k), a[k],
                    static_cast<std::size_t>(across * element(k)));
      }
    }
  }

  void scan(const step& s) {
    const fold_plan& f = p_.folds[index(s.more)];
    const std::int64_t outer = f.extents.outer;
    const std::int64_t n = f.extents.n;
    const std::int64_t inner = f.extents.inner;
    begin_fold(f);
    const std::int64_t across = inner == 1 ? outer : inner;
    const auto count = f.sums.size();
    pointers a{};
    pointers b{};
    for (std::int64_t o = 0; o < (inner == 1 ? 1 : outer); ++o) {
      for (std::int64_t step = 0; step < n; ++step) {
        const std::int64_t e = code_.at(s.at).value != 0 ? n - 1 - step : step;
        for (std::size_t k = 0; k < count; ++k) {
          const place x = p_.at(code_.operand(s.at, static_cast<int>(k)));
          a[k] = data_[f.sums[k]];
          std::byte* const to = step == 0 ? a[k] : data_[f.blocks[k]];
          if (inner == 1) {
            turn(to, data(x) + e * x.element, outer, 1, n, x.element);
          } else {
            std::memcpy(to, data(x) + (o * n + e) * inner * x.element,
                        static_cast<std::size_t>(across * x.element));
          }
          b[k] = data_[f.blocks[k]];
        }
        if (step > 0) {
          combine(s, f, a, b, across);
        }
        for (std::size_t k = 0; k < count; ++k) {
          const std::int64_t element = p_.at(code_.operand(s.at, static_cast<int>(k))).element;
          if (inner == 1) {
            for (std::int64_t i = 0; i < outer; ++i) {
              std::memcpy(data_[f.results[k]] + (i * n + e) * element, a[k] + i * element,
                          static_cast<std::size_t>(element));
            }
          } else {
            std::memcpy(data_[f.results[k]] + (o * n + e) * inner * element, a[k],
                        static_cast<std::size_t>(across * element));
          }
        }
      }
    }
  }

  const plan& p_;
  const tile::program& code_;
  std::byte* memory_;
  std::byte** data_;
  tile::grid size_;
  tile::grid place_{};
  std::span<const tile::argument> arguments_;
  bool direct_;
};

}  // namespace ashlar::chip::strips
