// SPDX-License-Identifier: Apache-2.0
#include "ashlar/memory/replay.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <random>
#include <string>
#include <vector>

#include "ashlar/memory/caching_allocator.hpp"
#include "memory/upstreams.hpp"

using namespace ashlar;

namespace {

[[nodiscard]] std::vector<memory::request> some_trace(unsigned seed) {
  std::mt19937 random(seed);
  std::vector<memory::request> all;
  std::vector<bool> held(50);
  for (int i = 0; i < 500; ++i) {
    const auto id = static_cast<std::uint32_t>(random() % held.size());
    const bool gives = held[id];
    all.push_back({gives, id, gives ? 0 : random() % 100000,
                   gives ? 0 : static_cast<memory::queue_id>(random() % 3)});
    held[id] = !gives;
  }
  return all;
}

}  // namespace

TEST_CASE("memory/replay: what is written is read again") {
  CHECK(memory::read_trace("").empty());
  for (unsigned seed = 0; seed < 20; ++seed) {
    const auto all = some_trace(seed);
    CHECK(memory::read_trace(memory::write_trace(all)) == all);
  }
  CHECK(memory::read_trace("# a comment\n\r\na 3  100\r\nf 3") ==
        std::vector<memory::request>{{false, 3, 100, 0}, {true, 3, 0, 0}});
}

TEST_CASE("memory/replay: a bad line is named") {
  struct bad {
    const char* text;
    std::size_t line;
    const char* reason;
  };
  for (const bad& b :
       {bad{"x 1 2", 1, "expected `a ID BYTES [QUEUE]` or `f ID`"}, bad{"a", 1, "expected an id"},
        bad{"a 1", 1, "expected a number of bytes"}, bad{"a 1 -5", 1, "expected a number of bytes"},
        bad{"a 1 99999999999999999999999", 1, "expected a number of bytes"},
        bad{"a 99999999 1", 1, "expected an id, at most 16777215"},
        bad{"a 1 2 3 4", 1, "more than was expected"},
        bad{"a 1 2 5000000000", 1, "expected a queue"},
        bad{"a 1 2\nf 1 7", 2, "more than was expected"},
        bad{"a 1 2\n\na 1 2", 3, "block 1 is in use"}, bad{"f 4", 1, "block 4 is not in use"},
        bad{"a 1 2\nf 1\nf 1", 3, "block 1 is not in use"}}) {
    CAPTURE(b.text);
    try {
      static_cast<void>(memory::read_trace(b.text));
      FAIL("must throw");
    } catch (const memory::trace_error& e) {
      CHECK(e.line == b.line);
      CHECK(std::string(e.what()).find(b.reason) != std::string::npos);
    }
  }
}

TEST_CASE("memory/replay: requests that were not read are checked, too") {
  using requests = std::vector<memory::request>;
  using upstream = upstreams::paper<2>;
  upstream::reset();
  memory::caching_allocator<upstream> a;
  const requests twice{{false, 1, 8}, {false, 1, 8}}, never{{false, 1, 8}, {true, 2}};
  const requests far{{false, 0, 8}, {false, 1U << 24U, 8}};
  const requests large{{false, 0, 8}, {false, 1, (std::size_t{1} << 48U) + 1}};
  const auto line_of = [](auto&& call) {
    try {
      static_cast<void>(call());
    } catch (const memory::trace_error& e) {
      return e.entity + ' ' + std::to_string(e.line);
    }
    return std::string();
  };
  for (const requests& bad : {twice, never, far, large}) {
    CHECK(line_of([&] { return memory::lifetimes_of(bad); }) == "ashlar::memory::lifetimes_of 2");
    CHECK(line_of([&] { return memory::replay(a, bad); }) == "ashlar::memory::replay 2");
  }
  CHECK(a.stats().requests == 0);
}

TEST_CASE("memory/replay: broken text is refused or read, never more") {
  const std::string good = memory::write_trace(some_trace(1));
  std::mt19937 random(2);
  int refused = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string text = good.substr(0, random() % good.size());
    if (!text.empty()) {
      text[random() % text.size()] = static_cast<char>(random() % 256);
    }
    try {
      static_cast<void>(memory::read_trace(text));
    } catch (const memory::trace_error&) {
      ++refused;
    }
  }
  CHECK(refused > 1000);
}

TEST_CASE("memory/replay: peaks are those of the trace, and everything is given back") {
  using upstream = upstreams::paper<2>;
  upstream::reset();
  {
    memory::caching_allocator<upstream, memory::pytorch_policies> a;
    const auto r = memory::replay(
        a, memory::read_trace("a 0 1000\na 1 3000000\nf 0\na 0 500\nf 1\na 2 2000000\n"));
    CHECK(r.peak_live == 3001000);
    CHECK(r.peak_reserved == (2 + 20) * memory::mib);
    CHECK(r.chip_calls == 2);
    CHECK(r.refused == 0);
    CHECK(r.overhead() == doctest::Approx(22.0 * 1048576 / 3001000 - 1));
    CHECK(a.stats().allocated == 0);
  }
  upstream::reset(memory::mib);
  memory::caching_allocator<upstream> small;
  CHECK(memory::replay(small, memory::read_trace("a 0 2000000\na 1 5\nf 0\nf 1")).refused == 1);
  CHECK(memory::replay(small, {}).peak_live == 0);
}
