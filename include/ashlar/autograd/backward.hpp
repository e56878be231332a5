// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <functional>
#include <span>
#include <string_view>
#include <tuple>
#include <utility>

#include "ashlar/autograd/leaf.hpp"

namespace ashlar {

struct backward_options {
  bool retain_graph = false;
  bool create_graph = false;  ///< record the pass itself: gradients of gradients
};

namespace autograd::detail {

/// What threads of a pass take over from the one that began it: the allocator, the device and the
/// queue of the chip, and which keys are switched off or on.
template <class Chip, class... K>
[[nodiscard]] std::function<void(const std::function<void()>&)> take_surroundings() {
  auto& mine = context<Chip>::current();
  const auto queue = [&] {
    if constexpr (HasQueues<Chip>) {
      return mine.queue;
    } else {
      return nullptr;
    }
  }();
  return [&mine, queue, ordinal = mine.ordinal, from = &mine.allocator(),
          off = std::array<bool, sizeof...(K)>{ashlar::detail::excluded<K>...},
          added = std::array<bool, sizeof...(K)>{ashlar::detail::included<K>...}](
             const std::function<void()>& body) {
    if (&context<Chip>::current() == &mine) {
      return body();
    }
    const on_device<Chip> there(ordinal);
    auto& here = context<Chip>::current();
    const typename context<Chip>::use_allocator allocations(*from);
    static_cast<void>(queue);
    if constexpr (HasQueues<Chip>) {
      here.queue = queue;
    }
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      ((ashlar::detail::excluded<K> = off[I], ashlar::detail::included<K> = added[I]), ...);
    }(std::index_sequence_for<K...>{});
    body();
    here.queue.wait();
  };
}
template <class Keys>
struct surroundings_of;
template <class... K>
struct surroundings_of<key_set<K...>> {
  static constexpr surroundings take = &take_surroundings<chip_of<key_set<K...>>, K...>;
};

template <class Root>
[[nodiscard]] start start_at(std::string_view who, const Root& root, const Root& seed) {
  node& at = node_of(root, who);
  if (!seed) {
    throw undefined_tensor(who);
  }
  if (!same_shape(root.spec(), seed.spec())) {
    throw shape_error(who, root.shape(), seed.shape(), "the seed must have the root's shape");
  }
  return {ref<node>::share(&at), seed};
}
template <class Root>
[[nodiscard]] Root unit_seed(const Root& root) {
  static_cast<void>(node_of(root, "backward"));
  if (root.size() != 1) {
    throw shape_error("backward", root.shape(), ashlar::shape{}.span(),
                      "without a seed the root must have one element");
  }
  [[maybe_unused]] const auto there = beside(root);
  return filled<Root>(contiguous_spec(dtype_of<typename Root::value_type>, root.shape()), 1.0);
}

template <class Keys>
void run_pass(std::span<start> starts, backward_options options,
              std::span<const capture> captures) {
  const grad_mode mode(options.create_graph);
  backward_pass{}.run(starts, options.retain_graph || options.create_graph, captures,
                      surroundings_of<Keys>::take);
}

/// The gradients of some inputs; one tensor may be asked for twice.
template <class Keys, class... In>
[[nodiscard]] std::tuple<In...> gradients(std::span<start> starts, backward_options options,
                                          const In&... inputs) {
  std::array<tensor_handle, sizeof...(In)> found;
  std::array<capture, sizeof...(In)> captures;
  std::size_t place = 0;
  ((captures[place] = {&node_of(inputs, "grad"), &found[place]}, ++place), ...);
  run_pass<Keys>(starts, options, captures);
  for (std::size_t i = 0; i < captures.size(); ++i) {
    for (std::size_t j = i + 1; j < captures.size() && !found[i]; ++j) {
      found[i] = captures[j].at == captures[i].at ? found[j] : tensor_handle{};
    }
  }
  return [&]<std::size_t... I>(std::index_sequence<I...>) {
    return std::tuple<In...>{In(std::move(found[I]))...};
  }(std::index_sequence_for<In...>{});
}

}  // namespace autograd::detail

/// Accumulates the gradients of everything that `root` was computed from into its leaves; where
/// leaves are named, into those alone.
///
/// Shapes:   `seed`, the gradient of `root`, has `root`'s shape.
/// Effects:  drops what the graph saved, unless `retain_graph` or `create_graph`.
/// Throws:   `shape_error`, `not_recordable`, `modified_in_place`.
template <Recorded Root, Recorded... Leaf>
void backward(const Root& root, const Root& seed, backward_options options, const Leaf&... leaves) {
  autograd::start from = autograd::detail::start_at("backward", root, seed);
  std::array<autograd::capture, sizeof...(Leaf)> only;
  std::size_t place = 0;
  [[maybe_unused]] const auto want = [&](const auto& leaf) {
    only[place++] = {&autograd::node_of(leaf, "backward"), nullptr};
    if (!is_leaf(leaf)) {
      throw not_recordable("backward", "only leaves accumulate; use grad");
    }
  };
  (want(leaves), ...);
  autograd::detail::run_pass<typename Root::keys>({&from, 1}, options, only);
}
template <Recorded Root>
void backward(const Root& root, const Root& seed) {
  backward(root, seed, backward_options{});
}
/// From a root with one element, whose own gradient is 1.
template <Recorded Root>
void backward(const Root& root, backward_options options = {}) {
  backward(root, autograd::detail::unit_seed(root), options);
}

/// The gradients of `root` with respect to `inputs`, leaves or not; no leaf accumulates.
///
/// Returns: a tuple; an empty handle for an input that `root` does not depend on.
/// Throws: as `backward`.
template <Recorded Root, Recorded... In>
[[nodiscard]] std::tuple<In...> grad(const Root& root, const Root& seed, backward_options options,
                                     const In&... inputs) {
  autograd::start from = autograd::detail::start_at("grad", root, seed);
  return autograd::detail::gradients<typename Root::keys>({&from, 1}, options, inputs...);
}
template <Recorded Root, Recorded... In>
[[nodiscard]] std::tuple<In...> grad(const Root& root, const In&... inputs) {
  return grad(root, autograd::detail::unit_seed(root), backward_options{}, inputs...);
}
/// The same from several roots at once: their gradients add up.
template <Recorded... Root, Recorded... In>
[[nodiscard]] std::tuple<In...> grad(const std::tuple<Root...>& roots,
                                     const std::tuple<Root...>& seeds, backward_options options,
                                     const In&... inputs) {
  return [&]<std::size_t... I>(std::index_sequence<I...>) {
    std::array<autograd::start, sizeof...(Root)> from{
        autograd::detail::start_at("grad", std::get<I>(roots), std::get<I>(seeds))...};
    using keys = typename std::tuple_element_t<0, std::tuple<Root...>>::keys;
    return autograd::detail::gradients<keys>(from, options, inputs...);
  }(std::index_sequence_for<Root...>{});
}

}  // namespace ashlar
