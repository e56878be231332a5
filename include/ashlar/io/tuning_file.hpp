// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "ashlar/core/error.hpp"
#include "ashlar/io/detail/json.hpp"
#include "ashlar/io/error.hpp"
#include "ashlar/io/file.hpp"

namespace ashlar::io {

/// What was found fastest, by chip, kernel and class of shapes: a JSON file that processes share.
///
/// `{"format":"ashlar-tuning","version":1,"chips":{"host":{"matmul":{"512x512":{"choice":"8x32",
/// "cost":0.002}}}}}`. A file that is not this, or is damaged, is an error and is never written to;
/// a file that is not there, or is empty, holds nothing yet. Names are printable ASCII.
class tuning_file {
 public:
  struct key {
    std::string chip, kernel, shape;
    friend auto operator<=>(const key&, const key&) = default;
  };
  struct winner {
    std::string choice;
    double cost = 0;  ///< what was measured, finite and not negative
    friend bool operator==(const winner&, const winner&) = default;
  };

  /// Throws: `file_error` where it cannot be read; `format_error` where it is not a tuning file.
  explicit tuning_file(std::filesystem::path path) : path_(std::move(path)), held_(read()) {}

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

  /// What this object has read or written.
  [[nodiscard]] std::optional<winner> find(const key& k) const {
    const std::lock_guard lock(mutex_);
    const auto found = held_.find(k);
    return found == held_.end() ? std::nullopt : std::optional(found->second);
  }
  [[nodiscard]] std::size_t size() const {
    const std::lock_guard lock(mutex_);
    return held_.size();
  }

  /// Remembers a winner, in place of an earlier one for the same key.
  ///
  /// Effects: the file is read again, changed and replaced as a whole under a lock that processes
  ///          share (`PATH.lock`, which stays): none loses what another has written.
  /// Throws:  `argument_error` for a name that is empty, longer than 200 characters or not
  /// printable
  ///          ASCII, or a cost that is not finite; `file_error`; `format_error`. The file and this
  ///          object are as they were.
  void record(const key& k, const winner& w) {
    for (const std::string* name : {&k.chip, &k.kernel, &k.shape, &w.choice}) {
      check_name(*name);
    }
    if (!std::isfinite(w.cost) || w.cost < 0) {
      throw argument_error("ashlar::io::tuning_file", "a cost is finite and not negative");
    }
    const std::lock_guard lock(mutex_);
    const detail::descriptor between_processes = locked();
    table now = read();
    now.insert_or_assign(k, w);
    file_writer out(path_);
    out.write(text(now));
    out.commit();
    held_ = std::move(now);
  }

  /// Reads the file again.
  void reload() {
    table now = read();
    const std::lock_guard lock(mutex_);
    held_ = std::move(now);
  }

 private:
  using table = std::map<key, winner>;
  static constexpr const char* format = "ashlar-tuning";
  static constexpr std::size_t most_bytes = std::size_t{64} << 20;

  static void check_name(std::string_view name) {
    bool printable = !name.empty() && name.size() <= 200;
    for (const char c : name) {
      printable = printable && c >= ' ' && c <= '~';
    }
    if (!printable) {
      throw argument_error("ashlar::io::tuning_file",
                           "'" + detail::printable(name) +
                               "' is no name; it has 1 to 200 printable ASCII characters");
    }
  }

  [[nodiscard]] detail::descriptor locked() const {
    const std::string name = path_.string() + ".lock";
    detail::descriptor file(::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
    if (file.get() < 0) {
      throw file_error(name, "create", errno);
    }
    while (::flock(file.get(), LOCK_EX) != 0) {
      if (errno != EINTR) {
        throw file_error(name, "lock", errno);
      }
    }
    return file;
  }

  [[nodiscard]] table read() const {
    std::error_code none;
    if (!std::filesystem::exists(path_, none) && !none) {
      return {};
    }
    const mapped_file file(path_);
    return detail::naming(path_.string(), [&] { return parsed(file.text()); });
  }

  static table parsed(std::string_view bytes) {
    const std::string named = format;
    if (bytes.empty()) {
      return {};
    }
    if (bytes.size() > most_bytes) {
      throw format_error(named, "document", "it is larger than 64 MiB");
    }
    const detail::json_value document = detail::parse_json(bytes, named, "document");
    const detail::json_field top(document, named);
    if (top["format"].text() != format) {
      top["format"].fail("it is not '" + named + "'");
    }
    static_cast<void>(top["version"].integer(1, 1));
    table all;
    const detail::json_field chips = top["chips"];
    for (const detail::json_value& chip : chips.members()) {
      const detail::json_field kernels = chips[chip.key];
      for (const detail::json_value& kernel : kernels.members()) {
        const detail::json_field shapes = kernels[kernel.key];
        for (const detail::json_value& shape : shapes.members()) {
          const detail::json_field found = shapes[shape.key];
          const double cost = found["cost"].number();
          if (!std::isfinite(cost) || cost < 0) {
            found["cost"].fail("it is negative or not finite");
          }
          const std::string& choice = found["choice"].text();
          for (const std::string* name : {&chip.key, &kernel.key, &shape.key, &choice}) {
            check_read(found, *name);
          }
          all.insert_or_assign({chip.key, kernel.key, shape.key}, winner{choice, cost});
        }
      }
    }
    return all;
  }
  static void check_read(const detail::json_field& at, const std::string& name) {
    try {
      check_name(name);
    } catch (const argument_error& e) {
      at.fail(e.reason);
    }
  }

  static std::string text(const table& all) {
    std::string out = std::string("{\"format\":\"") + format + "\",\"version\":1,\"chips\":{";
    const key* before = nullptr;
    for (const auto& entry : all) {
      const key& k = entry.first;
      const bool new_chip = before == nullptr || before->chip != k.chip;
      const bool new_kernel = new_chip || before->kernel != k.kernel;
      if (before != nullptr) {
        out += new_chip ? "}}," : new_kernel ? "}," : ",";
      }
      out += new_chip ? "\n " + detail::json_quoted(k.chip) + ":{" : "";
      out += new_kernel ? "\n  " + detail::json_quoted(k.kernel) + ":{" : "";
      out += "\n   " + detail::json_quoted(k.shape) +
             ":{\"choice\":" + detail::json_quoted(entry.second.choice) +
             ",\"cost\":" + detail::json(entry.second.cost).dump() + "}";
      before = &k;
    }
    return out + (before != nullptr ? "}}}}\n" : "}}\n");
  }

  std::filesystem::path path_;
  mutable std::mutex mutex_;
  table held_;
};

}  // namespace ashlar::io
