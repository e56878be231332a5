// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <random>
#include <vector>

#include "ashlar/core/spec.hpp"
#include "ashlar/core/view.hpp"

namespace attention_test {

/// Elements with a spec; axes may stand in memory in any order, with gaps filled with NaN.
template <class T>
struct array {
  ashlar::tensor_spec spec;
  std::vector<T> storage;

  array() = default;
  explicit array(std::initializer_list<std::int64_t> extents, T value = T(0))
      : spec(ashlar::contiguous_spec(ashlar::dtype_of<T>, {extents.begin(), extents.size()})),
        storage(static_cast<std::size_t>(spec.size), value) {}
  /// `order`: axes from the slowest to the fastest. `gap`: elements between two of the fastest.
  array(std::initializer_list<std::int64_t> extents, std::initializer_list<int> order,
        std::int64_t gap)
      : array(extents) {
    std::int64_t step = 1 + gap;
    for (auto axis = order.end(); axis != order.begin();) {
      --axis;
      spec.stride[static_cast<std::size_t>(*axis)] = step;
      step = step * spec[*axis] + gap;
    }
    spec.contiguous = ashlar::is_dense(spec);
    storage.assign(static_cast<std::size_t>(step), std::numeric_limits<T>::quiet_NaN());
  }

  operator ashlar::view<T>() { return {storage.data(), &spec}; }
  operator ashlar::view<const T>() const { return {storage.data(), &spec}; }
  template <class... I>
  T& operator()(I... i) {
    return ashlar::view<T>(*this)(i...);
  }
  template <class... I>
  T operator()(I... i) const {
    return ashlar::view<const T>(*this)(i...);
  }

  /// Calls `f(element)` in row-major order.
  template <class F>
  void each(const F& f) {
    for (std::int64_t i = 0; i < spec.size; ++i) {
      std::int64_t rest = i;
      std::int64_t at = 0;
      for (int axis = spec.rank - 1; axis >= 0; --axis) {
        at += rest % spec[axis] * spec.stride_of(axis);
        rest /= spec[axis];
      }
      f(storage[static_cast<std::size_t>(at)]);
    }
  }
  array& randomise(unsigned seed, double spread = 1) {
    std::mt19937 bits(seed);
    each([&](T& x) {
      x = static_cast<T>(spread * (2.0 * static_cast<double>(bits()) / 4294967295.0 - 1.0));
    });
    return *this;
  }
  [[nodiscard]] std::vector<T> values() {
    std::vector<T> all;
    each([&](T& x) { all.push_back(x); });
    return all;
  }
};

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

/// The largest difference; infinity where something is not finite.
template <class T, class U>
double largest_difference(const std::vector<T>& a, const std::vector<U>& b) {
  double most = a.size() == b.size() ? 0 : std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    const double d = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    most = std::isfinite(d) ? std::max(most, d) : std::numeric_limits<double>::infinity();
  }
  return most;
}

/// Attention by the book, in double.
template <class T>
std::vector<double> naive_attention(const array<T>& q, const array<T>& k, const array<T>& v,
                                    bool causal, double scale) {
  std::vector<double> out;
  const auto [B, H, Tq, Dh] = std::array{q.spec[0], q.spec[1], q.spec[2], q.spec[3]};
  const std::int64_t Tk = k.spec[2];
  for (std::int64_t b = 0; b < B; ++b) {
    for (std::int64_t h = 0; h < H; ++h) {
      const std::int64_t g = h / (H / k.spec[1]);
      for (std::int64_t i = 0; i < Tq; ++i) {
        const std::int64_t n = causal ? std::max<std::int64_t>(0, i + Tk - Tq + 1) : Tk;
        std::vector<double> p;
        double top = -std::numeric_limits<double>::infinity();
        for (std::int64_t j = 0; j < n; ++j) {
          double s = 0;
          for (std::int64_t d = 0; d < Dh; ++d) {
            s += static_cast<double>(q(b, h, i, d)) * static_cast<double>(k(b, g, j, d));
          }
          p.push_back(s * scale);
          top = std::max(top, p.back());
        }
        double total = 0;
        for (double& x : p) {
          total += x = std::exp(x - top);
        }
        for (std::int64_t d = 0; d < Dh; ++d) {
          double sum = 0;
          for (std::int64_t j = 0; j < n; ++j) {
            sum += p[static_cast<std::size_t>(j)] / total * static_cast<double>(v(b, g, j, d));
          }
          out.push_back(sum);
        }
      }
    }
  }
  return out;
}

}  // namespace attention_test
