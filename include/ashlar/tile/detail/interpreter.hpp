// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/core/dtype.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/core/philox.hpp"
#include "ashlar/tile/argument.hpp"
#include "ashlar/tile/detail/tile_value.hpp"
#include "ashlar/tile/print.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/rules.hpp"
#include "ashlar/tile/scalar.hpp"
#include "ashlar/tile/structure.hpp"

namespace ashlar::tile {

struct interpret_options {
  std::ostream* out = nullptr;  ///< what `print` writes to; nothing, where null
  std::int64_t repeat_limit = std::int64_t{1} << 24;  ///< most rounds of one `repeat`
  /// Most instructions that are carried out, over all programs and rounds of loops.
  std::int64_t instruction_limit = std::numeric_limits<std::int64_t>::max();
};

namespace detail {

/// What `print` writes of elements as they lie in memory.
inline std::string print_text(int number, const grid& place, const tile_type& type,
                              const std::byte* elements) {
  return eval::with_scalar(type.element, [&]<class T>(std::type_identity<T>) {
    return printed_line(number, place, type, [&](std::int64_t k) {
      return constant_bits(static_cast<compute_type<T>>(element_at<T>(elements, k)));
    });
  });
}

template <class Math>
class interpreter {
 public:
  interpreter(const program& p, const grid& size, std::span<const argument> arguments,
              const interpret_options& options)
      : p_(p),
        grid_(size),
        arguments_(arguments),
        options_(options),
        values_(static_cast<std::size_t>(p.size)),
        results_(static_cast<std::size_t>(p.size)),
        structure_(p) {}

  void run(const grid& place) {
    place_ = place;
    run(0, p_.size);
  }

 private:
  [[nodiscard]] tile_value& value(int i) { return values_[static_cast<std::size_t>(i)]; }
  [[nodiscard]] tile_value& operand(int i, int k) { return value(p_.operand(i, k)); }
  [[nodiscard]] std::int64_t index_of(int v) { return value(v).template at<std::int64_t>(0); }
  [[nodiscard]] int end(int owner, int region) const {
    return at(region == 0 ? structure_.first_yield : structure_.last_yield, owner);
  }
  /// The first instruction of a region.
  [[nodiscard]] int begin(int owner, int region) const {
    return region == 0 ? owner + 1 : end(owner, 0) + 1;
  }

  void run(int from, int to) {
    for (int i = from; i < to;) {
      step(i);
      i = info(p_.at(i).op).regions > 0 ? end(i, 1) + 1 : i + 1;
    }
  }

  /// Runs a region up to its `yield`, which stays to be read.
  void run_region(int owner, int region, int inputs) {
    run(begin(owner, region) + inputs, end(owner, region));
  }

  void step(int at) {
    if (++steps_ > options_.instruction_limit) {
      throw execution_error("more instructions than the limit allows", at, place_);
    }
    const instruction& i = p_.at(at);
    tile_value& out = value(at);
    if (i.type.is_value()) {
      out.become(i.type);
    }
    switch (info(i.op).kind) {
      case opcode_kind::leaf:
        return leaf(i, out);
      case opcode_kind::memory:
        return i.op == opcode::load || i.op == opcode::store ? block(at) : scattered(at);
      case opcode_kind::unary:
        return i.op == opcode::cast      ? apply_cast(i, operand(at, 0), out)
               : i.op == opcode::bitcast ? apply_bitcast(operand(at, 0), out)
                                         : apply_unary<Math>(i, operand(at, 0), out);
      case opcode_kind::binary:
      case opcode_kind::compare:
        return apply_binary(i.op, operand(at, 0), operand(at, 1), out);
      case opcode_kind::ternary:
        return i.op == opcode::fma
                   ? apply_fma<Math>(operand(at, 0), operand(at, 1), operand(at, 2), out)
                   : choose(at);
      case opcode_kind::shape:
        return apply_shape(i, operand(at, 0), i.op == opcode::join ? &operand(at, 1) : nullptr,
                           out);
      case opcode_kind::matrix:
        return matrix(at);
      case opcode_kind::region:
        return region(at);
      case opcode_kind::other:
        return other(at);
    }
  }

  // --- leaves ------------------------------------------------------------------------------------

  static void fill(tile_value& out, std::int64_t bits) {
    eval::with_scalar(out.type.element, [&]<class T>(std::type_identity<T>) {
      const T x = constant_value<T>(bits);
      for (std::int64_t k = 0; k < out.type.size(); ++k) {
        out.set(k, x);
      }
    });
  }

  void leaf(const instruction& i, tile_value& out) {
    const auto n = static_cast<std::size_t>(i.index);
    switch (i.op) {
      case opcode::constant:
        return fill(out, i.value);
      case opcode::iota:
        return for_each_place(i.type, [&](std::int64_t k, const auto& place) {
          if (i.type.element == dtype::int32) {
            out.set(k, static_cast<std::int32_t>(place[n]));
          } else {
            out.set(k, place[n]);
          }
        });
      case opcode::program_id:
        return out.set(0, place_[n]);
      case opcode::grid_size:
        return out.set(0, grid_[n]);
      case opcode::extent:
        return out.set(0, arguments_[n].extents[static_cast<std::size_t>(i.value)]);
      case opcode::argument:
        return fill(out, arguments_[n].bits);
      default:  // region_input: whoever runs the region has set it
        return;
    }
  }

  // --- memory ------------------------------------------------------------------------------------

  /// A tile along the last axes of a view. An offset may be any number, so nothing is added to it
  /// before it is known to lie near the view.
  void block(int at) {
    const instruction& i = p_.at(at);
    const bool reads = i.op == opcode::load;
    const argument& view = arguments_[static_cast<std::size_t>(i.index)];
    tile_value& tile = reads ? value(at) : operand(at, 0);
    const int skip = view.rank - tile.type.rank;
    std::array<std::int64_t, max_rank> offset{};
    for (int a = 0; a < view.rank; ++a) {
      offset[static_cast<std::size_t>(a)] = index_of(p_.operand(at, a + (reads ? 0 : 1)));
    }
    if (reads) {
      fill(tile, i.value);
    }
    const std::size_t width = size_of(view.element);
    for_each_place(tile.type, [&](std::int64_t k, const auto& place) {
      std::int64_t step = 0;
      for (int a = 0; a < view.rank; ++a) {
        const auto u = static_cast<std::size_t>(a);
        const std::int64_t inside = a < skip ? 0 : place[static_cast<std::size_t>(a - skip)];
        if (offset[u] < -inside || offset[u] >= view.extents[u] - inside) {
          return;
        }
        step += (offset[u] + inside) * view.strides[u];
      }
      std::byte* there = view.data + step * static_cast<std::int64_t>(width);
      std::byte* here = tile.data() + k * static_cast<std::int64_t>(width);
      std::memcpy(reads ? here : there, reads ? there : here, width);
    });
  }

  /// One place per element.
  void scattered(int at) {
    const instruction& i = p_.at(at);
    const bool reads = i.op == opcode::gather;
    const argument& view = arguments_[static_cast<std::size_t>(i.index)];
    tile_value& tile = reads ? value(at) : operand(at, 0);
    if (reads) {
      fill(tile, i.value);
    }
    eval::with_scalar(view.element, [&]<class T>(std::type_identity<T>) {
      for (std::int64_t k = 0; k < tile.type.size(); ++k) {
        std::int64_t there = 0;
        bool inside = true;
        for (int a = 0; inside && a < view.rank; ++a) {
          const auto u = static_cast<std::size_t>(a);
          const tile_value& places = operand(at, a + (reads ? 0 : 1));
          const auto n = places.at<std::int64_t>(places.type.is_scalar() ? 0 : k);
          inside = n >= 0 && n < view.extents[u];
          there += inside ? n * view.strides[u] : 0;
        }
        if (!inside) {
          continue;
        }
        if (reads) {
          tile.set(k, element_at<T>(view.data, there));
        } else {
          set_element(view.data, there, written(i.op, view.data, there, tile.at<T>(k)));
        }
      }
    });
  }

  template <class T>
  static T written(opcode op, const std::byte* data, std::int64_t at, T x) {
    if (op == opcode::scatter) {
      return x;
    }
    const opcode with = op == opcode::atomic_add   ? opcode::add
                        : op == opcode::atomic_max ? opcode::max
                                                   : opcode::min;
    return eval::binary(with, element_at<T>(data, at), x);
  }

  // --- tiles -------------------------------------------------------------------------------------

  void choose(int at) {
    tile_value& out = value(at);
    for (std::int64_t k = 0; k < out.type.size(); ++k) {
      out.take(k, operand(at, operand(at, 0).template at<bool>(k) ? 1 : 2), k);
    }
  }

  void matrix(int at) {
    const instruction& i = p_.at(at);
    tile_value& out = value(at);
    eval::with_scalar(operand(at, 0).type.element, [&]<class T>(std::type_identity<T>) {
      using sum = scalar_of<accumulator_of(dtype_of<T>)>;
      if (i.op == opcode::dot) {
        apply_dot<Math, T, sum>(operand(at, 0), operand(at, 1), operand(at, 2), out);
      } else if constexpr (std::same_as<sum, float>) {
        apply_dot_scaled<Math, T>(operand(at, 0), operand(at, 1), operand(at, 2), operand(at, 3),
                                  operand(at, 4), out);
      }
    });
  }

  void other(int at) {
    const instruction& i = p_.at(at);
    tile_value& out = value(at);
    if (i.op == opcode::random_bits) {
      const auto seed = static_cast<std::uint64_t>(index_of(p_.operand(at, 0)));
      for (std::int64_t k = 0; k < out.type.size(); ++k) {
        const auto counter = operand(at, 1).template at<std::int64_t>(k);
        out.set(k, philox_block(seed, static_cast<std::uint64_t>(counter))[0]);
      }
    } else if (i.op == opcode::result) {
      out.bytes =
          results_[static_cast<std::size_t>(p_.operand(at, 0))][static_cast<std::size_t>(i.index)]
              .bytes;
    } else if (i.op == opcode::require) {
      const tile_value& holds = operand(at, 0);
      for (std::int64_t k = 0; k < holds.type.size(); ++k) {
        if (!holds.at<bool>(k)) {
          throw execution_error(execution_error::requirement, at, place_, i.index);
        }
      }
    } else if (i.op == opcode::print && options_.out != nullptr) {
      const tile_value& x = operand(at, 0);
      *options_.out << print_text(i.index, place_, x.type, x.bytes.data());
    }
  }

  // --- regions -----------------------------------------------------------------------------------

  void region(int at) {
    switch (p_.at(at).op) {
      case opcode::loop:
        return loop(at);
      case opcode::repeat:
        return repeat(at);
      case opcode::branch: {
        const int taken = operand(at, 0).template at<bool>(0) ? 0 : 1;
        run_region(at, taken, 0);
        return keep(at, end(at, taken));
      }
      case opcode::reduce:
        return reduce(at);
      default:
        return scan(at);
    }
  }

  /// The operands of a `yield` become the owner's results.
  void keep(int owner, int yield) {
    auto& results = results_[static_cast<std::size_t>(owner)];
    results.resize(p_.at(yield).count);
    for (std::size_t k = 0; k < results.size(); ++k) {
      results[k] = operand(yield, static_cast<int>(k));
    }
  }

  /// The results so far become a region's inputs from `first` on.
  void carry(int owner, int first) {
    const auto& results = results_[static_cast<std::size_t>(owner)];
    for (std::size_t k = 0; k < results.size(); ++k) {
      value(first + static_cast<int>(k)) = results[k];
    }
  }

  void begin_carried(int owner, int first_operand) {
    auto& results = results_[static_cast<std::size_t>(owner)];
    results.resize(static_cast<std::size_t>(p_.at(owner).count - first_operand));
    for (std::size_t k = 0; k < results.size(); ++k) {
      results[k] = operand(owner, static_cast<int>(k) + first_operand);
    }
  }

  void loop(int at) {
    const std::int64_t last = index_of(p_.operand(at, 1));
    const std::int64_t by = index_of(p_.operand(at, 2));
    if (by <= 0) {
      throw execution_error(execution_error::loop_step, at, place_);
    }
    begin_carried(at, 3);
    const int inputs = p_.at(at).count - 2;
    std::int64_t i = index_of(p_.operand(at, 0));
    while (i < last) {
      value(at + 1).become(index_type);
      value(at + 1).set(0, i);
      carry(at, at + 2);
      run_region(at, 0, inputs);
      keep(at, end(at, 0));
      // The counter may come near the largest number.
      if (static_cast<std::uint64_t>(last) - static_cast<std::uint64_t>(i) <=
          static_cast<std::uint64_t>(by)) {
        break;
      }
      i += by;
    }
  }

  void repeat(int at) {
    begin_carried(at, 0);
    const int inputs = p_.at(at).count;
    for (std::int64_t round = 0;; ++round) {
      carry(at, begin(at, 0));
      run_region(at, 0, inputs);
      if (!operand(end(at, 0), 0).template at<bool>(0)) {
        return;
      }
      if (round >= options_.repeat_limit) {
        throw execution_error("repeat: more rounds than the limit allows", at, place_);
      }
      carry(at, begin(at, 1));
      run_region(at, 1, inputs);
      keep(at, end(at, 1));
    }
  }

  /// `a = combine(a, b)`: element `b_at` of each of `b` into element `a_at` of each of `a`.
  void combine(int at, std::vector<tile_value>& a, std::int64_t a_at,
               const std::vector<const tile_value*>& b, std::int64_t b_at) {
    const int n = p_.at(at).count;
    for (int k = 0; k < n; ++k) {
      const auto u = static_cast<std::size_t>(k);
      tile_value& left = value(at + 1 + k);
      tile_value& right = value(at + 1 + n + k);
      left.become(p_.type_of(at + 1 + k));
      right.become(p_.type_of(at + 1 + n + k));
      left.take(0, a[u], a_at);
      right.take(0, *b[u], b_at);
    }
    run_region(at, 0, 2 * n);
    for (int k = 0; k < n; ++k) {
      a[static_cast<std::size_t>(k)].take(a_at, operand(end(at, 0), k), 0);
    }
  }

  /// Extents before, at and after the axis of a reduction or scan.
  struct folded {
    std::int64_t outer = 1, n = 1, inner = 1;
    folded(const tile_type& t, int axis) : n(t.extent(axis)) {
      for (int a = 0; a < t.rank; ++a) {
        (a < axis ? outer : inner) *= a == axis ? 1 : t.extent(a);
      }
    }
  };

  [[nodiscard]] std::vector<const tile_value*> sources(int at) {
    std::vector<const tile_value*> all;
    for (int k = 0; k < p_.at(at).count; ++k) {
      all.push_back(&operand(at, k));
    }
    return all;
  }

  /// In the order that `opcode::reduce` states.
  void reduce(int at) {
    constexpr std::int64_t width = 16;
    const instruction& i = p_.at(at);
    const std::vector<const tile_value*> from = sources(at);
    const folded f(from[0]->type, i.index);
    const std::int64_t lanes = std::min(f.n, width);
    std::vector<tile_value> sum(from.size());
    std::vector<const tile_value*> all;
    auto& results = results_[static_cast<std::size_t>(at)];
    results.resize(from.size());
    for (std::size_t k = 0; k < from.size(); ++k) {
      sum[k].become({from[k]->type.element, {static_cast<std::int32_t>(lanes)}});
      all.push_back(&sum[k]);
      results[k].become(from[k]->type.without(i.index));
    }
    for (std::int64_t o = 0; o < f.outer * f.inner; ++o) {
      const std::int64_t first = o / f.inner * f.n * f.inner + o % f.inner;
      for (std::size_t k = 0; k < from.size(); ++k) {
        for (std::int64_t l = 0; l < lanes; ++l) {
          sum[k].take(l, *from[k], first + l * f.inner);
        }
      }
      for (std::int64_t e = lanes; e < f.n; ++e) {
        combine(at, sum, e % width, from, first + e * f.inner);
      }
      for (std::int64_t half = width / 2; half > 0; half /= 2) {
        for (std::int64_t l = 0; l < half && l + half < lanes; ++l) {
          combine(at, sum, l, all, l + half);
        }
      }
      for (std::size_t k = 0; k < from.size(); ++k) {
        results[k].take(o, sum[k], 0);
      }
    }
  }

  void scan(int at) {
    const instruction& i = p_.at(at);
    const std::vector<const tile_value*> from = sources(at);
    const folded f(from[0]->type, i.index);
    std::vector<tile_value> sum(from.size());
    auto& results = results_[static_cast<std::size_t>(at)];
    results.resize(from.size());
    for (std::size_t k = 0; k < from.size(); ++k) {
      sum[k].become(scalar_type(from[k]->type.element));
      results[k].become(from[k]->type);
    }
    for (std::int64_t o = 0; o < f.outer * f.inner; ++o) {
      const std::int64_t first = o / f.inner * f.n * f.inner + o % f.inner;
      for (std::int64_t e = 0; e < f.n; ++e) {
        const std::int64_t here = first + (i.value != 0 ? f.n - 1 - e : e) * f.inner;
        if (e == 0) {
          for (std::size_t k = 0; k < from.size(); ++k) {
            sum[k].take(0, *from[k], here);
          }
        } else {
          combine(at, sum, 0, from, here);
        }
        for (std::size_t k = 0; k < from.size(); ++k) {
          results[k].take(here, sum[k], 0);
        }
      }
    }
  }

  const program& p_;
  const grid grid_;
  std::span<const argument> arguments_;
  const interpret_options& options_;
  grid place_{};
  std::int64_t steps_ = 0;
  std::vector<tile_value> values_;
  std::vector<std::vector<tile_value>> results_;
  const structure structure_;
};

}  // namespace detail

}  // namespace ashlar::tile
