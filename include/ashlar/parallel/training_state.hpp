// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <list>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/nn/module.hpp"
#include "ashlar/nn/state_dict.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/parallel/checkpoint.hpp"
#include "ashlar/parallel/detail/transfer.hpp"
#include "ashlar/parallel/pieces.hpp"

/// Checkpoints of parameters and their optimizer, whole or in parts, and what goes on from them.
namespace ashlar::parallel {

/// A rank's parameters, and what each is a part of.
template <class Piece>
struct held_parameters {
  std::vector<Piece> pieces;
  std::vector<piece_place> places;

  /// What `fsdp`, or `ddp` with its state in parts, has of them.
  template <class Sharded>
    requires requires(const Sharded& s) { s.places(); }
  explicit held_parameters(const Sharded& s) : pieces(s.pieces()), places(s.places()) {}
  /// A module's, whole.
  template <class M>
    requires(!requires(const M& m) { m.places(); })
  explicit held_parameters(const M& module) {
    for (const auto& p : nn::parameter_list(module)) {
      pieces.push_back(p.value);
      places.push_back({p.name, p.value.spec(), 0, static_cast<std::size_t>(p.value.size())});
    }
  }
};
template <class Sharded>
  requires requires(const Sharded& s) { s.places(); }
held_parameters(const Sharded& s)
    -> held_parameters<typename std::remove_cvref_t<decltype(s.pieces())>::value_type>;
template <class M>
  requires(!requires(const M& m) { m.places(); })
held_parameters(const M&) -> held_parameters<nn::parameter_type_of<M>>;

/// Where a rank's tensor lies in the whole one, for ranks that have boxes of tensors: sets
/// `region::whole` and `region::start`. Without one a rank's tensors are whole.
using box_rule = std::function<void(region&)>;

namespace detail {

template <class Piece>
class state_parts {
 public:
  state_parts(const held_parameters<Piece>& held, const box_rule& rule)
      : held_(held), rule_(rule) {}

  [[nodiscard]] region of_piece(std::size_t i) const {
    const piece_place& p = held_.places[i];
    region r = region::all(p.name, shape(p.whole.shape()));
    r.first = p.first;
    r.count = p.count;
    if (rule_) {
      rule_(r);
    }
    return r;
  }
  /// Of what an optimizer remembers as `PIECE.what`, a piece being a number or a name.
  [[nodiscard]] region of_memory(std::string_view key, bool counter) const {
    const std::size_t dot = key.rfind('.');
    const std::string_view piece = key.substr(0, dot);
    std::size_t i = 0;
    const auto read = std::from_chars(piece.data(), piece.data() + piece.size(), i);
    if (read.ec != std::errc{} || read.ptr != piece.data() + piece.size()) {
      for (i = 0; i < held_.places.size() && held_.places[i].name != piece; ++i) {
      }
    }
    if (dot == std::string_view::npos || i >= held_.places.size()) {
      throw argument_error("ashlar::parallel::training_state",
                           "the optimizer remembers '" + std::string(key) +
                               "', which is no parameter's; make it over the pieces that are held");
    }
    const std::string name = "optimizer." + held_.places[i].name + std::string(key.substr(dot));
    if (counter) {
      return region::all(name, {});
    }
    region r = of_piece(i);
    r.name = name;
    return r;
  }

 private:
  const held_parameters<Piece>& held_;
  const box_rule& rule_;
};

/// `f(tensor)` with the type that an optimizer over `Piece` gave what it remembers.
template <class Piece, class F>
auto with_memory(const tensor_handle& x, const F& f) {
  using moment = tensor<compute_type<typename Piece::value_type>,
                        exclude<typename Piece::keys, keys::autograd>>;
  return x.spec().type == dtype::int64 ? f(tensor<std::int64_t, typename moment::keys>(x))
                                       : f(moment(x));
}

}  // namespace detail

/// Writes what a rank holds, and what the optimizer over it remembers, as its file of a checkpoint.
///
/// `metadata` is the program's own, the same on every rank: the number of the step, and with it,
/// where data are a function of that, their order.
/// Throws: as `save_part`; `argument_error` for an optimizer over something else.
template <class Piece, class Optimizer>
void save_training(const std::filesystem::path& folder, int rank, int ranks,
                   const held_parameters<Piece>& held, const Optimizer& optimizer,
                   const state_metadata& metadata = {}, const box_rule& boxes = {}) {
  const no_grad off;
  const detail::state_parts<Piece> place(held, boxes);
  std::list<std::vector<std::byte>> elements;
  std::vector<state_part> parts;
  const auto add = [&](region r, const auto& x) {
    const auto values = to_vector(x);
    const auto bytes = std::as_bytes(std::span(values));
    elements.emplace_back(bytes.begin(), bytes.end());
    parts.push_back({std::move(r), io::storage_of(x.spec().type), elements.back()});
  };
  for (std::size_t i = 0; i < held.pieces.size(); ++i) {
    add(place.of_piece(i), held.pieces[i]);
  }
  for (const auto& [key, x] : optimizer.state()) {
    region r = place.of_memory(key, x.spec().type == dtype::int64);
    const auto same = [&r](const state_part& p) { return r.is_all() && p.where.name == r.name; };
    if (std::ranges::none_of(parts, same)) {  // pieces of one parameter count their steps alike
      detail::with_memory<Piece>(x, [&](const auto& typed) { add(std::move(r), typed); });
    }
  }
  save_part(folder, rank, ranks, parts, metadata);
}

/// Reads what a rank holds, and what the optimizer over it remembers, from a checkpoint of any
/// layout.
///
/// Throws: `checkpoint_error`, `argument_error`; parameters may be partly read then.
template <class Piece, class Optimizer>
void load_training(const checkpoint& from, const held_parameters<Piece>& held, Optimizer& optimizer,
                   const box_rule& boxes = {}) {
  const no_grad off;
  const detail::state_parts<Piece> place(held, boxes);
  const auto read = [&]<class X>(const region& r, const X& x) {
    std::vector<typename X::value_type> values(static_cast<std::size_t>(x.size()));
    from.read(r, io::storage_of(x.spec().type), std::as_writable_bytes(std::span(values)));
    return values;
  };
  for (std::size_t i = 0; i < held.pieces.size(); ++i) {
    const auto values = read(place.of_piece(i), held.pieces[i]);
    detail::write(std::span(values), held.pieces[i]);
  }
  nn::state_map remembered;
  for (const auto& [key, x] : optimizer.state()) {
    const region r = place.of_memory(key, x.spec().type == dtype::int64);
    remembered.emplace(key, detail::with_memory<Piece>(x, [&]<class X>(const X& typed) {
                         return tensor_handle(from_values<X>(shape(typed.shape()), read(r, typed)));
                       }));
  }
  optimizer.load_state(remembered);
}

}  // namespace ashlar::parallel
