// SPDX-License-Identifier: Apache-2.0
#include "ashlar/chip/autotune.hpp"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "ashlar/chip/host/codegen.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/io/tuning_file.hpp"
#include "ashlar/tile/interpret.hpp"
#include "chip/host_support.hpp"
#include "io/io_support.hpp"
#include "support/tile_kernels.hpp"

namespace al = ashlar;
namespace chip = ashlar::chip;
using al::io::tuning_file;
using io_test::read_all;
using io_test::scratch;
using io_test::write_all;

namespace {

/// The clock of these tests: each launch says what it costs.
struct told {
  template <class F>
  double operator()(const F& launch) {
    now = 0;
    launch();
    ++measured;
    return now;
  }
  static inline double now = 0;
  static inline int measured = 0;
};

constexpr al::chip_description toy{.name = "toy"};

using tuner = chip::autotuner<tuning_file, told>;

tuning_file::key key_of(const std::string& shape, const std::string& kernel = "k") {
  return {"c", kernel, shape};
}

std::string valid_text() {
  const scratch folder;
  tuning_file file(folder / "t");
  file.record({"npu#1", "matmul", "512x512"}, {"8x32x128", 0.25});
  file.record({"npu#1", "matmul", "1x512"}, {"1x\"64\\", 1e-9});
  file.record({"npu#1", "softmax", "64"}, {"64", 3});
  file.record({"host", "softmax", "64"}, {"128", 1e300});
  return read_all(folder / "t");
}

}  // namespace

TEST_CASE("chip/autotune: the cheapest choice is found once for a class of shapes") {
  const scratch folder;
  tuning_file file(folder / "tuning.json");
  tuner tune(file, toy);
  std::map<int, int> launched;
  const auto launch = [&](auto block) {
    ++launched[block];
    told::now = block == 32 ? 1.5 : 2.5 + block;
  };
  told::measured = 0;
  CHECK(tune.find<16, 32, 64>("kernel", {100, 7}, launch) == 1);
  CHECK(told::measured == 3);
  CHECK(tune.find<16, 32, 64>("kernel", {128, 5}, launch) == 1);  // the same class
  CHECK(told::measured == 3);
  tune.run<64, 32>("kernel", {65, 8}, launch);  // the winner is on this list, too
  CHECK(told::measured == 3);
  CHECK(launched[32] == 2);
  CHECK(tune.find<16, 64>("kernel", {100, 7}, launch) == 0);  // the winner is not
  CHECK(told::measured == 5);
  CHECK(tune.find<16, 32>("kernel", {129, 7}, launch) == 1);  // another class
  CHECK(tune.find<16, 32>("other", {129, 7}, launch) == 1);   // another kernel
  CHECK(told::measured == 9);
  al::chip_description changed = toy;
  changed.scratchpad_bytes *= 2;
  CHECK(tuner(file, changed).find<16, 32>("kernel", {129, 7}, launch) == 1);
  CHECK(tuner(file, toy, {}, "elsewhere").find<16, 32>("kernel", {129, 7}, launch) == 1);
  CHECK(told::measured == 13);
}

TEST_CASE("chip/autotune: launches go to the fastest blocks") {
  const scratch folder;
  std::vector<int> rows;
  const auto launch = [&](auto b) {
    rows.push_back(b().m);
    told::now = 100.0 / b().m;
  };
  constexpr chip::matmul_blocks flat{8, 32, 128};
  constexpr chip::matmul_blocks square{64, 64, 64};
  al::io::tuning_file winners(folder / "tuning.json");
  chip::autotuner<al::io::tuning_file, told> tune(winners, toy);
  tune.run<flat, square>("matmul", {512, 512, 512}, launch);  // measures both, then launches
  CHECK(rows == std::vector{8, 64, 64});
}

TEST_CASE("chip/autotune: a winner is used after the file is read again") {
  const scratch folder;
  constexpr chip::matmul_blocks small{8, 32, 128};
  constexpr chip::matmul_blocks large{64, 64, 64};
  const auto first = [](auto b) { told::now = b().m == 64 ? 1 : 2; };
  const auto reversed = [](auto b) { told::now = b().m == 64 ? 2 : 1; };
  {
    tuning_file file(folder / "tuning.json");
    CHECK(tuner(file, toy).find<small, large>("matmul", {512, 512, 512}, first) == 1);
  }
  tuning_file file(folder / "tuning.json");
  told::measured = 0;
  CHECK(tuner(file, toy).find<small, large>("matmul", {512, 512, 512}, reversed) == 1);
  CHECK(told::measured == 0);
  const auto kept = file.find({chip::tuning_name(toy), "matmul", "512x512x512"});
  CHECK(kept == tuning_file::winner{"64x64x64", 1});
}

// Which one wins is the machine's matter; that it is remembered, and right, is not.
TEST_CASE("chip/autotune: the wall clock chooses between blocks of a kernel of the host") {
  const scratch folder;
  constexpr std::int64_t rows = 16;
  constexpr std::int64_t n = 300;
  const auto x = host_test::random<float>({rows, n}, 5);
  host_test::array<float> y({rows, n});
  std::map<int, int> launched;
  const auto launch = [&](auto block) {
    ++launched[block];
    chip::launch<tile_kernels::softmax<block>>({rows, 1, 1}, x.in(), y.out());
  };
  std::size_t best = 2;
  {
    tuning_file file(folder / "tuning.json");
    chip::autotuner<tuning_file> tune(file, chip::host::description);
    best = tune.find<16, 64>("softmax", {rows, n}, launch);
    REQUIRE(best < 2);
    // One launch that does not count, and five that do.
    CHECK(launched == std::map<int, int>{{16, 6}, {64, 6}});
    const auto winner =
        file.find({chip::tuning_name(chip::host::description), "softmax", "16x512"});
    REQUIRE(winner.has_value());
    CHECK(winner->choice == (best == 0 ? "16" : "64"));
    CHECK(winner->cost > 0);
  }
  tuning_file file(folder / "tuning.json");
  chip::autotuner<tuning_file> tune(file, chip::host::description);
  host_test::array<float> expected({rows, n});
  al::tile::interpret<chip::host_codegen::host_math>(
      best == 0 ? al::tile::program_of<tile_kernels::softmax<16>>
                : al::tile::program_of<tile_kernels::softmax<64>>,
      {rows, 1, 1}, {al::tile::argument(x.in()), al::tile::argument(expected.out())});
  y = host_test::array<float>({rows, n});
  tune.run<16, 64>("softmax", {rows, n}, launch);
  CHECK(launched[16] + launched[64] == 13);
  CHECK(host_test::same_bits(y, expected));
}

TEST_CASE("chip/autotune: a choice that fails is out, and of equal ones the first wins") {
  const scratch folder;
  tuning_file file(folder / "tuning.json");
  tuner tune(file, toy);
  const auto bad = [](auto block) {
    if (block == 16) {
      throw al::argument_error("kernel", "does not fit");
    }
    told::now = block == 32 ? std::numeric_limits<double>::quiet_NaN() : 4;
  };
  CHECK(tune.find<16, 32, 64, 128>("kernel", {1}, bad) == 2);
  CHECK_THROWS_WITH_AS((tune.find<16, 32>("kernel", {7}, bad)), "kernel: does not fit",
                       al::argument_error);
  CHECK_THROWS_AS((tune.find<32>("kernel", {7}, bad)), al::argument_error);
  const auto stranger = [](auto) { throw std::runtime_error("not ours"); };
  CHECK_THROWS_AS((tune.find<32>("kernel", {7}, stranger)), std::runtime_error);
  CHECK(file.size() == 1);
}

TEST_CASE("chip/autotune: classes of shapes are powers of two") {
  const auto of = [](std::initializer_list<std::int64_t> e) {
    return chip::shape_class({e.begin(), e.size()});
  };
  CHECK(of({}) == "scalar");
  CHECK(of({0, 1, 2, 3, 64, 65}) == "0x1x2x4x64x128");
  CHECK(of({std::numeric_limits<std::int64_t>::max()}) == "9223372036854775808");
  CHECK_THROWS_AS(of({-1}), al::argument_error);
  CHECK(chip::wall_clock{2}([] {}) >= 0);
}

TEST_CASE("io/tuning_file: what is recorded is there when the file is read again") {
  const scratch folder;
  write_all(folder / "t", valid_text());
  tuning_file file(folder / "t");
  CHECK(file.size() == 4);
  CHECK(file.find({"npu#1", "matmul", "1x512"}) == tuning_file::winner{"1x\"64\\", 1e-9});
  CHECK(file.find({"host", "softmax", "64"}) == tuning_file::winner{"128", 1e300});
  CHECK(file.find({"host", "matmul", "64"}) == std::nullopt);
  file.record({"host", "softmax", "64"}, {"256", 2});
  CHECK(tuning_file(folder / "t").find({"host", "softmax", "64"})->choice == "256");
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    CHECK(entry.path().filename().string().find(".tmp.") == std::string::npos);
  }
  write_all(folder / "empty", "");
  CHECK(tuning_file(folder / "empty").size() == 0);
}

TEST_CASE("io/tuning_file: names and costs are checked before anything is written") {
  const scratch folder;
  tuning_file file(folder / "t");
  for (const std::string& name :
       {std::string(), std::string(201, 'x'), std::string("a\nb"), std::string("\xff")}) {
    CHECK_THROWS_AS(file.record({name, "k", "s"}, {"c", 1}), al::argument_error);
    CHECK_THROWS_AS(file.record({"c", name, "s"}, {"c", 1}), al::argument_error);
    CHECK_THROWS_AS(file.record({"c", "k", name}, {"c", 1}), al::argument_error);
    CHECK_THROWS_AS(file.record({"c", "k", "s"}, {name, 1}), al::argument_error);
  }
  for (const double cost :
       {-1.0, std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    CHECK_THROWS_AS(file.record({"c", "k", "s"}, {"c", cost}), al::argument_error);
  }
  CHECK(!std::filesystem::exists(folder / "t"));
  CHECK_THROWS_AS(tuning_file(folder / "no/such").record(key_of("s"), {"c", 1}),
                  al::io::file_error);
  CHECK_THROWS_AS(tuning_file(folder.path()), al::io::file_error);
}

TEST_CASE("io/tuning_file: a foreign or damaged file is an error and stays as it is") {
  const scratch folder;
  const std::string good = valid_text();
  write_all(folder / "t", good);
  tuning_file open(folder / "t");
  std::mt19937 random(7);
  int rejected = 0;
  int tried = 0;
  const auto attempt = [&](const std::string& bytes) {
    write_all(folder / "t", bytes);
    ++tried;
    try {
      const tuning_file again(folder / "t");
      CHECK(again.size() <= 5);
    } catch (const al::io::format_error& e) {
      ++rejected;
      CHECK(e.format == "ashlar-tuning");
      CHECK(e.path == (folder / "t").string());
      CHECK(!e.reason.empty());
      if (tried % 64 == 0) {
        CHECK_THROWS_AS(open.record(key_of("s"), {"c", 1}), al::io::format_error);
        CHECK(read_all(folder / "t") == bytes);
        CHECK(open.size() == 4);
      }
    }
  };
  for (std::size_t n = 1; n < good.size(); ++n) {
    attempt(good.substr(0, n));
  }
  CHECK(rejected >= tried - 1);  // only the last newline may be missing
  for (int i = 0; i < 600; ++i) {
    std::string damaged = good;
    for (unsigned k = 0; k <= random() % 3; ++k) {
      damaged[random() % damaged.size()] = static_cast<char>(random() % 256);
    }
    attempt(damaged);
  }
  for (const char* text :
       {"[]", "{}", "null", "{\"format\":\"safetensors\",\"version\":1,\"chips\":{}}",
        "{\"format\":\"ashlar-tuning\",\"version\":2,\"chips\":{}}",
        "{\"format\":\"ashlar-tuning\",\"version\":1,\"chips\":[]}",
        "{\"format\":\"ashlar-tuning\",\"version\":1}",
        "{\"format\":\"ashlar-tuning\",\"version\":1,\"chips\":{\"c\":{\"k\":{\"s\":1}}}}",
        "{\"format\":\"ashlar-tuning\",\"version\":1,"
        "\"chips\":{\"c\":{\"k\":{\"s\":{\"choice\":\"x\",\"cost\":-1}}}}}",
        "{\"format\":\"ashlar-tuning\",\"version\":1,"
        "\"chips\":{\"c\":{\"k\":{\"s\":{\"choice\":\"\",\"cost\":1}}}}}"}) {
    CAPTURE(text);
    const int before = rejected;
    attempt(text);
    CHECK(rejected == before + 1);
  }
  attempt(std::string(100000, '[') + "}");
  std::string deep = "{\"chips\":";
  for (int i = 0; i < 100000; ++i) {
    deep += "{\"a\":";
  }
  attempt(deep);
}

TEST_CASE("io/tuning_file: threads and processes that record at once lose nothing") {
  const scratch folder;
  const std::filesystem::path path = folder / "t";
  write_all(path.string() + ".tmp.1.0", "a writer that died");
  constexpr int writers = 3;
  constexpr int each = 8;
  std::vector<pid_t> children;
  for (int w = 0; w < writers; ++w) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      int wrong = 0;
      try {
        tuning_file file(path);
        for (int i = 0; i < each; ++i) {
          file.record(key_of(std::to_string(i), "process" + std::to_string(w)),
                      {std::to_string(i), 1.0 + i});
          wrong += file.find(key_of("0", "process" + std::to_string(w))) ? 0 : 1;
        }
      } catch (...) {
        wrong = 1;
      }
      ::_exit(wrong);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
  }
  tuning_file own(path);
  std::vector<std::thread> threads;
  for (int w = 0; w < writers; ++w) {
    threads.emplace_back([&, w] {
      tuning_file other(path);
      for (int i = 0; i < each; ++i) {
        const auto k = key_of(std::to_string(i), "thread" + std::to_string(w));
        (i % 2 == 0 ? own : other).record(k, {"x", 1});
      }
    });
  }
  for (std::thread& t : threads) {
    t.join();
  }
  tuning_file all(path);
  CHECK(all.size() == 2 * writers * each);
  CHECK(all.find(key_of("7", "process2"))->choice == "7");
  own.reload();
  CHECK(own.size() == 2 * writers * each);
}
