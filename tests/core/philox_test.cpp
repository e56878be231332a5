// SPDX-License-Identifier: Apache-2.0
#include "ashlar/core/philox.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstdint>

using namespace ashlar;

TEST_CASE("core/philox: the words are those that Random123 publishes") {
  using words = std::array<std::uint32_t, 4>;
  constexpr std::uint32_t ones = 0xffffffffu;
  CHECK(philox({0, 0, 0, 0}, 0) == words{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u});
  CHECK(philox({ones, ones, ones, ones}, 0xffffffffffffffffu) ==
        words{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu});
  CHECK(philox({0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}, 0x299f31d0a4093822u) ==
        words{0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u});
}

TEST_CASE("core/philox: uniform numbers stay below 1 and use all 53 bits") {
  std::uint64_t seen = 0;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    const double u = philox_uniform(7, i);
    CHECK((u >= 0 && u < 1));
    seen |= static_cast<std::uint64_t>(u * 0x1p53);
  }
  CHECK(seen == (std::uint64_t{1} << 53) - 1);
}
