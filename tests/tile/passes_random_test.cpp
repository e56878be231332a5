// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "ashlar/tile/passes.hpp"
#include "ashlar/tile/print.hpp"
#include "ashlar/tile/verify.hpp"
#include "support/tile_random.hpp"

namespace {

namespace passes = ashlar::tile::passes;
using ashlar::tile::program;

using buffers = std::vector<std::vector<std::byte>>;

struct named_pass {
  const char* name;
  program (*run)(const program&);
};

/// Every pass that keeps bits.
constexpr named_pass all_passes[] = {
    {"fold_constants", [](const program& p) { return passes::fold_constants(p); }},
    {"canonicalise", [](const program& p) { return passes::canonicalise(p); }},
    {"merge_common", [](const program& p) { return passes::merge_common(p); }},
    {"remove_dead", [](const program& p) { return passes::remove_dead(p); }},
    {"hoist_invariants", [](const program& p) { return passes::hoist_invariants(p); }},
    {"unroll", [](const program& p) { return passes::unroll(p); }},
    {"unroll_by 2", [](const program& p) { return passes::unroll_by(p, 2); }},
    {"unroll_by 3", [](const program& p) { return passes::unroll_by(p, 3); }},
    {"select_to_min_max", [](const program& p) { return passes::select_to_min_max(p); }},
    {"branches_to_selects", [](const program& p) { return passes::branches_to_selects(p); }},
    {"optimise", [](const program& p) { return passes::optimise(p); }},
};

/// The seeds of this many programs are 0, 1, 2 ...
constexpr std::uint64_t program_count = 1000;

}  // namespace

TEST_CASE("tile/passes_random: each pass keeps what a random program stores, bit by bit") {
  std::vector<std::int64_t> changed(std::size(all_passes));
  for (std::uint64_t seed = 0; seed < program_count; ++seed) {
    const program before = tile_test::random_program(seed, {.speech = seed % 4 == 0});
    const buffers wanted = tile_test::interpreted(before, seed);
    for (std::size_t k = 0; k < std::size(all_passes); ++k) {
      const program after = all_passes[k].run(before);
      const auto verdict = verify(after);
      const bool valid = static_cast<bool>(verdict);
      if (!valid || !(tile_test::interpreted(after, seed) == wanted)) {
        FAIL(std::string(all_passes[k].name)
             << ", seed " << seed << ": " << std::string(verdict.rule) << "\n"
             << print(before) << "\nbecame\n"
             << print(after));
      }
      changed[k] += before == after ? 0 : 1;
    }
  }
  for (std::size_t k = 0; k < std::size(all_passes); ++k) {
    MESSAGE(std::string(all_passes[k].name) << " changed " << changed[k]);
  }
}
