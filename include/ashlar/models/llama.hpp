// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "ashlar/io/model_config.hpp"
#include "ashlar/kv/step.hpp"
#include "ashlar/models/detail/decoder.hpp"
#include "ashlar/models/detail/operators.hpp"
#include "ashlar/nn/embedding.hpp"
#include "ashlar/nn/linear.hpp"
#include "ashlar/nn/module.hpp"
#include "ashlar/nn/norm.hpp"
#include "ashlar/ops/activation.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/cross_entropy.hpp"
#include "ashlar/ops/matmul.hpp"
#include "ashlar/ops/reduction.hpp"  // gradients of broadcast operands are summed
#include "ashlar/ops/rope.hpp"
#include "ashlar/ops/views.hpp"

/// The Llama architecture: RMSNorm, rotary positions, grouped-query attention, SwiGLU.
///
/// Members carry the names of Hugging Face's files, so the state dict is the file's.
/// Source: Touvron et al. (2023); grouped queries as in Ainslie et al. (2023).
namespace ashlar::models {

using llama_config = io::model_config;

template <class Stack>
struct llama_attention {
  using projection = nn::linear<Stack>;
  BOOST_HANA_DEFINE_STRUCT(llama_attention, (projection, q_proj), (projection, k_proj),
                           (projection, v_proj), (projection, o_proj));

  /// `attend(q, k, v)` mixes tokens; everything else treats each on its own.
  ///
  /// Shapes: `x`: (..., T, C); `positions`: (T); q and k, v of `attend`: (..., T, H, Dh) and
  ///         (..., T, Hkv, Dh).
  auto operator()(const auto& x, const auto& positions, const llama_config& c,
                  const auto& attend) const {
    const auto turned = [&](const auto& y) {
      return rope(y, positions, c.rope_theta, c.rope_interleaved);
    };
    const auto heads = [&](const auto& y, std::int64_t count) {
      return detail::split_heads(y, count, c.head_dim);
    };
    return o_proj(detail::merge_heads(attend(turned(heads(q_proj(x), c.heads)),
                                             turned(heads(k_proj(x), c.kv_heads)),
                                             heads(v_proj(x), c.kv_heads))));
  }
};

/// `down(swiglu(gate(x), up(x)))`. Source: Shazeer (2020).
template <class Stack>
struct llama_mlp {
  using projection = nn::linear<Stack>;
  BOOST_HANA_DEFINE_STRUCT(llama_mlp, (projection, gate_proj), (projection, up_proj),
                           (projection, down_proj));

  auto operator()(const auto& x) const { return down_proj(swiglu(gate_proj(x), up_proj(x))); }
};

template <class Stack>
struct llama_layer {
  using norm = nn::rms_norm<Stack>;
  using attention = llama_attention<Stack>;
  using feed_forward = llama_mlp<Stack>;
  BOOST_HANA_DEFINE_STRUCT(llama_layer, (norm, input_layernorm), (attention, self_attn),
                           (norm, post_attention_layernorm), (feed_forward, mlp));

  auto operator()(const auto& x, const auto& positions, const llama_config& c,
                  const auto& attend) const {
    const auto y = add(x, self_attn(input_layernorm(x), positions, c, attend));
    return add(y, mlp(post_attention_layernorm(y)));
  }
};

template <class Stack>
struct llama_trunk {
  using table = nn::embedding<Stack>;
  using norm_type = nn::rms_norm<Stack>;
  using layer_list = std::vector<llama_layer<Stack>>;
  BOOST_HANA_DEFINE_STRUCT(llama_trunk, (table, embed_tokens), (layer_list, layers),
                           (norm_type, norm));
};

/// A language model; `lm_head` is empty where the output layer is the embedding (tied).
///
/// Models `kv::PagedModel`: an engine serves it.
template <class Stack>
class llama {
 public:
  using parameter = nn::parameter_of<Stack>;
  using scalar = typename parameter::value_type;
  using integers = typename Stack::template tensor<std::int32_t>;
  using trunk = llama_trunk<Stack>;
  using head = nn::linear<Stack>;
  /// What a chip needs to serve it, and to train it where the stack has a tape.
  using operators = detail::operators_of_model<
      Stack, scalar, ops::operators<ops::rms_norm, ops::rope, ops::swiglu>,
      ops::operators<ops::rms_norm_backward_weight, ops::rms_norm_backward_x, ops::sigmoid,
                     ops::sigmoid_backward, ops::silu_backward>>;

  BOOST_HANA_DEFINE_STRUCT(llama, (trunk, model), (head, lm_head), (llama_config, config));

  /// A model with parameters drawn by `seed`.
  ///
  /// Normal with deviation 0.02; what writes to the residual stream has it divided by
  /// sqrt(2 layers). Source: GPT-2.
  [[nodiscard]] static llama make(const llama_config& c, std::uint64_t seed);

  /// Reads a file or folder. Defined in `ashlar/models/load.hpp`, which brings the file formats.
  [[nodiscard]] static llama load(const std::string& path);

  /// What the output layer gives on this stack.
  using logits_type = call_result<ops::linear, parameter, parameter>;

  /// Logits of whole sequences.
  ///
  /// Shapes: `tokens`: (B, T); result: (B * T, V).
  [[nodiscard]] logits_type operator()(const integers& tokens) const;
  /// The same for tokens that carry other keys, such as `with<keys::autocast<>>(tokens)`: every
  /// call that depends on them goes through those, and so does what is done with the result.
  [[nodiscard]] auto operator()(const auto& tokens) const { return of_whole(tokens); }

  using loss_type = call_result<ops::cross_entropy, logits_type, integers, std::int64_t>;

  /// The mean cross entropy of the next tokens. It belongs to the class so that a file which trains
  /// an `extern template` model compiles neither the loss nor its derivatives.
  ///
  /// Shapes: `tokens`: (B, T); `targets`: (B * T); result: ().
  [[nodiscard]] loss_type loss(const integers& tokens, const integers& targets) const
    requires(Stack::template has<kinds::differentiate>);

  // ---- in parts: pipelines, sharded units ----

  /// In front of the layers; through one of them; the loss behind them.
  ///
  /// Shapes: `tokens`: (B, T); `x` and results: (B, T, C); `targets`: (B * T).
  [[nodiscard]] parameter embed(const integers& tokens) const;
  [[nodiscard]] parameter through_layer(std::size_t layer, const parameter& x) const;
  [[nodiscard]] loss_type loss_behind(const parameter& x, const integers& targets) const
    requires(Stack::template has<kinds::differentiate>);

  // ---- serving: kv::PagedModel ----

  using cache_type = detail::paged_cache<parameter>;
  [[nodiscard]] cache_type make_cache(std::int32_t blocks, std::int32_t block_tokens) const;
  /// `other` of `to` gets what `block` of `from` holds: for sequences that fork or are swapped out.
  void copy_block(const cache_type& from, std::int32_t block, cache_type& to,
                  std::int32_t other) const;
  [[nodiscard]] std::int64_t vocabulary() const { return config.vocab; }
  [[nodiscard]] std::int64_t context_length() const { return config.context; }
  /// Logits of the rows that `input` asks for; they stay valid until the next call.
  [[nodiscard]] std::span<const float> forward(const kv::step& input, cache_type& cache);
  /// The same with a cache of the caller's: `attend(now, layer, q, k, v)` is attention.
  [[nodiscard]] std::span<const float> forward_through(const kv::step& input, const auto& attend);
  /// The same of tensors with any keys: `attend(layer, q, k, v)` is attention, `asked(x)` the rows
  /// whose logits are wanted.
  ///
  /// Shapes: `tokens`, `positions`: (rows); `x`: (rows, C); result: (asked rows, V).
  [[nodiscard]] auto of_rows(const auto& tokens, const auto& positions, const auto& attend,
                             const auto& asked) const;

  /// Stores each matrix by columns, so that multiplying one token by it reads memory in order; a
  /// tied output layer gets a copy of its own.
  ///
  /// Effects: bits of results stay the same.
  /// Cost:    one copy of the weights.
  void lay_out_for_decoding();

 private:
  auto of_whole(const auto& tokens) const;
  auto logits(const auto& x) const {
    return lm_head.weight ? lm_head(x) : linear(x, model.embed_tokens.weight);
  }

  std::vector<float> logits_;
};

template <class Stack>
llama<Stack> llama<Stack>::make(const llama_config& c, std::uint64_t seed) {
  const auto matrix = [](std::int64_t in, std::int64_t out) { return head::make(in, out, false); };
  using norm = nn::rms_norm<Stack>;
  llama m;
  m.config = c;
  m.model.embed_tokens = nn::embedding<Stack>::make(c.vocab, c.dim);
  m.model.norm = norm::make(c.dim, c.norm_eps);
  const std::int64_t q = c.heads * c.head_dim;
  const std::int64_t kv = c.kv_heads * c.head_dim;
  for (std::int64_t i = 0; i < c.layers; ++i) {
    m.model.layers.push_back(
        {norm::make(c.dim, c.norm_eps),
         {matrix(c.dim, q), matrix(c.dim, kv), matrix(c.dim, kv), matrix(q, c.dim)},
         norm::make(c.dim, c.norm_eps),
         {matrix(c.dim, c.hidden), matrix(c.dim, c.hidden), matrix(c.hidden, c.dim)}});
  }
  if (!c.tied_embeddings) {
    m.lm_head = matrix(c.dim, c.vocab);
  }
  detail::draw_matrices(m, c.layers, seed, [](const std::string& name) {
    return name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
  });
  return m;
}

template <class Stack>
auto llama<Stack>::operator()(const integers& tokens) const -> logits_type {
  return of_whole(tokens);
}

template <class Stack>
auto llama<Stack>::loss(const integers& tokens, const integers& targets) const -> loss_type
  requires(Stack::template has<kinds::differentiate>)
{
  return cross_entropy((*this)(tokens), targets);
}

template <class Stack>
auto llama<Stack>::embed(const integers& tokens) const -> parameter {
  detail::require_tokens("models::llama", tokens, config.context);
  return model.embed_tokens(tokens);
}

template <class Stack>
auto llama<Stack>::through_layer(std::size_t layer, const parameter& x) const -> parameter {
  return model.layers[layer](x, arange<integers>(x.extent(1)), config, detail::causal_attention);
}

template <class Stack>
auto llama<Stack>::loss_behind(const parameter& x, const integers& targets) const -> loss_type
  requires(Stack::template has<kinds::differentiate>)
{
  return cross_entropy(logits(reshape(model.norm(x), shape{-1, config.dim})), targets);
}

template <class Stack>
auto llama<Stack>::of_whole(const auto& tokens) const {
  detail::require_tokens("models::llama", tokens, config.context);
  const auto positions = arange<std::remove_cvref_t<decltype(tokens)>>(tokens.extent(1));
  auto x = model.embed_tokens(tokens);
  for (const auto& layer : model.layers) {
    x = layer(x, positions, config, detail::causal_attention);
  }
  return logits(reshape(model.norm(x), shape{-1, config.dim}));
}

template <class Stack>
auto llama<Stack>::make_cache(std::int32_t blocks, std::int32_t block_tokens) const -> cache_type {
  return cache_type::make(config.layers, config.kv_heads, config.head_dim, blocks, block_tokens);
}

template <class Stack>
void llama<Stack>::copy_block(const cache_type& from, std::int32_t block, cache_type& to,
                              std::int32_t other) const {
  const no_grad off;
  from.copy_block(block, to, other);
}

template <class Stack>
std::span<const float> llama<Stack>::forward(const kv::step& input, cache_type& cache) {
  return forward_through(input,
                         [&cache](const auto& now, std::size_t layer, const auto& q, const auto& k,
                                  const auto& v) { return now.attend(cache, layer, q, k, v); });
}

template <class Stack>
std::span<const float> llama<Stack>::forward_through(const kv::step& input, const auto& attend) {
  return detail::forward_rows<Stack>(*this, input, attend, logits_);
}

template <class Stack>
auto llama<Stack>::of_rows(const auto& tokens, const auto& positions, const auto& attend,
                           const auto& asked) const {
  auto x = model.embed_tokens(tokens);
  for (std::size_t i = 0; i < model.layers.size(); ++i) {
    x = model.layers[i](x, positions, config, [&](const auto& q, const auto& k, const auto& v) {
      return attend(i, q, k, v);
    });
  }
  return logits(model.norm(asked(x)));
}

template <class Stack>
void llama<Stack>::lay_out_for_decoding() {
  const no_grad off;
  lm_head.weight = detail::by_columns(lm_head.weight ? lm_head.weight : model.embed_tokens.weight);
  for (auto& layer : model.layers) {
    for (head* p : {&layer.self_attn.q_proj, &layer.self_attn.k_proj, &layer.self_attn.v_proj,
                    &layer.self_attn.o_proj, &layer.mlp.gate_proj, &layer.mlp.up_proj,
                    &layer.mlp.down_proj}) {
      p->weight = detail::by_columns(p->weight);
    }
  }
}

}  // namespace ashlar::models
