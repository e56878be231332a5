// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <string>

namespace demo {

/// A line on stderr that is drawn over on a terminal, and a line now and then elsewhere.
class progress_bar {
 public:
  explicit progress_bar(int total) : total_(total), terminal_(isatty(STDERR_FILENO) != 0) {}

  void show(int done, const std::string& figures) {
    const auto now = clock::now();
    const bool last = done == total_;
    if (!last && now - shown_ < std::chrono::milliseconds(terminal_ ? 100 : 5000)) {
      return;
    }
    shown_ = now;
    constexpr int width = 24;
    const int full = total_ == 0 ? width : static_cast<int>(std::int64_t{width} * done / total_);
    const std::string bar = std::string(static_cast<std::size_t>(full), '#') +
                            std::string(static_cast<std::size_t>(width - full), '.');
    std::fprintf(stderr, "%s[%s] step %d/%d  %s%s", terminal_ ? "\r\033[K" : "", bar.c_str(), done,
                 total_, figures.c_str(), terminal_ && !last ? "" : "\n");
    std::fflush(stderr);
  }

 private:
  using clock = std::chrono::steady_clock;
  int total_;
  bool terminal_;
  clock::time_point shown_{};
};

}  // namespace demo
