// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "ashlar/comm/transport.hpp"

/// Laws of `comm::Transport`, and a transport that has no more than the concept asks.
namespace ashlar::laws {

/// What rank `from` sends to rank `to` as its message `number`.
inline std::vector<std::byte> message(int from, int to, int number, std::size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) {
    bytes[i] = static_cast<std::byte>(static_cast<std::size_t>(from * 31 + to * 17 + number * 5) +
                                      i * 3 + (i >> 8));
  }
  return bytes;
}

namespace detail {
template <class Tr>
void send(Tr& t, int to, std::span<const std::byte> out, int tag) {
  auto sent = t.isend(to, out, tag);
  t.wait(sent);
}
template <class Tr>
void recv(Tr& t, int from, std::span<std::byte> in, int tag) {
  auto received = t.irecv(from, in, tag);
  t.wait(received);
}
}  // namespace detail

/// Every rank of a group calls this at the same time.
///
/// Returns: the law that this rank saw broken; empty where all hold.
template <comm::Transport Tr>
std::string broken_transport_law(Tr& t) {
  const int p = t.size();
  const int r = t.rank();
  if (r < 0 || r >= p) {
    return "0 <= rank < size";
  }
  // All send at once, to ranks at every distance, themselves included.
  for (int distance = 0; distance < p; ++distance) {
    const int to = (r + distance) % p;
    const int from = (r + p - distance) % p;
    for (const std::size_t size : {0u, 1u, 17u, 4099u, 100003u}) {
      const auto out = message(r, to, distance, size);
      std::vector<std::byte> in(size, std::byte{255});
      auto sent = t.isend(to, out, 3);
      auto received = t.irecv(from, in, 3);
      t.wait(received);
      while (!t.test(sent)) {
      }
      if (in != message(from, r, distance, size)) {
        return "sendrecv: what arrives is what was sent";
      }
    }
  }
  // Messages with one tag keep their order, whatever their sizes; other tags are apart.
  constexpr std::size_t sizes[] = {5, 0, 3000, 1};
  for (int from = 0; from < p; ++from) {
    for (int to = 0; to < p; ++to) {
      for (int number = 0; from != to && number < 8; ++number) {
        const std::size_t size = sizes[number % 4];
        const int tag = number % 3;
        if (r == from) {
          detail::send(t, to, message(from, to, number, size), tag);
        } else if (r == to) {
          std::vector<std::byte> in(size, std::byte{255});
          detail::recv(t, from, in, tag);
          if (in != message(from, to, number, size)) {
            return "messages of one tag arrive in the order in which they were sent";
          }
        }
      }
    }
  }
  // Another length than the receiver has room for is named, and the next message arrives.
  if (p > 1 && r == 0) {
    try {
      detail::send(t, 1, message(0, 1, 1, 5), 4);
    } catch (const comm::size_mismatch&) {  // the sender may learn of it
    }
    detail::send(t, 1, message(0, 1, 2, 3), 4);
  } else if (p > 1 && r == 1) {
    std::vector<std::byte> in(3);
    try {
      detail::recv(t, 0, in, 4);
      return "size_mismatch for a message of another length";
    } catch (const comm::size_mismatch& e) {
      if (e.from != 0 || e.to != 1 || e.tag != 4 || e.sent != 5 || e.expected != 3) {
        return "size_mismatch says who, to whom and how much";
      }
    }
    detail::recv(t, 0, in, 4);
    if (in != message(0, 1, 2, 3)) {
      return "after a size_mismatch the next message arrives";
    }
  }
  // Several under way with one tag: receives take them in the order in which they were begun,
  // whatever the order in which one asks for them.
  for (int distance = 1; distance < p; ++distance) {
    const int to = (r + distance) % p;
    const int from = (r + p - distance) % p;
    std::vector<std::vector<std::byte>> out;
    std::vector<std::vector<std::byte>> in(4, std::vector<std::byte>(40));
    std::vector<typename Tr::request> under_way;
    for (int number = 0; number < 4; ++number) {
      out.push_back(message(r, to, number, 40));
      under_way.push_back(t.irecv(from, in[static_cast<std::size_t>(number)], 5));
    }
    for (const auto& bytes : out) {
      under_way.push_back(t.isend(to, bytes, 5));
    }
    for (std::size_t i = under_way.size(); i-- > 0;) {
      while (!t.test(under_way[i])) {
        for (auto& other : under_way) {  // progress of all
          t.test(other);
        }
      }
    }
    for (int number = 0; number < 4; ++number) {
      if (in[static_cast<std::size_t>(number)] != message(from, r, number, 40)) {
        return "receives take messages in the order in which they were begun";
      }
    }
  }
  return "";
}

/// Letter boxes: a send has ended when it begins.
struct post_office {
  std::mutex lock;
  std::condition_variable arrived;
  using box = std::tuple<int, int, int>;  // from, to, tag
  std::map<box, std::deque<std::vector<std::byte>>> letters;
  std::map<box, std::deque<int>> turns;  // receives that have not ended
  int next = 0;
};
class postal_transport {
 public:
  struct request {
    post_office::box from = {};
    std::span<std::byte> in = {};
    int turn = -1;  // -1: ended
  };

  postal_transport(post_office& office, int rank, int size)
      : office_(&office), rank_(rank), size_(size) {}
  postal_transport(const postal_transport&) = delete;
  postal_transport& operator=(const postal_transport&) = delete;

  int rank() { return rank_; }
  int size() { return size_; }
  request isend(int to, std::span<const std::byte> out, int tag) {
    const std::lock_guard hold(office_->lock);
    office_->letters[{rank_, to, tag}].emplace_back(out.begin(), out.end());
    office_->arrived.notify_all();
    return {};
  }
  request irecv(int from, std::span<std::byte> in, int tag) {
    const std::lock_guard hold(office_->lock);
    const post_office::box box{from, rank_, tag};
    office_->turns[box].push_back(office_->next);
    return {box, in, office_->next++};
  }
  bool test(request& r) {
    const std::lock_guard hold(office_->lock);
    return take(r);
  }
  void wait(request& r) {
    std::unique_lock hold(office_->lock);
    office_->arrived.wait(hold, [&] { return take(r); });
  }

 private:
  bool take(request& r) {
    if (r.turn < 0) {
      return true;
    }
    auto& letters = office_->letters[r.from];
    auto& turns = office_->turns[r.from];
    if (letters.empty() || turns.front() != r.turn) {
      return false;
    }
    const auto got = std::move(letters.front());
    letters.pop_front();
    turns.pop_front();
    r.turn = -1;
    office_->arrived.notify_all();
    if (got.size() != r.in.size()) {
      throw comm::size_mismatch(std::get<0>(r.from), rank_, std::get<2>(r.from), got.size(),
                                r.in.size());
    }
    std::copy(got.begin(), got.end(), r.in.begin());
    return true;
  }

  post_office* office_;
  int rank_, size_;
};

}  // namespace ashlar::laws
