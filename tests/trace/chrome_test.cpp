// SPDX-License-Identifier: Apache-2.0
#include "ashlar/trace/chrome.hpp"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>

namespace trace = ashlar::trace;

TEST_CASE("trace/timeline: busy time counts overlapping events once") {
  trace::timeline t;
  CHECK(t.end() == 0);
  CHECK(t.busy(0, 0) == 0);
  t.add({"a", "", 0, 0, 10, 5});
  t.add({"b", "", 0, 0, 12, 10});
  t.add({"c", "", 0, 0, 13, 1});
  t.add({"other lane", "", 0, 1, 0, 100});
  t.add({"d", "", 0, 0, 30, 2});
  CHECK(t.busy(0, 0) == 14);
  CHECK(t.busy(0, 1) == 100);
  CHECK(t.busy(1, 0) == 0);
  CHECK(t.end() == 100);
}

TEST_CASE("trace/chrome: the document is JSON with one complete event per event") {
  trace::timeline t;
  t.ticks_per_microsecond = 1000;
  t.name_lane(0, 2, "matrix");
  t.name_lane(0, 2, "matrix unit");
  t.add({"mma", "compute", 0, 2, 1500, 250, {{"index", "7"}, {"source", "dot \"acc\"\n\\ \x01"}}});
  t.add({"nothing", "", 0, 2, 0, 0});
  const auto json = nlohmann::json::parse(trace::to_chrome_trace(t));
  const auto& events = json.at("traceEvents");
  REQUIRE(events.size() == 4);
  CHECK(events[0].at("args").at("name") == "matrix unit");
  CHECK(events[2].at("ph") == "X");
  CHECK(events[2].at("ts") == 1.5);
  CHECK(events[2].at("dur") == 0.25);
  CHECK(events[2].at("tid") == 2);
  CHECK(events[2].at("args").at("source") == "dot \"acc\"\n\\ \x01");
  CHECK_FALSE(events[3].contains("cat"));
}

TEST_CASE("trace/chrome: an empty timeline is a document without events") {
  const auto json = nlohmann::json::parse(trace::to_chrome_trace({}));
  CHECK(json.at("traceEvents").empty());
}

TEST_CASE("trace/chrome: every byte sequence becomes a valid JSON string") {
  for (int first = 0; first < 256; ++first) {
    for (const int second : {-1, 0x41, 0x80, 0x90, 0xa0, 0xbf, 0xff}) {
      std::string name(1, static_cast<char>(first));
      if (second >= 0) {
        name += static_cast<char>(second);
      }
      std::string text;
      trace::append_json_string(text, name + "\xbf\xbf.");
      CHECK(nlohmann::json::accept(text));
    }
  }
  std::string text;
  trace::append_json_string(text, "\xc3\xbc\xe2\x82\xac\xf0\x9f\x99\x82");
  CHECK(nlohmann::json::parse(text) == "\xc3\xbc\xe2\x82\xac\xf0\x9f\x99\x82");
  text.clear();
  trace::append_json_string(text, "\xed\xa0\x80 \xc0\xaf \xf4\x90\x80\x80");
  CHECK(text.find('\xed') == std::string::npos);
}
