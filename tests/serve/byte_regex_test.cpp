// SPDX-License-Identifier: Apache-2.0
#include "ashlar/serve/byte_regex.hpp"

#include <doctest/doctest.h>
#include <regex.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "ashlar/serve/constraint.hpp"
#include "ashlar/serve/sampler.hpp"

namespace serve = ashlar::serve;
using serve::byte_regex;
using serve::token;

namespace {

/// The C library's matcher, an independent one.
class posix_regex {
 public:
  explicit posix_regex(const std::string& pattern) {
    REQUIRE(regcomp(&compiled_, ("^(" + pattern + ")$").c_str(), REG_EXTENDED | REG_NOSUB) == 0);
  }
  posix_regex(const posix_regex&) = delete;
  posix_regex& operator=(const posix_regex&) = delete;
  ~posix_regex() { regfree(&compiled_); }
  [[nodiscard]] bool matches(const std::string& text) const {
    return regexec(&compiled_, text.c_str(), 0, nullptr, 0) == 0;
  }

 private:
  regex_t compiled_{};
};

/// Every text of `a` and `b` up to a length, shorter ones first.
std::vector<std::string> all_texts(std::size_t longest) {
  std::vector<std::string> texts{""};
  for (std::size_t i = 0; texts[i].size() < longest; ++i) {
    texts.push_back(texts[i] + 'a');
    texts.push_back(texts[i] + 'b');
  }
  return texts;
}

/// A pattern with at most `leaves` places for a byte, none of which must be read twice.
std::string random_pattern(std::mt19937& random, int leaves) {
  if (leaves == 1) {
    const std::vector<std::string> atoms{"a", "b", ".", "[ab]", "[^a]", "(a|b)"};
    return atoms[random() % (atoms.size())];
  }
  const int left = 1 + static_cast<int>(random() % static_cast<unsigned>(leaves - 1));
  const std::string a = random_pattern(random, left);
  const std::string b = random_pattern(random, leaves - left);
  switch (random() % 8) {
    case 0:
      return "(" + a + ")*" + b;
    case 1:
      return a + "(" + b + ")+";
    case 2:
      return "(" + a + ")?" + b;
    case 3:
      return "(" + a + "){1,2}" + b;
    case 4:
      return "(" + a + "|" + b + ")";
    default:
      return a + b;
  }
}

}  // namespace

TEST_CASE("serve/byte_regex: it matches what another matcher matches, text by text") {
  std::mt19937 random(8);
  const auto texts = all_texts(9);
  for (int round = 0; round < 200; ++round) {
    const std::string pattern = random_pattern(random, 1 + static_cast<int>(random() % 6));
    CAPTURE(pattern);
    const byte_regex mine(pattern);
    const posix_regex other(pattern);
    bool same = true;
    for (const std::string& text : texts) {
      same = same && mine.matches(text) == other.matches(text);
    }
    CHECK(same);
  }
}

TEST_CASE("serve/byte_regex: counts, classes and escapes") {
  const auto matches = [](const char* pattern, const std::string& text) {
    return byte_regex(pattern).matches(text);
  };
  CHECK(matches("", ""));
  CHECK(!matches("", "a"));
  CHECK(matches("a{3}", "aaa"));
  CHECK(!matches("a{3}", "aaaa"));
  CHECK(matches("a{2,}", "aaaaa"));
  CHECK(!matches("a{2,}", "a"));
  CHECK(matches("(ab|){0,2}c", "ababc"));
  CHECK(matches("a**", "aaa"));
  CHECK(matches("(a*)*b", "aab"));
  CHECK(matches(R"(\d+\.\d*)", "12.5"));
  CHECK(!matches(R"(\d+\.\d*)", "12,5"));
  CHECK(matches(R"([\w-]+\s\S)", "a_Z-9\tx"));
  CHECK(matches(R"(\x41\x7a\n\[\])", "Az\n[]"));
  CHECK(matches("[]a]", "]"));  // a bracket that stands first is a byte
  CHECK(matches("[a-]", "-"));
  CHECK(matches("[^\\x00-\\x7f]+", "\xc3\xa9"));
  CHECK(!matches(".", "\n"));
  CHECK(byte_regex("[^\\x00-\\xff]a").start() == byte_regex::dead);
}

TEST_CASE("serve/byte_regex: what is no pattern is refused with its place") {
  for (const char* pattern : {"(",    ")",     "a)",    "(a",      "[",    "[a",           "*",
                              "a|*",  "a{",    "a{2",   "a{2,1}",  "a{x}", "\\",           "\\q",
                              "\\x4", "\\xg0", "[b-a]", "[\\d-z]", "\\1",  "(a{999}){999}"}) {
    CAPTURE(pattern);
    CHECK_THROWS_AS(byte_regex{pattern}, ashlar::argument_error);
  }
}

TEST_CASE("serve/byte_regex: what would take the stack, the memory or the day is refused") {
  const auto nested = [](std::size_t n) { return std::string(n, '(') + "a" + std::string(n, ')'); };
  CHECK(byte_regex(nested(200)).matches("a"));
  CHECK(byte_regex("a" + std::string(400, '*')).matches("aaa"));
  for (const std::string& pattern :
       {nested(201), nested(20'000), std::string(20'000, '('), "a" + std::string(200'000, '*'),
        std::string("(){20000}{20000}"), std::string("(.{0,99}){0,99}")}) {
    CAPTURE(pattern.substr(0, 20));
    CHECK_THROWS_AS(byte_regex{pattern}, ashlar::argument_error);
  }
  CHECK(byte_regex("\\x4a\\xa4").matches("\x4a\xa4"));  // the high digit first
}

TEST_CASE(
    "serve/byte_regex: a constraint allows the tokens that enumeration allows, and no others") {
  std::mt19937 random(9);
  const std::vector<std::string> pieces{"a", "b", "ab", "", "ba", "aab", "bbb", "c", ""};
  const token end = 8;
  const auto texts = all_texts(10);
  for (int round = 0; round < 100; ++round) {
    const std::string pattern = random_pattern(random, 1 + static_cast<int>(random() % 6));
    CAPTURE(pattern);
    const posix_regex oracle(pattern);
    std::set<std::string> matched;
    std::set<std::string> live;  // beginnings of up to 4 bytes; 6 more complete them, if any do
    for (const std::string& text : texts) {
      if (oracle.matches(text)) {
        matched.insert(text);
        for (std::size_t n = 0; n <= std::min<std::size_t>(4, text.size()); ++n) {
          live.insert(text.substr(0, n));
        }
      }
    }
    serve::regex_constraint constraint(byte_regex(pattern), pieces, {end});
    bool same = true;
    std::vector<std::vector<token>> outputs{{}};
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      const std::vector<token> output = outputs[i];
      std::string text;
      for (const token t : output) {
        text += pieces[static_cast<std::size_t>(t)];
      }
      const serve::token_mask mask = *constraint(output);
      for (token t = 0; t < std::ssize(pieces); ++t) {
        const std::string longer = text + pieces[static_cast<std::size_t>(t)];
        // With a `c` only `.` and `[^a]` could go on; the enumeration has none, so it is left out.
        if (longer.size() > 4 || longer.find('c') != std::string::npos) {
          continue;
        }
        const bool expected = t == end ? matched.contains(text) : t != 3 && live.contains(longer);
        same = same && mask.allows(t) == expected;
        if (t != end && mask.allows(t)) {
          outputs.push_back(output);
          outputs.back().push_back(t);
        }
      }
    }
    CHECK(same);
  }
}

TEST_CASE("serve/byte_regex: an end that is no token is refused") {
  const std::vector<std::string> pieces{"a", "b"};
  for (const token end : {-1, 2, 1'000'000}) {
    CHECK_THROWS_AS(serve::regex_constraint(byte_regex("a"), pieces, {1, end}),
                    ashlar::argument_error);
  }
}

TEST_CASE("serve/byte_regex: through a sampler every draw matches") {
  const std::vector<std::string> pieces{"", "0", "1", "7", "12", ".", "-", "x", "3.", "e"};
  const std::vector<float> logits{-3, 1, 1, 1, 1, 1, 1, 5, 1, 5};  // the model prefers nonsense
  serve::sampling_options options{.temperature = 1};
  const byte_regex number("-?\\d{1,3}(\\.\\d+)?");
  options.mask = serve::regex_constraint(number, pieces, {0});
  serve::vllm_sampler sample;
  std::set<std::string> seen;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    std::vector<token> output;
    std::string text;
    while (output.empty() || output.back() != 0) {
      output.push_back(sample(logits, options, {.history = output, .seed = seed}));
      text += pieces[static_cast<std::size_t>(output.back())];
    }
    CHECK(number.matches(text));
    seen.insert(text);
  }
  CHECK(seen.size() > 50);
}
