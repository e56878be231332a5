// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/io/model_config.hpp"
#include "ashlar/nn/clip.hpp"
#include "ashlar/nn/module.hpp"
#include "ashlar/nn/state_dict.hpp"
#include "ashlar/ops/attention.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/matmul.hpp"
#include "ashlar/ops/views.hpp"
#include "ashlar/parallel/errors.hpp"
#include "ashlar/parallel/ring_attention.hpp"
#include "ashlar/parallel/sequence.hpp"
#include "ashlar/parallel/sharding.hpp"
#include "ashlar/parallel/tensor_parallel.hpp"
#include "ashlar/parallel/vocabulary.hpp"

/// A Llama on a tensor parallel group and a context parallel one.
namespace ashlar::parallel {

/// How a Llama's layers are cut: attention by heads that share keys, the feed-forward network by
/// its inner width, table and output layer by the vocabulary.
///
/// Where there are more ranks than heads of keys, several ranks have the same one, and divide the
/// heads that share it.
/// Throws: `too_few_heads` where these or those cannot be divided.
[[nodiscard]] inline std::vector<tensor_split> splits_of(const io::model_config& c, int ranks) {
  const bool copies = c.kv_heads < ranks;
  if (c.kv_heads < 1 || (copies && (ranks % c.kv_heads != 0 || c.heads % ranks != 0))) {
    throw too_few_heads(c.heads, c.kv_heads, ranks);
  }
  const std::int64_t each = copies ? c.heads / ranks : c.heads / c.kv_heads;
  const int of_keys = copies ? static_cast<int>(ranks / c.kv_heads) : 1;
  return {{"self_attn.q_proj", cut::outputs, each * c.head_dim},
          {"self_attn.k_proj", cut::outputs, c.head_dim, of_keys},
          {"self_attn.v_proj", cut::outputs, c.head_dim, of_keys},
          {"self_attn.o_proj", cut::inputs, each * c.head_dim},
          {"mlp.gate_proj", cut::outputs},
          {"mlp.up_proj", cut::outputs},
          {"mlp.down_proj", cut::inputs},
          {"embed_tokens", cut::outputs},
          {"lm_head", cut::outputs}};
}

/// The sizes of one rank's part. Throws: `too_few_heads`; `argument_error` where the vocabulary or
/// the inner width is smaller than the number of ranks.
[[nodiscard]] inline io::model_config part_of(const io::model_config& c, int ranks, int rank) {
  const auto splits = splits_of(c, ranks);
  const auto share = [&](std::string_view layer, std::int64_t extent) {
    const auto s = std::ranges::find(splits, layer, &tensor_split::layer);
    return static_cast<std::int64_t>(detail::chunk_in(*s, extent, ranks, rank).size());
  };
  io::model_config part = c;
  part.heads = share("self_attn.q_proj", c.heads * c.head_dim) / c.head_dim;
  part.kv_heads = share("self_attn.k_proj", c.kv_heads * c.head_dim) / c.head_dim;
  part.hidden = share("mlp.up_proj", c.hidden);
  part.vocab = share("embed_tokens", c.vocab);
  return part;
}

struct parallel_llama_options {
  bool sequence = false;  ///< norms and residuals on a part of the tokens of the tensor group each
  bool zigzag = true;     ///< how the context group divides a text: see `context_layout`
  /// Gradients are summed one by one while the pass runs, not by `finish`: for data parallelism
  /// whose hooks take them away then, ZeRO-1 to 3.
  bool sums_in_pass = false;
};

/// One rank's part of a Llama and of its training step.
///
/// `Model` is `models::llama<Stack>`, or has its members: this room knows no model.
/// `part` is a Llama of this rank's heads, inner width and vocabulary, with the names of the whole
/// one: optimizers, `ddp` over a data group (with ZeRO: `sums_in_pass`) and checkpoints take it as
/// any module. With a context group each rank has a part of each text's tokens.
/// Requires: groups outlive it; every rank of them calls it alike.
template <class Model, class Endpoint, class Algorithm = comm::ring>
class parallel_llama {
 public:
  using parameter = typename Model::parameter;
  using integers = typename Model::integers;

  Model part;

  /// Cuts a whole model. Throws: `too_few_heads`, `argument_error`, on every rank alike.
  parallel_llama(const Model& whole, Endpoint& tensor, parallel_llama_options options = {},
                 Endpoint* context = nullptr)
      : whole_(whole.config), tensor_(&tensor), context_(context), options_(options) {
    const io::model_config own = part_of(whole_, tensor.size(), tensor.rank());
    part = shard(whole, tensor, splits());
    part.config = own;
  }
  /// Loads this rank's part of a whole model's state. Throws: as that; `nn::state_error`.
  parallel_llama(const io::model_config& whole, const nn::state_map& state, Endpoint& tensor,
                 parallel_llama_options options = {}, Endpoint* context = nullptr)
      : part(Model::make(part_of(whole, tensor.size(), tensor.rank()), 0)),
        whole_(whole),
        tensor_(&tensor),
        context_(context),
        options_(options) {
    load_shard(part, state, tensor, splits());
  }

  /// A micro-batch on its way through the layers, in one piece or by the stages of a pipeline.
  ///
  /// Requires: the model outlives it.
  class pass {
   public:
    /// The residual stream's shape on this rank: what goes from stage to stage.
    [[nodiscard]] shape boundary() const {
      if (!model_->options_.sequence) {
        return extents_;
      }
      const auto own = comm::chunk_of(static_cast<std::size_t>(extents_[0] * extents_[1]),
                                      model_->tensor_->size(), model_->tensor_->rank());
      return {static_cast<std::int64_t>(own.size()), extents_[2]};
    }
    [[nodiscard]] parameter embed() const {
      return model_->leave(vocabulary_rows(*model_->tensor_,
                                           model_->entered(model_->part.model.embed_tokens).weight,
                                           model_->whole_.vocab, tokens_));
    }
    /// Layers `first` to `last - 1`.
    [[nodiscard]] parameter through(parameter x, std::size_t first, std::size_t last) const {
      const auto attend = [this](const parameter& q, const parameter& k, const parameter& v) {
        return model_->attend(layout_, q, k, v);
      };
      const parallel_llama& m = *model_;
      for (std::size_t i = first; i < last; ++i) {
        const auto layer = m.entered(m.part.model.layers[i]);
        const parameter in = m.enter(layer.input_layernorm(x), extents_);
        const parameter y = add(x, m.leave(layer.self_attn(in, positions_, m.part.config, attend)));
        x = add(y, m.leave(layer.mlp(m.enter(layer.post_attention_layernorm(y), extents_))));
      }
      return x;
    }
    /// The mean cross entropy of the next tokens, the same on every rank.
    [[nodiscard]] parameter loss(const parameter& x) const {
      const parallel_llama& m = *model_;
      const parameter last = reshape(m.enter(m.entered(m.part.model.norm, "norm")(x), extents_),
                                     shape{-1, extents_[2]});
      const parameter logits = m.part.lm_head.weight
                                   ? m.entered(m.part.lm_head)(last)
                                   : linear(last, m.entered(m.part.model.embed_tokens).weight);
      const parameter mean = vocabulary_cross_entropy<Algorithm>(
          *m.tensor_, logits, m.whole_.vocab, targets_, {.of_targets = counted_});
      return m.context_ == nullptr ? mean : leave_tensor_parallel<Algorithm>(*m.context_, mean);
    }

   private:
    friend class parallel_llama;
    const parallel_llama* model_;
    context_layout layout_;
    integers tokens_, targets_, positions_;  // this rank's
    std::int64_t counted_;                   // of all ranks' targets
    shape extents_;
  };

  /// Shapes: `tokens`: (B, T); `targets`: (B * T); whole texts, the same on every rank.
  /// Throws: `shape_error`.
  [[nodiscard]] pass begin(const integers& tokens, const integers& targets) const {
    if (tokens.rank() != 2 || tokens.extent(1) > whole_.context || targets.rank() != 1 ||
        targets.extent(0) != tokens.size()) {
      throw shape_error("ashlar::parallel::parallel_llama", tokens.shape(), targets.shape(),
                        "tokens must be (B, T), T at most the context, and targets (B * T)");
    }
    pass p;
    p.model_ = this;
    p.layout_ = {tokens.extent(1), context_ == nullptr ? 1 : context_->size(), options_.zigzag};
    const auto places = p.layout_.positions(context_ == nullptr ? 0 : context_->rank());
    const auto length = std::ssize(places);
    p.extents_ = {tokens.extent(0), length, whole_.dim};
    p.positions_ = from_values<integers>({length}, places);
    p.tokens_ = of_places(tokens, places, p.layout_.tokens, {tokens.extent(0), length});
    p.targets_ = of_places(targets, places, p.layout_.tokens, {tokens.extent(0) * length});
    const std::vector<std::int32_t> all = to_vector(targets);
    p.counted_ = std::ssize(all) - std::ranges::count(all, vocabulary_loss_options{}.ignore_index);
    return p;
  }
  /// All of a pass. Shapes, Throws: as `begin`; what the transport throws.
  ///
  /// Cost:   per layer two all-reduces forward and two backward over the tensor group, or as many
  ///         all-gathers and reduce-scatters; `ring_attention`'s over the context group.
  [[nodiscard]] parameter loss(const integers& tokens, const integers& targets) const {
    const pass p = begin(tokens, targets);
    return p.loss(p.through(p.embed(), 0, part.model.layers.size()));
  }

  /// Makes gradients those of all tokens, after backward passes: sums over the context group, and,
  /// of norms that saw a part of the tokens and of keys that several ranks have, over the tensor
  /// group. One all-reduce each, of the parameters that have a gradient: those of this stage.
  void finish() {
    if (options_.sums_in_pass) {
      return;
    }
    sum_copies<Algorithm>(part, *tensor_, splits());
    if (options_.sequence) {
      std::vector<parameter> norms;
      nn::named_parameters(part, [&](std::string_view name, const parameter& p) {
        if (name.ends_with("norm.weight") && gradient(p)) {
          norms.push_back(p);
        }
      });
      sum_gradients<Algorithm>(*tensor_, norms);
    }
    if (context_ != nullptr) {
      auto all = nn::parameters(part);
      std::erase_if(all, [](const parameter& p) { return !gradient(p); });
      sum_gradients<Algorithm>(*context_, all);
    }
  }

  /// Scales the gradients so that the norm of the whole model's is at most about `max_norm`, after
  /// `finish`; `stages` are the ranks of a pipeline.
  ///
  /// Returns, Throws: as `nn::clip_grad_norm`, the same on every rank.
  double clip_grad_norm(double max_norm, Endpoint* stages = nullptr) {
    double sum = squares_of_gradients(part, *tensor_, splits());
    if (stages != nullptr) {
      comm::all_reduce<comm::ordered>(*stages, std::span(&sum, 1));
    }
    return nn::clip_grad_to(part, std::sqrt(sum), max_norm);
  }

  /// Copies all parts to a whole model, on every rank.
  void gather(Model& whole) const { gather_shards(part, whole, *tensor_, splits()); }

 private:
  [[nodiscard]] std::vector<tensor_split> splits() const {
    return splits_of(whole_, tensor_->size());
  }
  /// The module as a pass uses it: with `sums_in_pass`, what enters the graph here has the
  /// gradient of all ranks.
  template <class M>
  [[nodiscard]] M entered(M module, const std::string& prefix = {}) const {
    if (options_.sums_in_pass) {
      const auto all = splits();
      const auto enter = [&](const std::string& name, parameter& p) {
        const tensor_split* s = detail::split_of(all, name);
        if (s != nullptr && s->copies > 1) {
          p = apply_function(detail::enter_copies<Endpoint, Algorithm>{tensor_, s->copies}, p);
        }
        if (options_.sequence && name.ends_with("norm.weight")) {
          p = enter_tensor_parallel<Algorithm>(*tensor_, p);
        }
        if (context_ != nullptr) {
          p = enter_tensor_parallel<Algorithm>(*context_, p);
        }
      };
      nn::named_parameters(module, enter, prefix);
    }
    return module;
  }
  /// What layers that are cut by outputs see.
  [[nodiscard]] parameter enter(const parameter& x, const shape& extents) const {
    return options_.sequence
               ? parameter(
                     reshape(gather_rows<Algorithm>(*tensor_, x, extents[0] * extents[1]), extents))
               : enter_tensor_parallel<Algorithm>(*tensor_, x);
  }
  /// What becomes of the summands of layers that are cut by inputs.
  [[nodiscard]] parameter leave(const parameter& x) const {
    return options_.sequence
               ? reduce_rows<Algorithm>(*tensor_, parameter(reshape(x, shape{-1, whole_.dim})))
               : leave_tensor_parallel<Algorithm>(*tensor_, x);
  }
  [[nodiscard]] static integers of_places(const integers& x,
                                          const std::vector<std::int32_t>& places,
                                          std::int64_t length, const shape& extents) {
    const std::vector<std::int32_t> all = to_vector(x);
    std::vector<std::int32_t> own;
    for (std::int64_t first = 0; first < std::ssize(all); first += length) {
      for (const std::int32_t place : places) {
        own.push_back(all[static_cast<std::size_t>(first + place)]);
      }
    }
    return from_values<integers>(extents, own);
  }
  /// Of (B, T, heads, Dh).
  [[nodiscard]] parameter attend(const context_layout& layout, const parameter& q,
                                 const parameter& k, const parameter& v) const {
    const auto turn = [](const parameter& x) { return parameter(transpose(x, 1, 2)); };
    const double factor = 1.0 / std::sqrt(static_cast<double>(whole_.head_dim));
    return turn(
        layout.ranks == 1
            ? scaled_dot_product_attention(turn(q), turn(k), turn(v), true, factor)
            : ring_attention(*context_, layout, turn(q), turn(k), turn(v), {.scale = factor}));
  }

  io::model_config whole_;
  Endpoint* tensor_;
  Endpoint* context_;
  parallel_llama_options options_;
};

}  // namespace ashlar::parallel
