// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ashlar/autograd/hooks.hpp"
#include "ashlar/comm/collectives.hpp"
#include "ashlar/comm/transport.hpp"
#include "ashlar/nn/clip.hpp"
#include "ashlar/nn/hooks.hpp"
#include "ashlar/nn/module.hpp"
#include "ashlar/nn/optimizer.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/parallel/ddp.hpp"
#include "ashlar/parallel/detail/unit.hpp"
#include "ashlar/parallel/errors.hpp"
#include "ashlar/parallel/fsdp_options.hpp"
#include "ashlar/parallel/pieces.hpp"

/// Data parallelism with everything in parts: ZeRO-3.
namespace ashlar::parallel {

/// Fully sharded data parallelism: each rank has its part of the parameters, the gradients and the
/// optimizer's state, and whole parameters only of the units that compute.
///
/// A unit is a subtree of the module, named as in the state dict; what no unit names is the unit
/// `""`. Its parameters stand in one row that is divided evenly among the ranks. A unit is gathered
/// before it runs forward and before it goes back; when the last of its gradients is there, they
/// are reduce-scattered and the parameters are dropped. What runs as a unit is said by `run`, or by
/// `watch` of a module with hooks:
///
///     parallel::fsdp fsdp(model, endpoint, {"layers.0", "layers.1"});
///     nn::adamw<parameter> optimizer(fsdp.pieces(), options, fsdp.rule());
///     ... x = fsdp.run(fsdp.unit("layers.0"), model.layers[0], x); ...
///     backward(loss); optimizer.step(rate); fsdp.renew();
///
/// The module's parameters are then new tensors, which have no elements while their unit is in
/// parts. Views that a forward pass saved of them keep their own elements alive.
///
/// Arithmetic: that of `ddp`. With `comm::ordered`, and with `comm::ring` on two ranks, `n` ranks
/// have the bits of one rank that accumulates their micro-batches. Under hybrid sharding sums are
/// formed within each group of shards, then over the groups.
///
/// Precision: the module's element type computes and is what is gathered; `Piece` is the type of
/// the master weights, on any chip, so the host's keys there keep parts and optimizer off the
/// chip; `Wire` is the type that gradients are reduced in.
/// Requires: the endpoints outlive it, it outlives every graph of its units; every rank runs the
///           same units in the same order; modules share no parameter with another unit, or all
///           users run in one unit.
/// Source:   PyTorch FSDP (Zhao et al., 2023); ZeRO (Rajbhandari et al., 2020).
template <class Parameter, class Endpoint, class Algorithm = comm::ring,
          class Piece =
              tensor<compute_type<typename Parameter::value_type>, typename Parameter::keys>,
          class Wire = typename Piece::value_type>
class fsdp {
  static_assert(comm::Transport<Endpoint>,
                "ashlar::parallel::fsdp: Endpoint must model ashlar::comm::Transport");
  static_assert(Recorded<Parameter> && Recorded<Piece>,
                "ashlar::parallel::fsdp: the module's tensors and its pieces must be recorded; "
                "compose the stack with differentiate<autograd::tape<>>");

 public:
  /// `replicas` are the ranks that have the same part in other groups, for hybrid sharding.
  ///
  /// Effects: every rank gets the first rank's parameters, and keeps its part.
  /// Throws:  `replica_mismatch`; `argument_error` for options out of range and for a unit that
  ///          names no parameter; what the transport throws.
  template <class M>
  fsdp(M& module, Endpoint& shards, const std::vector<std::string>& units,
       fsdp_options options = {}, Algorithm = {}, Endpoint* replicas = nullptr)
      : state_(std::make_unique<state>(shards, replicas, options)) {
    state_->adopt(module, units);
  }

  /// The number of a unit. Throws: `argument_error` where there is none of that name.
  [[nodiscard]] std::size_t unit(std::string_view name) const {
    for (std::size_t i = 0; i < state_->units.size(); ++i) {
      if (state_->units[i].name == name) {
        return i;
      }
    }
    throw argument_error("ashlar::parallel::fsdp", "no unit '" + std::string(name) + "'");
  }

  /// Runs `f(inputs...)`, which uses a unit's parameters and gives a tensor. Throws: as `unit`.
  template <class F, class... X>
  [[nodiscard]] auto run(std::size_t unit, F&& f, const X&... inputs) {
    state_->before(unit);
    auto result = f(inputs...);
    state_->after(unit, result);
    return result;
  }
  /// A module with hooks runs as a unit from now on. Throws: `argument_error` where there is none.
  template <class M>
  void watch(M& module, std::size_t unit) {
    detail::require_unit(state_->units.size(), unit);
    state_->watched.push_back(module.register_forward_pre_hook(
        [s = state_.get(), unit](const auto&...) { s->before(unit); }));
    state_->watched.push_back(
        module.register_forward_hook([s = state_.get(), unit](const auto&, const auto&... rest) {
          s->after(unit, std::get<sizeof...(rest) - 1>(std::tie(rest...)));
        }));
  }

  /// This rank's parts of the parameters, for an optimizer, with gradients behind a backward pass.
  [[nodiscard]] const std::vector<Piece>& pieces() const { return state_->pieces; }
  [[nodiscard]] const std::vector<piece_place>& places() const { return state_->places; }
  /// A group rule for an optimizer over `pieces()` that asks `rule` about the whole parameters.
  template <nn::GroupRule Rule = nn::decay_matrices>
  [[nodiscard]] auto rule(Rule whole = {}) const {
    return rule_of_pieces(state_->places, std::move(whole));
  }
  /// Behind the optimizer's step: drops gradients and whatever is whole, so that units are gathered
  /// anew.
  void renew() { state_->renew(); }

  /// The norm of all gradients; the same bits on every rank.
  ///
  /// Throws: what the transport throws.
  [[nodiscard]] double grad_norm() { return detail::norm_of_pieces(state_->shards, pieces()); }
  /// As `nn::clip_grad_norm`, over the parts of all ranks.
  double clip_grad_norm(double max_norm) {
    return nn::clip_grad_to(pieces(), grad_norm(), max_norm);
  }

  /// Backward passes only accumulate, in whole gradients, for as long as the returned scope lives.
  [[nodiscard]] auto no_sync() {
    return typename ddp<Parameter, Endpoint, Algorithm>::no_sync_scope(state_->quiet);
  }

  /// Reduces what has accumulated under `no_sync`; as `ddp::reduce`.
  void reduce() { state_->reduce_all(); }

  /// All units are whole for as long as it lives: for an evaluation, or to read the parameters.
  class whole_scope {
   public:
    explicit whole_scope(fsdp& of) : of_(&of) {
      try {
        for (auto& u : of.state_->units) {
          of.state_->finish_gather(u);
        }
      } catch (...) {
        of.state_->reshard_all();
        throw;
      }
    }
    ~whole_scope() { of_->state_->reshard_all(); }
    whole_scope(const whole_scope&) = delete;
    whole_scope& operator=(const whole_scope&) = delete;

   private:
    fsdp* of_;
  };
  /// Requires: no unit runs meanwhile. Throws: what the transport throws; no unit is whole then.
  [[nodiscard]] whole_scope whole() { return whole_scope(*this); }

  /// Forgets a pass that ended with an exception, on every rank alike.
  void reset() { state_->reset(); }

  [[nodiscard]] const fsdp_usage& usage() const { return state_->usage; }

 private:
  using element = typename Parameter::value_type;
  using unit_type = detail::unit<Parameter, Endpoint, Wire>;

  struct state {
    Endpoint& shards;
    Endpoint* replicas;
    fsdp_options options;
    std::vector<nn::named<Parameter>> parameters;
    std::vector<hook_handle> hooks;
    std::vector<nn::forward_hook_handle> watched;
    std::vector<unit_type> units;
    std::vector<Piece> pieces;
    std::vector<piece_place> places;
    fsdp_usage usage;
    std::vector<std::size_t> order, previous;  // units in the order in which they ran forward
    unit_type* reducing = nullptr;
    std::size_t current = 0;  // place in `order` of what goes back
    int channel = 0;
    int quiet = 0;
    std::uint32_t version = 0;  // of the parameters: a step of the optimizer is a change
    bool going_back = false;    // since the last unit ran forward
    bool in_pass = false;

    state(Endpoint& s, Endpoint* r, const fsdp_options& o) : shards(s), replicas(r), options(o) {
      if (o.micro_batches < 1 || o.gathers < 1 || o.gathers > comm::tags::channels) {
        throw argument_error("ashlar::parallel::fsdp",
                             "micro_batches is " + std::to_string(o.micro_batches) +
                                 ", gathers is " + std::to_string(o.gathers) +
                                 "; both must be at least 1, the latter at most " +
                                 std::to_string(comm::tags::channels));
      }
    }
    state(const state&) = delete;
    state& operator=(const state&) = delete;
    ~state() {
      for (hook_handle& h : hooks) {
        h.remove();
      }
      for (nn::forward_hook_handle& h : watched) {
        h.remove();
      }
    }

    template <class M>
    void adopt(M& module, const std::vector<std::string>& names) {
      parameters = nn::parameter_list(module);
      detail::require_same_replica(
          shards, parameters,
          {detail::fingerprint_of(names), options.micro_batches, options.gathers,
           static_cast<std::int64_t>(options.prefetch) * 4 + (options.forward_prefetch ? 2 : 0) +
               (options.reshard_after_forward ? 1 : 0)});
      units = detail::units_of<unit_type>(parameters, names);
      std::unordered_map<const tensor_body*, Parameter> made;
      const no_grad off;
      for (unit_type& u : units) {
        u.cut(parameters, shards, replicas, pieces, places);
        u.make_views(parameters, made);
      }
      nn::named_parameters(module, [&](const std::string&, auto& x) {
        if constexpr (std::is_same_v<std::remove_cvref_t<decltype(x)>, Parameter>) {
          x = made.at(x.body());
        }
      });
      for (unit_type& u : units) {
        for (std::size_t i = 0; i < u.members.size(); ++i) {
          if (requires_grad(u.members[i])) {
            hooks.push_back(register_post_accumulate_grad_hook(
                u.members[i], [this, &u, i](const Parameter&) { arrive(u, i); }));
          }
        }
      }
      parameters.clear();  // the module's old tensors
    }

    std::span<Piece> pieces_of(const unit_type& u) {
      return std::span(pieces).subspan(u.first_piece, u.last_piece - u.first_piece);
    }

    void count(std::size_t& which, std::size_t bytes) {
      which += bytes;
      usage.peak_parameters = std::max(usage.peak_parameters, usage.parameters);
      usage.peak = std::max(usage.peak, usage.parameters + usage.gradients);
    }

    void start_gather(unit_type& u) {
      if (u.whole || u.count == 0) {
        return;
      }
      const no_grad off;
      u.whole.emplace(u.count);
      count(usage.parameters, u.count * sizeof(element));
      const std::span<element> all = u.whole->elements();
      std::span<element> own = detail::part_of(all, shards);
      for (const Piece& piece : pieces_of(u)) {
        detail::read(piece, own.first(static_cast<std::size_t>(piece.size())));
        own = own.subspan(static_cast<std::size_t>(piece.size()));
      }
      // Gathers are under way together, so each has a channel of its own.
      channel = (channel + 1) % comm::tags::channels;
      u.arriving.emplace(comm::start_all_gather(
          shards, all, comm::partition(u.count, shards.size()), comm::ring{}, channel));
    }
    void finish_gather(unit_type& u) {
      start_gather(u);
      if (u.arriving) {
        u.arriving->wait();
        u.arriving.reset();
        u.attach(version);
      }
    }
    void reshard(unit_type& u) {
      if (u.whole) {
        u.drop();
        usage.parameters -= u.count * sizeof(element);
      }
    }

    void reshard_all() {
      for (unit_type& u : units) {
        reshard(u);
      }
    }
    void before(std::size_t number) {
      detail::require_unit(units.size(), number);
      progress();
      if (std::exchange(going_back, false)) {
        previous = std::move(order);
        order.clear();
      }
      finish_gather(units[number]);
      const std::size_t at = order.size();
      for (std::size_t i = at + 1;
           options.forward_prefetch && at < previous.size() && previous[at] == number &&
           i < previous.size() && i < at + static_cast<std::size_t>(options.gathers);
           ++i) {
        start_gather(units[previous[i]]);
      }
    }
    template <Tensor X>
    void after(std::size_t number, const X& result) {
      const bool comes_back = requires_grad(result);
      if (options.reshard_after_forward || !comes_back) {
        reshard(units[number]);
      }
      if constexpr (Recorded<X>) {
        if (comes_back) {
          const std::size_t at = order.size();
          order.push_back(number);
          register_hook(result, [this, number, at](const X&) { go_back(number, at); });
        }
      }
    }

    void go_back(std::size_t number, std::size_t at) {
      begin_pass();
      progress();
      going_back = true;
      current = at;
      finish_gather(units[number]);
      if (options.prefetch == prefetch::pre) {
        ahead(options.gathers - 1);
      }
    }
    /// Begins to gather what goes back next.
    void ahead(int how_many) {
      for (std::size_t i = current; i-- > 0 && how_many-- > 0;) {
        if (i < order.size()) {
          start_gather(units[order[i]]);
        }
      }
    }

    void begin_pass() {
      if (!std::exchange(in_pass, true)) {
        queue_callback([this] { end_pass(); });
      }
    }

    void arrive(unit_type& u, std::size_t i) {
      begin_pass();
      progress();
      if (quiet == 0) {
        collect(u, i);
      }
      count_in(u, i);
    }
    void count_in(unit_type& u, std::size_t i) {
      u.arrived[i] = true;
      if (--u.waiting == 0) {
        complete(u);
      }
    }
    /// Takes a gradient over into the row that is reduced.
    void collect(unit_type& u, std::size_t i) {
      const no_grad off;
      if (!u.gradients) {
        u.gradients.emplace(u.count);
        std::ranges::fill(u.gradients->elements(), Wire{});  // for what is frozen
        count(usage.gradients, u.count * sizeof(Wire));
      }
      Parameter& g = gradient(u.members[i]);
      if (!same_shape(g.spec(), u.members[i].spec())) {
        throw shape_error("parallel::fsdp", u.members[i].shape(), g.shape(),
                          "the gradient of '" + u.names[i] + "' must have its parameter's shape");
      }
      detail::read(g, u.part(u.gradients->elements(), i));
      g = {};
    }
    void reduce_all() {
      for (std::size_t n = quiet > 0 ? 0 : units.size(); n-- > 0;) {
        for (std::size_t i = 0; i < units[n].members.size(); ++i) {
          if (requires_grad(units[n].members[i]) && gradient(units[n].members[i])) {
            collect(units[n], i);
            count_in(units[n], i);
          }
        }
      }
      end_pass();
    }
    /// The last gradient of a unit has come.
    void complete(unit_type& u) {
      u.reached = true;
      reshard(u);
      finish_reduce();
      if (options.prefetch == prefetch::post && in_pass) {
        ahead(1);
      }
      if (quiet == 0) {
        u.leaving.emplace(comm::start_reduce_scatter<Algorithm>(
            shards, u.gradients->elements(), comm::partition(u.count, shards.size())));
        reducing = &u;
        if (options.prefetch == prefetch::none) {
          finish_reduce();
        }
      }
    }
    void finish_reduce() {
      if (unit_type* const u = std::exchange(reducing, nullptr)) {
        const no_grad off;
        u->leaving->wait();
        u->leaving.reset();
        const std::span<Wire> own = detail::part_of(u->gradients->elements(), shards);
        if (replicas != nullptr) {
          comm::all_reduce<Algorithm>(*replicas, own);
        }
        const std::int64_t n =
            shards.size() * (replicas == nullptr ? 1 : replicas->size()) * options.micro_batches;
        detail::give_gradients(pieces_of(*u), std::span<const Wire>(own),
                               1.0 / static_cast<double>(n), true);
        drop_gradients(*u);
      }
    }
    void drop_gradients(unit_type& u) {
      if (u.gradients) {
        u.gradients.reset();
        usage.gradients -= u.count * sizeof(Wire);
      }
    }

    void end_pass() {
      in_pass = false;
      finish_reduce();
      std::vector<std::string> missed;
      for (unit_type& u : units) {
        for (std::size_t i = 0; quiet == 0 && !u.reached && i < u.members.size(); ++i) {
          if (requires_grad(u.members[i]) && !u.arrived[i]) {
            missed.push_back(u.names[i]);
          }
        }
        u.start();
        reshard(u);
      }
      if (!missed.empty()) {
        reset();
        throw unused_parameters(shards.rank(), std::move(missed), "fsdp");
      }
    }

    /// Lets what is under way go on.
    void progress() {
      for (unit_type& u : units) {
        if (u.arriving) {
          u.arriving->test();
        }
      }
      if (reducing != nullptr) {
        reducing->leaving->test();
      }
    }

    void renew() {
      reshard_all();
      for (unit_type& u : units) {
        for (const Parameter& p : u.members) {
          if (requires_grad(p)) {
            gradient(p) = {};
          }
        }
      }
      for (const Piece& p : pieces) {
        if (requires_grad(p)) {
          gradient(p) = {};
        }
      }
      ++version;
    }
    void reset() {
      in_pass = false;
      going_back = true;  // the next unit that runs forward is the first
      reducing = nullptr;
      reshard_all();
      for (unit_type& u : units) {
        u.leaving.reset();
        drop_gradients(u);
        u.start();
      }
    }
  };

  std::unique_ptr<state> state_;
};

template <class M, class Endpoint, class Algorithm = comm::ring>
fsdp(M&, Endpoint&, std::vector<std::string>, fsdp_options = {}, Algorithm = {},
     Endpoint* = nullptr) -> fsdp<nn::parameter_type_of<M>, Endpoint, Algorithm>;

}  // namespace ashlar::parallel
