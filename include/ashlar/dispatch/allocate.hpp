// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <utility>

#include "ashlar/chip/concept.hpp"
#include "ashlar/config.hpp"
#include "ashlar/dispatch/keys.hpp"
#include "ashlar/dispatch/queues.hpp"

namespace ashlar {

namespace detail {

[[gnu::noinline]] constexpr std::int64_t reach_of_strides(const tensor_spec& s) {
  std::int64_t last = 0;
  for (int i = 0; i < s.rank; ++i) {
    last += (s[i] - 1) * s.stride_of(i);
  }
  return last + 1;
}
/// Elements from the first to the last address that a spec reaches.
constexpr std::int64_t reach(const tensor_spec& s) {
  return s.contiguous || s.size == 0 ? s.size : reach_of_strides(s);
}

/// The elements of a new body are on the context's device, and its queue was the last to use them.
template <class Chip, class Keys>
ASHLAR_INLINE void place([[maybe_unused]] context<Chip>& ctx, [[maybe_unused]] body_of<Keys>& x) {
  if constexpr (device_count<Chip> > 1) {
    x.ordinal = static_cast<std::uint16_t>(ctx.ordinal);
  }
  if constexpr (HasQueues<Chip>) {
    key_state<keys::backend<Chip>>& uses = x;
    uses.home = ctx.queue.id();
    uses.writer = uses.home;
  }
}

}  // namespace detail

/// A tensor with elements that nobody has written yet.
///
/// Requires: `spec` is one of its own (offset 0); strides may stand in any order.
/// Throws: `memory::out_of_memory`.
/// Cost: on memory that the host addresses, of a chip with one queue, up to 256 bytes lie in the
/// tensor's body: one small block from a thread's own list. More comes from the context's
/// allocator.
template <class Result>
[[nodiscard]] Result allocate_tensor(context<chip_of<typename Result::keys>>& ctx,
                                     const tensor_spec& spec) {
  using body = body_of<typename Result::keys>;
  using chip = chip_of<typename Result::keys>;
  using chip_memory = typename chip::memory;
  constexpr std::size_t element = sizeof(typename Result::value_type);
  constexpr std::size_t inline_bytes = 256;

  if constexpr (detail::can_withhold<typename Result::keys>) {
    if (detail::withheld(typename Result::keys{})) {
      Result x(body::make(spec));
      x.body()->spec.type = dtype_of<typename Result::value_type>;
      return x;
    }
  }
  const std::size_t bytes = static_cast<std::size_t>(detail::reach(spec)) * element;
  if constexpr (memory::HostAddressable<chip_memory> && !HasQueues<chip>) {
    if (bytes <= inline_bytes) [[likely]] {
      body* const made = body::make_with_elements(spec, bytes);
      Result x(made);
      if (spec.type != dtype_of<typename Result::value_type>) {
        x.body()->spec.type = dtype_of<typename Result::value_type>;
      }
      detail::place(ctx, *made);
      return x;
    }
  }
  body* const made = body::make(spec);
  Result x(made);
  x.body()->spec.type = dtype_of<typename Result::value_type>;
  x.body()->bytes = bytes;
  detail::place(ctx, *made);
  if constexpr (!requires { chip_memory::allocates_nothing; }) {
    memory::resource& from = ctx.allocator();
    if constexpr (HasQueues<chip>) {
      const memory::queue_id here = ctx.queue.id();
      x.body()->data = here == 0 ? from.allocate(bytes) : from.allocate(bytes, here);
    } else {
      x.body()->data = from.allocate(bytes);
    }
    x.body()->owner = &from;
    x.body()->release = &detail::give_back;
  }
  return x;
}

template <class Result>
[[nodiscard]] Result allocate_tensor(const tensor_spec& spec) {
  return allocate_tensor<Result>(context<chip_of<typename Result::keys>>::current(), spec);
}

/// A row-major tensor with elements that nobody has written yet.
///
/// Throws: `size_error`, `rank_error`, `memory::out_of_memory`.
template <class Result>
[[nodiscard]] Result empty(const shape& extents) {
  return allocate_tensor<Result>(
      contiguous_spec(dtype_of<typename Result::value_type>, extents.span()));
}

}  // namespace ashlar
