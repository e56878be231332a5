// SPDX-License-Identifier: Apache-2.0
#include "ashlar/simd/memory.hpp"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

namespace {

namespace simd = ashlar::simd;
using ashlar::bfloat16;
using ashlar::float16;
using ashlar::float8_e4m3;
using ashlar::float8_e5m2;

template <class T>
void check_partial() {
  for (int n = 0; n <= 16; ++n) {
    // An allocation of exactly n values: a touch beyond it is for AddressSanitizer to find.
    const std::unique_ptr<T[]> from(new T[static_cast<std::size_t>(n)]);
    const std::unique_ptr<T[]> to(new T[static_cast<std::size_t>(n)]);
    for (int i = 0; i < n; ++i) {
      from[static_cast<std::size_t>(i)] = static_cast<T>(i * 3 - 7);
    }
    const auto v = simd::load_partial(from.get(), n, T(9));
    T all[17];
    std::fill(all, all + 17, T(-5));
    simd::store(all, v);
    for (int i = 0; i < 16; ++i) {
      CHECK(all[i] == (i < n ? static_cast<T>(i * 3 - 7) : T(9)));
    }
    CHECK(all[16] == T(-5));

    simd::store_partial(to.get(), n, v);
    T guarded[17];
    std::fill(guarded, guarded + 17, T(-5));
    simd::store_partial(guarded, n, v);
    for (int i = 0; i < 17; ++i) {
      CHECK(guarded[i] == (i < n ? static_cast<T>(i * 3 - 7) : T(-5)));
      if (i < n) {
        CHECK(to[static_cast<std::size_t>(i)] == guarded[i]);
      }
    }
  }
}

template <class S>
std::vector<S> all_values() {
  std::vector<S> values(std::size_t{1} << (8 * sizeof(S)));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i].bits = static_cast<decltype(values[i].bits)>(i);
  }
  return values;
}

}  // namespace

TEST_CASE_TEMPLATE("simd/memory: partial loads and stores touch n values and fill the rest", T,
                   float, double, std::int32_t) {
  check_partial<T>();
}

TEST_CASE_TEMPLATE("simd/memory: what is streamed is there and nothing beside it is", T, float,
                   double, std::int32_t) {
  alignas(64) T out[48];
  std::fill(out, out + 48, T(-5));
  const auto v = simd::iota<T>();
  const std::size_t at = 64 / sizeof(T);
  simd::stream(out + at, v);
  simd::finish_streams();
  for (std::size_t i = 0; i < 48; ++i) {
    CHECK(out[i] == (i < at || i >= at + 16 ? T(-5) : static_cast<T>(i - at)));
  }
}

TEST_CASE_TEMPLATE("simd/memory: iota counts and first_lanes cuts", T, float, double,
                   std::int32_t) {
  T out[16];
  simd::store(out, simd::iota<T>());
  for (int i = 0; i < 16; ++i) {
    CHECK(out[i] == static_cast<T>(i));
  }
  for (int n = 0; n <= 16; ++n) {
    simd::store(out, select(simd::first_lanes<T>(n), simd::broadcast(T(1)), simd::broadcast(T(0))));
    for (int i = 0; i < 16; ++i) {
      CHECK(out[i] == static_cast<T>(i < n));
    }
  }
}

TEST_CASE_TEMPLATE("simd/memory: every narrow value loads as the scalar conversion has it", S,
                   float16, bfloat16, float8_e4m3, float8_e5m2) {
  const std::vector<S> values = all_values<S>();
  bool equal = true;
  for (std::size_t i = 0; i < values.size(); i += 16) {
    float out[16];
    simd::store(out, simd::load_as<float>(values.data() + i));
    for (std::size_t j = 0; j < 16; ++j) {
      const auto expected = static_cast<float>(values[i + j]);
      // A signalling NaN may come out quiet.
      equal = equal && (std::isnan(expected) ? std::isnan(out[j])
                                             : std::bit_cast<std::uint32_t>(expected) ==
                                                   std::bit_cast<std::uint32_t>(out[j]));
    }
  }
  CHECK(equal);
}

TEST_CASE_TEMPLATE("simd/memory: stores to narrow formats round to nearest even", S, float16,
                   bfloat16, float8_e4m3, float8_e5m2) {
  std::uint32_t state = 1;
  bool equal = true;
  for (int round = 0; round < 20000; ++round) {
    float in[16];
    for (float& x : in) {
      state = state * 1664525u + 1013904223u;
      x = std::bit_cast<float>(state);
      if (round % 2 == 1) {  // close to a tie of the 16-bit format
        x = static_cast<float>(static_cast<S>(x)) * (1.0f + 0x1p-11f);
      }
    }
    S out[16];
    simd::store_as(out, simd::load(in));
    for (int i = 0; i < 16; ++i) {
      const auto expected = static_cast<S>(in[i]);
      equal = equal && (std::isnan(in[i]) ? std::isnan(static_cast<float>(out[i]))
                                          : expected.bits == out[i].bits);
    }
  }
  CHECK(equal);
}

TEST_CASE_TEMPLATE("simd/memory: 16-bit tails touch n values and fill the rest", S, float16,
                   bfloat16) {
  for (int n = 0; n <= 16; ++n) {
    const std::unique_ptr<S[]> from(new S[static_cast<std::size_t>(n)]);
    for (int i = 0; i < n; ++i) {
      from[static_cast<std::size_t>(i)] = static_cast<S>(static_cast<float>(i) - 3.5f);
    }
    float out[16];
    const auto v = simd::load_as_partial<float>(from.get(), n, 2.0f);
    simd::store(out, v);
    const std::unique_ptr<S[]> to(new S[static_cast<std::size_t>(n)]);
    simd::store_as_partial(to.get(), n, v);
    S guarded[17];
    std::fill(guarded, guarded + 17, S(7.0f));
    simd::store_as_partial(guarded, n, v);
    for (int i = 0; i < 17; ++i) {
      const float expected = static_cast<float>(i) - 3.5f;
      if (i < 16) {
        CHECK(out[i] == (i < n ? expected : 2.0f));
      }
      CHECK(static_cast<float>(guarded[i]) == (i < n ? expected : 7.0f));
      if (i < n) {
        CHECK(to[static_cast<std::size_t>(i)].bits == guarded[i].bits);
      }
    }
  }
}

TEST_CASE("simd/memory: load_as and store_as of the element type itself are load and store") {
  double in[16];
  double out[16];
  for (int i = 0; i < 16; ++i) {
    in[i] = i * 0.1;
  }
  simd::store_as(out, simd::load_as<double>(in));
  CHECK(std::memcmp(in, out, sizeof in) == 0);
  simd::store_as_partial(out, 5, simd::load_as_partial<double>(in, 5));
  CHECK(std::memcmp(in, out, sizeof in) == 0);
}
