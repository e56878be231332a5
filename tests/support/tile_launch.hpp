// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/argument.hpp"
#include "ashlar/tile/detail/tile_value.hpp"
#include "ashlar/tile/print.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/scalar.hpp"

/// Chance that is the same for one seed everywhere, and arguments for programs.
namespace tile_test {

namespace tile = ashlar::tile;
using ashlar::dtype;

class dice {
 public:
  /// Seeds side by side have streams of their own: the factor is another one than the step.
  constexpr explicit dice(std::uint64_t seed) : state_(seed * 0xd1342543de82ef95u + 1) {}

  constexpr std::uint64_t bits() {  // splitmix64
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  /// From `low` to `high`, both included.
  constexpr int between(int low, int high) {
    return low + static_cast<int>(bits() % static_cast<std::uint64_t>(high - low + 1));
  }
  constexpr bool chance(int percent) { return between(1, 100) <= percent; }
  template <class T>
  constexpr T one_of(std::initializer_list<T> all) {
    return all.begin()[between(0, static_cast<int>(all.size()) - 1)];
  }

 private:
  std::uint64_t state_;
};

/// Memory and scalars for a program: small floating-point numbers, small integers, views of any
/// extents from 0 on, dense or not. The contents are the same for one seed.
class random_launch {
 public:
  random_launch(const tile::program& p, std::uint64_t seed) {
    dice d(seed ^ 0x5bd1e995u);
    size = {d.between(1, 3), d.between(1, 2), 1};
    for (int i = 0; i < p.size; ++i) {
      if (p.at(i).op == tile::opcode::program_id && p.at(i).index == 2) {
        size[2] = 2;
      }
    }
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
      x.extents[a] = row && d.chance(80) ? size[0] * size[1] * size[2]
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
        if constexpr (ashlar::NarrowFloating<T>) {
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

/// Where two runs of `p` differ: `p3, element 5: 1.5 and 1.25`. Nothing where they do not: equal
/// bits, or both NaN, or floating-point numbers within `relative` of the larger one.
inline std::string difference(const tile::program& p, const std::vector<std::vector<std::byte>>& a,
                              const std::vector<std::vector<std::byte>>& b, double relative = 0) {
  std::string text;
  for (std::size_t k = 0; k < a.size() && text.empty(); ++k) {
    const dtype e = p.parameters[k].element;
    tile::eval::with_scalar(e, [&]<class T>(std::type_identity<T>) {
      const auto n = static_cast<std::int64_t>(a[k].size() / sizeof(T));
      for (std::int64_t i = 0; i < n && text.empty(); ++i) {
        const auto x =
            static_cast<ashlar::compute_type<T>>(tile::detail::element_at<T>(a[k].data(), i));
        const auto y =
            static_cast<ashlar::compute_type<T>>(tile::detail::element_at<T>(b[k].data(), i));
        const auto u = static_cast<double>(x);
        const auto v = static_cast<double>(y);
        const bool near = ashlar::Floating<T> && relative > 0 &&
                          std::abs(u - v) <= relative * std::max(std::abs(u), std::abs(v));
        const auto bits = [](auto z) { return tile::constant_bits(z); };
        if (bits(x) != bits(y) && !near && !(x != x && y != y)) {
          text = std::string("p") + std::to_string(k) + ", element " + std::to_string(i) + ": " +
                 tile::scalar_text(e, bits(x)) + " and " + tile::scalar_text(e, bits(y));
        }
      }
    });
  }
  return text;
}

}  // namespace tile_test
