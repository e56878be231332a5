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
      t.sendrecv(to, out, from, in, 3);
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
          t.send(to, message(from, to, number, size), tag);
        } else if (r == to) {
          std::vector<std::byte> in(size, std::byte{255});
          t.recv(from, in, tag);
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
      t.send(1, message(0, 1, 1, 5), 4);
    } catch (const comm::size_mismatch&) {  // the sender may learn of it
    }
    t.send(1, message(0, 1, 2, 3), 4);
  } else if (p > 1 && r == 1) {
    std::vector<std::byte> in(3);
    try {
      t.recv(0, in, 4);
      return "size_mismatch for a message of another length";
    } catch (const comm::size_mismatch& e) {
      if (e.from != 0 || e.to != 1 || e.tag != 4 || e.sent != 5 || e.expected != 3) {
        return "size_mismatch says who, to whom and how much";
      }
    }
    t.recv(0, in, 4);
    if (in != message(0, 1, 2, 3)) {
      return "after a size_mismatch the next message arrives";
    }
  }
  return "";
}

/// Letter boxes: `send` never waits.
struct post_office {
  std::mutex lock;
  std::condition_variable arrived;
  std::map<std::tuple<int, int, int>, std::deque<std::vector<std::byte>>> boxes;  // from, to, tag
};
class postal_transport {
 public:
  postal_transport(post_office& office, int rank, int size)
      : office_(&office), rank_(rank), size_(size) {}
  postal_transport(const postal_transport&) = delete;
  postal_transport& operator=(const postal_transport&) = delete;

  int rank() { return rank_; }
  int size() { return size_; }
  void send(int to, std::span<const std::byte> out, int tag) {
    const std::lock_guard hold(office_->lock);
    office_->boxes[{rank_, to, tag}].emplace_back(out.begin(), out.end());
    office_->arrived.notify_all();
  }
  void recv(int from, std::span<std::byte> in, int tag) {
    std::unique_lock hold(office_->lock);
    auto& box = office_->boxes[{from, rank_, tag}];
    office_->arrived.wait(hold, [&box] { return !box.empty(); });
    const auto got = std::move(box.front());
    box.pop_front();
    if (got.size() != in.size()) {
      throw comm::size_mismatch(from, rank_, tag, got.size(), in.size());
    }
    std::copy(got.begin(), got.end(), in.begin());
  }
  void sendrecv(int to, std::span<const std::byte> out, int from, std::span<std::byte> in,
                int tag) {
    send(to, out, tag);
    recv(from, in, tag);
  }

 private:
  post_office* office_;
  int rank_, size_;
};

}  // namespace ashlar::laws
