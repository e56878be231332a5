// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "ashlar/core/spec.hpp"

/// The geometry of views: each function maps the spec of a tensor to that of another look at the
/// same elements. Pure, constexpr, no memory touched.
namespace ashlar::geometry {

/// Recomputes what follows from extents and strides.
constexpr tensor_spec finished(tensor_spec s) {
  s.size = element_count(s.shape());
  s.contiguous = is_dense(s);
  return s;
}

/// Every `step`-th place of `axis` from `begin` up to `end`.
///
/// Negative bounds count from the back; bounds are clipped, as in Python.
/// Throws: `argument_error` for a bad axis or a step below 1.
constexpr tensor_spec slice(tensor_spec s, std::int64_t axis, std::int64_t begin, std::int64_t end,
                            std::int64_t step = 1) {
  const auto a = static_cast<std::size_t>(wrap_axis("slice", axis, s.rank));
  if (step < 1) {
    throw argument_error("ashlar::slice", "step " + std::to_string(step) + "; give a positive one");
  }
  const std::int64_t n = s.extent[a];
  const auto clip = [n](std::int64_t at) {
    return std::clamp<std::int64_t>(at < 0 ? at + n : at, 0, n);
  };
  begin = clip(begin);
  end = std::max(clip(end), begin);
  s.offset += begin * s.stride[a];
  s.extent[a] = (end - begin) / step + ((end - begin) % step != 0 ? 1 : 0);
  if (s.extent[a] > 1) {
    s.stride[a] *= step;
  }
  return finished(s);
}

/// `length` places of `axis` from `start`.
///
/// Throws: `argument_error` where they do not all exist.
constexpr tensor_spec narrow(const tensor_spec& s, std::int64_t axis, std::int64_t start,
                             std::int64_t length) {
  const int a = wrap_axis("narrow", axis, s.rank);
  if (start < 0 || length < 0 || start > s[a] || length > s[a] - start) {
    throw argument_error("ashlar::narrow", "places " + std::to_string(start) + " to " +
                                               std::to_string(start) + " + " +
                                               std::to_string(length) + " of " +
                                               std::to_string(s[a]) + "; they must all exist");
  }
  return slice(s, a, start, start + length);
}

/// One place of `axis`, which is gone afterwards.
constexpr tensor_spec select(tensor_spec s, std::int64_t axis, std::int64_t index) {
  const int a = wrap_axis("select", axis, s.rank);
  const std::int64_t at = index < 0 ? index + s[a] : index;
  if (at < 0 || at >= s[a]) {
    throw argument_error("ashlar::select", "index " + std::to_string(index) + " of " +
                                               std::to_string(s[a]) + "; it does not exist");
  }
  s.offset += at * s.stride_of(a);
  for (auto i = static_cast<std::size_t>(a); i + 1 < s.rank; ++i) {
    s.extent[i] = s.extent[i + 1];
    s.stride[i] = s.stride[i + 1];
  }
  --s.rank;
  s.extent[s.rank] = s.stride[s.rank] = 0;
  return finished(s);
}

/// Axis `i` of the result is axis `order[i]` of `s`.
constexpr tensor_spec permute(const tensor_spec& s, const shape& order) {
  if (order.rank() != s.rank) {
    throw shape_error("permute", s.shape(), order.span(), "the order must name each axis once");
  }
  tensor_spec p = s;
  unsigned seen = 0;
  for (int i = 0; i < s.rank; ++i) {
    const int from = wrap_axis("permute", order[i], s.rank);
    seen |= 1u << from;
    p.extent[static_cast<std::size_t>(i)] = s[from];
    p.stride[static_cast<std::size_t>(i)] = s.stride_of(from);
  }
  if (seen != (1u << s.rank) - 1u) {
    throw shape_error("permute", s.shape(), order.span(), "the order must name each axis once");
  }
  p.contiguous = is_dense(p);
  return p;
}

constexpr tensor_spec transpose(tensor_spec s, std::int64_t axis0, std::int64_t axis1) {
  const auto a = static_cast<std::size_t>(wrap_axis("transpose", axis0, s.rank));
  const auto b = static_cast<std::size_t>(wrap_axis("transpose", axis1, s.rank));
  std::swap(s.extent[a], s.extent[b]);
  std::swap(s.stride[a], s.stride[b]);
  s.contiguous = is_dense(s);
  return s;
}

/// Extents of 1 repeated to `to` without a copy; new axes come first. -1 keeps an extent.
///
/// Throws: `shape_error`.
constexpr tensor_spec expand(const tensor_spec& s, const shape& to) {
  const auto fail = [&] {
    throw shape_error("expand", s.shape(), to.span(), "only extents of 1 can be repeated");
  };
  if (to.rank() < s.rank) {
    fail();
  }
  tensor_spec e = s;
  e.rank = static_cast<std::uint8_t>(to.rank());
  for (int i = 0; i < to.rank(); ++i) {
    const auto u = static_cast<std::size_t>(i);
    const int from = i - (to.rank() - s.rank);
    const std::int64_t have = from >= 0 ? s[from] : 1;
    const std::int64_t want = to[i] == -1 && from >= 0 ? have : to[i];
    if (have != want && have != 1) {
      fail();
    }
    e.extent[u] = want;
    e.stride[u] = have == want && from >= 0 ? s.stride_of(from) : 0;
  }
  return finished(e);
}

/// The extents of a reshape: one of them may be -1 and is worked out.
///
/// Throws: `shape_error` where the number of elements differs.
constexpr shape resolve_shape(const tensor_spec& s, shape to) {
  int unknown = -1;
  std::int64_t known = 1;
  bool wrong = false;
  for (int i = 0; i < to.rank(); ++i) {
    if (to[i] == -1 && unknown < 0) {
      unknown = i;
    } else if (to[i] < 0 ||
               (to[i] > 0 && known > std::numeric_limits<std::int64_t>::max() / to[i])) {
      wrong = true;
      break;
    } else {
      known *= to[i];
    }
  }
  if (!wrong && unknown >= 0) {
    wrong = known == 0 || s.size % known != 0;
    if (!wrong) {
      to[unknown] = s.size / known;
      known = s.size;
    }
  }
  if (wrong || known != s.size) {
    throw shape_error("reshape", s.shape(), to.span(), "the number of elements must stay the same");
  }
  return to;
}

/// The reshape of `s` as a view; nothing where the elements would have to move.
constexpr std::optional<tensor_spec> try_reshape(const tensor_spec& s, const shape& target) {
  const shape to = resolve_shape(s, target);
  if (s.contiguous || s.size == 0) {
    tensor_spec r = contiguous_spec(s.type, to.span());
    r.offset = s.offset;
    return r;
  }
  // Walk both shapes from the back: each run of axes that is evenly strided in `s` is cut anew.
  tensor_spec r{.size = s.size,
                .offset = s.offset,
                .type = s.type,
                .rank = static_cast<std::uint8_t>(to.rank())};
  int j = to.rank() - 1;
  for (int i = s.rank - 1; i >= 0;) {
    std::int64_t run = s[i];
    const std::int64_t step = s.stride_of(i);
    int first = i - 1;
    while (first >= 0 && (s[first] == 1 || run == 1 || s.stride_of(first) == run * step)) {
      if (run == 1 && s[first] != 1) {
        break;  // a run of ones joins whatever stands before it
      }
      run *= s[first];
      --first;
    }
    std::int64_t left = run;
    std::int64_t stride = step;
    while (j >= 0 && (left > 1 || to[j] == 1)) {
      const auto u = static_cast<std::size_t>(j);
      if (left % to[j] != 0) {
        return std::nullopt;
      }
      r.extent[u] = to[j];
      r.stride[u] = stride;
      stride *= to[j];
      left /= to[j];
      --j;
    }
    if (left != 1) {
      return std::nullopt;
    }
    i = first;
  }
  for (; j >= 0; --j) {
    r.extent[static_cast<std::size_t>(j)] = 1;
    r.stride[static_cast<std::size_t>(j)] = 1;
  }
  r.contiguous = is_dense(r);
  return r;
}

/// Without `axis`, whose extent must be 1.
constexpr tensor_spec squeeze(const tensor_spec& s, std::int64_t axis) {
  const int a = wrap_axis("squeeze", axis, s.rank);
  if (s[a] != 1) {
    throw argument_error("ashlar::squeeze", "axis " + std::to_string(axis) + " has extent " +
                                                std::to_string(s[a]) + "; it must be 1");
  }
  return select(s, a, 0);
}

/// With a new axis of extent 1 in front of `axis`.
constexpr tensor_spec unsqueeze(tensor_spec s, std::int64_t axis) {
  const int a = wrap_axis("unsqueeze", axis, s.rank + 1);
  if (s.rank == max_rank) {
    throw rank_error(max_rank + 1);
  }
  for (auto i = static_cast<std::size_t>(s.rank); i > static_cast<std::size_t>(a); --i) {
    s.extent[i] = s.extent[i - 1];
    s.stride[i] = s.stride[i - 1];
  }
  const auto u = static_cast<std::size_t>(a);
  s.stride[u] = a < s.rank ? s.extent[u + 1] * s.stride[u + 1] : 1;
  s.extent[u] = 1;
  ++s.rank;
  return s;
}

}  // namespace ashlar::geometry
