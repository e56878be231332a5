// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/argument.hpp"
#include "ashlar/tile/interpret.hpp"
#include "ashlar/tile/parse.hpp"
#include "ashlar/tile/print.hpp"

namespace interpret_test {

namespace tile = ashlar::tile;

/// A dense array of any element type, bool too.
template <class T>
struct array {
  std::vector<std::int64_t> extents;
  std::int64_t size = 1;
  std::unique_ptr<T[]> data;

  explicit array(std::vector<std::int64_t> shape) : extents(std::move(shape)) {
    for (const std::int64_t n : extents) {
      size *= n;
    }
    data = std::make_unique<T[]>(static_cast<std::size_t>(size) + 1);  // a place even for none
  }
  array(std::vector<std::int64_t> shape, std::initializer_list<T> values) : array(shape) {
    std::copy(values.begin(), values.end(), data.get());
  }

  T& operator[](std::int64_t i) { return data[static_cast<std::size_t>(i)]; }
  const T& operator[](std::int64_t i) const { return data[static_cast<std::size_t>(i)]; }

  [[nodiscard]] std::vector<std::int64_t> strides() const {
    std::vector<std::int64_t> steps(extents.size());
    std::int64_t step = 1;
    for (std::size_t a = extents.size(); a-- > 0;) {
      steps[a] = step;
      step *= extents[a];
    }
    return steps;
  }
  operator tile::argument() const { return {data.get(), extents, strides()}; }
};

/// Equal bits, where NaNs of any bits are equal.
template <class T>
bool same(T a, T b) {
  const auto x = static_cast<ashlar::compute_type<T>>(a);
  const auto y = static_cast<ashlar::compute_type<T>>(b);
  return (x != x && y != y) || std::memcmp(&a, &b, sizeof(T)) == 0;
}

template <class T>
T number(double x) {
  if constexpr (std::same_as<T, bool>) {
    return x != 0;
  } else {
    return T(static_cast<ashlar::compute_type<T>>(x));
  }
}

inline std::string short_name(ashlar::dtype d) { return std::string(tile::short_name_of(d)); }

}  // namespace interpret_test
