// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/autograd/hooks.hpp"
#include "ashlar/comm/collectives.hpp"
#include "ashlar/comm/transport.hpp"
#include "ashlar/fwd.hpp"
#include "ashlar/nn/module.hpp"
#include "ashlar/nn/optimizer.hpp"
#include "ashlar/nn/parameter.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/parallel/detail/buckets.hpp"
#include "ashlar/parallel/detail/transfer.hpp"
#include "ashlar/parallel/errors.hpp"
#include "ashlar/parallel/pieces.hpp"

namespace ashlar::parallel {

/// What becomes of parameters that a backward pass did not reach.
enum class unused {
  error,  ///< `finish` or the next backward pass throws `unused_parameters`
  zero    ///< they count as zero on this rank; call `finish` after every synchronised backward pass
};

struct ddp_options {
  std::size_t first_bucket_bytes = std::size_t{1} << 20;  ///< small: communication starts early
  std::size_t bucket_bytes = std::size_t{25} << 20;
  std::int64_t micro_batches = 1;  ///< per rank and step; all but the last under `no_sync`
  parallel::unused unused = parallel::unused::error;
  /// How much of the training state is kept in parts, one per rank: 0 none of it, 1 the
  /// optimizer's, 2 gradients too (a bucket's are dropped once it is reduced).
  int zero = 0;
};

/// Data parallelism: each rank has the module and its own share of the batch, gradients are
/// averaged while the backward pass runs.
///
/// At construction every rank gets rank 0's parameters. Parameters are put into buckets in reverse
/// order, roughly that in which their gradients come; a hook on each counts. A full bucket is
/// all-reduced, always in the order of the buckets, whatever the order of the hooks, so all ranks
/// do the same.
///
/// Arithmetic: `(g[0] + g[1] + ...) * (1 / (ranks * micro_batches))`, the sum in the order of
/// `Algorithm`. With `comm::ordered`, and with `comm::ring` on two ranks, that is the order of the
/// ranks, so `n` ranks with one micro-batch each give the bits of one rank that accumulates the
/// same `n` micro-batches and then multiplies by `1 / n` (`nn::scale_grad`, or `ddp` on one rank
/// with `micro_batches = n`). Losses are therefore means over a micro-batch, and all micro-batches
/// are of one size.
///
/// With `options.zero` a rank's optimizer sees `pieces()`, this rank's part of every bucket, in
/// place of the module; behind its step `gather()` gives every rank the new parameters:
///
///     nn::adamw optimizer(ddp.pieces(), options, ddp.rule());
///     ... backward passes, ddp.finish(); optimizer.step(rate); ddp.gather();
///
/// A bucket is then reduce-scattered and not all-reduced: as many bytes are sent per step. The bits
/// are those of the whole; the norm of gradients (`grad_norm`) is added up in another order.
///
/// Requires: the endpoint outlives it; the module's tensors stay the same ones; every rank runs the
///           same backward passes.
template <class Parameter, class Endpoint, class Algorithm = comm::ring>
class ddp {
  static_assert(comm::Transport<Endpoint>,
                "ashlar::parallel::ddp: Endpoint must model ashlar::comm::Transport");
  static_assert(Recorded<Parameter>,
                "ashlar::parallel::ddp: the module's tensors must be recorded; compose the stack "
                "with differentiate<autograd::tape<>>");

 public:
  /// Throws: `replica_mismatch` where a rank's module or options differ from rank 0's;
  ///         `argument_error` for options out of range, and on every rank where `zero` would leave
  ///         a rank without a piece; what the transport throws.
  template <class M>
  ddp(const M& module, Endpoint& endpoint, ddp_options options = {}, Algorithm = {})
      : state_(std::make_unique<state>(endpoint, options)) {
    state_->adopt(nn::parameter_list(module));
  }

  /// Ends a step: what is left is reduced, or reported.
  ///
  /// Effects: none where the backward pass reached every parameter, or under `no_sync`.
  /// Throws:  `unused_parameters`; what the transport throws. The next pass starts anew.
  void finish() { state_->finish(); }

  /// Reduces what has accumulated under `no_sync`, as the last backward pass would have: for
  /// passes of which nobody knows which is the last, as a pipeline's.
  ///
  /// Effects: none under `no_sync`.
  /// Throws:  as `finish`, where a parameter has no gradient.
  void reduce() { state_->reduce_all(); }

  /// Forgets a backward pass that ended with an exception, on every rank alike.
  void reset() { state_->start(); }

  /// This rank's part of the parameters, one tensor of one dimension for what it has of each, with
  /// gradients once a step is reduced; none without `zero`. Made anew by nobody: they stay the
  /// same.
  [[nodiscard]] const std::vector<Parameter>& pieces() const { return state_->pieces; }
  /// A group rule for an optimizer over `pieces()` that asks `rule` about the whole parameters.
  template <nn::GroupRule Rule = nn::decay_matrices>
  [[nodiscard]] auto rule(Rule whole = {}) const {
    return rule_of_pieces(state_->places, std::move(whole));
  }
  /// What each piece is a part of.
  [[nodiscard]] const std::vector<piece_place>& places() const { return state_->places; }
  /// Gives every rank the pieces of all, as parameters; then drops the gradients of both.
  ///
  /// Throws: what the transport throws.
  void gather() { state_->gather(); }
  /// The 2-norm of all gradients, from the pieces of all ranks, in double, rank by rank.
  ///
  /// Throws: `argument_error` without `zero`; what the transport throws.
  [[nodiscard]] double grad_norm() { return state_->grad_norm(); }

  /// Backward passes only accumulate for as long as the returned scope lives.
  class no_sync_scope {
   public:
    explicit no_sync_scope(int& depth) : depth_(&++depth) {}
    ~no_sync_scope() { --*depth_; }
    no_sync_scope(const no_sync_scope&) = delete;
    no_sync_scope& operator=(const no_sync_scope&) = delete;

   private:
    int* depth_;
  };
  [[nodiscard]] no_sync_scope no_sync() { return no_sync_scope(state_->quiet); }

  /// The names in each bucket, in the order in which buckets are reduced.
  [[nodiscard]] std::vector<std::vector<std::string>> buckets() const {
    std::vector<std::vector<std::string>> names;
    for (const detail::bucket& b : state_->buckets) {
      auto& inside = names.emplace_back();
      for (const std::size_t i : b.members) {
        inside.push_back(state_->parameters[i].name);
      }
    }
    return names;
  }

 private:
  using element = typename Parameter::value_type;
  using wire = detail::wire_type<element>;

  struct state {
    Endpoint& endpoint;
    ddp_options options;
    std::vector<nn::named<Parameter>> parameters;  // those that want a gradient
    std::vector<hook_handle> hooks;
    std::vector<detail::bucket> buckets;
    std::vector<std::size_t> bucket_of;
    std::vector<bool> arrived;
    std::vector<wire> staging;
    std::size_t next = 0;   // bucket to reduce
    bool open = false;      // some gradient has arrived since the last step ended
    bool complete = false;  // the last step ended by itself
    int quiet = 0;
    std::vector<Parameter> pieces;
    std::vector<piece_place> places;  // of each piece

    state(Endpoint& e, const ddp_options& o) : endpoint(e), options(o) {
      if (o.micro_batches < 1) {
        throw argument_error(
            "ashlar::parallel::ddp",
            "micro_batches is " + std::to_string(o.micro_batches) + "; it must be at least 1");
      }
      if (o.zero < 0 || o.zero > 2) {
        throw argument_error("ashlar::parallel::ddp",
                             "zero is " + std::to_string(o.zero) + "; it is 0, 1 or 2");
      }
      if (o.bucket_bytes == 0 || o.first_bucket_bytes == 0) {
        throw argument_error("ashlar::parallel::ddp", "a bucket of 0 bytes; give it some room");
      }
    }
    state(const state&) = delete;
    state& operator=(const state&) = delete;
    ~state() {
      for (hook_handle& h : hooks) {
        h.remove();
      }
    }

    void adopt(std::vector<nn::named<Parameter>> all) {
      detail::require_same_replica(
          endpoint, all,
          {static_cast<std::int64_t>(options.first_bucket_bytes),
           static_cast<std::int64_t>(options.bucket_bytes), options.micro_batches,
           static_cast<std::int64_t>(options.unused) * 4 + options.zero});
      for (const auto& p : all) {
        broadcast(p.value);
      }
      std::erase_if(all, [](const auto& p) { return !requires_grad(p.value); });
      parameters = std::move(all);
      std::vector<std::size_t> bytes;
      for (const auto& p : parameters) {
        bytes.push_back(static_cast<std::size_t>(p.value.size()) * sizeof(element));
      }
      buckets = detail::assign_buckets(bytes, options.first_bucket_bytes, options.bucket_bytes);
      bucket_of.resize(parameters.size());
      for (std::size_t b = 0; b < buckets.size(); ++b) {
        for (const std::size_t i : buckets[b].members) {
          bucket_of[i] = b;
        }
      }
      start();
      if (options.zero > 0) {
        cut();
      }
      for (std::size_t i = 0; i < parameters.size(); ++i) {
        hooks.push_back(register_post_accumulate_grad_hook(
            parameters[i].value, [this, i](const Parameter&) { arrive(i); }));
      }
    }

    void start() {
      arrived.assign(parameters.size(), false);
      for (detail::bucket& b : buckets) {
        b.waiting = b.members.size();
      }
      next = 0;
      open = false;
      complete = false;
    }

    void arrive(std::size_t i) {
      if (quiet > 0) {
        return;
      }
      if (arrived[i]) {  // the pass before left some parameters out, and nobody called finish
        report_unused();
      }
      open = true;
      complete = false;
      arrived[i] = true;
      --buckets[bucket_of[i]].waiting;
      advance();
    }

    void finish() {
      if (quiet > 0 || std::exchange(complete, false)) {
        return;
      }
      if (options.unused == unused::error) {
        if (open) {
          report_unused();
        }
        return;
      }
      for (std::size_t i = 0; i < parameters.size(); ++i) {
        if (!arrived[i]) {
          Parameter& g = gradient(parameters[i].value);
          if (!g) {
            g = zeros<Parameter>(shape(parameters[i].value.shape()));
          }
          --buckets[bucket_of[i]].waiting;
        }
      }
      advance();
      complete = false;
    }

    void reduce_all() {
      if (quiet > 0) {
        return;
      }
      start();
      open = !parameters.empty();
      for (std::size_t i = parameters.size(); i-- > 0;) {
        if (gradient(parameters[i].value)) {
          arrive(i);
        }
      }
      finish();
    }

    [[noreturn]] void report_unused() {
      std::vector<std::string> names;
      for (std::size_t i = 0; i < parameters.size(); ++i) {
        if (!arrived[i]) {
          names.push_back(parameters[i].name);
        }
      }
      start();
      throw unused_parameters(endpoint.rank(), std::move(names));
    }

    void advance() {
      try {
        while (next < buckets.size() && buckets[next].waiting == 0) {
          reduce(buckets[next]);
          ++next;
        }
      } catch (...) {
        start();
        throw;
      }
      if (next == buckets.size()) {
        start();
        complete = true;
      }
    }

    void reduce(const detail::bucket& b) {
      const no_grad off;
      const std::int64_t n = endpoint.size() * options.micro_batches;
      if (endpoint.size() > 1 || options.zero > 0) {
        walk(b, gradients, [](const Parameter& g, std::span<wire> at) { detail::read(g, at); });
        const std::span<wire> all(staging);
        if (options.zero > 0) {
          keep_own(b, comm::reduce_scatter<Algorithm>(endpoint, all), n);
          return;
        }
        comm::all_reduce<Algorithm>(endpoint, all);
        walk(b, gradients, [](const Parameter& g, std::span<wire> at) {
          detail::write(std::span<const wire>(at), g);
        });
      }
      if (n > 1) {
        for (const std::size_t i : b.members) {
          op_function<ops::scale>{}.in_place(gradient(parameters[i].value),
                                             1.0 / static_cast<double>(n), 0.0);
        }
      }
    }

    /// A bucket's reduced gradients, of which this rank has `own`, become its pieces' gradients.
    /// Where the whole gradients are dropped they are added to those; elsewhere they hold the sum.
    void keep_own(const detail::bucket& b, std::span<const wire> own, std::int64_t n) {
      detail::give_gradients(std::span(pieces).subspan(b.first_piece, b.last_piece - b.first_piece),
                             std::span<const wire>(own), 1.0 / static_cast<double>(n),
                             options.zero > 1);
      if (options.zero > 1) {
        for (const std::size_t i : b.members) {
          gradient(parameters[i].value) = {};
        }
      }
    }

    /// Makes the pieces: this rank's chunk of every bucket, cut where parameters end.
    void cut() {
      const auto ranks = static_cast<std::size_t>(endpoint.size());
      if (std::ranges::all_of(buckets, [&](const auto& b) { return size_of(b) < ranks; })) {
        throw argument_error("ashlar::parallel::ddp",
                             "zero is " + std::to_string(options.zero) +
                                 ", and no bucket has an element for each of the " +
                                 std::to_string(ranks) + " ranks: the last would have no piece");
      }
      const no_grad off;
      for (detail::bucket& b : buckets) {
        walk(b, values, [](const Parameter& p, std::span<wire> at) { detail::read(p, at); });
        const comm::chunk own = comm::chunk_of(staging.size(), endpoint.size(), endpoint.rank());
        b.first_piece = pieces.size();
        std::vector<std::size_t> sizes;
        for (const std::size_t i : b.members) {
          sizes.push_back(static_cast<std::size_t>(parameters[i].value.size()));
        }
        std::span<const wire> from = std::span(staging).subspan(own.first);
        for (const detail::overlap& part : detail::overlaps(sizes, own)) {
          const auto& p = parameters[b.members[part.member]];
          const Parameter piece = zeros<Parameter>({static_cast<std::int64_t>(part.count)});
          detail::write(from.first(part.count), piece);
          from = from.subspan(part.count);
          pieces.push_back(require_grad(piece));
          places.push_back({p.name, p.value.spec(), part.first, part.count});
        }
        b.last_piece = pieces.size();
      }
    }

    void gather() {
      const no_grad off;
      for (const detail::bucket& b : buckets) {
        staging.resize(size_of(b));
        const std::span<wire> all(staging);
        const comm::chunk own = comm::chunk_of(all.size(), endpoint.size(), endpoint.rank());
        std::size_t first = own.first;
        for (std::size_t i = b.first_piece; i < b.last_piece; ++i) {
          const auto count = static_cast<std::size_t>(pieces[i].size());
          detail::read(pieces[i], all.subspan(first, count));
          gradient(pieces[i]) = {};
          first += count;
        }
        if (options.zero > 0) {
          comm::all_gather(endpoint, std::span<const wire>(all.subspan(own.first, own.size())),
                           all);
          walk(b, values, [](const Parameter& p, std::span<wire> at) {
            detail::write(std::span<const wire>(at), p);
          });
        }
        for (const std::size_t i : b.members) {
          gradient(parameters[i].value) = {};
        }
      }
    }

    double grad_norm() {
      if (options.zero == 0) {
        throw argument_error("ashlar::parallel::ddp",
                             "grad_norm is that of pieces; without zero, use nn::grad_norm");
      }
      return detail::norm_of_pieces(endpoint, pieces);
    }

    [[nodiscard]] std::size_t size_of(const detail::bucket& b) const {
      std::size_t count = 0;
      for (const std::size_t i : b.members) {
        count += static_cast<std::size_t>(parameters[i].value.size());
      }
      return count;
    }
    static const Parameter& values(const Parameter& p) { return p; }
    static const Parameter& gradients(const Parameter& p) { return gradient(p); }

    /// `f(tensor, its part of the staging buffer)` for what `of` gives of a bucket's members.
    template <class Of, class F>
    void walk(const detail::bucket& b, const Of& of, const F& f) {
      staging.resize(size_of(b));
      std::size_t first = 0;
      for (const std::size_t i : b.members) {
        const Parameter& g = of(parameters[i].value);
        if (!g || !same_shape(g.spec(), parameters[i].value.spec())) {
          throw shape_error(
              "parallel::ddp", parameters[i].value.shape(),
              g ? g.shape() : std::span<const std::int64_t>{},
              "the gradient of '" + parameters[i].name + "' must have its parameter's shape");
        }
        const auto n = static_cast<std::size_t>(g.size());
        f(g, std::span<wire>(staging).subspan(first, n));
        first += n;
      }
    }

    void broadcast(const Parameter& p) {
      const no_grad off;
      staging.resize(static_cast<std::size_t>(p.size()));
      const std::span<wire> at(staging);
      if (endpoint.rank() == 0) {
        detail::read(p, at);
      }
      comm::broadcast(endpoint, at, 0);
      if (endpoint.rank() != 0) {
        detail::write(std::span<const wire>(at), p);
      }
    }
  };

  std::unique_ptr<state> state_;
};

namespace detail {
/// Stands in where a stack has no policy, so that one mistake is one message.
struct no_communication {
  using transport = comm::detail::any_transport;
  using algorithm = comm::ring;
};
template <class Stack>
struct communication_of {
  static constexpr bool given = Stack::template has<kinds::communicate>;
  static_assert(given,
                "ashlar::parallel::ddp_for: the stack does not say how ranks talk; add "
                "communicate<Transport, Algorithm>");
  using type = typename Stack::template policy<kinds::communicate, no_communication>;
};
}  // namespace detail

/// Data parallelism over the transport and with the algorithm that a stack's policies name.
template <class Stack>
using ddp_for =
    ddp<nn::parameter_of<Stack>, typename detail::communication_of<Stack>::type::transport,
        typename detail::communication_of<Stack>::type::algorithm>;

template <class M, class Endpoint>
ddp(const M&, Endpoint&) -> ddp<nn::parameter_type_of<M>, Endpoint>;
template <class M, class Endpoint>
ddp(const M&, Endpoint&, ddp_options) -> ddp<nn::parameter_type_of<M>, Endpoint>;
template <class M, class Endpoint, class Algorithm>
ddp(const M&, Endpoint&, ddp_options, Algorithm)
    -> ddp<nn::parameter_type_of<M>, Endpoint, Algorithm>;

}  // namespace ashlar::parallel
