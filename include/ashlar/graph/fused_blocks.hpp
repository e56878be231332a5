// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "ashlar/chip/host/parallel.hpp"
#include "ashlar/core/ceil_div.hpp"
#include "ashlar/core/geometry.hpp"
#include "ashlar/core/spec.hpp"
#include "ashlar/dispatch/allocate.hpp"
#include "ashlar/graph/fused_products.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/memory/resource.hpp"

/// Calls that run block by block: what is between them stays in the cache.
namespace ashlar::graph::detail {

/// Where results of the next call go: a place that is chosen before it.
class chosen_places final : public memory::resource {
 public:
  explicit chosen_places(memory::resource& others) : others_(&others) {}

  /// These bytes are nobody's to give back.
  void own(std::byte* first, std::size_t bytes) { owned_.emplace_back(first, first + bytes); }
  /// The next request of at most `bytes` bytes gets this place.
  void next(std::byte* at, std::size_t bytes) {
    next_ = at;
    bytes_ = bytes;
  }

  std::byte* allocate(std::size_t bytes) override {
    if (next_ != nullptr && bytes <= bytes_) {
      return std::exchange(next_, nullptr);
    }
    return others_->allocate(bytes);
  }
  void deallocate(std::byte* p, std::size_t bytes) noexcept override {
    for (const auto& [first, last] : owned_) {
      if (p >= first && p < last) {
        return;
      }
    }
    others_->deallocate(p, bytes);
  }

 private:
  memory::resource* others_;
  std::byte* next_ = nullptr;
  std::size_t bytes_ = 0;
  std::vector<std::pair<std::byte*, std::byte*>> owned_;
};

/// How calls are cut: along one axis of the domain, one place of each axis before it.
struct block_plan {
  int axis = 0;
  std::int64_t chunk = 1, boxes = 1;
  shape domain{};
  std::vector<std::int64_t> slot{};           ///< of each value, in the arena; -1: it has none
  std::vector<std::int64_t> bytes{};          ///< of each value in a whole block
  std::vector<std::int32_t> output{};         ///< of each value: which one of the kernel; -1: none
  std::vector<std::vector<value_id>> dies{};  ///< after each node
  std::int64_t arena = 0;

  /// `specs`: of all values of the body. `rows`: the last axis is never cut. `most`: bytes of the
  /// largest value in a block.
  block_plan(const graph& body, std::span<const tensor_spec> specs, const shape& walked, bool rows,
             std::int64_t most)
      : domain(walked) {
    const int axes = std::max(domain.rank() - (rows ? 1 : 0), 0);
    // Bytes of the largest value for one place of the axes from `a` on.
    const auto inner_bytes = [&](int a) {
      std::int64_t largest = 1;
      for (const tensor_spec& s : specs) {
        std::int64_t n = static_cast<std::int64_t>(size_of(s.type));
        for (int i = std::max(0, s.rank - (domain.rank() - a)); i < s.rank; ++i) {
          n *= std::max<std::int64_t>(s[i], 1);
        }
        largest = std::max(largest, n);
      }
      return largest;
    };
    while (axis + 1 < axes && (domain[axis] == 1 || inner_bytes(axis + 1) > most)) {
      ++axis;
    }
    if (axes == 0) {
      chunk = 1;
    } else {
      chunk = std::clamp<std::int64_t>(most / inner_bytes(axis + 1), 1,
                                       std::max<std::int64_t>(domain[axis], 1));
      for (int i = 0; i < axis; ++i) {
        boxes *= domain[i];
      }
      boxes *= ceil_div(domain[axis], chunk);
    }
    place(body, specs, axes);
  }

  /// What of `s`, right-aligned with the domain or, where it has lost the last axis, left-aligned,
  /// belongs to a box.
  [[nodiscard]] tensor_spec cut(tensor_spec s, std::int64_t box, bool lost = false) const {
    if (domain.rank() == 0) {
      return s;
    }
    const std::int64_t along = ceil_div(domain[axis], chunk);
    std::int64_t rest = box / along;
    const auto narrow = [&](int a, std::int64_t first, std::int64_t length) {
      const int own = lost ? a : a - (domain.rank() - s.rank);
      if (own >= 0 && own < s.rank && s[own] != 1) {
        s = geometry::narrow(s, own, first, length);
      }
    };
    const std::int64_t first = box % along * chunk;
    if (boxes > 1) {
      narrow(axis, first, std::min(chunk, domain[axis] - first));
      for (int a = axis - 1; a >= 0; rest /= domain[a], --a) {
        narrow(a, rest % domain[a], 1);
      }
    }
    return s;
  }

 private:
  /// An argument that an elementwise call is the last to read, and whose place its result may take;
  /// -1: none.
  [[nodiscard]] value_id overwritten(const node& n, value_id result,
                                     std::span<const tensor_spec> specs,
                                     const std::vector<std::size_t>& last, std::size_t at) const {
    if (!n.op->elementwise) {
      return no_value;
    }
    for (const value_id v : n.in) {
      const auto u = static_cast<std::size_t>(v);
      const tensor_spec& s = specs[static_cast<std::size_t>(result)];
      if (last[u] == at && slot[u] >= 0 && specs[u].type == s.type && same_shape(specs[u], s)) {
        return v;
      }
    }
    return no_value;
  }

  void place(const graph& body, std::span<const tensor_spec> specs, int axes) {
    slot.assign(specs.size(), -1);
    bytes.assign(specs.size(), 0);
    output.assign(specs.size(), -1);
    dies.resize(body.nodes.size());
    for (std::size_t k = 0; k < body.outputs.size(); ++k) {
      output[static_cast<std::size_t>(body.outputs[k])] = static_cast<std::int32_t>(k);
    }
    std::vector<std::size_t> last(specs.size(), 0);
    for (std::size_t i = 0; i < body.nodes.size(); ++i) {
      for (const value_id v : body.nodes[i].in) {
        last[static_cast<std::size_t>(v)] = i;
      }
      for (const value_id v : body.nodes[i].out) {
        last[static_cast<std::size_t>(v)] = i;
      }
    }
    struct room {
      std::int64_t at, bytes;
      bool taken;
    };
    std::vector<room> rooms;
    std::vector<bool> moved(specs.size(), false);  // its place went to a result
    for (std::size_t i = 0; i < body.nodes.size(); ++i) {
      for (const value_id v : body.nodes[i].out) {
        const auto u = static_cast<std::size_t>(v);
        if (body.nodes[i].kind == node_kind::call) {
          const tensor_spec s = axes == 0 ? specs[u] : cut(specs[u], 0);
          bytes[u] = ceil_div(s.size * static_cast<std::int64_t>(size_of(s.type)), 64) * 64;
        }
        if (bytes[u] == 0 || output[u] >= 0) {
          continue;
        }
        if (const value_id over = overwritten(body.nodes[i], v, specs, last, i); over >= 0) {
          slot[u] = slot[static_cast<std::size_t>(over)];
          moved[static_cast<std::size_t>(over)] = true;
          continue;
        }
        const auto fits = std::find_if(rooms.begin(), rooms.end(), [&](const room& r) {
          return !r.taken && r.bytes >= bytes[u];
        });
        if (fits != rooms.end()) {
          fits->taken = true;
          slot[u] = fits->at;
        } else {
          slot[u] = arena;
          rooms.push_back({arena, bytes[u], true});
          arena += bytes[u];
        }
      }
      for (std::size_t v = 0; v < last.size(); ++v) {
        if (last[v] == i) {
          dies[i].push_back(static_cast<value_id>(v));
          for (room& r : rooms) {
            r.taken = r.taken && (moved[v] || r.at != slot[v]);
          }
        }
      }
    }
  }
};

/// A view of a tensor. Requires: it is on chip `C`.
template <class C>
tensor_handle alias_of(const tensor_handle& x, const tensor_spec& s) {
  return tensor_handle(
      ref<tensor_body>(body_of<key_set<keys::backend<C>>>::alias(s, *x.body(), size_of(s.type))));
}

/// What the next block reads and writes, fetched a part after each call of this one: calls compute
/// while memory works.
class fetcher {
 public:
  /// `calls`: after so many parts it is done.
  explicit fetcher(std::int64_t calls) : calls_(calls) {}

  void add(const std::byte* first, std::int64_t bytes) { ranges_.push_back({first, bytes, 0}); }
  void clear() { ranges_.clear(); }
  void fetch_part() {
    constexpr std::int64_t line = 64;
    for (range& r : ranges_) {
      const std::int64_t end = std::min(r.bytes, r.done + ceil_div(r.bytes, calls_ * line) * line);
      for (; r.done < end; r.done += line) {
        __builtin_prefetch(r.first + r.done, 0, 2);
      }
    }
  }

 private:
  struct range {
    const std::byte* first;
    std::int64_t bytes, done;
  };
  std::int64_t calls_;
  std::vector<range> ranges_;
};

/// Runs the calls of a body for each block of the domain, by the operators' kernels.
///
/// `never_cut`: of each argument. A product takes its arguments but the first as they are.
/// Effects: writes `out`, whose tensors are dense.
template <class C>
void run_blocks(const graph& body, const block_plan& plan, const std::vector<bool>& lost,
                const std::vector<bool>& never_cut, std::span<const tensor_handle> in,
                std::span<const tensor_handle> out) {
  chip::parallel_for(plan.boxes, 1, [&](std::int64_t begin, std::int64_t end) {
    const auto arena = allocate_tensor<tensor<std::uint8_t, key_set<keys::backend<C>>>>(
        contiguous_spec(dtype::uint8, shape{std::max<std::int64_t>(plan.arena, 64)}.span()));
    chosen_places places(context<C>::current().allocator());
    places.own(arena.bytes(), static_cast<std::size_t>(arena.size()));
    for (const tensor_handle& x : out) {
      places.own(x.bytes(), static_cast<std::size_t>(x.size()) * size_of(x.spec().type));
    }
    std::vector<tensor_handle> made(body.values.size());
    std::vector<tensor_handle> given;
    const typename context<C>::use_allocator here(places);
    fetcher ahead(static_cast<std::int64_t>(body.nodes.size() - in.size()));
    const auto fetch = [&](const tensor_handle& x, std::int64_t box, bool fits) {
      const tensor_spec s = fits ? plan.cut(x.spec(), box) : x.spec();
      if (fits && s.contiguous && s.size < x.size()) {
        const auto element = static_cast<std::int64_t>(size_of(s.type));
        ahead.add(x.bytes() + (s.offset - x.spec().offset) * element, s.size * element);
      }
    };
    for (std::int64_t box = begin; box < end; ++box) {
      ahead.clear();
      for (std::size_t k = 0; box + 1 < end && k < in.size() + out.size(); ++k) {
        const bool reads = k < in.size();
        fetch(reads ? in[k] : out[k - in.size()], box + 1,
              reads ? !never_cut[k] : !lost[k - in.size()]);
      }
      std::size_t next = 0;
      for (std::size_t i = 0; i < body.nodes.size(); ++i) {
        const node& n = body.nodes[i];
        const auto u = static_cast<std::size_t>(n.out[0]);
        if (n.kind == node_kind::placeholder) {
          const tensor_handle& x = in[next];
          made[u] =
              plan.boxes == 1 || never_cut[next] ? x : alias_of<C>(x, plan.cut(x.spec(), box));
          ++next;
          continue;
        }
        given.clear();
        for (std::size_t k = 0; k < n.in.size(); ++k) {
          const auto v = static_cast<std::size_t>(n.in[k]);
          given.push_back(k > 0 && is_product_of_rows(n) ? in[v]
                                                         : made[v]);  // placeholders are first
        }
        std::byte* to = arena.bytes() + std::max<std::int64_t>(plan.slot[u], 0);
        std::int64_t room = plan.bytes[u];
        const std::int32_t result = plan.output[u];
        if (result >= 0) {
          const auto r = static_cast<std::size_t>(result);
          const tensor_spec s = plan.cut(out[r].spec(), box, lost[r]);
          const auto element = static_cast<std::int64_t>(size_of(s.type));
          to = out[r].bytes() + (s.offset - out[r].spec().offset) * element;
          room = s.size * element;
        }
        places.next(room > 0 ? to : nullptr, static_cast<std::size_t>(room));
        n.op->run(given, n.attributes, std::span(&made[u], 1));
        places.next(nullptr, 0);
        ahead.fetch_part();
        if (result >= 0 && made[u].bytes() != to) {
          std::memcpy(to, made[u].bytes(), static_cast<std::size_t>(room));  // it was small
        }
        for (const value_id v : plan.dies[i]) {
          made[static_cast<std::size_t>(v)] = {};
        }
      }
      std::fill(made.begin(), made.end(), tensor_handle());
    }
  });
}

}  // namespace ashlar::graph::detail
