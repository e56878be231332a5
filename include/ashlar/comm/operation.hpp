// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/core/dtype.hpp"
#include "ashlar/core/error.hpp"

namespace ashlar::comm {

/// The collectives.
enum class collective : std::uint8_t {
  all_reduce,
  reduce_scatter,
  all_gather,
  broadcast,
  reduce,
  all_to_all,
  barrier,
  send_receive
};

constexpr const char* name_of(collective c) {
  constexpr const char* names[] = {"all_reduce", "reduce_scatter", "all_gather", "broadcast",
                                   "reduce",     "all_to_all",     "barrier",    "send_receive"};
  return names[static_cast<std::size_t>(c)];
}

/// Tags of the collectives' messages; a program's own messages use 0 to 31999.
///
/// Collectives of one kind on different channels may be under way at once. No more than 32767, the
/// least that MPI promises. Every collective throws `argument_error` where there is no such
/// channel.
namespace tags {
inline constexpr int first = 32000;
inline constexpr int channels = 95;
inline constexpr int of_each_group = 32768;  // see `group`
constexpr int of(collective c, int channel) { return first + channel * 8 + static_cast<int>(c); }
/// Whether a message with this tag, of whichever group, is a collective's.
constexpr bool is_collective(int tag) { return tag % of_each_group >= first; }
}  // namespace tags

/// What a rank joins: the same on every rank, the tag and the uneven parts' sizes included.
struct operation {
  collective what = collective::barrier;
  std::size_t count = 0;  ///< [elements]
  dtype type = dtype::uint8;
  const char* op = "";  ///< of reductions
  int root = 0;
  int tag = 0;

  friend bool operator==(const operation& a, const operation& b) {
    return a.what == b.what && a.count == b.count && a.type == b.type &&
           std::string_view(a.op) == b.op && a.root == b.root && a.tag == b.tag;
  }
};

/// Returns: for example `all_reduce(sum, 1000 float32, tag 32000)`.
inline std::string describe(const operation& o) {
  std::string text = name_of(o.what);
  text += '(';
  if (*o.op != 0) {
    text += std::string(o.op) + ", ";
  }
  if (o.what != collective::barrier && o.what != collective::send_receive) {
    text += std::to_string(o.count) + ' ' + std::string(name_of(o.type)) + ", ";
  }
  if (o.what == collective::broadcast || o.what == collective::reduce) {
    text += "root " + std::to_string(o.root) + ", ";
  }
  return text + "tag " + std::to_string(o.tag) + ')';
}

/// A rank and what it was doing; `doing` is empty where that is not known.
struct rank_report {
  int rank;
  std::string doing;
  friend bool operator==(const rank_report&, const rank_report&) = default;
};

/// Thrown on a rank that has joined a collective which others have not joined in time.
struct collective_timed_out final : error {
  operation joined;
  int rank;                         ///< who waited
  std::vector<rank_report> absent;  ///< who did not come, and what they did instead

  collective_timed_out(const operation& what, int waiting, std::vector<rank_report> others,
                       std::source_location where = std::source_location::current())
      : error(where), joined(what), rank(waiting), absent(std::move(others)) {}

 private:
  [[nodiscard]] std::string message() const override {
    std::string text = "ashlar::comm: rank " + std::to_string(rank) + " waited in vain in " +
                       describe(joined) + ";";
    for (const rank_report& r : absent) {
      text += " rank " + std::to_string(r.rank) + " has not joined" +
              (r.doing.empty() ? "" : " but is in " + r.doing) + ";";
    }
    return text + (absent.empty() ? " all have joined" : "");
  }
};

/// Thrown where ranks have come to one place of the program with different collectives.
struct collective_mismatch final : error {
  int rank;
  operation joined;
  int other_rank;
  operation other;

  collective_mismatch(int here, const operation& mine, int there, const operation& theirs,
                      std::source_location where = std::source_location::current())
      : error(where), rank(here), joined(mine), other_rank(there), other(theirs) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::comm: rank " + std::to_string(rank) + " is in " + describe(joined) + ", rank " +
           std::to_string(other_rank) + " in " + describe(other);
  }
};

}  // namespace ashlar::comm
