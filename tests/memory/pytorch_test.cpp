// SPDX-License-Identifier: Apache-2.0
// What PyTorch's caching allocator decides, worked out by hand from its rules and constants.
#include <doctest/doctest.h>

#include <cstddef>
#include <utility>

#include "ashlar/memory/caching_allocator.hpp"
#include "memory/story.hpp"

using namespace ashlar;
using namespace stories;

namespace {

[[nodiscard]] constexpr unsigned bits(auto... steps) {
  return (0U | ... | static_cast<unsigned>(steps));
}
using memory::ladder;

}  // namespace

TEST_CASE("memory/pytorch: sizes are rounded to 512, or to divisions of a power of two") {
  using plain = memory::pytorch_sizes<>;
  CHECK(plain::rounded(1) == 512);
  CHECK(plain::rounded(512) == 512);
  CHECK(plain::rounded(513) == 1024);
  CHECK(plain::rounded(m + 1) == m + 512);
  using four = memory::pytorch_sizes<4>;
  CHECK(four::rounded(2048) == 2048);  // 512 * 4 and less: multiples of 512
  CHECK(four::rounded(1200) == 1536);
  CHECK(four::rounded(2049) == 2560);
  CHECK(four::rounded(5000) == 5120);
  CHECK(four::rounded(5121) == 6144);
  CHECK(four::rounded(8192) == 8192);
  CHECK(four::rounded(8193) == 10240);
  CHECK(four::rounded(15 * m) == 16 * m);
}

TEST_CASE("memory/pytorch: the first small block comes from a segment of 2 MiB") {
  story s;
  s.get(1);
  CHECK(s.told() == "+A 2M; A+0:512");
}

TEST_CASE("memory/pytorch: small blocks share a segment, one behind the other") {
  story s;
  s.get(100);
  s.get(1000);
  s.get(512);
  CHECK(s.told() == "+A 2M; A+0:512; A+512:1K; A+1536:512");
}

TEST_CASE("memory/pytorch: 1 MiB is small, one byte more is large") {
  story s;
  s.get(m);
  s.get(m);
  s.get(m + 1);
  CHECK(s.told() == "+A 2M; A+0:1M; A+1M:1M; +B 20M; B+0:1049088");
}

TEST_CASE("memory/pytorch: below 10 MiB a segment has 20 MiB, from there multiples of 2 MiB") {
  story s;
  s.get(10 * m - 512);
  s.get(10 * m);
  s.get(11 * m);
  CHECK(s.told() ==
        "+A 20M; A+0:10485248; A+10485248:10486272; +B 12M; B+0:12M");  // 512 B left: whole
}

TEST_CASE("memory/pytorch: of a large block more than 1 MiB must be left to be cut off") {
  story s;
  s.get(11 * m);         // 12 MiB segment, 1 MiB would be left: stays whole
  s.get(13 * m - 1024);  // 14 MiB segment, 1 MiB and 1 KiB: cut
  CHECK(s.told() == "+A 12M; A+0:12M; +B 14M; B+0:13311K");
}

TEST_CASE("memory/pytorch: of a small block whatever is left is cut off") {
  story s;
  s.get(m);
  s.get(m - 512);
  s.get(512);
  CHECK(s.told() == "+A 2M; A+0:1M; A+1M:1048064; A+2096640:512");
}

TEST_CASE("memory/pytorch: a freed block serves the same size again") {
  story s;
  const auto a = s.get(1000);
  s.get(1000);
  s.give(a);
  s.get(1024);
  CHECK(s.told() == "+A 2M; A+0:1K; A+1K:1K; ~A+0:1K; A+0:1K");
}

TEST_CASE("memory/pytorch: the smallest free block that is large enough serves") {
  story s;
  const auto a = s.get(4096);
  s.get(512);
  const auto b = s.get(2048);
  s.get(512);
  s.give(a);
  s.give(b);
  static_cast<void>(s.told());
  s.get(1500);
  CHECK(s.told() == "A+4608:1536");  // of 2 KiB, not of 4 KiB
}

TEST_CASE("memory/pytorch: of equal blocks the one at the lowest address serves") {
  story s;
  const auto a = s.get(1024);
  s.get(512);
  const auto b = s.get(1024);
  s.get(512);
  s.give(b);
  s.give(a);
  static_cast<void>(s.told());
  s.get(1024);
  CHECK(s.told() == "A+0:1K");
}

TEST_CASE("memory/pytorch: a freed block joins its upper neighbour") {
  story s;
  const auto a = s.get(1024);
  const auto b = s.get(1024);
  s.get(512);
  s.give(b);
  s.give(a);
  static_cast<void>(s.told());
  s.get(2048);
  CHECK(s.told() == "A+0:2K");
}

TEST_CASE("memory/pytorch: a freed block joins its lower neighbour") {
  story s;
  const auto a = s.get(1024);
  const auto b = s.get(1024);
  s.get(512);
  s.give(a);
  s.give(b);
  static_cast<void>(s.told());
  s.get(2048);
  CHECK(s.told() == "A+0:2K");
}

TEST_CASE("memory/pytorch: a freed block joins both neighbours") {
  story s;
  const auto a = s.get(512);
  const auto b = s.get(512);
  const auto c = s.get(512);
  s.get(512);
  s.give(a);
  s.give(c);
  s.give(b);
  static_cast<void>(s.told());
  s.get(1536);
  CHECK(s.told() == "A+0:1536");
}

TEST_CASE("memory/pytorch: blocks of different segments do not join") {
  story s;
  const auto a = s.get(m);
  const auto b = s.get(m);
  const auto c = s.get(m);
  const auto d = s.get(m);
  s.give(b);
  s.give(c);
  CHECK(s.told() == "+A 2M; A+0:1M; A+1M:1M; +B 2M; B+0:1M; B+1M:1M; ~A+1M:1M; ~B+0:1M");
  s.give(a);
  s.give(d);
  s.a.release_cached();
  CHECK(s.told() == "~A+0:1M; ~B+1M:1M; -A 2M; -B 2M");
}

TEST_CASE("memory/pytorch: small requests do not use large segments, nor large ones small") {
  story s;
  const auto large = s.get(5 * m);
  s.give(large);
  s.get(100);
  CHECK(s.told() == "+A 20M; A+0:5M; ~A+0:5M; +B 2M; B+0:512");
}

TEST_CASE("memory/pytorch: a cached large segment serves a smaller large request") {
  story s;
  const auto a = s.get(30 * m);
  s.give(a);
  s.get(12 * m);
  s.get(17 * m);
  CHECK(s.told() == "+A 30M; A+0:30M; ~A+0:30M; A+0:12M; A+12M:18M");  // 1 MiB left: not cut
}

TEST_CASE("memory/pytorch: a queue uses its own blocks only") {
  story s;
  const auto a = s.get(1000, 0);
  s.give(a);
  s.get(1000, 1);
  s.get(1000, 0);
  CHECK(s.told() == "+A 2M; A+0:1K; ~A+0:1K; +B 2M; B+0:1K; A+0:1K");
}

TEST_CASE("memory/pytorch: a block that another queue uses waits for it") {
  story s;
  const auto a = s.get(1000);
  s.a.record_use(s[a], 7);
  s.give(a);
  s.get(1000);  // queue 7 has not come by
  CHECK(s.told() == "+A 2M; A+0:1K; A+1K:1K");
  s.queue_reaches_its_end(7);
  s.get(1000);
  CHECK(s.told() == "~A+0:1K; A+0:1K");
}

TEST_CASE("memory/pytorch: a block waits for every queue that used it") {
  story s;
  const auto a = s.get(1000);
  s.a.record_use(s[a], 7);
  s.a.record_use(s[a], 8);
  s.a.record_use(s[a], 7);  // again: no second event
  s.give(a);
  s.queue_reaches_its_end(7);
  s.get(1000);
  CHECK(s.told() == "+A 2M; A+0:1K; A+1K:1K");
  s.queue_reaches_its_end(8);
  s.get(1000);
  CHECK(s.told() == "~A+0:1K; A+0:1K");
}

TEST_CASE("memory/pytorch: use by the block's own queue changes nothing") {
  story s;
  const auto a = s.get(1000, 3);
  s.a.record_use(s[a], 3);
  s.give(a);
  s.get(1000, 3);
  CHECK(s.told() == "+A 2M; A+0:1K; ~A+0:1K; A+0:1K");
}

TEST_CASE("memory/pytorch: a neighbour that waits for a queue is not joined") {
  story s;
  const auto a = s.get(1024);
  const auto b = s.get(1024);
  s.get(512);
  s.a.record_use(s[a], 7);
  s.give(a);
  s.give(b);
  static_cast<void>(s.told());
  s.get(2048);
  CHECK(s.told() == "A+2560:2K");
  s.queue_reaches_its_end(7);
  s.get(2048);
  CHECK(s.told() == "~A+0:1K; A+0:2K");
}

TEST_CASE(
    "memory/pytorch: without a size limit for splits the ladder is the chip, then the cache") {
  story s(22 * m);
  s.get(100);
  const auto a = s.get(15 * m);
  s.give(a);
  CHECK(s.told() == "+A 2M; A+0:512; +B 16M; B+0:16M; ~B+0:16M");
  s.get(17 * m);  // 2 + 16 + 18 do not fit: the cache goes first
  CHECK(s.told() == "-B 16M; +C 18M; C+0:18M");
  CHECK(s.a.stats().retries == 1);
}

TEST_CASE("memory/pytorch: segments with a block in use stay when the cache is given back") {
  story s(42 * m);
  const auto a = s.get(5 * m);
  s.get(5 * m);
  s.give(a);
  CHECK(s.told() == "+A 20M; A+0:5M; A+5M:5M; ~A+0:5M");
  CHECK(s.fails(30 * m));
  CHECK(s.told() == "oom");
  CHECK(s.tried == bits(ladder::chip, ladder::release_all));
  s.get(5 * m);
  CHECK(s.told() == "A+0:5M");  // all as before
}

TEST_CASE("memory/pytorch: events are waited for before the cache is given back") {
  story s(20 * m);
  const auto a = s.get(15 * m);
  s.a.record_use(s[a], 7);
  s.give(a);
  CHECK(s.told() == "+A 16M; A+0:16M");
  s.get(17 * m);
  CHECK(s.told() == "~A+0:16M; -A 16M; +B 18M; B+0:18M");
}

TEST_CASE("memory/pytorch: the small pool is given back after the large one") {
  story s(22 * m);
  const auto a = s.get(100);
  const auto b = s.get(5 * m);
  s.give(a);
  s.give(b);
  static_cast<void>(s.told());
  s.get(21 * m);
  CHECK(s.told() == "-B 20M; -A 2M; +C 22M; C+0:22M");
}

TEST_CASE("memory/pytorch: callbacks are asked before the chip, and what they free serves") {
  struct hoard {
    story<>* s;
    std::size_t which = 0;
    bool full = true;
  };
  story s(20 * m);
  hoard h{&s};
  h.which = s.get(15 * m);
  s.a.on_low_memory(
      [](void* with) {
        auto& its = *static_cast<hoard*>(with);
        if (its.full) {
          its.s->give(its.which);
        }
        return std::exchange(its.full, false);
      },
      &h);
  s.get(16 * m);
  CHECK(s.told() == "+A 16M; A+0:16M; ~A+0:16M; A+0:16M");
  CHECK(s.a.stats().retries == 0);
}

TEST_CASE("memory/pytorch: after callbacks that free nothing the ladder goes on") {
  story s(20 * m);
  int calls = 0;
  s.a.on_low_memory(
      [](void* with) {
        ++*static_cast<int*>(with);
        return false;
      },
      &calls);
  s.get(5 * m);
  s.get(5 * m);
  CHECK(calls == 1);  // the second was served by a free block
  CHECK(s.fails(16 * m));
  CHECK(calls == 2);
  CHECK(s.tried == bits(ladder::chip, ladder::release_all));
}

TEST_CASE("memory/pytorch: oversized blocks are not cut, and do not serve small requests") {
  using limited = story<memory::pytorch_split<40 * m>>;
  limited s;
  const auto a = s.get(50 * m);
  s.give(a);
  s.get(20 * m);
  CHECK(s.told() == "+A 50M; A+0:50M; ~A+0:50M; +B 20M; B+0:20M");
}

TEST_CASE("memory/pytorch: an oversized request takes an oversized block within 20 MiB") {
  using limited = story<memory::pytorch_split<40 * m>>;
  limited s;
  const auto a = s.get(60 * m);
  s.give(a);
  const auto b = s.get(41 * m);  // 19 MiB less
  CHECK(s.told() == "+A 60M; A+0:60M; ~A+0:60M; A+0:60M");
  s.give(b);
  s.get(40 * m);  // 20 MiB less
  CHECK(s.told() == "~A+0:60M; +B 40M; B+0:40M");
}

TEST_CASE("memory/pytorch: the smallest oversized block that would serve is given back first") {
  using limited = story<memory::pytorch_split<40 * m>>;
  limited s(200 * m);
  const auto a = s.get(80 * m);
  const auto b = s.get(100 * m);
  s.give(a);
  s.give(b);
  CHECK(s.told() == "+A 80M; A+0:80M; +B 100M; B+0:100M; ~A+0:80M; ~B+0:100M");
  s.get(44 * m);  // neither is within 20 MiB, 20 MiB are left on the chip
  CHECK(s.told() == "-A 80M; +C 44M; C+0:44M");
}

TEST_CASE("memory/pytorch: else the largest oversized blocks go until they are enough") {
  using limited = story<memory::pytorch_split<40 * m>>;
  limited s(150 * m);
  const auto a = s.get(42 * m);
  const auto b = s.get(44 * m);
  const auto c = s.get(60 * m);
  for (const auto which : {a, b, c}) {
    s.give(which);
  }
  static_cast<void>(s.told());
  s.get(90 * m);
  CHECK(s.told() == "-C 60M; -B 44M; +D 90M; D+0:90M");
}

TEST_CASE("memory/pytorch: a limit is a chip that has no more") {
  story s;
  s.a.set_limit(22 * m);
  s.get(100);
  const auto a = s.get(5 * m);
  CHECK(s.fails(16 * m));
  CHECK(s.tried == bits(ladder::chip, ladder::release_all));
  s.give(a);
  static_cast<void>(s.told());
  s.get(18 * m);
  CHECK(s.told() == "B+0:18M");  // nothing was lost
}

namespace {

/// Three whole blocks of 20, 22 and 24 MiB (B, C, D), freed 3, 2 and 1 searches before the next
/// request, and a cut segment A of 20 MiB; 86 MiB in all.
void three_ages(story<>& s) {
  s.get(2 * m);
  const auto b = s.get(20 * m);
  const auto c = s.get(22 * m);
  const auto d = s.get(24 * m);
  s.give(b);
  s.get(2 * m);  // each of these searches the large pool once
  s.give(c);
  s.get(2 * m);
  s.give(d);
  static_cast<void>(s.told());
}

}  // namespace

TEST_CASE(
    "memory/pytorch: collection frees whole large blocks of at least mean age, not only one") {
  story s;
  s.a.set_limit(200 * m, 0.4);
  three_ages(s);
  s.get(30 * m);  // 6 MiB above the threshold; B alone would do
  CHECK(s.told() == "-B 20M; -C 22M; +E 30M; E+0:30M");
}

TEST_CASE("memory/pytorch: collection is repeated until enough is free") {
  story s;
  s.a.set_limit(200 * m, 0.2);
  three_ages(s);
  s.get(30 * m);  // 46 MiB above the threshold
  CHECK(s.told() == "-B 20M; -C 22M; -D 24M; +E 30M; E+0:30M");
}

TEST_CASE("memory/pytorch: below the threshold nothing is collected") {
  story s;
  s.a.set_limit(200 * m, 0.43);
  three_ages(s);
  s.get(30 * m);
  CHECK(s.told() == "+E 30M; E+0:30M");
}

TEST_CASE("memory/pytorch: without a threshold a limit alone collects nothing") {
  story s;
  s.a.set_limit(200 * m);
  three_ages(s);
  s.get(30 * m);
  CHECK(s.told() == "+E 30M; E+0:30M");
}
