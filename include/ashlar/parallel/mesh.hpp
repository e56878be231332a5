// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/plan/network.hpp"

namespace ashlar::parallel {

/// What ranks along a dimension of a mesh divide among them.
enum class axis : std::uint8_t {
  data,      ///< the batch
  tensor,    ///< each layer's matrices
  pipeline,  ///< the layers
  sequence,  ///< the tokens of a text
  expert     ///< the experts of a mixture
};
inline constexpr std::array<std::string_view, 5> axis_names = {"data", "tensor", "pipeline",
                                                               "sequence", "expert"};
[[nodiscard]] constexpr std::string_view name_of(axis a) {
  return axis_names[static_cast<std::size_t>(a)];
}

/// Ranks in a grid with named dimensions; the last one varies fastest, so its neighbours are
/// neighbours in number.
class mesh {
 public:
  struct dimension {
    axis name;
    int size;
    friend constexpr bool operator==(const dimension&, const dimension&) = default;
  };

  /// Throws: `argument_error` where a size is not positive, a name stands twice, or there are more
  ///         than 2^31 - 1 ranks.
  explicit mesh(std::vector<dimension> dimensions) : dimensions_(std::move(dimensions)) {
    for (const dimension& d : dimensions_) {
      const std::string name(name_of(d.name));
      if (d.size < 1) {
        refuse(name + " is " + std::to_string(d.size) + "; it must be at least 1");
      }
      if (std::ranges::count(dimensions_, d.name, &dimension::name) > 1) {
        refuse(name + " stands twice");
      }
      if (d.size > std::numeric_limits<int>::max() / size_) {
        refuse("more than 2^31 - 1 ranks");
      }
      size_ *= d.size;
    }
  }

  /// Reads `data=2,tensor=4,pipeline=2`. Throws: `argument_error`.
  [[nodiscard]] static mesh parse(std::string_view text) {
    std::vector<dimension> all;
    while (!text.empty()) {
      const std::string_view part = text.substr(0, text.find(','));
      const std::string_view name = part.substr(0, part.find('='));
      const auto known = std::ranges::find(axis_names, name);
      const std::string_view digits =
          name.size() < part.size() ? part.substr(name.size() + 1) : std::string_view{};
      int size = 0;
      const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), size);
      if (known == axis_names.end() || read.ec != std::errc{} ||
          read.ptr != digits.data() + digits.size() ||
          (part.size() < text.size() && part.size() + 1 == text.size())) {
        refuse("'" + std::string(part) +
               "' is no dimension; write data, tensor, pipeline, sequence or expert and a size, "
               "such as data=2,tensor=4");
      }
      all.push_back({static_cast<axis>(known - axis_names.begin()), size});
      text.remove_prefix(std::min(part.size() + 1, text.size()));
    }
    return mesh(std::move(all));
  }

  [[nodiscard]] int size() const { return size_; }
  /// 1 where the mesh has no such dimension.
  [[nodiscard]] int size(axis a) const {
    const auto at = std::ranges::find(dimensions_, a, &dimension::name);
    return at == dimensions_.end() ? 1 : at->size;
  }
  [[nodiscard]] const std::vector<dimension>& dimensions() const { return dimensions_; }

  /// Where a rank is along each dimension, in their order. Throws: `argument_error`.
  [[nodiscard]] std::vector<int> coordinates(int rank) const {
    if (rank < 0 || rank >= size_) {
      refuse("there is no rank " + std::to_string(rank) + " in a mesh of " + std::to_string(size_));
    }
    std::vector<int> at(dimensions_.size());
    for (std::size_t i = at.size(); i-- > 0;) {
      at[i] = rank % dimensions_[i].size;
      rank /= dimensions_[i].size;
    }
    return at;
  }
  /// Where a rank is along one; 0 where the mesh has no such dimension.
  [[nodiscard]] int coordinate(int rank, axis a) const {
    const auto all = coordinates(rank);
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (dimensions_[i].name == a) {
        return all[i];
      }
    }
    return 0;
  }
  /// The reverse of `coordinates`. Throws: `argument_error`.
  [[nodiscard]] int rank_at(const std::vector<int>& coordinates) const {
    if (coordinates.size() != dimensions_.size()) {
      refuse(std::to_string(coordinates.size()) + " coordinates for " +
             std::to_string(dimensions_.size()) + " dimensions");
    }
    int rank = 0;
    for (std::size_t i = 0; i < coordinates.size(); ++i) {
      if (coordinates[i] < 0 || coordinates[i] >= dimensions_[i].size) {
        refuse(std::string(name_of(dimensions_[i].name)) + " has no coordinate " +
               std::to_string(coordinates[i]));
      }
      rank = rank * dimensions_[i].size + coordinates[i];
    }
    return rank;
  }

  /// The ranks that differ from `rank` along these dimensions only, itself among them, ascending.
  [[nodiscard]] std::vector<int> group(int rank, std::initializer_list<axis> along) const {
    std::vector<int> members = {0};
    const auto at = coordinates(rank);
    for (std::size_t i = 0; i < at.size(); ++i) {
      const dimension& d = dimensions_[i];
      const bool varies = std::ranges::find(along, d.name) != along.end();
      std::vector<int> next;
      next.reserve(members.size() * static_cast<std::size_t>(varies ? d.size : 1));
      for (const int before : members) {
        for (int c = varies ? 0 : at[i]; c < (varies ? d.size : at[i] + 1); ++c) {
          next.push_back(before * d.size + c);
        }
      }
      members = std::move(next);
    }
    return members;
  }
  [[nodiscard]] std::vector<int> group(int rank, axis along) const { return group(rank, {along}); }

  /// All groups along a dimension: each rank is in one of them.
  [[nodiscard]] std::vector<std::vector<int>> groups(axis along) const {
    std::vector<std::vector<int>> all;
    for (int rank = 0; rank < size_; ++rank) {
      if (coordinate(rank, along) == 0) {
        all.push_back(group(rank, along));
      }
    }
    return all;
  }

  friend bool operator==(const mesh&, const mesh&) = default;

 private:
  [[noreturn]] static void refuse(std::string why) {
    throw argument_error("ashlar::parallel::mesh", std::move(why));
  }

  std::vector<dimension> dimensions_;
  int size_ = 1;
};

/// Returns: what `mesh::parse` reads.
[[nodiscard]] inline std::string text_of(const mesh& m) {
  std::string text;
  for (const mesh::dimension& d : m.dimensions()) {
    text += (text.empty() ? "" : ",") + std::string(name_of(d.name)) + "=" + std::to_string(d.size);
  }
  return text;
}

/// A dimension of a mesh that lies badly in its network.
struct slow_embedding final : error {
  axis along;
  double bandwidth;  ///< of the slowest link that its neighbours cross [bytes/s]
  double least;      ///< that would do [bytes/s]

  slow_embedding(axis a, double crosses, double wanted,
                 std::source_location where = std::source_location::current())
      : error(where), along(a), bandwidth(crosses), least(wanted) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::parallel: neighbours along " + std::string(name_of(along)) +
           " cross a link of " + std::to_string(bandwidth / 1e9) + " GB/s, less than " +
           std::to_string(least / 1e9) + "; make that dimension smaller, or let it vary fastest";
  }
};

/// The bandwidth that links between tensor parallel neighbours must have: a quarter of the fastest
/// link's, since their messages are on the critical path of every layer.
[[nodiscard]] inline double least_for_tensor(const plan::network& net) { return net.fastest() / 4; }

/// How every dimension of a mesh lies in a network where rank `r` is place `r`: what happens when
/// all its groups pass messages around in rings at once. In the mesh's order.
///
/// Throws: `argument_error` where mesh and network differ in size; `slow_embedding` where tensor
///         parallel neighbours cross a link slower than `least_for_tensor`.
inline std::vector<plan::traffic> check_embedding(const mesh& m, const plan::network& net) {
  if (m.size() != net.size()) {
    throw argument_error("ashlar::parallel::check_embedding",
                         "a mesh of " + std::to_string(m.size()) + " ranks in a network of " +
                             std::to_string(net.size()) + " places");
  }
  std::vector<plan::traffic> all;
  for (const mesh::dimension& d : m.dimensions()) {
    std::vector<std::pair<int, int>> pairs;
    for (const auto& members : m.groups(d.name)) {
      for (std::size_t i = 0; members.size() > 1 && i < members.size(); ++i) {
        pairs.emplace_back(members[i], members[(i + 1) % members.size()]);
      }
    }
    all.push_back(plan::all_at_once(net, pairs));
    const double least = least_for_tensor(net);
    if (d.name == axis::tensor && d.size > 1 && all.back().slowest < least) {
      throw slow_embedding(d.name, all.back().slowest, least);
    }
  }
  return all;
}

}  // namespace ashlar::parallel
