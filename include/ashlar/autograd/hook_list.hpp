// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace ashlar::autograd {

/// Functions under numbers, in the order of registration.
///
/// The list is replaced, never changed, so that a hook may add and remove hooks while it runs: what
/// is under way goes on with the list that it began with.
template <class F>
struct hook_list {
  using entries = std::vector<std::pair<std::uint64_t, F>>;
  std::shared_ptr<const entries> list;
  std::uint64_t last = 0;

  std::uint64_t add(F f) {
    auto next = list ? std::make_shared<entries>(*list) : std::make_shared<entries>();
    next->emplace_back(++last, std::move(f));
    list = std::move(next);
    return last;
  }
  void remove(std::uint64_t id) {
    if (list) {
      auto next = std::make_shared<entries>(*list);
      std::erase_if(*next, [id](const auto& e) { return e.first == id; });
      list = next->empty() ? nullptr : std::move(next);
    }
  }
};

}  // namespace ashlar::autograd
