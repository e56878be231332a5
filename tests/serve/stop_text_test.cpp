// SPDX-License-Identifier: Apache-2.0
#include "ashlar/serve/stop_text.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

using ashlar::serve::stop_text;
using strings = std::vector<std::string>;

namespace {

struct ending {
  std::string text;
  std::optional<std::size_t> stop;
};

/// By the definition, over the whole text: the first byte behind `protected_bytes` at which a stop
/// string is complete, of several the longest.
ending naive(const std::string& text, const strings& stops, bool keep, std::size_t free_bytes) {
  for (std::size_t end = free_bytes + 1; end <= text.size(); ++end) {
    std::optional<std::size_t> found;
    for (std::size_t i = 0; i < stops.size(); ++i) {
      if (std::string_view(text).substr(0, end).ends_with(stops[i]) &&
          (!found || stops[i].size() > stops[*found].size())) {
        found = i;
      }
    }
    if (found) {
      return {text.substr(0, end - (keep ? 0 : stops[*found].size())), found};
    }
  }
  return {text, std::nullopt};
}

bool whole_characters(std::string_view s) {
  for (std::size_t at = 0; at < s.size();) {
    const auto lead = static_cast<unsigned char>(s[at]);
    const std::size_t length = lead < 0x80 ? 1 : lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead >= 0x80 && lead < 0xc0) {
      return false;
    }
    at += length;
    if (at > s.size()) {
      return false;
    }
  }
  return true;
}

}  // namespace

TEST_CASE("serve/stop_text: a stop string that spans pieces ends the text before it") {
  stop_text text({"STOP"});
  CHECK(text.push("go S") == "go ");
  CHECK(text.push("TO") == "");
  CHECK(text.held() == 3);
  CHECK(text.push("P and more") == "");
  CHECK(text.stopped() == 0);
  CHECK(text.push("nothing") == "");
  CHECK(text.finish() == "");
}

TEST_CASE("serve/stop_text: what turns out not to be a stop string is shown") {
  stop_text text({"STOP"});
  CHECK(text.push("STO") == "");
  CHECK(text.push("S") == "STO");  // the last S may begin one
  CHECK(text.push("TART") == "START");
  CHECK(text.push("ST") == "");
  CHECK(text.finish() == "ST");
  CHECK(!text.stopped());
}

TEST_CASE("serve/stop_text: the stop string is part of the text where the caller says so") {
  stop_text text({"\n\n"}, true);
  CHECK(text.push("a\n") == "a");
  CHECK(text.push("\nb") == "\n\n");
  CHECK(text.stopped() == 0);
}

TEST_CASE("serve/stop_text: before min_tokens a complete stop string does not count") {
  stop_text text({"ab"});
  CHECK(text.push("ab", false) == "ab");
  CHECK(text.push("a", false) == "");
  CHECK(text.push("b") == "");  // begun before, complete behind
  CHECK(text.stopped() == 0);
}

TEST_CASE("serve/stop_text: half a character is held back, what is no UTF-8 is not") {
  stop_text text;
  CHECK(text.push("\xe2\x82") == "");
  CHECK(text.push("\xac") == "\xe2\x82\xac");
  CHECK(text.push("\xf0\x9f\x98") == "");
  CHECK(text.push("\x80x") == "\xf0\x9f\x98\x80x");
  CHECK(text.push("\x80\xff\x80") == "\x80\xff\x80");
  CHECK(text.push("\xc3") == "");
  CHECK(text.finish() == "\xc3");
}

TEST_CASE("serve/stop_text: an empty stop string is refused") {
  CHECK_THROWS_AS(stop_text({"a", ""}), ashlar::argument_error);
}

TEST_CASE("serve/stop_text: however a text is cut, it ends where the definition says") {
  std::mt19937 random(6);
  const strings letters{"a", "b", "\xc3\xa9", "\xe2\x82\xac"};
  const auto word = [&](std::size_t count) {
    std::string s;
    while (count-- > 0) {
      s += letters[random() % (random() % 3 == 0 ? 4 : 2)];
    }
    return s;
  };
  int ended = 0;
  for (int round = 0; round < 20000; ++round) {
    strings stops;
    for (auto i = random() % 4; i-- > 0;) {
      stops.push_back(word(1 + random() % 5));
    }
    const std::string text = word(random() % 30);
    const bool keep = random() % 2 == 0;
    const std::size_t free_bytes = random() % 3 == 0 ? random() % (text.size() + 1) : 0;
    const ending expected = naive(text, stops, keep, free_bytes);
    stop_text stream(stops, keep);
    std::string shown;
    bool right = true;
    for (std::size_t at = 0; at < text.size();) {
      std::size_t size = std::min<std::size_t>(1 + random() % 6, text.size() - at);
      if (at < free_bytes) {  // a piece lies on one side of the border
        size = std::min(size, free_bytes - at);
      }
      shown += stream.push(std::string_view(text).substr(at, size), at >= free_bytes);
      at += size;
      // Never more than the final text, never half a character before the end, and no more held
      // back than a stop string or a character can need.
      right = right && expected.text.starts_with(shown) &&
              (stream.stopped() || whole_characters(shown));
      std::size_t most = 3;
      for (const std::string& s : stops) {
        most = std::max(most, s.size() - 1);
      }
      right = right && stream.held() <= most;
    }
    shown += stream.finish();
    CHECK(right);
    CHECK(shown == expected.text);
    CHECK(stream.stopped() == expected.stop);
    ended += expected.stop ? 1 : 0;
  }
  CHECK(ended > 5000);
}
