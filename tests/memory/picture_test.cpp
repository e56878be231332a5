// SPDX-License-Identifier: Apache-2.0
#include "ashlar/memory/picture.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "ashlar/memory/caching_allocator.hpp"
#include "memory/upstreams.hpp"
#include "support/browser.hpp"

using namespace ashlar;

namespace {

using upstream = upstreams::paper<4>;
using memory::kib, memory::mib;
using upstreams::held, upstreams::give_one, upstreams::give_all;
template <class... Policies>
using allocator = memory::caching_allocator<upstream, memory::recorded<512>, Policies...>;

/// Some requests under two labels, one of which must not break a page.
template <class A>
std::vector<held> work(A& a, int count) {
  static constexpr const char* names[] = {"weights", "</script><b>\"odd\" & <i>"};
  std::mt19937 random(1);
  std::vector<held> blocks;
  for (int i = 0; i < count; ++i) {
    if (blocks.size() < 10 || random() % 2 == 0) {
      const memory::label_scope scope(names[random() % 2]);
      const std::size_t bytes = 1 + random() % (600 * kib);
      blocks.push_back({a.allocate(bytes, i % 7 == 0 ? 1U : 0U), bytes});
    } else {
      give_one(a, blocks, random() % blocks.size());
    }
  }
  return blocks;
}

[[nodiscard, maybe_unused]] std::size_t count(std::string_view text, std::string_view what) {
  std::size_t n = 0;
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string_view::npos;
       at += what.size()) {
    ++n;
  }
  return n;
}

}  // namespace

TEST_CASE("memory/picture: JSON that another parser reads says what the allocator says") {
  upstream::reset();
  allocator<> a;
  const std::vector<held> blocks = work(a, 400);
  const memory::snapshot s = a.snapshot();
  const auto j = nlohmann::json::parse(memory::to_json(s));
  std::size_t reserved = 0, allocated = 0, requested = 0, in_use = 0;
  for (const auto& segment : j["segments"]) {
    std::uintptr_t next = segment["address"];
    reserved += segment["total_size"].get<std::size_t>();
    allocated += segment["allocated_size"].get<std::size_t>();
    for (const auto& b : segment["blocks"]) {
      CHECK(b["address"] == next);
      next += b["size"].get<std::size_t>();
      requested += b["requested_size"].get<std::size_t>();
      in_use += b["state"] == "active_allocated";
    }
    CHECK(next ==
          segment["address"].get<std::uintptr_t>() + segment["total_size"].get<std::size_t>());
  }
  CHECK(reserved == a.stats().reserved);
  CHECK(allocated == a.stats().allocated);
  CHECK(requested == a.stats().requested);
  CHECK(in_use == blocks.size());
  CHECK(j["stats"]["peak_reserved"] == a.stats().peak_reserved);
  REQUIRE(j["device_traces"][0].size() == s.actions.size());
  CHECK(j["device_traces"][0].back()["action"] == "snapshot");
  for (std::size_t i = 0; i < s.actions.size(); ++i) {
    const auto& e = j["device_traces"][0][i];
    CHECK(e["action"] == memory::name_of(s.actions[i].what));
    CHECK(e["addr"] == s.actions[i].address);
    CHECK(e.value("label", "") == (s.actions[i].label != nullptr ? s.actions[i].label : ""));
  }
  give_all(a, blocks);
}

TEST_CASE("memory/picture: the history worked out backwards is what was seen on the way") {
  upstream::reset();
  allocator<memory::expandable<memory::plain_segments<>, 256 * kib, 256 * kib, 64 * mib>> a;
  std::mt19937 random(2);
  std::vector<held> blocks;
  std::vector<std::array<std::size_t, 4>> seen;  // number of the next action, what stats say
  for (int i = 0; i < 2000; ++i) {
    if (blocks.size() < 30 || random() % 2 == 0) {
      const std::size_t bytes = 1 + random() % (300 * kib);
      blocks.push_back({a.allocate(bytes), bytes});
    } else {
      give_one(a, blocks, random() % blocks.size());
    }
    std::size_t largest = 0;
    for (const memory::block_info& b : a.blocks()) {
      largest = std::max(largest, b.is == memory::block_info::state::free ? b.bytes : 0);
    }
    seen.push_back({static_cast<std::size_t>(a.actions().back().number + 1), a.stats().reserved,
                    a.stats().allocated, largest});
  }
  const memory::snapshot s = a.snapshot();
  REQUIRE(s.actions.size() == 512);
  REQUIRE(s.actions.front().number > 0);  // the oldest actions are lost
  const memory::detail::history past(s, 512);
  std::size_t compared = 0;
  for (const auto& m : past.moments) {
    for (const auto& [number, reserved, in_use, largest] : seen) {
      if (number == m.number) {
        CHECK(m.reserved == reserved);
        CHECK(m.in_use == in_use);
        CHECK(m.largest_free == largest);
        ++compared;
      }
    }
  }
  CHECK(compared > 100);
  give_all(a, blocks);
}

TEST_CASE("memory/picture: an allocator without blocks or records has a page, too") {
  upstream::reset();
  memory::caching_allocator<upstream> a;
  CHECK(nlohmann::json::parse(memory::to_json(a.snapshot()))["segments"].empty());
  const std::string html = memory::to_html(a.snapshot());
  CHECK(html.find("http") == html.find("http-equiv"));  // nothing is fetched
  allocator<> b;
  CHECK(memory::to_html(b.snapshot()).size() > html.size() - 10);
}

TEST_CASE("memory/picture: a browser draws every block and answers to events") {
#ifndef ASHLAR_CHROMIUM
  MESSAGE("SKIPPED: memory/picture in a browser: no Chromium where this was configured");
#else
  upstream::reset();
  allocator<> a;
  const std::vector<held> blocks = work(a, 300);
  const memory::snapshot s = a.snapshot();
  const std::string html = memory::to_html(s, "A <title>");
  CHECK(count(html, "</script>") == 2);
  CHECK(html.find("src=") == std::string::npos);
  CHECK(html.find("href=") == std::string::npos);
  const std::string dom = browser::rendered(browser::with_script(html, R"js(
    document.title = ['map', 'space'].map(id => document.querySelectorAll(`#${id} rect`).length)
      .concat(['labels', 'curve'].map(id => document.querySelectorAll(`#${id} path`).length))
      .join(' ');
    const note = text => document.body.appendChild(document.createElement('pre')).textContent = text;
    document.querySelector('#map rect').dispatchEvent(new MouseEvent('click'));
    note('first: ' + document.getElementById('details').textContent);
    document.querySelector('#legend span').dispatchEvent(new MouseEvent('click'));
    note('dimmed: ' + document.querySelectorAll('.dim').length);
    document.querySelector('#legend span').dispatchEvent(new MouseEvent('click'));
    note('dimmed again: ' + document.querySelectorAll('.dim').length);
    document.querySelector('#curve svg').dispatchEvent(
      new MouseEvent('mousemove', {clientX: 500, bubbles: true}));
    note('moment: ' + document.getElementById('details').textContent);
  )js"));
  if (dom.find("</html>") == std::string::npos) {
    MESSAGE("SKIPPED: memory/picture in a browser: Chromium does not start here");
  } else {
    const memory::detail::history past(s, 400);
    // The lines: a label's area or a curve each, and the cursor.
    CHECK(dom.find("<title>" + std::to_string(s.blocks.size()) + " " +
                   std::to_string(past.spans.size()) + " 3 4</title>") != std::string::npos);
    CHECK(dom.find("<h1>A &lt;title&gt;</h1>") != std::string::npos);
    CHECK(dom.find("first: ") != std::string::npos);
    CHECK(count(dom, "segment of ") >= 1);
    CHECK(dom.find("dimmed: 0<") == std::string::npos);
    CHECK(dom.find("dimmed again: 0<") != std::string::npos);
    CHECK(dom.find("moment: action ") != std::string::npos);
    CHECK(dom.find("% fragmented") != std::string::npos);
    CHECK(dom.find("&lt;/script&gt;&lt;b&gt;\"odd\" &amp; &lt;i&gt;") != std::string::npos);
  }
  give_all(a, blocks);
#endif
}
