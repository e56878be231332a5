// SPDX-License-Identifier: Apache-2.0
#include "ashlar/io/gguf.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "ashlar/io/gguf_write.hpp"
#include "io/io_support.hpp"

namespace io = ashlar::io;
using namespace io_test;
using io::storage_format;

namespace {

std::vector<io::gguf_pair> every_type() {
  const io::gguf_array inner{std::vector<std::int32_t>{-1, 2}};
  return {{"u8", std::uint8_t{255}},
          {"i8", std::int8_t{-128}},
          {"u16", std::uint16_t{65535}},
          {"i16", std::int16_t{-32768}},
          {"u32", std::uint32_t{4294967295}},
          {"i32", std::numeric_limits<std::int32_t>::min()},
          {"f32", 1.5F},
          {"bool", true},
          {"string", std::string("\xc3\xbc\0x", 4)},
          {"u64", std::numeric_limits<std::uint64_t>::max()},
          {"i64", std::numeric_limits<std::int64_t>::min()},
          {"f64", -2.25},
          {"strings", io::gguf_array{std::vector<std::string>{"", "a", "bc"}}},
          {"bools", io::gguf_array{std::vector<bool>{true, false}}},
          {"floats", io::gguf_array{std::vector<float>{}}},
          {"nested", io::gguf_array{std::vector<io::gguf_array>{
                         inner, io::gguf_array{std::vector<std::string>{"deep"}}}}}};
}

}  // namespace

TEST_CASE("io/gguf: every type of value comes back, nested arrays too") {
  const scratch folder;
  io::write_gguf(folder / "a", every_type(), {});
  const auto file = io::gguf::open(folder / "a");
  CHECK(file.version() == 3);
  CHECK(file.metadata() == every_type());
  CHECK(file.entries().empty());
}

TEST_CASE("io/gguf: get converts where the number fits, and names the key where it does not") {
  const scratch folder;
  io::write_gguf(folder / "a", every_type(), {});
  const auto file = io::gguf::open(folder / "a");
  CHECK(file.get<std::int64_t>("u8") == 255);
  CHECK(file.get<std::uint64_t>("u32") == 4294967295);
  CHECK(file.get<double>("f32") == 1.5);
  CHECK(file.get<float>("f64") == -2.25F);
  CHECK(file.get<std::vector<std::string>>("strings").size() == 3);
  CHECK(!file.get_if<int>("absent"));
  const auto field = [](auto read) { return rejected_field(read); };
  CHECK(field([&] { return file.get<int>("absent"); }) == "gguf: absent");
  CHECK(field([&] { return file.get<std::int32_t>("u32"); }) == "gguf: u32");
  CHECK(field([&] { return file.get<std::uint8_t>("i8"); }) == "gguf: i8");
  CHECK(field([&] { return file.get<int>("bool"); }) == "gguf: bool");
  CHECK(field([&] { return file.get<bool>("u8"); }) == "gguf: u8");
  CHECK(field([&] { return file.get<double>("u8"); }) == "gguf: u8");
  CHECK(field([&] { return file.get<std::string>("strings"); }) == "gguf: strings");
  CHECK(field([&] { return file.get<std::vector<int>>("strings"); }) == "gguf: strings");
  try {
    static_cast<void>(file.get<int>("absent"));
  } catch (const io::format_error& e) {
    CHECK(e.path == (folder / "a").string());
  }
}

TEST_CASE("io/gguf: tensors come back outermost extent first, in every format that has a number") {
  const scratch folder;
  const std::string data(4096, 'd');
  std::vector<io::tensor_entry> entries;
  for (const auto format :
       {storage_format::float32, storage_format::float16, storage_format::bfloat16,
        storage_format::float64, storage_format::int8, storage_format::int32, storage_format::int64,
        storage_format::q8_0, storage_format::q4_0, storage_format::q4_k, storage_format::q6_k}) {
    const ashlar::shape extents{1, 2, 256};
    const auto size = static_cast<std::size_t>(*io::byte_count(format, extents));
    entries.push_back(
        {std::string(io::name_of(format)), format, extents, bytes_of(data).first(size)});
  }
  entries.push_back({"scalar", storage_format::float32, {}, bytes_of(data).first(4)});
  entries.push_back({"empty", storage_format::float32, {3, 0}, {}});
  entries.push_back({"last", storage_format::int8, {5}, bytes_of(data).first(5)});
  for (const std::uint32_t alignment : {1u, 8u, 32u, 4096u}) {
    const std::vector<io::gguf_pair> metadata{{"general.alignment", alignment}};
    io::write_gguf(folder / "a", metadata, entries);
    const auto file = io::gguf::open(folder / "a");
    CHECK(file.alignment() == alignment);
    REQUIRE(file.entries().size() == entries.size());
    for (std::size_t i = 0; i < entries.size(); ++i) {
      const io::tensor_entry& read = file.entries()[i];
      CHECK(read.name == entries[i].name);
      CHECK(read.format == entries[i].format);
      CHECK(read.extents == entries[i].extents);
      CHECK(std::equal(read.bytes.begin(), read.bytes.end(), entries[i].bytes.begin(),
                       entries[i].bytes.end()));
    }
  }
}

TEST_CASE("io/gguf: version 2 and a file without padding at its end are read") {
  const auto make = [](std::uint32_t version) {
    return builder().raw("GGUF").put(version).put(std::uint64_t{1}).put(std::uint64_t{0});
  };
  builder file = make(2);
  file.text("w").put(std::uint32_t{1}).put(std::uint64_t{3}).put(std::uint32_t{24});
  file.put(std::uint64_t{0}).pad(32).raw("abc");
  const io::gguf read(bytes_of(file.bytes));
  CHECK(read.version() == 2);
  CHECK(read.find("w")->bytes[2] == std::byte{'c'});
}

TEST_CASE("io/gguf: what cannot be written is refused") {
  const scratch folder;
  const std::string bytes(4, 'x');
  const auto refused = [&](std::vector<io::gguf_pair> metadata,
                           std::vector<io::tensor_entry> entries) {
    CHECK_THROWS_AS(io::write_gguf(folder / "a", metadata, entries), ashlar::argument_error);
    CHECK(std::filesystem::is_empty(folder.path()));
  };
  refused({{"", true}}, {});
  refused({{"a", true}, {"a", false}}, {});
  refused({{"general.alignment", std::uint32_t{24}}}, {});
  refused({{"general.alignment", std::uint64_t{32}}}, {});
  refused({}, {{"a", storage_format::float32, {2}, bytes_of(bytes)}});
  refused({}, {{"a", storage_format::uint8, {4}, bytes_of(bytes)}});
  refused({}, {{"a", storage_format::int8, {1, 1, 1, 1, 4}, bytes_of(bytes)}});
  refused({}, {{std::string(64, 'n'), storage_format::int8, {4}, bytes_of(bytes)}});
  refused({}, {{"a", storage_format::int8, {4}, bytes_of(bytes)},
               {"a", storage_format::int8, {4}, bytes_of(bytes)}});
}
