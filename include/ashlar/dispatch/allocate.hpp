// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <utility>

#include "ashlar/chip/concept.hpp"
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

  const std::size_t bytes = static_cast<std::size_t>(detail::reach(spec)) * element;
  const auto place = [&](const Result& x) {
    if constexpr (device_count<chip_of<typename Result::keys>> > 1) {
      x.body()->ordinal = static_cast<std::uint16_t>(ctx.ordinal);
    }
  };
  if constexpr (memory::HostAddressable<chip_memory> && !HasQueues<chip>) {
    if (bytes <= inline_bytes) [[likely]] {
      Result x(body::make_with_elements(spec, bytes));
      if (spec.type != dtype_of<typename Result::value_type>) {
        x.body()->spec.type = dtype_of<typename Result::value_type>;
      }
      place(x);
      return x;
    }
  }
  Result x(body::make(spec));
  x.body()->spec.type = dtype_of<typename Result::value_type>;
  x.body()->bytes = bytes;
  place(x);
  if constexpr (!requires { chip_memory::allocates_nothing; }) {
    memory::resource& from = ctx.allocator();
    if constexpr (HasQueues<chip>) {
      const memory::queue_id here = ctx.queue.id();
      auto& uses = x.template state<keys::backend<chip>>();
      uses.home = here;
      uses.writer = here;  // the block's last use is behind on this queue
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
