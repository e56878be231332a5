// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "ashlar/chip/llvm/tools.hpp"

/// LLVM IR for nvptx64 as PTX.
namespace llvm_test {

namespace code = ashlar::chip::llvm_codegen;

/// Those of every version that know nvptx64, the newest first; says so where there is none.
inline std::vector<std::string> nvptx_compilers() {
  std::vector<std::string> all = code::find_tools("llc");
  std::erase_if(all, [](const std::string& llc) {
    return code::run_program({llc, "--version"}).output.find("nvptx64") == std::string::npos;
  });
  if (all.empty()) {
    MESSAGE("SKIPPED: no llc 14 to 19 that knows nvptx64");
  }
  return all;
}

/// `module.ll` of the folder as `module.ptx`. Returns: its text.
inline std::string compiled_to_ptx(const std::string& llc, const code::temporary_folder& folder) {
  std::vector<std::string> command{llc, "-mcpu=sm_80", folder / "module.ll", "-o",
                                   folder / "module.ptx"};
  for (const std::string& word : code::pointer_switch(llc)) {
    command.push_back(word);
  }
  code::expect_run(command);
  return code::read_file(folder / "module.ptx");
}

}  // namespace llvm_test
