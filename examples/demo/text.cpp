// SPDX-License-Identifier: Apache-2.0
#include "text.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <vector>

namespace demo {

namespace {

namespace fs = std::filesystem;

std::string read(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(in)), {});
  if (!in) {
    throw std::runtime_error("cannot read " + path.string());
  }
  return text;
}

std::string own_text() {
  const fs::path root = ASHLAR_SOURCE_DIR;
  std::vector<fs::path> files;
  for (const char* folder : {"include", "docs"}) {
    if (!fs::exists(root / folder)) {
      continue;
    }
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      const auto kind = entry.path().extension();
      if (entry.is_regular_file() && (kind == ".hpp" || kind == ".md")) {
        files.push_back(entry.path());
      }
    }
  }
  std::sort(files.begin(), files.end());
  std::string text = fs::exists(root / "README.md") ? read(root / "README.md") : "";
  for (const fs::path& file : files) {
    text += read(file);
  }
  return text;
}

}  // namespace

corpus read_corpus(const std::string& file) {
  const std::string text = file.empty() ? own_text() : read(file);
  constexpr std::size_t piece = 4096;
  constexpr std::size_t every = 20;
  corpus c;
  for (std::size_t i = 0; i * piece < text.size(); ++i) {
    (i % every == every / 2 ? c.held_out : c.training) += text.substr(i * piece, piece);
  }
  if (c.held_out.empty()) {  // a short text: its last tenth
    c.held_out = text.substr(text.size() - text.size() / 10);
    c.training = text.substr(0, text.size() - text.size() / 10);
  }
  return c;
}

}  // namespace demo
