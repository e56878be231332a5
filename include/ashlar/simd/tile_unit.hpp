// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstddef>
#include <cstdint>

#include "ashlar/simd/groups.hpp"

#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__AMX_INT8__) && \
    defined(__linux__) && ASHLAR_DETAIL_BF16_GROUPS && ASHLAR_DETAIL_INT8_GROUPS
#define ASHLAR_DETAIL_TILE_UNIT 1
#include <sys/syscall.h>
#include <unistd.h>
#else
#define ASHLAR_DETAIL_TILE_UNIT 0
#endif

/// The tile unit of x86-64 (AMX): products of blocks of 16 x 16, one step deep.
namespace ashlar::simd {

/// True where this file was compiled for a machine with a tile unit.
inline constexpr bool has_tile_unit = ASHLAR_DETAIL_TILE_UNIT == 1;

/// Whether the tile unit may be used: the kernel is asked for permission once per process.
[[nodiscard]] inline bool tile_unit_available() noexcept {
#if ASHLAR_DETAIL_TILE_UNIT
  static const bool granted = [] {
    constexpr long request_permission = 0x1023;  // ARCH_REQ_XCOMP_PERM
    constexpr long tile_data = 18;               // the state's number in XCR0
    return ::syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
  }();
  return granted;
#else
  return false;
#endif
}

#if ASHLAR_DETAIL_TILE_UNIT

/// Configures the thread's eight tiles as 16 rows of 64 bytes; resets them at the end of its scope.
class tile_unit_scope {
 public:
  tile_unit_scope() {
    struct layout {
      std::uint8_t palette, start_row;
      std::uint8_t reserved[14];
      std::uint16_t row_bytes[16];
      std::uint8_t rows[16];
    };
    static_assert(sizeof(layout) == 64, "ashlar::simd::tile_unit_scope: the layout is the unit's");
    // Not on the stack: the intrinsic does not say that it reads all 64 bytes.
    alignas(64) static constexpr layout config{
        1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
    _tile_loadconfig(&config);
  }
  ~tile_unit_scope() { _tile_release(); }
  tile_unit_scope(const tile_unit_scope&) = delete;
  tile_unit_scope& operator=(const tile_unit_scope&) = delete;
};

/// Blocks to multiply; steps in bytes.
template <Grouped T>
struct tile_operands {
  const std::byte* a;    ///< blocks of A, step by step
  std::int64_t a_panel;  ///< to the next sixteen rows
  const std::byte* b;
  std::int64_t b_unit;  ///< to the next sixteen columns
  std::int64_t steps;
  group_sum<T>* c;
  std::int64_t c_row;  ///< in elements
  bool from_zero;      ///< else from what C holds
};

/// `C = C + A B` for `Panels` x `Units` blocks of C: 1 x 1 to 1 x 4, 2 x 1 and 2 x 2.
///
/// B is read as data that is not used again soon, so that A stays in the first-level cache.
/// Requires: a `tile_unit_scope`.
template <Grouped T, int Panels, int Units>
inline void tile_product(const tile_operands<T>& o) {
  static_assert(Panels * Units <= 4 && Panels <= 2,
                "ashlar::simd::tile_product: four blocks of C leave four tiles for A and B");
  // The intrinsics do not say that they read memory.
  asm volatile("" ::: "memory");
  const auto row = static_cast<std::int64_t>(o.c_row * 4);
  auto* const c = reinterpret_cast<std::byte*>(o.c);
  const std::byte* a = o.a;
  const std::byte* b = o.b;
#define ASHLAR_DETAIL_TILE_DOT(to, x, y)     \
  if constexpr (std::same_as<T, bfloat16>) { \
    _tile_dpbf16ps(to, x, y);                \
  } else {                                   \
    _tile_dpbssd(to, x, y);                  \
  }
  if constexpr (Panels == 2) {  // C(p, u) is tile 2 p + u
    std::byte* const below = c + 16 * row;
    if (o.from_zero) {
      _tile_zero(0);
      _tile_zero(2);
      if constexpr (Units == 2) {
        _tile_zero(1);
        _tile_zero(3);
      }
    } else {
      _tile_loadd(0, c, row);
      if constexpr (Units == 2) {
        _tile_loadd(1, c + 64, row);
      }
      _tile_loadd(2, below, row);
      if constexpr (Units == 2) {
        _tile_loadd(3, below + 64, row);
      }
    }
    for (std::int64_t k = o.steps; k > 0; --k, a += block_bytes, b += block_bytes) {
      _tile_stream_loadd(6, b, 64);
      if constexpr (Units == 2) {
        _tile_stream_loadd(7, b + o.b_unit, 64);
      }
      _tile_loadd(4, a, 64);
      _tile_loadd(5, a + o.a_panel, 64);
      ASHLAR_DETAIL_TILE_DOT(0, 4, 6)
      if constexpr (Units == 2) {
        ASHLAR_DETAIL_TILE_DOT(1, 4, 7)
      }
      ASHLAR_DETAIL_TILE_DOT(2, 5, 6)
      if constexpr (Units == 2) {
        ASHLAR_DETAIL_TILE_DOT(3, 5, 7)
      }
    }
    _tile_stored(0, c, row);
    if constexpr (Units == 2) {
      _tile_stored(1, c + 64, row);
    }
    _tile_stored(2, below, row);
    if constexpr (Units == 2) {
      _tile_stored(3, below + 64, row);
    }
  } else {  // C(0, u) is tile u
    if (o.from_zero) {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
    } else {
      _tile_loadd(0, c, row);
      if constexpr (Units > 1) {
        _tile_loadd(1, c + 64, row);
      }
      if constexpr (Units > 2) {
        _tile_loadd(2, c + 128, row);
      }
      if constexpr (Units > 3) {
        _tile_loadd(3, c + 192, row);
      }
    }
    for (std::int64_t k = o.steps; k > 0; --k, a += block_bytes, b += block_bytes) {
      _tile_loadd(4, a, 64);
      _tile_stream_loadd(5, b, 64);
      ASHLAR_DETAIL_TILE_DOT(0, 4, 5)
      if constexpr (Units > 1) {
        _tile_stream_loadd(6, b + o.b_unit, 64);
        ASHLAR_DETAIL_TILE_DOT(1, 4, 6)
      }
      if constexpr (Units > 2) {
        _tile_stream_loadd(7, b + 2 * o.b_unit, 64);
        ASHLAR_DETAIL_TILE_DOT(2, 4, 7)
      }
      if constexpr (Units > 3) {
        _tile_stream_loadd(5, b + 3 * o.b_unit, 64);
        ASHLAR_DETAIL_TILE_DOT(3, 4, 5)
      }
    }
    _tile_stored(0, c, row);
    if constexpr (Units > 1) {
      _tile_stored(1, c + 64, row);
    }
    if constexpr (Units > 2) {
      _tile_stored(2, c + 128, row);
    }
    if constexpr (Units > 3) {
      _tile_stored(3, c + 192, row);
    }
  }
#undef ASHLAR_DETAIL_TILE_DOT
  asm volatile("" ::: "memory");
}

#endif

}  // namespace ashlar::simd
