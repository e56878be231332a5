// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/chip/host/codegen.hpp"
#include "ashlar/chip/llvm.hpp"
#include "ashlar/chip/npu/codegen/print.hpp"
#include "ashlar/chip/npu/disassemble.hpp"
#include "ashlar/tile/print.hpp"
#include "chip/npu_codegen_kernels.hpp"
#include "chip/npu_matmul.hpp"

/// The pages that show one kernel at every level.
namespace {

namespace chip = ashlar::chip;
namespace tile = ashlar::tile;
using kernel = npu_codegen_test::dense_gelu<64, 128, 64>;
using source = chip::host_codegen::source<kernel>;

// What the host's code is made of: a value of C++ for each instruction.
template <class Source, int I>
using value_of = decltype(chip::host_codegen::detail::slot<Source, I>::x);
using ashlar::bfloat16;
// clang-format off
static_assert(std::is_same_v<value_of<source, 15>, chip::host_codegen::tile_value<float, 64 * 128>>);
static_assert(std::is_same_v<value_of<source, 13>, chip::host_codegen::direct_tile<bfloat16, 64 * 64>>);
static_assert(std::is_same_v<value_of<source, 6>, chip::host_codegen::scalar_value<std::int64_t>>);
// clang-format on

/// Without indentation: a page may show an inner part by itself.
std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) {
    lines.push_back(line.substr(std::min(line.find_first_not_of(' '), line.size())));
  }
  return lines;
}

/// The blocks of a page that begin with these words behind the fence.
std::vector<std::vector<std::string>> blocks_of(const std::string& page, const std::string& words) {
  std::vector<std::vector<std::string>> blocks;
  bool inside = false;
  for (const std::string& line : lines_of(page)) {
    if (!inside && line == "```" + words) {
      inside = true;
      blocks.emplace_back();
    } else if (inside && line == "```") {
      inside = false;
    } else if (inside) {
      blocks.back().push_back(line);
    }
  }
  return blocks;
}

/// Every line must be there, one below the other but where the page leaves some out.
void check_shown(const std::string& page, const std::string& words, const std::string& real) {
  const std::vector<std::string> lines = lines_of(real);
  const auto blocks = blocks_of(page, words);
  CAPTURE(words);
  CHECK(!blocks.empty());
  for (const auto& block : blocks) {
    std::size_t at = 0;
    bool gap = true;
    for (const std::string& line : block) {
      CAPTURE(line);
      if (line == "...") {
        gap = true;
        continue;
      }
      while (gap && at < lines.size() && lines[at] != line) {
        ++at;
      }
      gap = false;
      REQUIRE(at < lines.size());
      REQUIRE(lines[at] == line);
      ++at;
    }
  }
}

std::string page(const char* name) {
  const char* root = std::getenv("ASHLAR_SOURCE");
  REQUIRE(root != nullptr);
  std::ifstream in(std::string(root) + "/docs/" + name);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

}  // namespace

TEST_CASE("chip/levels: the pages show what every level prints of one kernel") {
  const tile::program program = tile::trace(kernel{});
  const std::string npu = page("npu_codegen.md");
  const auto compiled = chip::npu_codegen::compile(npu_matmul::balanced, program);
  check_shown(npu, "tile", tile::print(compiled.program));
  check_shown(npu, "npu-chip-ir", chip::npu_codegen::print(compiled.ir));
  check_shown(npu, "npu-code", chip::npu_isa::disassemble(compiled.code));

  const std::string levels = page("levels.md");
  check_shown(levels, "tile", tile::print(program));
  check_shown(levels, "host-tile", tile::print(source::code));
  check_shown(levels, "llvm", chip::llvm<chip::llvm_x86_64>::emit(program).text);
  check_shown(levels, "llvm-nvptx", chip::llvm<chip::llvm_nvptx64>::emit(program).text);
}
