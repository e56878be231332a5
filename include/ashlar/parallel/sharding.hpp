// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/autograd/function.hpp"
#include "ashlar/comm/collectives.hpp"
#include "ashlar/nn/clip.hpp"
#include "ashlar/nn/module.hpp"
#include "ashlar/nn/state_dict.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/views.hpp"
#include "ashlar/parallel/detail/transfer.hpp"
#include "ashlar/parallel/tensor_parallel.hpp"

/// A module of which every rank has its parts of the matrices, by one list that says how each is
/// cut.
///
/// The part is a module of the same type: its linear layers see fewer outputs, or give a summand.
namespace ashlar::parallel {

/// Which axis of a layer's matrix is divided.
enum class cut : std::uint8_t {
  outputs,  ///< columns, in Megatron's words, and rows of a vocabulary: `weight` and `bias`, axis 0
  inputs    ///< rows, in Megatron's words: `weight`, axis 1; rank 0 alone has the `bias`
};

/// How the layers of one name are cut.
struct tensor_split {
  std::string_view layer;  ///< the end of its name, as `self_attn.q_proj`
  cut how;
  std::int64_t unit = 1;  ///< entries of the axis that stay together, as those of a head
  int copies = 1;         ///< ranks that have the same part, one after the other
};

namespace detail {

/// Throws: `argument_error` where a name ends as two of them say.
inline const tensor_split* split_of(std::span<const tensor_split> splits, std::string_view name) {
  const auto dot = name.rfind('.');
  const std::string_view layer = dot == std::string_view::npos ? "" : name.substr(0, dot);
  const tensor_split* found = nullptr;
  for (const tensor_split& s : splits) {
    if (layer.ends_with(s.layer) &&
        (layer.size() == s.layer.size() || layer[layer.size() - s.layer.size() - 1] == '.')) {
      if (found != nullptr) {
        throw argument_error("ashlar::parallel",
                             "'" + std::string(name) + "' is cut in two ways; say one");
      }
      found = &s;
    }
  }
  return found;
}

/// What a rank has of an axis.
inline comm::chunk chunk_in(const tensor_split& s, std::int64_t extent, int ranks, int rank) {
  if (s.copies < 1 || ranks % s.copies != 0) {
    throw argument_error("ashlar::parallel",
                         std::to_string(s.copies) + " copies of each part of '" +
                             std::string(s.layer) + "' on " + std::to_string(ranks) +
                             " ranks; they must divide them");
  }
  return chunk_in(extent, ranks / s.copies, rank / s.copies, s.unit);
}

/// This rank's view of a whole parameter; empty where another rank has it.
template <class Endpoint, Tensor X>
[[nodiscard]] X part_of(const Endpoint& group, const tensor_split* s, const X& whole) {
  if (s == nullptr) {
    return whole;
  }
  if (s->how == cut::inputs && whole.rank() == 1) {
    return group.rank() == 0 ? whole : X{};
  }
  const int axis = s->how == cut::outputs ? 0 : 1;
  return view_of(whole, axis, chunk_in(*s, whole.extent(axis), group.size(), group.rank()));
}

}  // namespace detail

/// Where a rank's part of the parameter `name` begins in the whole one: for `region::start`.
///
/// Throws: as `shard`.
[[nodiscard]] inline shape start_of(std::span<const tensor_split> splits, std::string_view name,
                                    const shape& whole, int ranks, int rank) {
  shape start;
  for (int axis = 0; axis < whole.rank(); ++axis) {
    start.push_back(0);
  }
  if (const tensor_split* s = detail::split_of(splits, name)) {
    const int axis = s->how == cut::outputs ? 0 : 1;
    if (axis < whole.rank()) {
      start[axis] = static_cast<std::int64_t>(detail::chunk_in(*s, whole[axis], ranks, rank).first);
    }
  }
  return start;
}

/// This rank's part of a module: copies, under the names of the whole.
///
/// Throws: `argument_error`, on every rank alike, where an axis has fewer units than there are
///         ranks.
template <nn::Module M, class Endpoint>
[[nodiscard]] M shard(const M& whole, const Endpoint& group, std::span<const tensor_split> splits) {
  const no_grad off;
  M part = whole;
  std::map<const tensor_body*, tensor_handle> made;  // what stands in two places stays one
  nn::named_tensors(part, [&](const std::string& name, auto& x) {
    using X = std::remove_cvref_t<decltype(x)>;
    const tensor_body* from = x.body();
    if (const auto again = made.find(from); again != made.end()) {
      x = X(again->second);
      return;
    }
    const X own = detail::part_of(group, detail::split_of(splits, name), x);
    x = own ? X(clone(own)) : X{};
    made.emplace(from, x);
  });
  return part;
}

/// Loads this rank's part of a whole module's state; see `nn::load_state_dict`.
///
/// Throws: as that, with the shapes of parts; as `shard`.
template <nn::Module M, class Endpoint>
void load_shard(M& part, const nn::state_map& whole, const Endpoint& group,
                std::span<const tensor_split> splits, nn::load_options options = {}) {
  const no_grad off;
  nn::state_map own = whole;
  nn::named_tensors(part, [&](const std::string& name, const auto& x) {
    using X = std::remove_cvref_t<decltype(x)>;
    const auto at = own.find(name);
    const tensor_split* s = detail::split_of(splits, name);
    if (at != own.end() && s != nullptr && at->second.spec().type == x.spec().type) {
      at->second = detail::part_of(group, s, X(at->second));
    }
  });
  std::erase_if(own, [&](const auto& entry) {  // the biases of rank 0
    const tensor_split* s = detail::split_of(splits, entry.first);
    return s != nullptr && s->how == cut::inputs && group.rank() != 0 &&
           entry.second.spec().rank == 1;
  });
  nn::load_state_dict(part, own, options);
}

/// Copies every rank's part to a whole module, on every rank: the reverse of `shard`.
///
/// Requires: `whole` has the shapes of the module that was cut.
/// Throws:   `argument_error` where a part is not there or has not its share's size.
template <nn::Module M, class Endpoint>
void gather_shards(const M& part, M& whole, Endpoint& group, std::span<const tensor_split> splits) {
  const no_grad off;
  const nn::state_map parts = nn::state_dict(part);
  nn::named_tensors(whole, [&](const std::string& name, auto& to) {
    using X = std::remove_cvref_t<decltype(to)>;
    using T = typename X::value_type;
    const tensor_split* s = detail::split_of(splits, name);
    const auto at = parts.find(name);
    const X own = at == parts.end() ? X{} : X(at->second);
    const auto require = [&name](bool right) {
      if (!right) {
        throw argument_error("ashlar::parallel::gather_shards",
                             "the part of '" + name + "' has not its share's size");
      }
    };
    if (s == nullptr) {
      require(own && same_shape(own.spec(), to.spec()));
      op_function<ops::copy>{}.in_place(to, own);
      return;
    }
    const bool divided = s->how == cut::outputs || to.rank() == 2;
    const int axis = s->how == cut::inputs && divided ? 1 : 0;
    std::vector<std::size_t> counts;
    for (int rank = 0; rank < group.size(); ++rank) {
      const auto each = static_cast<std::size_t>(to.size() / to.extent(axis));
      const bool first = divided ? rank % s->copies == 0 : rank == 0;
      const auto n = divided ? detail::chunk_in(*s, to.extent(axis), group.size(), rank).size()
                             : static_cast<std::size_t>(to.extent(axis));
      counts.push_back(first ? each * n : 0);
    }
    const comm::partition places(counts);
    const comm::chunk mine = places.at(group.rank());
    require(mine.size() == 0 || (own && static_cast<std::size_t>(own.size()) == mine.size()));
    // With the divided axis first, ranks' parts follow each other.
    const auto turned = [axis](const X& x) { return axis == 1 ? transpose(x, 0, 1) : x; };
    std::vector<T> all(places.count());
    const auto place = std::span(all).subspan(mine.first, mine.size());
    if (mine.size() > 0) {
      detail::read(turned(own), place);
    }
    comm::all_gather(group, std::span<const T>(place), std::span(all), places);
    detail::write(std::span<const T>(all), turned(to));
  });
}

namespace detail {
/// A part that several ranks have, as these use it: each one's gradient of it is a summand.
template <class Endpoint, class Algorithm>
struct enter_copies {
  static constexpr std::string_view name = "enter_copies";
  Endpoint* group;
  int copies;
  template <Tensor X>
  X forward(function_context&, const X& x) const {
    return x;
  }
  template <Tensor X>
  X backward(const function_context&, const X& g) const {
    if (grad_enabled()) {
      throw not_recordable(name, "its gradient has no gradient; do not create a graph");
    }
    const auto n = static_cast<std::size_t>(g.size());
    std::vector<wire_type<typename X::value_type>> all(
        n * static_cast<std::size_t>(group->size() / copies));
    const auto own =
        std::span(all).subspan(n * static_cast<std::size_t>(group->rank() / copies), n);
    read(g, own);
    comm::all_reduce<Algorithm>(*group, std::span(all));
    const X sum = empty<X>(shape(g.shape()));
    write(std::span<const wire_type<typename X::value_type>>(own), sum);
    return sum;
  }
};
}  // namespace detail

/// Replaces gradients of parts that several ranks have by their sums over those ranks.
///
/// Requires: such parts are of one size on every rank.
/// Cost:     one all-reduce of as many elements as the whole parameters have, none where there are
///           no copies.
template <class Algorithm = comm::ring, nn::Module M, class Endpoint>
void sum_copies(const M& part, Endpoint& group, std::span<const tensor_split> splits) {
  using X = nn::parameter_type_of<M>;
  using W = detail::wire_type<typename X::value_type>;
  std::vector<std::pair<X, std::size_t>> mine;  // and where in the whole
  std::size_t count = 0;
  for (const auto& p : nn::parameter_list(part)) {
    const tensor_split* s = detail::split_of(splits, p.name);
    if (s != nullptr && s->copies > 1 && gradient(p.value)) {
      const auto n = static_cast<std::size_t>(p.value.size());
      mine.emplace_back(p.value, count + n * static_cast<std::size_t>(group.rank() / s->copies));
      count += n * static_cast<std::size_t>(group.size() / s->copies);
    }
  }
  if (mine.empty()) {
    return;
  }
  std::vector<W> all(count);
  const auto place = [&all](const auto& entry) {
    return std::span(all).subspan(entry.second, static_cast<std::size_t>(entry.first.size()));
  };
  for (const auto& entry : mine) {
    detail::read(X(gradient(entry.first)), place(entry));
  }
  comm::all_reduce<Algorithm>(group, std::span(all));
  const no_grad off;
  for (const auto& entry : mine) {
    const X sum = empty<X>(shape(entry.first.shape()));
    detail::write(std::span<const W>(place(entry)), sum);
    gradient(entry.first) = sum;
  }
}

/// The sum of the squares of a whole module's gradients, the same on every rank.
///
/// Requires: gradients of what is not cut are the same on every rank, those of parts are whole.
/// Cost:     waits for the chip once per parameter; one all-reduce of a number.
template <nn::Module M, class Endpoint>
[[nodiscard]] double squares_of_gradients(const M& part, Endpoint& group,
                                          std::span<const tensor_split> splits) {
  double sum = 0.0;
  for (const auto& p : nn::parameter_list(part)) {
    const tensor_split* s = detail::split_of(splits, p.name);
    if (s == nullptr ? group.rank() == 0 : group.rank() % s->copies == 0) {
      const double norm = nn::grad_norm(std::vector{p.value});
      sum += norm * norm;
    }
  }
  comm::all_reduce<comm::ordered>(group, std::span(&sum, 1));
  return sum;
}

}  // namespace ashlar::parallel
