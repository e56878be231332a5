// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstdint>

#include "ashlar/memory/detail/block.hpp"

namespace ashlar::memory::detail {

struct by_size_and_address {
  static bool less(const block& a, const block& b) {
    return a.size != b.size ? a.size < b.size : a.address < b.address;
  }
  static void note(block&) {}
};
/// Notes the largest block of each subtree, so that the first one that fits is found in one
/// descent.
struct by_address {
  static bool less(const block& a, const block& b) { return a.address < b.address; }
  static void note(block& b) {
    b.largest = std::max({b.size, b.left != nullptr ? b.left->largest : 0,
                          b.right != nullptr ? b.right->largest : 0});
  }
};

/// An ordered set of blocks that lives in the blocks themselves: a search tree on `Order`, a heap
/// on a hash of the address, which keeps it balanced whatever the order of insertions.
///
/// Cost: O(log n) expected; no memory. Source: Seidel and Aragon, 1996.
template <class Order>
class treap {
 public:
  [[nodiscard]] bool empty() const { return root_ == nullptr; }
  [[nodiscard]] block* root() const { return root_; }

  void insert(block& b) noexcept { insert(root_, b); }
  void erase(block& b) noexcept { erase(root_, b); }

  [[nodiscard]] block* first() const {
    block* b = root_;
    while (b != nullptr && b->left != nullptr) {
      b = b->left;
    }
    return b;
  }
  [[nodiscard]] block* last() const {
    block* b = root_;
    while (b != nullptr && b->right != nullptr) {
      b = b->right;
    }
    return b;
  }
  /// Calls `f` for each block in order; `f` must not change the set.
  template <class F>
  void for_each(F&& f) const {
    visit(root_, f);
  }

 private:
  static std::uint64_t priority(const block& b) {
    const auto bits = reinterpret_cast<std::uintptr_t>(b.address);
    return (bits ^ (bits >> 17U)) * 0xD6E8FEB86659FD93U;
  }
  static void insert(block*& at, block& b) noexcept {
    if (at == nullptr || priority(b) > priority(*at)) {
      split(at, b, b.left, b.right);
      at = &b;
    } else {
      insert(Order::less(*at, b) ? at->right : at->left, b);
    }
    Order::note(*at);
  }
  /// Everything before `b` to `low`, everything after to `high`.
  static void split(block* tree, const block& b, block*& low, block*& high) noexcept {
    if (tree == nullptr) {
      low = high = nullptr;
    } else if (Order::less(*tree, b)) {
      low = tree;
      split(tree->right, b, tree->right, high);
      Order::note(*tree);
    } else {
      high = tree;
      split(tree->left, b, low, tree->left);
      Order::note(*tree);
    }
  }
  static void erase(block*& at, block& b) noexcept {
    if (at == &b) {
      at = merged(b.left, b.right);
      return;
    }
    erase(Order::less(*at, b) ? at->right : at->left, b);
    Order::note(*at);
  }
  static block* merged(block* low, block* high) noexcept {
    if (low == nullptr || high == nullptr) {
      return low != nullptr ? low : high;
    }
    if (priority(*low) > priority(*high)) {
      low->right = merged(low->right, high);
      Order::note(*low);
      return low;
    }
    high->left = merged(low, high->left);
    Order::note(*high);
    return high;
  }
  template <class F>
  static void visit(block* b, F& f) {
    if (b != nullptr) {
      visit(b->left, f);
      f(*b);
      visit(b->right, f);
    }
  }

  block* root_ = nullptr;
};

}  // namespace ashlar::memory::detail
