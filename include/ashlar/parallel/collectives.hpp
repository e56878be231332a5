// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/chip/host/copy.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/comm/any_endpoint.hpp"
#include "ashlar/comm/collectives.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/dispatch.hpp"

/// Collectives as operators: a graph that is captured holds them as calls, in two parts, so that a
/// pass can move what begins one away from what waits for it.
namespace ashlar::parallel {

/// This rank's end of the group that collectives run over, and what of them is under way.
///
/// Copies are the same one. What is under way has memory of its own: an exception between the
/// beginning and the end of a collective leaves nothing that others could still read or write.
/// Requires: the transport outlives it; every rank begins the same collectives in one order, at
///           most `comm::tags::channels` at once, and nobody else runs collectives over that
///           transport meanwhile. One thread at a time.
class communicator {
 public:
  template <comm::Transport Tr>
  explicit communicator(Tr& t) : state_(std::make_shared<state>(t)) {}

  [[nodiscard]] int rank() const { return state_->endpoint.rank(); }
  [[nodiscard]] int size() const { return state_->endpoint.size(); }
  /// How many collectives have begun and not ended.
  [[nodiscard]] std::size_t under_way() const { return state_->all.size(); }

  friend bool operator==(const communicator&, const communicator&) = default;

  /// Begins a collective on a copy of `self`, under the address of its result; `start(endpoint,
  /// elements, channel)` gives the work. `own` is where `self` stands among the `count` elements,
  /// `kept` what `finish` takes of them.
  template <Scalar T, class Start>
  void begin(const T* result, view<const T> self, std::size_t count, comm::chunk own,
             comm::chunk kept, const Start& start) const {
    const auto busy = [&](int channel) {
      return std::any_of(state_->all.begin(), state_->all.end(),
                         [&](const auto& p) { return p.second->channel == channel; });
    };
    auto next = std::make_unique<pending>();
    while (busy(next->channel)) {
      ++next->channel;
    }
    next->bytes = std::make_unique_for_overwrite<std::byte[]>(count * sizeof(T) + 1);
    next->kept = {kept.first * sizeof(T), kept.last * sizeof(T)};
    const std::span<T> all(reinterpret_cast<T*>(next->bytes.get()), count);
    const tensor_spec dense = contiguous_like(*self.spec, dtype_of<T>);
    chip::host_kernels::copy(view<T>{all.data() + own.first, &dense}, self);
    next->work = std::make_unique<comm::work<comm::any_endpoint>>(
        start(state_->endpoint, all, next->channel));
    const place at{result, count == 0};
    if (count != 0) {
      state_->all.erase(at);  // nobody waits any more for what was here
    }
    state_->all.emplace(at, std::move(next));
  }

  /// Waits for what began under the address `began` and copies what it gave to `out`.
  ///
  /// Throws: `argument_error` where nothing of that size did; what the transport throws.
  template <Scalar T>
  void finish(view<T> out, const T* began) const {
    const auto bytes = static_cast<std::size_t>(out.size()) * sizeof(T);
    const place at{began, bytes == 0};
    const auto found = state_->all.lower_bound(at);
    if (found == state_->all.end() || found->first != at || found->second->kept.size() != bytes) {
      throw argument_error("ashlar::parallel::finish",
                           "no collective is under way for that tensor; give it what `begin_...` "
                           "returned, once");
    }
    const std::unique_ptr<pending> mine = std::move(found->second);
    state_->all.erase(found);
    mine->work->wait();
    const auto* from = reinterpret_cast<const T*>(mine->bytes.get() + mine->kept.first);
    chip::host_kernels::copy(out, view<const T>{from, out.spec});
  }

 private:
  struct pending {
    int channel = 0;
    std::unique_ptr<std::byte[]> bytes{};
    comm::chunk kept{0, 0};                                  // [bytes]
    std::unique_ptr<comm::work<comm::any_endpoint>> work{};  // ends before its memory does
  };
  /// An address, and whether nothing is there: an arena gives such a tensor the place of others.
  using place = std::pair<const void*, bool>;
  struct state {
    explicit state(auto& t) : endpoint(t) {}
    comm::any_endpoint endpoint;
    std::multimap<place, std::unique_ptr<pending>> all{};
  };
  std::shared_ptr<state> state_;
};

namespace collective_ops {

/// Begins a sum over the ranks. The result has no elements yet: `finish` makes them.
struct begin_all_reduce {
  static constexpr std::string_view name = "begin_all_reduce";
  static constexpr std::array arguments{argument{"self"}};
  static tensor_spec meta(const tensor_spec& self, const communicator&) {
    return contiguous_like(self, self.type);
  }
};

/// Begins to collect the parts of all ranks along the first axis.
struct begin_all_gather {
  static constexpr std::string_view name = "begin_all_gather";
  static constexpr std::array arguments{argument{"self"}};
  static tensor_spec meta(const tensor_spec& self, const communicator& to) {
    if (self.rank == 0) {
      throw argument_error("ashlar::parallel::all_gather", "a scalar has no axis to join along");
    }
    shape all(self.shape());
    if (all[0] > std::numeric_limits<std::int64_t>::max() / to.size()) {
      throw argument_error("ashlar::parallel::all_gather",
                           std::to_string(all[0]) + " rows of each of " +
                               std::to_string(to.size()) + " ranks are too many");
    }
    all[0] *= to.size();
    return contiguous_spec(self.type, all.span());
  }
};

/// Begins a sum over the ranks of which each keeps its part along the first axis.
struct begin_reduce_scatter {
  static constexpr std::string_view name = "begin_reduce_scatter";
  static constexpr std::array arguments{argument{"self"}};
  static tensor_spec meta(const tensor_spec& self, const communicator& to) {
    if (self.rank == 0 || self[0] % to.size() != 0) {
      throw argument_error(
          "ashlar::parallel::reduce_scatter",
          "the first axis must be a multiple of the " + std::to_string(to.size()) + " ranks");
    }
    shape part(self.shape());
    part[0] /= to.size();
    return contiguous_spec(self.type, part.span());
  }
};

/// Waits for what a `begin_...` returned. Returns: what the collective gave.
struct finish {
  static constexpr std::string_view name = "finish";
  static constexpr std::array arguments{argument{"began"}};
  static tensor_spec meta(const tensor_spec& began, const communicator&) {
    return contiguous_like(began, began.type);
  }
};

}  // namespace collective_ops

/// `begin_all_reduce(x, to)` and its like begin; `finish(begun, to)` waits and gives the elements.
inline constexpr op_function<collective_ops::begin_all_reduce> begin_all_reduce;
inline constexpr op_function<collective_ops::begin_all_gather> begin_all_gather;
inline constexpr op_function<collective_ops::begin_reduce_scatter> begin_reduce_scatter;
inline constexpr op_function<collective_ops::finish> finish;

/// The sum of `x` over the ranks, the same bits on each.
template <Tensor X>
[[nodiscard]] X all_reduce(const X& x, const communicator& to) {
  return finish(begin_all_reduce(x, to), to);
}
/// The `x` of all ranks, one after the other along the first axis.
template <Tensor X>
[[nodiscard]] X all_gather(const X& x, const communicator& to) {
  return finish(begin_all_gather(x, to), to);
}
/// This rank's part, along the first axis, of the sum of `x` over the ranks.
template <Tensor X>
[[nodiscard]] X reduce_scatter(const X& x, const communicator& to) {
  return finish(begin_reduce_scatter(x, to), to);
}

}  // namespace ashlar::parallel

namespace ashlar {

template <>
struct kernel<parallel::collective_ops::begin_all_reduce, keys::backend<chip::host>> {
  template <comm::Element T>
  static void impl(context<chip::host>&, view<T> out, view<const T> self,
                   const parallel::communicator& to) {
    const auto n = static_cast<std::size_t>(self.size());
    to.begin<T>(out.data, self, n, {0, n}, {0, n}, [](auto& t, auto all, int channel) {
      return comm::start_all_reduce(t, all, comm::sum_op{}, comm::ordered{}, channel);
    });
  }
};
template <>
struct kernel<parallel::collective_ops::begin_all_gather, keys::backend<chip::host>> {
  template <class T>
  static void impl(context<chip::host>&, view<T> out, view<const T> self,
                   const parallel::communicator& to) {
    const auto n = static_cast<std::size_t>(out.size());
    const comm::partition parts(n, to.size());
    to.begin<T>(out.data, self, n, parts.at(to.rank()), {0, n},
                [&](auto& t, auto all, int channel) {
                  return comm::start_all_gather(t, all, parts, comm::ring{}, channel);
                });
  }
};
template <>
struct kernel<parallel::collective_ops::begin_reduce_scatter, keys::backend<chip::host>> {
  template <comm::Element T>
  static void impl(context<chip::host>&, view<T> out, view<const T> self,
                   const parallel::communicator& to) {
    const auto n = static_cast<std::size_t>(self.size());
    const comm::partition parts(n, to.size());
    to.begin<T>(out.data, self, n, {0, n}, parts.at(to.rank()),
                [&](auto& t, auto all, int channel) {
                  return comm::start_reduce_scatter(t, all, parts, comm::sum_op{}, comm::ordered{},
                                                    channel);
                });
  }
};
template <>
struct kernel<parallel::collective_ops::finish, keys::backend<chip::host>> {
  template <class T>
  static void impl(context<chip::host>&, view<T> out, view<const T> began,
                   const parallel::communicator& to) {
    to.finish<T>(out, began.data);
  }
};

}  // namespace ashlar
