// SPDX-License-Identifier: Apache-2.0
#include "ashlar/io/safetensors.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "io/io_support.hpp"

namespace io = ashlar::io;
using namespace io_test;
using io::storage_format;

namespace {

std::string with_header(std::string_view header, std::string_view data = {}) {
  return builder().text(header).raw(data).bytes;
}

struct sample {
  std::string floats = std::string(24, 'f');
  std::string halves = std::string(8, 'h');
  std::string flags = std::string("\1\0\1", 3);
  std::vector<io::tensor_entry> entries{
      {"flags", storage_format::boolean, {3}, bytes_of(flags)},
      {"z", storage_format::float32, {2, 3}, bytes_of(floats)},
      {"none", storage_format::float16, {0, 4}, {}},
      {"a", storage_format::float32, {}, bytes_of(floats).first(4)},
      {"b\"\n\xc3\xbc", storage_format::bfloat16, {4}, bytes_of(halves)}};
};

}  // namespace

TEST_CASE("io/safetensors: what is written comes back, scalars and empty tensors too") {
  const scratch folder;
  const sample s;
  const io::safetensors::metadata_map metadata{{"format", "pt"}, {"quote\"", "line\n"}};
  io::safetensors::write(folder / "a", s.entries, metadata);
  const auto file = io::safetensors::open(folder / "a");
  CHECK(file.metadata() == metadata);
  REQUIRE(file.entries().size() == s.entries.size());
  for (const io::tensor_entry& entry : s.entries) {
    const io::tensor_entry* read = file.find(entry.name);
    REQUIRE(read != nullptr);
    CHECK(read->format == entry.format);
    CHECK(read->extents == entry.extents);
    CHECK(
        std::equal(read->bytes.begin(), read->bytes.end(), entry.bytes.begin(), entry.bytes.end()));
  }
  CHECK(file.find("absent") == nullptr);
  CHECK_THROWS_AS(static_cast<void>(file.entries().at("absent")), ashlar::argument_error);
}

TEST_CASE("io/safetensors: every element type of the library has a name in the format") {
  const scratch folder;
  const std::string bytes(8, '\1');
  std::vector<io::tensor_entry> entries;
  for (int d = 0; d < ashlar::dtype_count; ++d) {
    const auto type = static_cast<ashlar::dtype>(d);
    entries.push_back({std::string(ashlar::name_of(type)),
                       io::storage_of(type),
                       {1},
                       bytes_of(bytes).first(ashlar::size_of(type))});
  }
  io::safetensors::write(folder / "a", entries);
  const auto file = io::safetensors::open(folder / "a");
  for (const io::tensor_entry& entry : entries) {
    CHECK(file.entries().at(entry.name).format == entry.format);
  }
}

TEST_CASE("io/safetensors: the same tensors in any order give the same bytes, aligned and padded") {
  const scratch folder;
  sample s;
  io::safetensors::write(folder / "a", s.entries);
  std::reverse(s.entries.begin(), s.entries.end());
  io::safetensors::write(folder / "b", s.entries);
  const std::string bytes = read_all(folder / "a");
  CHECK(bytes == read_all(folder / "b"));
  CHECK(static_cast<unsigned char>(bytes[0]) % 8 == 0);
  const auto file = io::safetensors::open(folder / "a");
  std::vector<std::string> names;
  for (const io::tensor_entry& entry : file.entries()) {
    names.push_back(entry.name);
  }
  // widest type first, then by name; the empty tensor stands where its type does
  CHECK(names == std::vector<std::string>{"a", "z", "b\"\n\xc3\xbc", "none", "flags"});
  CHECK(io::elements<float>(file.entries().at("z")).size() == 6);
}

TEST_CASE(
    "io/safetensors: files of other writers are read, with spaces around and holes of size 0") {
  CHECK(io::safetensors(bytes_of(with_header("{}"))).entries().empty());
  CHECK(io::safetensors(bytes_of(with_header(" \n{} \t  "))).entries().empty());
  CHECK(io::safetensors(bytes_of(with_header(R"({"__metadata__":null})"))).metadata().empty());
  const std::string text = with_header(
      R"({"e":{"shape":[0],"dtype":"F32","data_offsets":[2,2]},"b":{"data_offsets":[2,3],)"
      R"("dtype":"I8","shape":[1],"later":"addition"},"a":{"dtype":"U8","shape":[2],)"
      R"("data_offsets":[0,2]}})",
      "xyz");
  const io::safetensors file(bytes_of(text));
  REQUIRE(file.entries().size() == 3);
  CHECK(file.find("b")->bytes[0] == std::byte{'z'});
  CHECK(file.find("e")->bytes.empty());
}

TEST_CASE("io/safetensors: a reader that moved still points into its mapping") {
  const scratch folder;
  io::safetensors::write(folder / "a", sample().entries);
  auto first = io::safetensors::open(folder / "a");
  const io::safetensors second = std::move(first);
  CHECK(second.find("z")->bytes[0] == std::byte{'f'});
}

TEST_CASE("io/safetensors: what cannot be written is refused, and nothing is left behind") {
  const scratch folder;
  const std::string bytes(4, 'x');
  const auto refused = [&](std::vector<io::tensor_entry> entries,
                           const io::safetensors::metadata_map& metadata = {}) {
    CHECK_THROWS_AS(io::safetensors::write(folder / "a", entries, metadata),
                    ashlar::argument_error);
    CHECK(std::filesystem::is_empty(folder.path()));
  };
  refused({{"a", storage_format::float32, {2}, bytes_of(bytes)}});
  refused({{"a", storage_format::float32, {1}, bytes_of(bytes)},
           {"a", storage_format::int8, {4}, bytes_of(bytes)}});
  refused({{"__metadata__", storage_format::float32, {1}, bytes_of(bytes)}});
  refused({{"\xff", storage_format::float32, {1}, bytes_of(bytes)}});
  refused({}, {{"a", "\xff"}});
  refused({{"a", storage_format::q8_0, {32}, bytes_of(std::string(34, ' '))}});
}
