// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/comm/collectives.hpp"
#include "ashlar/core/spec.hpp"
#include "ashlar/nn/optimizer.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/parallel/detail/transfer.hpp"

/// What a rank has of parameters that stand one after the other and are divided among ranks.
namespace ashlar::parallel {

/// Which elements of which parameter a piece is; of its row-major order.
struct piece_place {
  std::string name;
  tensor_spec whole;      ///< of the parameter
  std::size_t first = 0;  ///< element of the parameter
  std::size_t count = 0;
};

/// A group rule for an optimizer over pieces, which are named by number: `rule` is asked about the
/// whole parameters.
template <nn::GroupRule Rule>
[[nodiscard]] auto rule_of_pieces(std::vector<piece_place> places, Rule rule) {
  return [rule, places = std::move(places)](std::string_view number, const tensor_spec&) {
    std::size_t i = 0;
    std::from_chars(number.data(), number.data() + number.size(), i);
    return nn::parameter_group(rule(std::string_view(places[i].name), places[i].whole));
  };
}

namespace detail {

/// The parts of `own` that lie in each of some members, which have `sizes` elements.
struct overlap {
  std::size_t member;
  std::size_t first;  ///< element of the member
  std::size_t count;
};
inline std::vector<overlap> overlaps(std::span<const std::size_t> sizes, comm::chunk own) {
  std::vector<overlap> parts;
  std::size_t first = 0;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    const std::size_t last = first + sizes[i];
    const std::size_t from = std::max(first, own.first), to = std::min(last, own.last);
    if (from < to) {
      parts.push_back({i, from - first, to - from});
    }
    first = last;
  }
  return parts;
}

/// The 2-norm of all ranks' pieces' gradients, in double, piece by piece and rank by rank.
template <class Endpoint, class Piece>
[[nodiscard]] double norm_of_pieces(Endpoint& endpoint, const std::vector<Piece>& pieces) {
  std::vector<wire_type<typename Piece::value_type>> elements;
  double sum = 0;
  for (const Piece& piece : pieces) {
    if (!requires_grad(piece)) {
      continue;
    }
    if (const Piece& g = gradient(piece)) {
      elements.resize(static_cast<std::size_t>(g.size()));
      read(g, std::span(elements));
      for (const auto x : elements) {
        sum += static_cast<double>(x) * static_cast<double>(x);
      }
    }
  }
  comm::all_reduce<comm::ordered>(endpoint, std::span<double>(&sum, 1));
  return std::sqrt(sum);
}

/// A bucket's or unit's reduced gradients, of which this rank has `own`, as its pieces' gradients:
/// multiplied by `factor`, then added to those that are there where `add` says so.
template <class Piece, class W>
void give_gradients(std::span<Piece> pieces, std::span<const W> own, double factor, bool add) {
  for (const Piece& piece : pieces) {
    const auto count = static_cast<std::size_t>(piece.size());
    if (requires_grad(piece)) {
      const Piece fresh = zeros<Piece>(shape(piece.shape()));
      write(own.first(count), fresh);
      if (factor != 1.0) {
        Piece to = fresh;
        op_function<ops::scale>{}.in_place(to, factor, 0.0);
      }
      Piece& g = gradient(piece);
      if (g && add) {
        op_function<ops::add>{}.in_place(g, fresh);
      } else {
        g = fresh;
      }
    }
    own = own.subspan(count);
  }
}

}  // namespace detail

}  // namespace ashlar::parallel
