// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ashlar/comm/collectives.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/nn/module.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/parallel/detail/transfer.hpp"
#include "ashlar/parallel/pieces.hpp"

/// Parameters that are whole or in parts together.
namespace ashlar::parallel::detail {

/// Elements on a chip in one row, where transports reach them: the chip's own memory where the host
/// may address it, else a copy.
template <class T, class Keys>
class row {
 public:
  using flat = tensor<T, exclude<Keys, keys::autograd>>;
  static constexpr bool direct = memory::HostAddressable<typename chip_of<Keys>::memory>;

  explicit row(std::size_t count) : on_chip_(empty<flat>({static_cast<std::int64_t>(count)})) {
    if constexpr (direct) {
      settle(on_chip_);
    } else {
      staged_.resize(count);
    }
  }
  [[nodiscard]] std::span<T> elements() {
    if constexpr (direct) {
      return {on_chip_.data(), static_cast<std::size_t>(on_chip_.size())};
    } else {
      return staged_;
    }
  }
  /// The chip has the elements from now on.
  const flat& to_chip() {
    if constexpr (!direct) {
      write(std::span<const T>(staged_), on_chip_);
      staged_ = {};
    }
    return on_chip_;
  }

 private:
  flat on_chip_;
  std::vector<T> staged_;
};

/// This rank's chunk of a row.
template <class T, class Endpoint>
[[nodiscard]] std::span<T> part_of(std::span<T> all, const Endpoint& endpoint) {
  const comm::chunk own = comm::chunk_of(all.size(), endpoint.size(), endpoint.rank());
  return all.subspan(own.first, own.size());
}

template <class Parameter, class Endpoint, class Wire>
struct unit {
  using element = typename Parameter::value_type;
  using row_type = row<element, typename Parameter::keys>;

  std::string name;
  std::vector<std::size_t> numbers;  ///< of parameters
  std::vector<std::string> names;
  std::vector<std::size_t> sizes, firsts;
  std::vector<Parameter> members;  ///< the module's tensors: without elements while in parts
  std::size_t count = 0;
  std::size_t first_piece = 0, last_piece = 0;
  std::size_t trained = 0, waiting = 0;  ///< members that want a gradient, that have none yet
  std::vector<bool> arrived;
  bool reached = false;  ///< the pass under way has brought all of them
  std::optional<row_type> whole;
  std::optional<row<Wire, typename Parameter::keys>> gradients;
  // Behind the rows that they write to, so that they end before those.
  std::optional<comm::work<Endpoint>> arriving, leaving;

  template <class T>
  [[nodiscard]] std::span<T> part(std::span<T> all, std::size_t member) const {
    return all.subspan(firsts[member], sizes[member]);
  }

  void add(std::size_t number, const nn::named<Parameter>& p) {
    numbers.push_back(number);
    names.push_back(p.name);
    sizes.push_back(static_cast<std::size_t>(p.value.size()));
    firsts.push_back(count);
    count += sizes.back();
  }

  /// Keeps this rank's part, of the first rank's elements, at the end of `pieces`.
  template <class Piece>
  void cut(const std::vector<nn::named<Parameter>>& parameters, Endpoint& shards,
           Endpoint* replicas, std::vector<Piece>& pieces, std::vector<piece_place>& places) {
    std::vector<element> all(count);
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      read(parameters[numbers[i]].value, part(std::span(all), i));
    }
    if (replicas != nullptr && shards.rank() == 0) {
      comm::broadcast(*replicas, std::span(all), 0);
    }
    comm::broadcast(shards, std::span(all), 0);
    const comm::chunk own = comm::chunk_of(count, shards.size(), shards.rank());
    std::span<const element> from = std::span(all).subspan(own.first);
    first_piece = pieces.size();
    for (const overlap& o : overlaps(sizes, own)) {
      const auto& p = parameters[numbers[o.member]];
      const Piece piece = zeros<Piece>({static_cast<std::int64_t>(o.count)});
      write(from.first(o.count), piece);
      from = from.subspan(o.count);
      pieces.push_back(requires_grad(p.value) ? require_grad(piece) : piece);
      places.push_back({p.name, p.value.spec(), o.first, o.count});
    }
    last_piece = pieces.size();
  }

  /// Makes the tensors that look at places of the row, and notes which old one each stands for.
  void make_views(const std::vector<nn::named<Parameter>>& parameters,
                  std::unordered_map<const tensor_body*, Parameter>& made) {
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      const Parameter& old = parameters[numbers[i]].value;
      tensor_spec spec = contiguous_spec(old.spec().type, old.shape());
      spec.offset = static_cast<std::int64_t>(firsts[i]);
      const Parameter fresh(body_of<typename Parameter::keys>::make(spec));
      fresh.body()->ordinal = old.body()->ordinal;
      members.push_back(requires_grad(old) ? require_grad(fresh) : fresh);
      trained += requires_grad(old) ? 1 : 0;
      made.emplace(old.body(), fresh);
    }
    start();
  }
  /// Before a backward pass.
  void start() {
    arrived.assign(members.size(), false);
    waiting = trained;
    reached = false;
  }
  void attach(std::uint32_t version) {
    const auto& flat = whole->to_chip();
    flat.body()->version = version;
    for (std::size_t i = 0; i < members.size(); ++i) {
      tensor_body& b = *members[i].body();
      b.base = ref<tensor_body>::share(flat.body());
      b.data = flat.bytes() + firsts[i] * sizeof(element);
    }
  }
  void drop() {
    arriving.reset();
    for (const Parameter& p : members) {
      p.body()->data = nullptr;
      p.body()->base = {};
    }
    whole.reset();
  }
};

/// A number that is the same where the units are.
[[nodiscard]] inline std::int64_t fingerprint_of(const std::vector<std::string>& names) {
  std::string all;
  for (const std::string& name : names) {
    all += name + '\n';
  }
  return fingerprint(all, {});
}

/// Throws: `argument_error` where there is no unit of this number.
inline void require_unit(std::size_t units, std::size_t number) {
  if (number >= units) {
    throw argument_error("ashlar::parallel::fsdp", "there is no unit " + std::to_string(number) +
                                                       " of " + std::to_string(units) +
                                                       "; ask `unit` for its number");
  }
}

/// Puts parameters into the units that name them, the others into one without a name.
template <class Unit, class Parameter>
[[nodiscard]] std::vector<Unit> units_of(const std::vector<nn::named<Parameter>>& parameters,
                                         const std::vector<std::string>& names) {
  std::vector<Unit> units(names.size() + 1);
  for (std::size_t i = 0; i < names.size(); ++i) {
    units[i].name = names[i];
  }
  for (std::size_t p = 0; p < parameters.size(); ++p) {
    const std::string& name = parameters[p].name;
    const auto inside = [&](const std::string& of) {
      return name.starts_with(of) && (name.size() == of.size() || name[of.size()] == '.');
    };
    const auto at = std::ranges::find_if(names, inside) - names.begin();
    units[static_cast<std::size_t>(at)].add(p, parameters[p]);
  }
  for (const Unit& u : units) {
    if (u.count == 0 && &u != &units.back()) {
      throw argument_error("ashlar::parallel::fsdp",
                           "the unit '" + u.name +
                               "' has no parameter; a unit is named as in the "
                               "state dict, the outer ones behind the inner");
    }
  }
  if (units.back().count == 0) {
    units.pop_back();
  }
  return units;
}

}  // namespace ashlar::parallel::detail
