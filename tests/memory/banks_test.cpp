// SPDX-License-Identifier: Apache-2.0
// Blocks in a scratchpad with banks, counted by the accelerator's simulator.
#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "ashlar/chip/npu/builder.hpp"
#include "ashlar/chip/npu/description.hpp"
#include "ashlar/chip/npu/simulator.hpp"
#include "ashlar/memory/caching_allocator.hpp"

using namespace ashlar;

namespace {

namespace isa = chip::npu_isa;
constexpr chip::npu_description machine{};  // 32 banks of 8 bytes

/// The first 192 KiB of the scratchpad, as a memory; its addresses begin high, since 0 is none.
template <int Tag>
struct scratchpad {
  static constexpr std::size_t alignment = 512, bytes = 192 * 1024;
  static constexpr std::uintptr_t start = std::uintptr_t{1} << 30U;
  static inline bool taken = false;
  static std::byte* allocate(std::size_t n) {
    if (taken || n > bytes) {
      return nullptr;
    }
    taken = true;
    return reinterpret_cast<std::byte*>(start);
  }
  static void free(std::byte*, std::size_t) noexcept { taken = false; }
  static void copy_in(std::byte*, const void*, std::size_t) {}
  static void copy_out(void*, const std::byte*, std::size_t) {}
};

/// A made-up kernel over time: buffers come and go, and in each step the vector unit reads one
/// element of each of the 32 that came last. Returns: cycles lost to bank conflicts.
template <class M, class... Policies>
std::int64_t conflicts() {
  memory::caching_allocator<M, memory::plain_segments<M::bytes>, memory::exact<64>,
                            memory::quick_lists<0>, Policies...>
      a;
  constexpr std::int32_t floats = M::bytes / 4;
  const isa::scratch_tile table{isa::element::f32, 0, 1, floats, floats, 1};
  const isa::scratch_tile index{isa::element::i32, floats * 4, 1, 32, 32, 1};
  const isa::scratch_tile to{isa::element::f32, floats * 4 + 128, 1, 32, 32, 1};
  isa::builder b;
  b.fill(table, 0);
  std::mt19937 random(1);
  struct buffer {
    std::byte* p;
    std::size_t bytes;
  };
  std::vector<buffer> held;
  for (int step = 0; step < 60; ++step) {
    while (held.size() < 48) {
      const std::size_t bytes = std::size_t{256} << random() % 4;  // rows of 64 floats and more
      held.push_back({a.allocate(bytes), bytes});
    }
    const auto element = static_cast<std::int32_t>(random() % 64);
    for (std::int32_t lane = 0; lane < 32; ++lane) {
      const auto at = reinterpret_cast<std::uintptr_t>(
                          held[held.size() - 1 - static_cast<std::size_t>(lane)].p) -
                      M::start;
      b.write(index.part(0, lane, 1, 1), static_cast<std::int32_t>(at / 4) + element);
    }
    b.barrier({isa::control_unit, isa::vector_unit});
    b.gather(1, to, table, index);
    b.barrier({isa::control_unit, isa::vector_unit});
    for (int gone = 0; gone < 12; ++gone) {
      const std::size_t k = random() % held.size();
      a.deallocate(held[k].p, held[k].bytes);
      held.erase(held.begin() + static_cast<std::ptrdiff_t>(k));
    }
  }
  for (const buffer& x : held) {
    a.deallocate(x.p, x.bytes);
  }
  static std::vector<float> global(64);
  const std::array regions{isa::region{0, std::as_writable_bytes(std::span(global))}};
  return isa::simulate(machine, b.finish(), regions).bank_conflicts;
}

}  // namespace

TEST_CASE("memory/banks: interleaved blocks cost at most a quarter of the bank conflicts") {
  const std::int64_t without = conflicts<scratchpad<0>, memory::aligned<64>>();
  const std::int64_t with = conflicts<scratchpad<1>, memory::interleaved<32, 8>>();
  MESSAGE("cycles lost: ", without, " without, ", with, " with interleaving");
  CHECK(without > 60 * 20);  // nearly all 32 lanes meet in one bank
  CHECK(4 * with <= without);
}
