// SPDX-License-Identifier: Apache-2.0
#include "ashlar/io/dequantize.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "ashlar/io/entry.hpp"
#include "ashlar/io/rope_rows.hpp"
#include "io/io_support.hpp"

namespace io = ashlar::io;
using namespace io_test;
using io::storage_format;

namespace {

std::vector<float> widen(storage_format format, const ashlar::shape& extents,
                         const std::string& bytes) {
  const auto own = exact(bytes);
  const io::tensor_entry entry{"w", format, extents, own};
  REQUIRE(io::byte_count(format, extents) == bytes.size());
  std::vector<float> out(static_cast<std::size_t>(entry.size()));
  io::dequantize(entry, out);
  return out;
}

template <class T>
std::string raw(const std::vector<T>& values) {
  std::string bytes(values.size() * sizeof(T), '\0');
  if (!values.empty()) {
    std::memcpy(bytes.data(), values.data(), bytes.size());
  }
  return bytes;
}

}  // namespace

TEST_CASE("io/entry: byte counts follow blocks, and refuse overflow, split blocks and negatives") {
  using s = ashlar::shape;
  CHECK(io::byte_count(storage_format::float32, s{}) == 4);
  CHECK(io::byte_count(storage_format::float16, s{3, 0, 5}) == 0);
  CHECK(io::byte_count(storage_format::q8_0, s{3, 64}) == 3 * 2 * 34);
  CHECK(io::byte_count(storage_format::q4_k, s{2, 256}) == 288);
  CHECK(!io::byte_count(storage_format::q8_0, s{64, 3}));
  CHECK(!io::byte_count(storage_format::q8_0, s{}));
  CHECK(!io::byte_count(storage_format::int8, s{-1}));
  CHECK(!io::byte_count(storage_format::float64, s{1LL << 32, 1LL << 32}));
  CHECK(!io::byte_count(storage_format::float64, s{0, 1LL << 62, 1LL << 62}));
}

TEST_CASE("io/entry: elements in place want the stored type and its alignment") {
  alignas(8) const std::byte bytes[12]{};
  const io::tensor_entry entry{"w", storage_format::float32, {2}, std::span(bytes).first(8)};
  CHECK(io::elements<float>(entry).size() == 2);
  CHECK_THROWS_AS(io::elements<std::int32_t>(entry), ashlar::argument_error);
  const io::tensor_entry odd{"w", storage_format::float32, {2}, std::span(bytes).subspan(1, 8)};
  CHECK_THROWS_AS(io::elements<float>(odd), ashlar::argument_error);
}

TEST_CASE("io/dequantize: plain formats convert by value") {
  const std::vector<float> want{0, 1, 2};
  CHECK(widen(storage_format::boolean, {3}, raw<std::uint8_t>({0, 1, 2})) == want);
  CHECK(widen(storage_format::uint8, {3}, raw<std::uint8_t>({0, 1, 255})).back() == 255);
  CHECK(widen(storage_format::int8, {3}, raw<std::int8_t>({0, 1, -128})).back() == -128);
  CHECK(widen(storage_format::int32, {3, 1}, raw<std::int32_t>({0, 1, 2})) == want);
  CHECK(widen(storage_format::int64, {3}, raw<std::int64_t>({0, 1, -7})).back() == -7);
  CHECK(widen(storage_format::float32, {3}, raw<float>({0, 1, 2})) == want);
  CHECK(widen(storage_format::float64, {3}, raw<double>({0, 1, 2})) == want);
  CHECK(widen(storage_format::float16, {2}, raw<std::uint16_t>({0x3c00, 0xc100})) ==
        std::vector<float>{1, -2.5});
  CHECK(widen(storage_format::bfloat16, {2}, raw<std::uint16_t>({0x3f80, 0xc020})) ==
        std::vector<float>{1, -2.5});
  CHECK(widen(storage_format::float32, {0}, "").empty());
}

TEST_CASE("io/dequantize: blocks follow their layout, element by element") {
  // d = 0.5; every expected value below is exact in float, so comparison is for equality
  std::string q8 = raw<std::uint16_t>({0x3800});
  std::string q4 = raw<std::uint16_t>({0x3800});
  for (int i = 0; i < 32; ++i) {
    q8 += static_cast<char>(i * 7 - 112);
  }
  for (int i = 0; i < 16; ++i) {
    q4 += static_cast<char>(i | (15 - i) << 4);
  }
  const auto wide8 = widen(storage_format::q8_0, {32}, q8);
  const auto wide4 = widen(storage_format::q4_0, {32}, q4);
  for (std::size_t i = 0; i < 32; ++i) {
    CHECK(wide8[i] == 0.5F * (static_cast<float>(i) * 7 - 112));
    CHECK(wide4[i] == 0.5F * (i < 16 ? static_cast<float>(i) - 8 : 7 - static_cast<float>(i - 16)));
  }

  // q4_k: scale of group g is g + 33 (six bits used), minimum 2 g + 20; nibbles 3 and 12
  std::string q4k = raw<std::uint16_t>({0x3800, 0x3400});
  std::uint8_t scales[12]{};
  for (unsigned g = 0; g < 8; ++g) {
    const unsigned sc = g + 33;
    const unsigned mn = 2 * g + 20;
    if (g < 4) {
      scales[g] = static_cast<std::uint8_t>(scales[g] | sc);
      scales[g + 4] = static_cast<std::uint8_t>(scales[g + 4] | mn);
    } else {
      scales[g + 4] = static_cast<std::uint8_t>((sc & 15) | (mn & 15) << 4);
      scales[g - 4] = static_cast<std::uint8_t>(scales[g - 4] | (sc >> 4) << 6);
      scales[g] = static_cast<std::uint8_t>(scales[g] | (mn >> 4) << 6);
    }
  }
  q4k.append(reinterpret_cast<const char*>(scales), 12);
  q4k.append(128, static_cast<char>(3 | 12 << 4));
  const auto wide4k = widen(storage_format::q4_k, {256}, q4k);
  for (std::size_t i = 0; i < 256; ++i) {
    const auto g = static_cast<float>(i / 32);
    const float q = i / 32 % 2 == 0 ? 3 : 12;
    CHECK(wide4k[i] == 0.5F * (g + 33) * q - 0.25F * (2 * g + 20));
  }

  // q6_k: element i has the six bits (i * 5) % 64, scale of its group of 16 is group - 8
  std::vector<std::uint8_t> low(128);
  std::vector<std::uint8_t> high(64);
  for (unsigned i = 0; i < 256; ++i) {
    const unsigned q = i * 5 % 64;
    const unsigned half = i / 128;
    const unsigned k = i % 128 / 32;
    const unsigned l = i % 32;
    auto& lo = low[64 * half + 32 * (k % 2) + l];
    auto& hi = high[32 * half + l];
    lo = static_cast<std::uint8_t>(lo | (q & 15) << (k / 2 * 4));
    hi = static_cast<std::uint8_t>(hi | (q >> 4) << (2 * k));
  }
  std::vector<std::int8_t> group_scales(16);
  for (int g = 0; g < 16; ++g) {
    group_scales[static_cast<std::size_t>(g)] = static_cast<std::int8_t>(g - 8);
  }
  const auto wide6 = widen(storage_format::q6_k, {256},
                           raw(low) + raw(high) + raw(group_scales) + raw<std::uint16_t>({0x3800}));
  for (std::size_t i = 0; i < 256; ++i) {
    const float scale = static_cast<float>(i / 16) - 8;
    CHECK(wide6[i] == 0.5F * scale * (static_cast<float>(i * 5 % 64) - 32));
  }
}

TEST_CASE("io/dequantize: Q8_0 comes back within half a step of each block") {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  for (const std::size_t blocks : {0u, 1u, 7u}) {
    std::vector<float> in(blocks * 32);
    for (float& x : in) {
      x = normal(random);
    }
    if (blocks == 7) {
      std::fill(in.begin() + 32, in.begin() + 64, 0.0F);
    }
    const auto packed = io::quantize_q8_0(in);
    const io::tensor_entry entry{
        "w", storage_format::q8_0, {static_cast<std::int64_t>(in.size())}, packed};
    std::vector<float> out(in.size());
    io::dequantize(entry, out);
    for (std::size_t b = 0; b < blocks; ++b) {
      float largest = 0;
      for (std::size_t i = 0; i < 32; ++i) {
        largest = std::max(largest, std::abs(in[b * 32 + i]));
      }
      // half a step from rounding to int8; 127 steps, each off by 2^-11 of itself, from float16
      const float bound = largest / 127 * 0.5F + largest * 0x1p-11F + 1e-7F;
      for (std::size_t i = 0; i < 32; ++i) {
        CHECK(std::abs(out[b * 32 + i] - in[b * 32 + i]) <= bound);
      }
    }
  }
  CHECK_THROWS_AS(io::quantize_q8_0(std::vector<float>(33)), ashlar::argument_error);
  std::vector<float> bad(32);
  bad[5] = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_AS(io::quantize_q8_0(bad), ashlar::argument_error);
}

TEST_CASE("io/dequantize: a destination of another size is refused") {
  const std::string bytes(8, '\0');
  const io::tensor_entry entry{"w", storage_format::float32, {2}, bytes_of(bytes)};
  std::vector<float> out(3);
  CHECK_THROWS_AS(io::dequantize(entry, out), ashlar::argument_error);
}

TEST_CASE("io/rope_rows: pairs of one form become pairs of the other, and back") {
  // 2 heads of 6 rows, 1 column; values are row numbers
  const std::vector<int> in{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
  std::vector<int> half(12);
  std::vector<int> back(12);
  io::reorder_rope_rows<int>(in, half, 2, 6, io::rope_order::rotate_half);
  CHECK(half == std::vector<int>{0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11});
  io::reorder_rope_rows<int>(half, back, 2, 6, io::rope_order::interleaved);
  CHECK(back == in);
  CHECK_THROWS_AS(io::reorder_rope_rows<int>(in, back, 4, 3, io::rope_order::rotate_half),
                  ashlar::argument_error);
}
