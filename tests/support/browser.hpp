// SPDX-License-Identifier: Apache-2.0
#pragma once
#ifdef ASHLAR_CHROMIUM
#include <array>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>

/// A browser without a window, for tests named `picture_test` where there is one.
namespace browser {

/// What the page has become after its scripts ran, or nothing where the browser did not start.
[[nodiscard]] inline std::string rendered(const std::string& html) {
  const std::filesystem::path file =
      std::filesystem::temp_directory_path() /
      ("ashlar_picture_" + std::to_string(std::random_device{}()) + ".html");
  std::ofstream(file) << html;
  const std::string command =
      std::string("timeout 60 '" ASHLAR_CHROMIUM
                  "' --headless --no-sandbox "
                  "--disable-gpu --disable-dev-shm-usage --dump-dom 'file://") +
      file.string() + "' 2>/dev/null";
  std::string out;
  if (FILE* const pipe = popen(command.c_str(), "r")) {
    std::array<char, 4096> part{};
    while (const std::size_t n = std::fread(part.data(), 1, part.size(), pipe)) {
      out.append(part.data(), n);
    }
    pclose(pipe);
  }
  std::filesystem::remove(file);
  return out;
}
/// The page with a script of the test behind its own.
[[nodiscard]] inline std::string with_script(std::string html, const std::string& script) {
  return html.insert(html.rfind("</body>"), "<script>" + script + "</script>");
}

}  // namespace browser
#endif
