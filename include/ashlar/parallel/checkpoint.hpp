// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/core/shape.hpp"
#include "ashlar/io/entry.hpp"
#include "ashlar/io/error.hpp"
#include "ashlar/io/file.hpp"
#include "ashlar/io/safetensors.hpp"

/// Training states that some ranks wrote and others read: every rank writes a file of what it has.
///
/// No tensor in sight; `parallel/training_state.hpp` brings those.
namespace ashlar::parallel {

/// Elements of a named tensor: a box of it, of whose row-major order a part.
///
/// A tensor parallel rank has a box, a sharded data parallel one a part; a pipeline's ranks have
/// tensors of different names.
struct region {
  std::string name;
  shape whole;            ///< of the tensor
  shape start, extents;   ///< of the box
  std::size_t first = 0;  ///< element of the box
  std::size_t count = 0;

  /// All of a tensor.
  [[nodiscard]] static region all(std::string name, const shape& whole) {
    shape zero;
    for (int i = 0; i < whole.rank(); ++i) {
      zero.push_back(0);
    }
    return {std::move(name), whole, zero, whole, 0, static_cast<std::size_t>(element_count(whole))};
  }
  [[nodiscard]] bool is_all() const {
    return count == static_cast<std::size_t>(element_count(whole));
  }
  /// Whether the box lies in the tensor, and the part in the box.
  [[nodiscard]] bool fits() const {
    if (start.rank() != whole.rank() || extents.rank() != whole.rank()) {
      return false;
    }
    for (int axis = 0; axis < whole.rank(); ++axis) {
      if (start[axis] < 0 || extents[axis] < 0 || start[axis] > whole[axis] ||
          extents[axis] > whole[axis] - start[axis]) {
        return false;
      }
    }
    const auto box = static_cast<std::size_t>(element_count(extents));
    return first <= box && count <= box - first;
  }
};

/// What a rank has of a state: where it belongs and its elements.
struct state_part {
  region where;
  io::storage_format format = io::storage_format::float32;
  std::span<const std::byte> bytes;
};

/// A checkpoint that does not have what is asked for.
struct checkpoint_error final : error {
  std::string name;    ///< of the tensor
  std::string reason;  ///< `is missing`, ...

  checkpoint_error(std::string tensor, std::string why,
                   std::source_location where = std::source_location::current())
      : error(where), name(std::move(tensor)), reason(std::move(why)) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::parallel::checkpoint: '" + name + "' " + reason;
  }
};

namespace detail {

/// Consecutive elements of a tensor, and where the first of them stands in a region.
struct element_run {
  std::size_t at, count, local;
};

/// A region's elements in runs, ascending.
[[nodiscard]] inline std::vector<element_run> runs_of(const region& r) {
  std::vector<element_run> runs;
  const auto size = [](std::int64_t n) { return static_cast<std::size_t>(n); };
  // Trailing axes that the box has whole, and the one before, are one run.
  std::size_t inner = 1;
  for (int axis = r.whole.rank(); axis-- > 0;) {
    inner *= size(r.extents[axis]);
    if (r.extents[axis] != r.whole[axis]) {
      break;
    }
  }
  const std::size_t last = r.first + r.count;
  for (std::size_t begin = inner == 0 ? last : r.first / inner * inner; begin < last;
       begin += inner) {
    const std::size_t from = std::max(begin, r.first), to = std::min(begin + inner, last);
    std::size_t at = 0, stride = 1, rest = from;
    for (int axis = r.whole.rank(); axis-- > 0;) {
      at += (size(r.start[axis]) + rest % size(r.extents[axis])) * stride;
      rest /= size(r.extents[axis]);
      stride *= size(r.whole[axis]);
    }
    runs.push_back({at, to - from, from - r.first});
  }
  return runs;
}

/// `1,2,3` and back.
[[nodiscard]] inline std::string joined_numbers(const std::vector<std::int64_t>& numbers) {
  std::string text;
  for (const std::int64_t n : numbers) {
    text += (text.empty() ? "" : ",") + std::to_string(n);
  }
  return text;
}
[[nodiscard]] inline std::vector<std::int64_t> split_numbers(std::string_view text,
                                                             const std::string& field) {
  std::vector<std::int64_t> numbers;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end) {
    std::int64_t n = 0;
    const auto read = std::from_chars(at, end, n);
    if (read.ec != std::errc{} || n < 0 || (read.ptr != end && *read.ptr != ',')) {
      throw io::format_error("checkpoint", field, "'" + std::string(text) + "' is no list");
    }
    numbers.push_back(n);
    at = read.ptr == end ? end : read.ptr + 1;
  }
  return numbers;
}

inline constexpr std::string_view place_prefix = "ashlar.place.", state_prefix = "ashlar.state.";

/// The file of one rank.
[[nodiscard]] inline std::filesystem::path part_file(const std::filesystem::path& folder, int rank,
                                                     int ranks) {
  const auto five = [](int n) {
    const std::string digits = std::to_string(n);
    return std::string(digits.size() < 5 ? 5 - digits.size() : 0, '0') + digits;
  };
  return folder / ("state-" + five(rank + 1) + "-of-" + five(ranks) + ".safetensors");
}

/// For how many ranks a folder has the first one's file, in ascending order. What only looks like
/// such a file, as what a saving that was killed leaves behind, does not count.
[[nodiscard]] inline std::vector<int> savings_in(const std::filesystem::path& folder) {
  std::vector<int> found;
  std::error_code failed;
  std::filesystem::directory_iterator at(folder, failed);
  for (; !failed && at != std::filesystem::directory_iterator(); at.increment(failed)) {
    const std::string name = at->path().filename().string();
    const std::string_view first = "state-00001-of-";
    int n = 0;
    if (name.starts_with(first)) {
      std::from_chars(name.data() + first.size(), name.data() + name.size(), n);
    }
    if (n > 0 && at->path().filename() == part_file({}, 0, n)) {
      found.push_back(n);
    }
  }
  std::ranges::sort(found);
  return found;
}

/// Throws: `checkpoint_error` where the folder has a checkpoint of another number of ranks.
inline void expect_no_other(const std::filesystem::path& folder, int ranks) {
  for (const int n : detail::savings_in(folder)) {
    if (n != ranks) {
      throw checkpoint_error(
          folder.string(), "has a checkpoint of " + std::to_string(n) + " ranks, which files of " +
                               std::to_string(ranks) +
                               " would spoil; give another folder, or remove it");
    }
  }
}
/// Effects: makes the folder where there is none. Throws: `io::file_error`.
inline void make_folder(const std::filesystem::path& folder) {
  std::error_code failed;
  std::filesystem::create_directories(folder, failed);
  if (failed) {
    throw io::file_error(folder.string(), "create", failed.value());
  }
}

/// The place of a part, from what `save_part` wrote down.
[[nodiscard]] inline region read_place(std::string_view text, const io::tensor_entry& entry,
                                       const std::string& field) {
  const std::size_t space = text.find(' ');
  const auto numbers = split_numbers(text.substr(0, space), field);
  const auto wrong = [&] {
    throw io::format_error("checkpoint", field, "'" + std::string(text) + "' is no place");
  };
  if (space == std::string_view::npos || numbers.empty() || (numbers.size() - 1) % 3 != 0 ||
      numbers.size() > 1 + 3 * static_cast<std::size_t>(max_rank)) {
    wrong();
  }
  region r;
  r.name = text.substr(space + 1);
  const std::size_t rank = (numbers.size() - 1) / 3;
  for (std::size_t i = 0; i < rank; ++i) {
    r.whole.push_back(numbers[1 + i]);
    r.start.push_back(numbers[1 + rank + i]);
    r.extents.push_back(numbers[1 + 2 * rank + i]);
  }
  r.first = static_cast<std::size_t>(numbers[0]);
  r.count = static_cast<std::size_t>(entry.size());
  if (!io::byte_count(entry.format, r.whole) || !r.fits()) {
    wrong();
  }
  return r;
}

}  // namespace detail

using state_metadata = std::map<std::string, std::string>;

/// Says of a folder what `save_part` would say, before there is anything to save.
///
/// Effects: makes the folder where there is none. Throws: `checkpoint_error`, `io::file_error`.
inline void expect_room(const std::filesystem::path& folder, int rank, int ranks) {
  detail::expect_no_other(folder, ranks);
  detail::make_folder(folder);
  const io::file_writer nothing(detail::part_file(folder, rank, ranks));
}

/// Writes one rank's file of a checkpoint.
///
/// Whole tensors lie in it under their names, so that the checkpoint of one rank is a plain
/// safetensors file. `metadata`, such as the number of the step, is the same on every rank. Every
/// rank calls this with a folder that they share; the checkpoint is there once all have returned.
/// Throws: `argument_error` where elements do not fit their place, that does not lie within the
///         tensor, or a whole tensor is there twice; `checkpoint_error` where the folder has a
///         checkpoint of another number of ranks, which stays as it is; `io::file_error`.
inline void save_part(const std::filesystem::path& folder, int rank, int ranks,
                      std::span<const state_part> parts, const state_metadata& metadata = {}) {
  detail::expect_no_other(folder, ranks);
  std::vector<io::tensor_entry> entries;
  io::safetensors::metadata_map notes;
  for (const auto& [key, value] : metadata) {
    notes[std::string(detail::state_prefix) + key] = value;
  }
  for (const state_part& p : parts) {
    const region& r = p.where;
    if (!r.fits()) {
      throw argument_error(
          "ashlar::parallel::save_part",
          "the place of '" + r.name + "' is not within " + to_string(r.whole.span()));
    }
    io::tensor_entry entry;
    entry.name = r.name;
    entry.format = p.format;
    entry.bytes = p.bytes;
    if (r.is_all()) {
      entry.extents = r.whole;
    } else {
      entry.name += "#" + std::to_string(entries.size());
      entry.extents = {static_cast<std::int64_t>(r.count)};
      std::vector<std::int64_t> numbers = {static_cast<std::int64_t>(r.first)};
      for (const shape* s : {&r.whole, &r.start, &r.extents}) {
        numbers.insert(numbers.end(), s->begin(), s->end());
      }
      notes[std::string(detail::place_prefix) + entry.name] =
          detail::joined_numbers(numbers) + " " + r.name;
    }
    entries.push_back(std::move(entry));
  }
  detail::make_folder(folder);
  io::safetensors::write(detail::part_file(folder, rank, ranks), entries, notes);
}

/// A checkpoint that is read: by other ranks, in other layouts, than wrote it.
class checkpoint {
 public:
  /// Throws: `io::file_error`, `io::format_error`; `checkpoint_error` where there is none, or its
  ///         files are not of one saving.
  [[nodiscard]] static checkpoint open(const std::filesystem::path& folder) {
    checkpoint c;
    const std::vector<int> savings = detail::savings_in(folder);
    if (savings.empty()) {
      throw checkpoint_error(folder.string(), "is no folder with a checkpoint");
    }
    if (savings.size() > 1) {
      throw checkpoint_error(folder.string(), "has checkpoints of " + std::to_string(savings[0]) +
                                                  " and of " + std::to_string(savings[1]) +
                                                  " ranks; remove one of them");
    }
    const int ranks = savings.front();
    for (int rank = 0; rank < ranks; ++rank) {
      c.files_.push_back(io::safetensors::open(detail::part_file(folder, rank, ranks)));
    }
    for (const io::safetensors& file : c.files_) {
      state_metadata here;
      for (const auto& [key, value] : file.metadata()) {
        if (key.starts_with(detail::state_prefix)) {
          here[key.substr(detail::state_prefix.size())] = value;
        }
      }
      if (&file == &c.files_.front()) {
        c.metadata_ = std::move(here);
      } else if (here != c.metadata_) {
        throw checkpoint_error(folder.string(), "has files of different savings");
      }
      for (const io::tensor_entry& entry : file.entries()) {
        const std::string key = std::string(detail::place_prefix) + entry.name;
        const auto place = file.metadata().find(key);
        region r = place == file.metadata().end() ? region::all(entry.name, entry.extents)
                                                  : detail::read_place(place->second, entry, key);
        std::string name = r.name;
        c.parts_.emplace(std::move(name), state_part{std::move(r), entry.format, entry.bytes});
      }
    }
    return c;
  }

  [[nodiscard]] const state_metadata& metadata() const { return metadata_; }
  [[nodiscard]] bool contains(std::string_view name) const { return parts_.contains(name); }
  /// The tensors' names and shapes.
  [[nodiscard]] std::map<std::string, shape> tensors() const {
    std::map<std::string, shape> all;
    for (const auto& [name, part] : parts_) {
      all.emplace(name, part.where.whole);
    }
    return all;
  }

  /// Fills `to` with the elements of a region, wherever they lie.
  ///
  /// Throws: `checkpoint_error` where some of them are in no file, or the tensor has another shape
  ///         or element type; `argument_error` where `to` has another size than the region, or
  ///         this does not lie within the tensor.
  void read(const region& wanted, io::storage_format format, std::span<std::byte> to) const {
    if (!wanted.fits()) {
      throw argument_error(
          "ashlar::parallel::checkpoint::read",
          "the place of '" + wanted.name + "' is not within " + to_string(wanted.whole.span()));
    }
    const auto element = static_cast<std::size_t>(io::layout_of(format).bytes);
    if (to.size() != wanted.count * element) {
      throw argument_error("ashlar::parallel::checkpoint::read",
                           std::to_string(to.size()) + " bytes for " +
                               std::to_string(wanted.count) + " elements of " +
                               std::string(io::name_of(format)));
    }
    const auto [from, end] = parts_.equal_range(wanted.name);
    const auto runs = detail::runs_of(wanted);
    std::vector<bool> filled(wanted.count);
    for (auto at = from; at != end; ++at) {
      const state_part& part = at->second;
      if (part.format != format || part.where.whole != wanted.whole) {
        throw checkpoint_error(wanted.name, "is " + std::string(io::name_of(part.format)) +
                                                to_string(part.where.whole.span()) + ", not " +
                                                std::string(io::name_of(format)) +
                                                to_string(wanted.whole.span()));
      }
      const auto theirs = detail::runs_of(part.where);
      std::size_t i = 0, j = 0;
      while (i < runs.size() && j < theirs.size()) {
        const detail::element_run &a = runs[i], &b = theirs[j];
        const std::size_t first = std::max(a.at, b.at);
        const std::size_t last = std::min(a.at + a.count, b.at + b.count);
        if (first < last) {
          const std::size_t here = a.local + (first - a.at);
          std::memcpy(to.data() + here * element,
                      part.bytes.data() + (b.local + (first - b.at)) * element,
                      (last - first) * element);
          std::fill_n(filled.begin() + static_cast<std::ptrdiff_t>(here), last - first, true);
        }
        (a.at + a.count < b.at + b.count ? i : j) += 1;
      }
    }
    const auto missing = std::ranges::count(filled, false);
    if (from == end || missing != 0) {
      throw checkpoint_error(wanted.name, from == end ? std::string("is missing")
                                                      : "lacks " + std::to_string(missing) +
                                                            " of the elements that are asked for");
    }
  }

 private:
  checkpoint() = default;

  std::vector<io::safetensors> files_;
  std::multimap<std::string, state_part, std::less<>> parts_;
  state_metadata metadata_;
};

}  // namespace ashlar::parallel
