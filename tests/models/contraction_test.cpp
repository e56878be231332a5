// SPDX-License-Identifier: Apache-2.0
// The canary for contraction. Where a compiler may turn a * b + c into one fused operation, it does
// so in some copies of a loop and not in others, and equal rows stop being equal. The target
// ashlar::ashlar therefore carries -ffp-contract=off; on a machine with fused multiply-add these
// tests fail without it.
#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "ashlar/chip/host/rope.hpp"
#include "ashlar/core/spec.hpp"
#include "ashlar/core/view.hpp"
#include "ashlar/simd/memory.hpp"
#include "ashlar/simd/vec.hpp"

namespace simd = ashlar::simd;

namespace {

// x * x = 1 + 2^-11 + 2^-24, which rounds to 1 + 2^-11: two roundings leave 0 when that is taken
// away, one leaves 2^-24.
constexpr float x = 1.0F + 0x1p-12F;
constexpr float square = 1.0F + 0x1p-11F;

[[gnu::noinline]] float product_less(float a, float b, float c) { return a * b - c; }
[[gnu::noinline]] void products_less(std::span<const float> a, std::span<const float> b,
                                     std::span<float> c) {
  for (std::size_t i = 0; i < c.size(); ++i) {
    c[i] = a[i] * b[i] - c[i];
  }
}
[[gnu::noinline]] void vector_product_less(const float* a, const float* b, float* c) {
  simd::store(c, simd::load(a) * simd::load(b) - simd::load(c));
}

}  // namespace

TEST_CASE("models/contraction: a product and a difference are two roundings") {
  const volatile float factor = x;  // or the compiler computes the result itself
  const volatile float less = square;
  CHECK(product_less(factor, factor, less) == 0.0F);
}

TEST_CASE("models/contraction: also in a loop over an array") {
  float a[37], c[37];
  for (std::size_t i = 0; i < 37; ++i) {
    a[i] = x;
    c[i] = square;
  }
  products_less(a, a, c);
  for (const float v : c) {
    CHECK(v == 0.0F);
  }
}

TEST_CASE("models/contraction: also with the library's vectors") {
  float a[simd::lanes], c[simd::lanes];
  for (std::size_t i = 0; i < simd::lanes; ++i) {
    a[i] = x;
    c[i] = square;
  }
  vector_product_less(a, a, c);
  for (const float v : c) {
    CHECK(v == 0.0F);
  }
}

TEST_CASE("models/contraction: also in a kernel, in whole vectors and in tails") {
  constexpr std::int64_t half = 21;
  constexpr std::int64_t rows = 5;
  std::vector<float> in(static_cast<std::size_t>(rows * 2 * half));
  for (std::size_t i = 0; i < in.size(); ++i) {
    in[i] = std::sin(static_cast<float>(i) + 0.5F);
  }
  std::vector<float> out(in.size());
  const std::vector<std::int32_t> positions{0, 1, 2, 3, 4};
  const auto spec =
      ashlar::contiguous_spec(ashlar::dtype::float32, std::vector<std::int64_t>{rows, 1, 2 * half});
  const auto list = ashlar::contiguous_spec(ashlar::dtype::int32, std::vector<std::int64_t>{rows});
  ashlar::chip::host_kernels::rope(ashlar::view<float>{out.data(), &spec},
                                   ashlar::view<const float>{in.data(), &spec},
                                   ashlar::view<const std::int32_t>{positions.data(), &list},
                                   10000.0, ashlar::chip::host_kernels::rope_pairs::halves);
  for (std::int64_t t = 0; t < rows; ++t) {
    for (std::int64_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(t) *
                           std::pow(10000.0, -static_cast<double>(i) / static_cast<double>(half));
      const auto c = static_cast<float>(std::cos(angle));
      const auto s = static_cast<float>(std::sin(angle));
      const auto at = static_cast<std::size_t>(t * 2 * half + i);
      const volatile float first = in[at] * c;  // each product by itself
      const volatile float second = in[at + half] * s;
      CHECK(out[at] == first - second);
    }
  }
}
