// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"

namespace ashlar::serve {

/// A stream of text that ends where one of several stop strings is complete.
///
/// What goes in are pieces of bytes, such as tokens; they may cut stop strings and characters
/// anywhere. What comes out is never taken back: an end that may still become a stop string, or
/// that is half a character of UTF-8, is held back until more is known. Of stop strings that are
/// complete at the same byte the longest counts. How the text is cut changes no result.
class stop_text {
 public:
  /// `keep`: the stop string that ends the text is a part of it.
  ///
  /// Throws: `argument_error` where a stop string is empty.
  explicit stop_text(std::vector<std::string> stops = {}, bool keep = false)
      : stops_(std::move(stops)), keep_(keep) {
    for (const std::string& s : stops_) {
      if (s.empty()) {
        throw argument_error("ashlar::serve::stop_text", "a stop string is empty; leave it out");
      }
    }
  }

  /// Adds a piece. Where it `may_stop` is false, as in the first `min_tokens` tokens, no stop
  /// string that is complete in it counts.
  ///
  /// Returns: the text that can be shown now; what comes after the end of the text is dropped.
  std::string push(std::string_view piece, bool may_stop = true) {
    if (stopped_) {
      return {};
    }
    for (const char byte : piece) {
      held_ += byte;
      if (may_stop && (stopped_ = complete())) {
        held_.resize(held_.size() - (keep_ ? 0 : stops_[*stopped_].size()));
        return take(held_.size());
      }
    }
    return take(held_.size() - std::max(prefix_at_end(), unfinished_character()));
  }

  /// Ends the text where it is.
  ///
  /// Returns: what was held back.
  std::string finish() { return take(held_.size()); }

  /// Which stop string ended the text.
  [[nodiscard]] std::optional<std::size_t> stopped() const { return stopped_; }
  /// Bytes that are held back.
  [[nodiscard]] std::size_t held() const { return held_.size(); }

 private:
  /// The longest stop string at the end of `held_`.
  [[nodiscard]] std::optional<std::size_t> complete() const {
    std::optional<std::size_t> found;
    for (std::size_t i = 0; i < stops_.size(); ++i) {
      if (std::string_view(held_).ends_with(stops_[i]) &&
          (!found || stops_[i].size() > stops_[*found].size())) {
        found = i;
      }
    }
    return found;
  }

  /// Bytes at the end of `held_` that begin a stop string.
  [[nodiscard]] std::size_t prefix_at_end() const {
    std::size_t longest = 0;
    for (const std::string& s : stops_) {
      for (std::size_t n = std::min(s.size() - 1, held_.size()); n > longest; --n) {
        if (std::string_view(held_).ends_with(std::string_view(s).substr(0, n))) {
          longest = n;
        }
      }
    }
    return longest;
  }

  /// Bytes at the end of `held_` that begin a character which is not complete.
  [[nodiscard]] std::size_t unfinished_character() const {
    for (std::size_t back = 1; back <= 3 && back <= held_.size(); ++back) {
      const auto byte = static_cast<unsigned char>(held_[held_.size() - back]);
      if (byte < 0x80) {
        return 0;
      }
      if (byte >= 0xc0) {  // the first byte of a character: of how many?
        const std::size_t length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
        return byte < 0xf8 && length > back ? back : 0;
      }
    }
    return 0;
  }

  std::string take(std::size_t count) {
    std::string shown = held_.substr(0, count);
    held_.erase(0, count);
    return shown;
  }

  std::vector<std::string> stops_;
  bool keep_;
  // Every stop string that can still be completed begins in here.
  std::string held_;
  std::optional<std::size_t> stopped_;
};

}  // namespace ashlar::serve
