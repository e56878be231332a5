// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "ashlar/chip/concept.hpp"
#include "ashlar/comm/collectives.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/nn/module.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/parallel/errors.hpp"

/// Between a chip's tensors and the host memory that transports send from.
namespace ashlar::parallel::detail {

/// What travels for elements of `T`: sums of 16-bit elements are formed in float.
template <class T>
using wire_type = compute_type<T>;

/// Copies the elements of `x`, in row-major order, to `to`. Waits for the chip.
template <Tensor X, class W>
void read(const X& x, std::span<W> to) {
  using T = typename X::value_type;
  using chip = chip_of<typename X::keys>;
  if (!x.contiguous()) {
    read(call<ops::clone>(x), to);
    return;
  }
  settle(x);
  if constexpr (memory::HostAddressable<typename chip::memory>) {
    std::transform(x.data(), x.data() + x.size(), to.begin(),
                   [](T value) { return static_cast<W>(value); });
  } else {
    std::vector<T> elements(to.size());
    chip::memory::copy_out(elements.data(), x.bytes(), elements.size() * sizeof(T));
    std::transform(elements.begin(), elements.end(), to.begin(),
                   [](T value) { return static_cast<W>(value); });
  }
}

/// Copies `from` to the elements of `x`. Waits for the chip.
template <Tensor X, class W>
void write(std::span<const W> from, const X& x) {
  using T = typename X::value_type;
  using chip = chip_of<typename X::keys>;
  if (!x.contiguous()) {
    const X dense = empty<X>(shape(x.shape()));
    write(from, dense);
    X to = x;
    op_function<ops::copy>{}.in_place(to, dense);
    return;
  }
  settle(x);
  const auto narrow = [](W value) { return static_cast<T>(value); };
  if constexpr (memory::HostAddressable<typename chip::memory>) {
    std::transform(from.begin(), from.end(), x.data(), narrow);
  } else {
    std::vector<T> elements(from.size());
    std::transform(from.begin(), from.end(), elements.begin(), narrow);
    chip::memory::copy_in(x.bytes(), elements.data(), elements.size() * sizeof(T));
  }
  ++x.body()->root().version;
}

/// A number that is the same where name, element type and shape are (FNV-1a).
inline std::int64_t fingerprint(const std::string& name, const tensor_spec& s) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  const auto mix = [&hash](std::uint64_t byte) { hash = (hash ^ byte) * 0x100000001b3u; };
  for (const char c : name) {
    mix(static_cast<unsigned char>(c));
  }
  mix(static_cast<std::uint64_t>(s.type));
  for (const std::int64_t extent : s.shape()) {
    for (int shift = 0; shift < 64; shift += 8) {
      mix((static_cast<std::uint64_t>(extent) >> shift) & 0xffu);
    }
  }
  return static_cast<std::int64_t>(hash);
}

/// Compares this rank's parameters and options with rank 0's.
///
/// Throws: `replica_mismatch` on the ranks that differ.
template <class Endpoint, class Parameter>
void require_same_replica(Endpoint& endpoint, const std::vector<nn::named<Parameter>>& parameters,
                          std::array<std::int64_t, 4> options) {
  std::array<std::int64_t, 5> mine{static_cast<std::int64_t>(parameters.size()), options[0],
                                   options[1], options[2], options[3]};
  std::array<std::int64_t, 5> theirs = mine;
  comm::broadcast(endpoint, std::span<std::int64_t>(theirs), 0);
  if (mine[0] != theirs[0]) {
    throw replica_mismatch(endpoint.rank(), "the number of parameters: " + std::to_string(mine[0]) +
                                                " and " + std::to_string(theirs[0]));
  }
  if (mine != theirs) {
    throw replica_mismatch(endpoint.rank(), "its options");
  }
  std::vector<std::int64_t> own;
  for (const auto& p : parameters) {
    own.push_back(fingerprint(p.name, p.value.spec()));
  }
  std::vector<std::int64_t> first = own;
  comm::broadcast(endpoint, std::span<std::int64_t>(first), 0);
  const auto at = std::mismatch(own.begin(), own.end(), first.begin()).first;
  if (at != own.end()) {
    throw replica_mismatch(endpoint.rank(),
                           "'" + parameters[static_cast<std::size_t>(at - own.begin())].name + "'");
  }
}

}  // namespace ashlar::parallel::detail
