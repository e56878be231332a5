// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace ashlar::io::detail {

/// Two token ids, both at least 0, as one key.
constexpr std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
         static_cast<std::uint32_t>(right);
}

/// A hash table from pairs of tokens to `Value`, with open addressing.
template <class Value>
class pair_table {
 public:
  pair_table() : slots_(16) {}

  void reserve(std::size_t count) {
    if (count * 2 > slots_.size()) {
      rehash(std::bit_ceil(count * 2));
    }
  }
  [[nodiscard]] std::size_t size() const { return size_; }

  [[nodiscard]] const Value* find(std::uint64_t key) const {
    const slot& at = slots_[place(key)];
    return at.key == key ? &at.value : nullptr;
  }
  /// The value of a key, value-initialised where it is new.
  Value& operator[](std::uint64_t key) {
    std::size_t at = place(key);
    if (slots_[at].key != key) {
      if ((size_ + 1) * 2 > slots_.size()) {
        rehash(slots_.size() * 2);
        at = place(key);
      }
      slots_[at].key = key;
      ++size_;
    }
    return slots_[at].value;
  }

 private:
  static constexpr std::uint64_t vacant = ~std::uint64_t{0};  // no pair of ids at least 0

  struct slot {
    std::uint64_t key = vacant;
    Value value{};
  };

  [[nodiscard]] std::size_t place(std::uint64_t key) const {
    const std::size_t mask = slots_.size() - 1;
    const std::uint64_t mixed = key * 0x9e3779b97f4a7c15u;
    std::size_t at = static_cast<std::size_t>(mixed >> 32) & mask;
    while (slots_[at].key != vacant && slots_[at].key != key) {
      at = (at + 1) & mask;
    }
    return at;
  }
  void rehash(std::size_t count) {
    std::vector<slot> old(count);
    old.swap(slots_);
    for (slot& s : old) {
      if (s.key != vacant) {
        slots_[place(s.key)] = std::move(s);
      }
    }
  }

  std::vector<slot> slots_;
  std::size_t size_ = 0;
};

}  // namespace ashlar::io::detail
