// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "ashlar/io/error.hpp"

namespace ashlar::io {

namespace detail {

/// A POSIX file descriptor that closes itself.
class descriptor {
 public:
  explicit descriptor(int number) noexcept : number_(number) {}
  descriptor(descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  descriptor& operator=(descriptor&&) = delete;
  ~descriptor() {
    if (number_ >= 0) {
      ::close(number_);
    }
  }
  [[nodiscard]] int get() const noexcept { return number_; }

 private:
  int number_;
};

}  // namespace detail

/// A file mapped into memory for reading; moving it does not move the bytes.
///
/// Another process that truncates the file while it is mapped takes pages away from this one
/// (SIGBUS); writers that replace files by renaming, as `file_writer` does, never do that.
class mapped_file {
 public:
  mapped_file() = default;

  /// Throws: `file_error` where it cannot be opened or mapped, or is not a regular file.
  explicit mapped_file(std::filesystem::path path) : path_(std::move(path)) {
    const detail::descriptor file(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
    if (file.get() < 0) {
      throw file_error(path_.string(), "open", errno);
    }
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) {
      throw file_error(path_.string(), "examine", errno);
    }
    if (!S_ISREG(status.st_mode)) {
      throw file_error(path_.string(), "map", S_ISDIR(status.st_mode) ? EISDIR : EINVAL);
    }
    size_ = static_cast<std::size_t>(status.st_size);
    if (size_ == 0) {
      return;  // an empty mapping does not exist
    }
    void* const address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.get(), 0);
    if (address == MAP_FAILED) {
      throw file_error(path_.string(), "map", errno);
    }
    data_ = static_cast<const std::byte*>(address);
  }

  mapped_file(mapped_file&& other) noexcept
      : path_(std::move(other.path_)),
        data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}
  mapped_file& operator=(mapped_file&& other) noexcept {
    path_.swap(other.path_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~mapped_file() {
    if (data_ != nullptr) {
      ::munmap(const_cast<std::byte*>(data_), size_);
    }
  }

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }
  [[nodiscard]] std::string_view text() const noexcept {
    return {reinterpret_cast<const char*>(data_), size_};
  }

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Writes a file under another name and moves it into place at `commit`.
///
/// Readers see the old file or the whole new one. Without `commit` nothing is left behind.
class file_writer {
 public:
  /// Throws: `file_error`, also where something else than a file is in its place: a folder, a
  /// device.
  explicit file_writer(std::filesystem::path path)
      : path_(std::move(path)), temporary_(beside(path_)), file_(create(temporary_)) {}
  file_writer(const file_writer&) = delete;
  file_writer& operator=(const file_writer&) = delete;
  ~file_writer() {
    if (!committed_) {
      ::unlink(temporary_.c_str());
    }
  }

  /// Throws: `file_error`.
  void write(std::span<const std::byte> bytes) {
    constexpr std::size_t at_once = std::size_t{1} << 30;  // Linux writes at most 2 GiB a call
    while (!bytes.empty()) {
      const auto wrote = ::write(file_.get(), bytes.data(), std::min(bytes.size(), at_once));
      if (wrote < 0 && errno != EINTR) {
        throw file_error(temporary_.string(), "write", errno);
      }
      bytes = bytes.subspan(static_cast<std::size_t>(std::max<decltype(wrote)>(wrote, 0)));
    }
  }
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }

  /// Effects: flushes to the device and renames over the target. Call it once, last.
  /// Throws:  `file_error`; the target is as it was.
  void commit() {
    if (::fsync(file_.get()) != 0) {
      throw file_error(temporary_.string(), "flush", errno);
    }
    if (std::rename(temporary_.c_str(), path_.c_str()) != 0) {
      throw file_error(path_.string(), "rename to", errno);
    }
    committed_ = true;
  }

 private:
  static std::filesystem::path beside(const std::filesystem::path& target) {
    std::error_code unknown;
    const auto there = std::filesystem::status(target, unknown);
    if (std::filesystem::exists(there) && !std::filesystem::is_regular_file(there)) {
      throw file_error(target.string(), "write",
                       std::filesystem::is_directory(there) ? EISDIR : EINVAL);
    }
    static std::atomic<unsigned> counter{0};
    return target.string() + ".tmp." + std::to_string(::getpid()) + "." +
           std::to_string(counter.fetch_add(1));
  }
  static detail::descriptor create(const std::filesystem::path& path) {
    detail::descriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (file.get() < 0) {
      throw file_error(path.string(), "create", errno);
    }
    return file;
  }

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  detail::descriptor file_;
  bool committed_ = false;
};

}  // namespace ashlar::io
