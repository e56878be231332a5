// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <limits>
#include <random>
#include <span>
#include <vector>

#include "ashlar/chip/host/parallel.hpp"
#include "ashlar/core/geometry.hpp"
#include "ashlar/core/view.hpp"

namespace host_test {

/// Memory and spec of one tensor, without the tensor class.
template <class T>
struct array {
  // std::vector<bool> has no elements; a byte each has.
  std::vector<std::conditional_t<std::is_same_v<T, bool>, std::uint8_t, T>> memory;
  ashlar::tensor_spec spec;

  array() = default;
  explicit array(const ashlar::shape& extents)
      : spec(ashlar::contiguous_spec(ashlar::dtype_of<T>, extents.span())) {
    memory.resize(static_cast<std::size_t>(spec.size) + 1);
  }

  T* data() { return reinterpret_cast<T*>(memory.data()) + spec.offset; }
  const T* data() const { return reinterpret_cast<const T*>(memory.data()) + spec.offset; }
  ashlar::view<T> out() { return {data(), &spec}; }
  ashlar::view<const T> in() const { return {data(), &spec}; }
  T& operator[](std::int64_t i) { return data()[i]; }
  const T& operator[](std::int64_t i) const { return data()[i]; }
  std::int64_t size() const { return spec.size; }
};

/// Calls `body(index)` for every index of `spec` in row-major order.
template <class Body>
void for_each_index(const ashlar::tensor_spec& spec, Body&& body) {
  std::vector<std::int64_t> index(spec.rank, 0);
  for (std::int64_t i = 0; i < spec.size; ++i) {
    body(std::span<const std::int64_t>(index));
    for (std::size_t a = spec.rank; a-- > 0;) {
      if (++index[a] < spec.extent[a]) {
        break;
      }
      index[a] = 0;
    }
  }
}

/// The place of `index` in a tensor that is broadcast to it.
inline std::int64_t place(const ashlar::tensor_spec& spec, std::span<const std::int64_t> index) {
  std::int64_t at = 0;
  const std::size_t lead = index.size() - spec.rank;
  for (std::size_t a = 0; a < spec.rank; ++a) {
    at += spec.extent[a] == 1 ? 0 : index[lead + a] * spec.stride[a];
  }
  return at;
}

template <class T>
T at(const array<T>& a, std::span<const std::int64_t> index) {
  return a.data()[place(a.spec, index)];
}

template <class T>
array<T> random(const ashlar::shape& extents, unsigned seed, double low = -2.0, double high = 2.0) {
  array<T> a(extents);
  std::mt19937 generator(seed);
  std::uniform_real_distribution<double> number(low, high);
  for (std::int64_t i = 0; i < a.size(); ++i) {
    a[i] = static_cast<T>(static_cast<float>(number(generator)));
  }
  return a;
}

/// The same elements, with the axes' memory order turned round and a gap after each element.
template <class T>
array<T> scattered(const array<T>& a) {
  array<T> b;
  b.spec = a.spec;
  b.spec.offset = 1;
  std::int64_t step = 2;
  for (std::size_t i = 0; i < a.spec.rank; ++i) {
    b.spec.stride[i] = step;
    step *= std::max<std::int64_t>(a.spec.extent[i], 1);
  }
  b.spec.contiguous = ashlar::is_dense(b.spec);
  b.memory.resize(static_cast<std::size_t>(step) + 2);
  for_each_index(a.spec, [&](auto index) { b[place(b.spec, index)] = at(a, index); });
  return b;
}

/// The same bits, so that NaN equals NaN and -0 is not +0.
template <class T>
bool same_bits(const array<T>& a, const array<T>& b) {
  bool same = ashlar::same_shape(a.spec, b.spec);
  for_each_index(a.spec, [&](auto index) {
    const T x = at(a, index);
    const T y = at(b, index);
    same = same && std::memcmp(&x, &y, sizeof(T)) == 0;
  });
  return same;
}

/// |a - b| <= relative * max(|a|, |b|) + absolute, or both NaN, or equal.
inline bool close(double a, double b, double relative, double absolute = 0.0) {
  if (std::isnan(a) || std::isnan(b)) {
    return std::isnan(a) && std::isnan(b);
  }
  return a == b || std::abs(a - b) <= relative * std::max(std::abs(a), std::abs(b)) + absolute;
}

/// Runs `body` with 1 and with 2 threads and says whether what it returns has the same bits.
template <class Body>
bool threads_agree(Body&& body) {
  const auto run = [&](int threads) {
    const ashlar::chip::thread_limit limit(threads);
    return body();
  };
  return same_bits(run(1), run(2));
}

}  // namespace host_test
