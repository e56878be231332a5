// SPDX-License-Identifier: Apache-2.0
// Segments that grow: PyTorch's rules with `expandable_segments`, worked out by hand, and real
// memory of the host and of the accelerator that is mapped.
#include <doctest/doctest.h>

#include <cstddef>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include "ashlar/chip/host/host.hpp"
#include "ashlar/chip/npu/chip.hpp"
#include "ashlar/memory/caching_allocator.hpp"
#include "laws/memory.hpp"
#include "memory/story.hpp"

using namespace ashlar;
using namespace stories;

namespace {

using npu = chip::npu<chip::npu_description{}>;
static_assert(memory::ReservesAddresses<chip::host::memory>);
static_assert(memory::ReservesAddresses<npu::memory>);

using plain = story<memory::pytorch_expandable_policies<>>;
using limited = story<memory::pytorch_expandable_policies<20 * m>>;

}  // namespace

TEST_CASE("memory/expandable: small blocks get 2 MiB at a time, one behind the other") {
  plain s;
  s.get(100);
  CHECK(s.told() == "^A+0:2M; A+0:512");
  s.get(m);
  CHECK(s.told() == "A+512:1M");
  s.get(m);  // what is left does for half of it: the segment grows behind
  CHECK(s.told() == "^A+2M:2M; A+1049088:1M");
}

TEST_CASE("memory/expandable: large blocks get 20 MiB at a time, and join what was there") {
  plain s;
  s.get(3 * m);
  CHECK(s.told() == "^A+0:20M; A+0:3M");
  s.get(18 * m);
  CHECK(s.told() == "^A+20M:20M; A+3M:18M");
  s.get(50 * m);
  CHECK(s.told() == "^A+40M:40M; A+21M:50M");
}

TEST_CASE("memory/expandable: of a large block whatever is left is cut off") {
  plain s;
  s.get(20 * m - 512 * k);
  CHECK(s.told() == "^A+0:20M; A+0:19968K");
  const auto first = s.get(2 * m);  // what is left serves as the beginning
  CHECK(s.told() == "^A+20M:20M; A+19968K:2M");
  s.give(first);
  s.get(m + 512);
  CHECK(s.told() == "~A+19968K:2M; A+19968K:1049088");
}

TEST_CASE("memory/expandable: small and large blocks, and queues, have segments of their own") {
  plain s;
  s.get(512);
  s.get(2 * m);
  s.get(512, 1);
  CHECK(s.told() == "^A+0:2M; A+0:512; ^B+0:20M; B+0:2M; ^C+0:2M; C+0:512");
}

TEST_CASE("memory/expandable: whole granules inside a free block go back to the chip") {
  plain s;
  const auto low = s.get(30 * m);
  s.get(10 * m);
  CHECK(s.told() == "^A+0:40M; A+0:30M; A+30M:10M");
  s.give(low);
  s.a.release_cached();
  CHECK(s.told() == "~A+0:30M; vA+0:20M");
  CHECK(s.a.stats().reserved == 20 * m);
  CHECK(s.a.blocks().front().bytes == 10 * m);  // addresses without bytes are no block
  // The hole at the lowest address is filled first, together with what is free behind it.
  s.get(25 * m);
  CHECK(s.told() == "^A+0:20M; A+0:25M");
}

TEST_CASE("memory/expandable: granules at both ends of a free block stay with their neighbours") {
  plain s;
  s.get(5 * m);
  const auto middle = s.get(70 * m);
  s.get(5 * m);
  CHECK(s.told() == "^A+0:20M; A+0:5M; ^A+20M:60M; A+5M:70M; A+75M:5M");
  s.give(middle);
  s.a.release_cached();
  CHECK(s.told() == "~A+5M:70M; vA+20M:40M");
  s.get(15 * m);  // equals, but the lower one could grow into the hole
  s.get(15 * m);
  CHECK(s.told() == "A+60M:15M; A+5M:15M");
  s.get(30 * m);
  CHECK(s.told() == "^A+20M:40M; A+20M:30M");
}

TEST_CASE("memory/expandable: a block that can grow is kept for what needs it") {
  plain s;
  const auto low = s.get(14 * m);
  s.get(2 * m);
  const auto top = s.get(4 * m);
  s.give(low);
  s.give(top);
  s.told();
  s.get(3 * m);  // 4 MiB at the top fit better, but they are as good as unlimited
  CHECK(s.told() == "A+0:3M");
}

TEST_CASE("memory/expandable: a segment that went back as a whole comes again at its place") {
  plain s;
  const auto only = s.get(15 * m);
  s.give(only);
  s.a.release_cached();
  CHECK(s.told() == "^A+0:20M; A+0:15M; ~A+0:15M; vA+0:20M");
  CHECK(s.a.stats().reserved == 0);
  CHECK(s.a.blocks().empty());
  s.get(15 * m);
  CHECK(s.told() == "^A+0:20M; A+0:15M");
}

TEST_CASE("memory/expandable: where the chip has no granule left, the ladder is climbed") {
  plain s(30 * m);
  CHECK(s.fails(25 * m));
  CHECK(s.tried == static_cast<unsigned>(memory::ladder::chip) +
                       static_cast<unsigned>(memory::ladder::release_all));
  const auto fits = s.get(15 * m);
  CHECK(s.told() == "oom; ^A+0:20M; A+0:15M");
  s.give(fits);
  s.get(512);
  CHECK(s.told() == "~A+0:15M; ^B+0:2M; B+0:512");
  CHECK(s.fails(21 * m));  // what is cached went back, and is not enough
  CHECK(s.told() == "vA+0:20M; oom");
}

TEST_CASE("memory/expandable: below the split limit nothing takes a block above it") {
  limited s;
  const auto one = s.get(10 * m), two = s.get(10 * m);
  s.get(2 * m);
  CHECK(s.told() == "^A+0:20M; A+0:10M; A+10M:10M; ^A+20M:20M; A+20M:2M");
  s.give(one);
  s.give(two);
  CHECK(s.told() == "~A+0:10M; ~A+10M:10M");
  s.get(10 * m);  // 20 MiB are free at 0: oversized, so the end serves
  CHECK(s.told() == "A+22M:10M");
  s.get(10 * m);
  CHECK(s.told() == "^A+40M:20M; A+32M:10M");
  s.get(20 * m);  // an oversized request
  CHECK(s.told() == "A+0:20M");
}

TEST_CASE_TEMPLATE(
    "memory/expandable: mapped memory holds what is written, through growth and trim", M,
    chip::host::memory, npu::memory) {
  memory::caching_allocator<M,
                            memory::expandable<memory::plain_segments<>, 256 * k, 256 * k, 64 * m>,
                            memory::quick_lists<4 * k>>
      a;
  struct held {
    std::byte* p;
    std::size_t bytes;
    unsigned char mark;
  };
  std::vector<held> blocks;
  std::mt19937 random(1);
  int wrong = 0;
  for (int i = 0; i < 3000; ++i) {
    if (random() % 100 < (i / 300 % 2 == 0 ? 70U : 30U)) {
      const std::size_t bytes = 1 + random() % (200 * k);
      const auto mark = static_cast<unsigned char>(random());
      std::byte* const p = a.allocate(bytes);
      std::memset(p, mark, bytes);
      blocks.push_back({p, bytes, mark});
    } else if (!blocks.empty()) {
      const std::size_t which = random() % blocks.size();
      const auto [p, bytes, mark] = std::exchange(blocks[which], blocks.back());
      blocks.pop_back();
      for (const std::size_t at : {std::size_t{0}, bytes / 2, bytes - 1}) {
        wrong += p[at] != static_cast<std::byte>(mark);
      }
      a.deallocate(p, bytes);
    }
  }
  CHECK(wrong == 0);
  CHECK(a.stats().reserved <= a.stats().peak_reserved);
  for (const held& h : blocks) {
    a.deallocate(h.p, h.bytes);
  }
  a.release_cached();
  CHECK(a.stats().reserved == 0);
  // Larger than all addresses that were reserved at once: a range of its own.
  std::byte* const large = a.allocate(100 * m);
  large[0] = large[100 * m - 1] = std::byte{1};
  a.deallocate(large, 100 * m);
}
