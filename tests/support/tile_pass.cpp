// SPDX-License-Identifier: Apache-2.0
#include "support/tile_pass.hpp"

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>
#include <vector>

#include "ashlar/tile/argument.hpp"
#include "ashlar/tile/interpret.hpp"
#include "ashlar/tile/parse.hpp"
#include "ashlar/tile/print.hpp"
#include "ashlar/tile/scalar.hpp"

namespace tile_test {

namespace {

namespace tile = ashlar::tile;
using ashlar::dtype;

template <class T>
std::vector<T> awkward() {
  if constexpr (std::same_as<T, bool>) {
    return {false, true};
  } else if constexpr (std::integral<T>) {
    using limits = std::numeric_limits<T>;
    return {T{0},
            T{1},
            static_cast<T>(-1),
            T{2},
            T{3},
            static_cast<T>(-2),
            static_cast<T>(-7),
            T{64},
            limits::min(),
            static_cast<T>(limits::min() + 1),
            limits::max(),
            T{100}};
  } else {
    using compute = ashlar::compute_type<T>;
    using limits = std::numeric_limits<compute>;
    std::vector<T> all;
    for (const double x :
         {0.0, -0.0, 1.0, -1.0, 0.5, 3.0, -2.75, 1e-3, 1e4, 6e-8, -6e-8, 65504.0}) {
      all.push_back(T(static_cast<compute>(x)));
    }
    for (const compute x : {limits::infinity(), -limits::infinity(), limits::quiet_NaN(),
                            limits::max(), limits::min(), limits::denorm_min()}) {
      all.push_back(T(x));
    }
    return all;
  }
}

/// One view of each parameter, filled; scalars get 0.
class launch {
 public:
  explicit launch(const tile::program& p) : buffers(static_cast<std::size_t>(p.parameter_count)) {
    int view = 0;
    for (int k = 0; k < p.parameter_count; ++k) {
      const dtype e = p.parameter_at(k).element;
      tile::argument x;
      x.element = e;
      x.rank = p.parameter_at(k).rank;
      x.writable = p.parameter_at(k).written;
      if (x.rank >= 0) {
        fill(buffers[static_cast<std::size_t>(k)], e, view++);
        const auto n = static_cast<std::int64_t>(buffers[static_cast<std::size_t>(k)].size() /
                                                 ashlar::size_of(e));
        x.extents = {n, 1, 1, 1};
        x.strides = {1, 1, 1, 1};
        x.data = buffers[static_cast<std::size_t>(k)].data();
      }
      arguments.push_back(x);
    }
  }

  std::vector<std::vector<std::byte>> buffers;
  std::vector<tile::argument> arguments{};

 private:
  static void fill(std::vector<std::byte>& memory, dtype e, int view) {
    tile::eval::with_scalar(e, [&]<class T>(std::type_identity<T>) {
      const std::vector<T> all = awkward<T>();
      const std::size_t n = all.size();
      memory.resize(n * n * sizeof(T));
      for (std::size_t i = 0; i < n * n; ++i) {
        const std::size_t which = view == 0 ? i / n : view == 1 ? i % n : (5 * i + i / n) % n;
        tile::detail::set_element(memory.data(), static_cast<std::int64_t>(i),
                                  static_cast<T>(all[which]));
      }
    });
  }
};

template <class T>
bool is_nan(T x) {
  if constexpr (std::integral<T>) {
    return false;
  } else {
    return std::isnan(static_cast<ashlar::compute_type<T>>(x));
  }
}

}  // namespace

int awkward_pairs(dtype e) {
  return tile::eval::with_scalar(e, []<class T>(std::type_identity<T>) {
    const auto n = static_cast<int>(awkward<T>().size());
    return n * n;
  });
}

std::string difference(const tile::program& a, const tile::program& b) {
  launch first(a);
  launch second(b);
  tile::interpret(a, {2, 1, 1}, first.arguments);
  tile::interpret(b, {2, 1, 1}, second.arguments);
  for (std::size_t k = 0; k < first.buffers.size(); ++k) {
    const auto& x = first.buffers[k];
    const auto& y = second.buffers[k];
    const std::string found = tile::eval::with_scalar(
        first.arguments[k].element, [&]<class T>(std::type_identity<T>) -> std::string {
          for (std::size_t i = 0; i < x.size() / sizeof(T); ++i) {
            const auto at = static_cast<std::int64_t>(i);
            const T u = tile::detail::element_at<T>(x.data(), at);
            const T v = tile::detail::element_at<T>(y.data(), at);
            if (tile::eval::detail::raw_bits(u) != tile::eval::detail::raw_bits(v) &&
                !(is_nan(u) && is_nan(v))) {
              const auto shown = [](T z) {
                return std::to_string(static_cast<double>(static_cast<ashlar::compute_type<T>>(z)));
              };
              return "element " + std::to_string(i) + " of argument " + std::to_string(k) + ": " +
                     shown(u) + " and " + shown(v);
            }
          }
          return {};
        });
    if (!found.empty()) {
      return found;
    }
  }
  return {};
}

std::string text_of(const tile::program& p) { return tile::print(p); }

tile::program read(std::string_view text) { return tile::parse(text); }

}  // namespace tile_test
