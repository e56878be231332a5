// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/comm/collectives.hpp"
#include "ashlar/nn/clip.hpp"
#include "ashlar/nn/module.hpp"
#include "ashlar/nn/state_dict.hpp"
#include "ashlar/ops/copy.hpp"
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

/// This rank's view of a whole parameter; empty where another rank has it.
template <class Endpoint, Tensor X>
[[nodiscard]] X part_of(const Endpoint& group, const tensor_split* s, const X& whole) {
  if (s == nullptr) {
    return whole;
  }
  if (s->how == cut::outputs) {
    return view_of_share(group, whole, 0, s->unit);
  }
  return whole.rank() == 2 ? view_of_share(group, whole, 1, s->unit)
                           : (group.rank() == 0 ? whole : X{});
}

}  // namespace detail

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
    if (s == nullptr) {
      op_function<ops::copy>{}.in_place(to, own);
      return;
    }
    const bool divided = s->how == cut::outputs || to.rank() == 2;
    const int axis = s->how == cut::inputs && divided ? 1 : 0;
    std::vector<std::size_t> counts;
    for (int rank = 0; rank < group.size(); ++rank) {
      const auto each = static_cast<std::size_t>(to.size() / to.extent(axis));
      counts.push_back(
          !divided ? (rank == 0 ? static_cast<std::size_t>(to.size()) : 0)
                   : each * detail::chunk_in(to.extent(axis), group.size(), rank, s->unit).size());
    }
    const comm::partition places(counts);
    const comm::chunk mine = places.at(group.rank());
    if (static_cast<std::size_t>(own ? own.size() : 0) != mine.size()) {
      throw argument_error("ashlar::parallel::gather_shards",
                           "the part of '" + name + "' has not its share's size");
    }
    // With the divided axis first, ranks' parts follow each other.
    const auto turned = [axis](const X& x) { return axis == 1 ? transpose(x, 0, 1) : x; };
    std::vector<T> all(places.count());
    const auto place = std::span(all).subspan(mine.first, mine.size());
    if (own) {
      detail::read(turned(own), place);
    }
    comm::all_gather(group, std::span<const T>(place), std::span(all), places);
    detail::write(std::span<const T>(all), turned(to));
  });
}

/// The sum of the squares of a whole module's gradients, the same on every rank.
///
/// Requires: gradients of what is not cut are the same on every rank, those of cut parameters
/// whole. Cost:     waits for the chip once per parameter; one all-reduce of a number.
template <nn::Module M, class Endpoint>
[[nodiscard]] double squares_of_gradients(const M& part, Endpoint& group,
                                          std::span<const tensor_split> splits) {
  double sum = 0.0;
  for (const auto& p : nn::parameter_list(part)) {
    if (group.rank() == 0 || detail::split_of(splits, p.name) != nullptr) {
      const double norm = nn::grad_norm(std::vector{p.value});
      sum += norm * norm;
    }
  }
  comm::all_reduce<comm::ordered>(group, std::span(&sum, 1));
  return sum;
}

}  // namespace ashlar::parallel
