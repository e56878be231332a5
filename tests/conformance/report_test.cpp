// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support/conformance.hpp"

namespace {

namespace al = ashlar;
namespace kit = ashlar::conformance;
using kit::verdict;

kit::report example() {
  return {
      .chip = "a<b>",
      .program = "kit",
      .cells = {{.op = "add", .type = al::dtype::float32, .result = verdict::pass, .samples = 24},
                {.op = "add", .type = al::dtype::boolean},
                {.op = "softmax",
                 .type = al::dtype::float32,
                 .result = verdict::fail,
                 .samples = 22,
                 .failed = 3,
                 .first = 17,
                 .what = "out=: got \"nan\" & want 1"}}};
}

kit::options parsed(std::vector<std::string> words, const kit::options& before = {}) {
  std::vector<char*> all;
  for (std::string& w : words) {
    all.push_back(w.data());
  }
  return kit::compiled<>::parse(static_cast<int>(all.size()), all.data(), before);
}

}  // namespace

TEST_CASE("conformance/report: as text, a row per operator and a line that runs a failure again") {
  const kit::report r = example();
  CHECK(r.text() ==
        "a<b>: 1 pass, 1 fail, 1 unsupported\n"
        "          float32     bool\n"
        "add       pass 24     -\n"
        "softmax   FAIL 3\n"
        "kit --op softmax --dtype float32 --sample 17\n"
        "    out=: got \"nan\" & want 1\n");
  CHECK_FALSE(r.ok());
  CHECK(r.find("add", al::dtype::float64) == nullptr);
}

TEST_CASE("conformance/report: JSON says the same") {
  const auto j = nlohmann::json::parse(example().json());
  CHECK(j["chip"] == "a<b>");
  CHECK(j["fail"] == 1);
  REQUIRE(j["cells"].size() == 3);
  CHECK(j["cells"][0]["samples"] == 24);
  CHECK(j["cells"][1]["result"] == "unsupported");
  CHECK(j["cells"][2]["what"] == "out=: got \"nan\" & want 1");
  CHECK(j["cells"][2]["reproduce"] == "kit --op softmax --dtype float32 --sample 17");
  CHECK(nlohmann::json::parse(kit::report{.chip = "none"}.json())["cells"].empty());
}

TEST_CASE("conformance/report: HTML stands alone and escapes what it shows") {
  const std::string page = example().html();
  CHECK(page.find("<h1>a&lt;b&gt;</h1>") != std::string::npos);
  CHECK(page.find("got &quot;nan&quot; &amp; want 1") != std::string::npos);
  CHECK(page.find("<td class=\"fail\"") != std::string::npos);
  for (const char* outside : {"http", "src=", "href=", "<script"}) {
    CHECK(page.find(outside) == std::string::npos);
  }
}

TEST_CASE("conformance/run: options are those of the line that reproduces a failure") {
  const kit::options o = parsed({"kit", "--op", "softmax", "--dtype", "float32", "--sample", "17"});
  CHECK(o.op == "softmax");
  CHECK(o.dtype == "float32");
  CHECK(o.sample == 17);
  CHECK(o.program == "kit");
  CHECK(parsed({"kit"}, {.same_bits = true}).same_bits);
  CHECK_THROWS_AS(parsed({"kit", "--operator", "add"}), al::argument_error);
  CHECK_THROWS_AS(parsed({"kit", "--op"}), al::argument_error);
  for (const char* sample : {"first", "-1", "1x", ""}) {
    CHECK_THROWS_AS(parsed({"kit", "--sample", sample}), al::argument_error);
  }
}

TEST_CASE("conformance/run: writes files, and says where it cannot") {
  const std::string json = "conformance_report_test.json";
  kit::compiled<>::finish(example(), {.print = false, .json = json});
  std::ifstream file(json);
  CHECK(std::string(std::istreambuf_iterator<char>(file), {}) == example().json());
  file.close();
  std::remove(json.c_str());
  CHECK_THROWS_AS(
      kit::compiled<>::finish(example(), {.print = false, .html = "no/such/folder/page.html"}),
      al::argument_error);
}

TEST_CASE("conformance/values: roundoff and grain are what numbers next to each other differ by") {
  for (int k = 0; k < al::dtype_count; ++k) {
    const auto d = static_cast<al::dtype>(k);
    if (!al::is_floating(d)) {
      CHECK(kit::roundoff(d) == 0);
      CHECK(kit::grain(d) == 0);
      continue;
    }
    CAPTURE(al::name_of(d));
    using kit::detail::rounded;
    CHECK(rounded(d, 1 + 2 * kit::roundoff(d)) == 1 + 2 * kit::roundoff(d));
    CHECK(rounded(d, 1 + kit::roundoff(d)) == 1);  // a tie
    CHECK(rounded(d, kit::grain(d)) == kit::grain(d));
    CHECK(rounded(d, kit::grain(d) / 2) == 0);
  }
}

TEST_CASE("conformance/values: elements stand where the geometry says, among canaries") {
  for (const kit::layout how :
       {kit::layout::dense, kit::layout::turned, kit::layout::gaps, kit::layout::expanded}) {
    for (const al::shape& s : {al::shape{}, {0}, {1}, {2, 3, 5}, {1, 4}}) {
      kit::array a = kit::make_array(s, al::dtype::float32, how, 64);
      for (std::int64_t i = 0; i < a.size(); ++i) {
        a.set(i, static_cast<double>(i) + 0.5);
      }
      const kit::numbers x = kit::dense(a);
      CHECK(x.extents == s);
      for (std::int64_t i = 0; how != kit::layout::expanded && i < x.size(); ++i) {
        CHECK(x[i] == static_cast<double>(i) + 0.5);
      }
      REQUIRE(a.spec.offset >= 16);
      CHECK(std::isnan(kit::detail::read(a.spec.type, a.bytes.data())));
      CHECK(std::isnan(kit::detail::read(a.spec.type, a.bytes.data() + a.bytes.size() - 4)));
      const auto first = static_cast<std::size_t>(a.spec.offset) * 4;
      CHECK((how == kit::layout::gaps) == (first % 64 != 0));
    }
  }
  CHECK_FALSE(kit::make_array({2, 3}, al::dtype::int8, kit::layout::expanded, 64).spec.contiguous);
}

TEST_CASE("conformance/values: numbers are rounded, wrapped and cut as elements are") {
  using kit::detail::rounded;
  CHECK(rounded(al::dtype::int8, 130) == -126);
  CHECK(rounded(al::dtype::uint8, -1) == 255);
  CHECK(rounded(al::dtype::int32, -2.9) == -2);
  CHECK(rounded(al::dtype::boolean, 0.25) == 1);
  CHECK(rounded(al::dtype::bfloat16, 1 + 0x1p-8) == 1);
  CHECK(rounded(al::dtype::bfloat16, 1 + 3 * 0x1p-8) == 1 + 0x1p-6);
  CHECK(std::isinf(rounded(al::dtype::float32, 1e39)));
}
