// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/chip/llvm/target.hpp"

extern char** environ;

/// LLVM's tools as they are installed: found and run when they are needed.
namespace ashlar::chip::llvm_codegen {

/// A folder for files that nobody needs afterwards.
class temporary_folder {
 public:
  /// Throws: `llvm_tool_error` where none can be made.
  temporary_folder() {
    std::string name = (std::filesystem::temp_directory_path() / "ashlar-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) {
      throw llvm_tool_error("mkdtemp", "no temporary folder can be made: " + name);
    }
    path_ = name;
  }
  ~temporary_folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  temporary_folder(const temporary_folder&) = delete;
  temporary_folder& operator=(const temporary_folder&) = delete;

  [[nodiscard]] std::string operator/(std::string_view name) const {
    return (path_ / name).string();
  }

 private:
  std::filesystem::path path_{};
};

/// A program in one of the folders of `PATH`. Returns: its path; empty where there is none.
inline std::string find_program(std::string_view name) {
  const char* all = std::getenv("PATH");
  std::istringstream folders(all == nullptr ? "" : all);
  for (std::string folder; std::getline(folders, folder, ':');) {
    const std::string path = folder + "/" + std::string(name);
    if (!folder.empty() && ::access(path.c_str(), X_OK) == 0) {
      return path;
    }
  }
  return {};
}

/// `clang`, `opt`, `llc` ...: from the folder `ASHLAR_LLVM_BIN` where that is set, else versions 19
/// to 14 in `PATH`, the newest first, and where there are none, the one without a number.
/// Returns: their paths.
inline std::vector<std::string> find_tools(std::string_view name) {
  std::vector<std::string> all;
  if (const char* folder = std::getenv("ASHLAR_LLVM_BIN"); folder != nullptr && *folder != '\0') {
    all.push_back(std::string(folder) + "/" + std::string(name));
    std::erase_if(all, [](const std::string& path) { return ::access(path.c_str(), X_OK) != 0; });
    return all;
  }
  const auto add = [&](const std::string& tool) {
    if (std::string path = find_program(tool); !path.empty()) {
      all.push_back(std::move(path));
    }
  };
  for (int version = 19; version >= 14; --version) {
    add(std::string(name) + "-" + std::to_string(version));
  }
  if (all.empty()) {
    add(std::string(name));
  }
  return all;
}
/// Returns: the first of `find_tools`; empty where there is none.
inline std::string find_tool(std::string_view name) {
  std::vector<std::string> all = find_tools(name);
  return all.empty() ? std::string() : all.front();
}

/// Throws: `llvm_tool_error` where there is no such tool.
inline std::string expect_tool(std::string_view name) {
  std::string path = find_tool(name);
  if (path.empty()) {
    throw llvm_tool_error(std::string(name),
                          "not found; install LLVM 14 to 19, or name the folder of its tools in "
                          "ASHLAR_LLVM_BIN");
  }
  return path;
}

/// Throws: `llvm_tool_error` where the file cannot be read.
inline std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    throw llvm_tool_error(path, "it cannot be read");
  }
  return {std::istreambuf_iterator<char>(in), {}};
}

/// What a program did.
struct run_result {
  int status = -1;       ///< 0 where it went well
  std::string output{};  ///< what it wrote, errors included
};

/// Runs a program and waits for it. Throws: `llvm_tool_error` where it cannot be started.
inline run_result run_program(const std::vector<std::string>& command) {
  const temporary_folder folder;
  const std::string log = folder / "log";
  std::vector<char*> words;
  for (const std::string& word : command) {
    words.push_back(const_cast<char*>(word.c_str()));  // posix_spawn does not write them
  }
  words.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 1, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2(&files, 1, 2);
  pid_t child = 0;
  const int failed = ::posix_spawnp(&child, words[0], &files, nullptr, words.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  if (failed != 0) {
    throw llvm_tool_error(command[0], "it cannot be started");
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128, read_file(log)};
}

/// Throws: `llvm_tool_error` with what it wrote where a program does not end well.
inline void expect_run(const std::vector<std::string>& command) {
  const run_result r = run_program(command);
  if (r.status != 0) {
    throw llvm_tool_error(command[0], "it failed: " + r.output.substr(0, 2000));
  }
}

/// Throws: `llvm_tool_error` where the file cannot be written.
inline void write_file(const std::string& path, std::string_view content) {
  std::ofstream out(path, std::ios::binary);
  out << content;
  if (!out.flush()) {
    throw llvm_tool_error(path, "it cannot be written");
  }
}

/// What makes LLVM 14 take opaque pointers; nothing for those after it.
inline std::vector<std::string> pointer_switch(const std::string& tool) {
  const bool is_clang = std::filesystem::path(tool).filename().string().starts_with("clang");
  const std::string version = run_program({tool, "--version"}).output;
  if (version.find("version 14.") == std::string::npos) {
    return {};
  }
  return is_clang ? std::vector<std::string>{"-Xclang", "-opaque-pointers"}
                  : std::vector<std::string>{"-opaque-pointers"};
}

}  // namespace ashlar::chip::llvm_codegen
