// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/comm/messages.hpp"
#include "ashlar/comm/transport.hpp"
#include "laws/transport.hpp"

namespace ashlar::laws {

/// A random number of messages between random ranks, of 0 to 3000 bytes; the same on every rank.
struct random_messages {
  struct one {
    int from;
    int to;
    int number;  // among those from the one to the other
    std::size_t bytes;
  };
  std::vector<one> all;

  random_messages(int ranks, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
    std::map<std::pair<int, int>, int> numbers;
    for (int left = below(4 * ranks + 1); left > 0; --left) {
      const int from = below(ranks);
      const int to = below(ranks);
      all.push_back({from, to, numbers[{from, to}]++, static_cast<std::size_t>(below(3001))});
    }
  }

  /// One rank's group, posted in an order of its own; `in` gets a place for every message.
  /// Requires: `out` and `in` live as long as the group.
  [[nodiscard]] comm::message_group of(int rank, std::vector<std::vector<std::byte>>& out,
                                       std::vector<std::vector<std::byte>>& in,
                                       std::uint64_t seed) const {
    std::vector<std::pair<const one*, bool>> mine;  // whether it sends
    for (const one& m : all) {
      if (m.from == rank) {
        mine.emplace_back(&m, true);
      }
      if (m.to == rank) {
        mine.emplace_back(&m, false);
      }
    }
    std::mt19937_64 random(seed * 31 + static_cast<std::uint64_t>(rank));
    std::ranges::shuffle(mine, random);
    // Those between two ranks, in one direction, keep their order.
    std::map<std::pair<int, bool>, int> next;
    out.reserve(mine.size());
    in.assign(all.size(), {});
    comm::message_group group;
    for (const auto& each : mine) {
      const one* const any = each.first;
      const bool sends = each.second;
      const int peer = sends ? any->to : any->from;
      const int number = next[{peer, sends}]++;
      const auto m = std::ranges::find_if(all, [&](const one& x) {
        return x.number == number && x.from == (sends ? rank : peer) &&
               x.to == (sends ? peer : rank);
      });
      if (sends) {
        out.push_back(message(m->from, m->to, m->number, m->bytes));
        group.send(peer, std::span(reinterpret_cast<const std::uint8_t*>(out.back().data()),
                                   out.back().size()));
      } else {
        auto& place = in[static_cast<std::size_t>(m - all.begin())];
        place.assign(m->bytes, std::byte{255});
        group.receive(peer, std::span(reinterpret_cast<std::uint8_t*>(place.data()), place.size()));
      }
    }
    return group;
  }
};

/// Every rank of a group calls this at the same time, with one seed.
///
/// Returns: the law that this rank saw broken; empty where all hold.
template <comm::Transport Tr>
std::string broken_message_group_law(Tr& t, std::uint64_t seed) {
  const random_messages messages(t.size(), seed);
  std::vector<std::vector<std::byte>> out;
  std::vector<std::vector<std::byte>> in;
  comm::send_receive(t, messages.of(t.rank(), out, in, seed));
  for (std::size_t i = 0; i < in.size(); ++i) {
    const auto& m = messages.all[i];
    if (m.to == t.rank() && in[i] != message(m.from, m.to, m.number, m.bytes)) {
      return "message " + std::to_string(m.number) + " from " + std::to_string(m.from) + " to " +
             std::to_string(m.to) + " arrives in its place";
    }
  }
  return "";
}

}  // namespace ashlar::laws
