// SPDX-License-Identifier: Apache-2.0
#include "ashlar/io/file.hpp"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <string>
#include <utility>

#include "io/io_support.hpp"

namespace io = ashlar::io;
using namespace io_test;

namespace {

int error_of(const std::filesystem::path& path) {
  try {
    const io::mapped_file file(path);
  } catch (const io::file_error& e) {
    CHECK(e.path == path.string());
    CHECK(std::string(e.what()).find(path.string()) != std::string::npos);
    return e.code.value();
  }
  return 0;
}

}  // namespace

TEST_CASE("io/file: what cannot be mapped is named with the reason") {
  const scratch folder;
  CHECK(error_of(folder / "absent") == ENOENT);
  CHECK(error_of(folder.path()) == EISDIR);
  CHECK(error_of("/dev/null") == EINVAL);
}

TEST_CASE("io/file: a mapping holds the bytes of the file and moves without moving them") {
  const scratch folder;
  write_all(folder / "a", "twelve bytes");
  write_all(folder / "empty", "");
  io::mapped_file a(folder / "a");
  const auto* const address = a.bytes().data();
  CHECK(a.text() == "twelve bytes");
  io::mapped_file b(std::move(a));
  CHECK(b.bytes().data() == address);
  CHECK(a.bytes().empty());
  a = std::move(b);
  CHECK(a.text() == "twelve bytes");
  CHECK(io::mapped_file(folder / "empty").bytes().empty());
}

TEST_CASE("io/file: a writer shows nothing before commit and leaves nothing without it") {
  const scratch folder;
  write_all(folder / "target", "old");
  const auto files = [&] {
    return std::distance(std::filesystem::directory_iterator(folder.path()),
                         std::filesystem::directory_iterator());
  };
  {
    io::file_writer file(folder / "target");
    file.write("half of the new");
    CHECK(read_all(folder / "target") == "old");
    CHECK(files() == 2);
  }
  CHECK(files() == 1);
  CHECK(read_all(folder / "target") == "old");
  {
    const io::mapped_file mapped(folder / "target");
    io::file_writer file(folder / "target");
    file.write("the ");
    file.write("new");
    file.commit();
    CHECK(mapped.text() == "old");  // who has it open keeps what was there
  }
  CHECK(read_all(folder / "target") == "the new");
  CHECK(files() == 1);
}

TEST_CASE("io/file: a writer into a folder that does not exist is a typed error") {
  const scratch folder;
  CHECK_THROWS_AS(io::file_writer(folder / "no/such/folder"), io::file_error);
}

TEST_CASE("io/file: a writer puts no file in the place of what is none") {
  const scratch folder;
  const auto reason = [](const std::filesystem::path& path) {
    try {
      const io::file_writer file(path);
    } catch (const io::file_error& e) {
      CHECK(e.path == path.string());
      return e.code.value();
    }
    return 0;
  };
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  CHECK(reason(folder / "pipe") == EINVAL);
  CHECK(std::filesystem::is_fifo(folder / "pipe"));
  std::filesystem::create_directory(folder / "inside");
  CHECK(reason(folder / "inside") == EISDIR);
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()),
                      std::filesystem::directory_iterator()) == 2);
}
