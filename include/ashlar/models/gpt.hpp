// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/kv/step.hpp"
#include "ashlar/models/detail/decoder.hpp"
#include "ashlar/models/detail/operators.hpp"
#include "ashlar/nn/dropout.hpp"
#include "ashlar/nn/embedding.hpp"
#include "ashlar/nn/linear.hpp"
#include "ashlar/nn/module.hpp"
#include "ashlar/nn/norm.hpp"
#include "ashlar/ops/activation.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/attention.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/cross_entropy.hpp"
#include "ashlar/ops/matmul.hpp"
#include "ashlar/ops/reduction.hpp"  // gradients of broadcast operands are summed
#include "ashlar/ops/views.hpp"

/// The GPT-2 architecture: LayerNorm before each part, learned positions, biases, GELU.
///
/// Members carry the names of Hugging Face's files, so the state dict is the file's; its matrices
/// of projections are (in, out).
/// Source: Radford et al. (2019).
namespace ashlar::models {

/// The dimensions and constants of a GPT-2-architecture model.
struct gpt_config {
  std::int64_t dim = 0;     ///< width of the residual stream
  std::int64_t hidden = 0;  ///< width of the feed-forward layer; 4 * dim in GPT-2
  std::int64_t layers = 0;
  std::int64_t heads = 0;  ///< divides `dim`
  std::int64_t vocab = 0;
  std::int64_t context = 0;  ///< rows of the table of positions: no sequence is longer
  double norm_eps = 1e-5;
  bool tied_embeddings = true;  ///< the output layer is the embedding
  /// The share of places that training sets to zero in the embedding, in the probabilities of
  /// attention and in what is added to the residual stream; 0.1 in GPT-2.
  double dropout = 0.0;

  [[nodiscard]] constexpr std::int64_t head_dim() const { return dim / heads; }

  /// Throws: `argument_error` naming the member.
  void check() const;

  friend bool operator==(const gpt_config&, const gpt_config&) = default;
};

/// `y = x weight + bias`.
///
/// Shapes: `weight`: (in, out), `bias`: (out), as in GPT-2's files, where it is called Conv1D.
template <class Stack>
struct gpt_projection {
  using parameter = nn::parameter_of<Stack>;
  BOOST_HANA_DEFINE_STRUCT(gpt_projection, (parameter, weight), (parameter, bias));

  auto operator()(const auto& x) const { return linear(x, transpose(weight, 0, 1), bias); }

  [[nodiscard]] static gpt_projection make(std::int64_t in, std::int64_t out) {
    gpt_projection made;
    made.weight = zeros<parameter>({in, out});
    made.bias = zeros<parameter>({out});
    return made;
  }
};

namespace detail {
/// What a dropout makes of `x` on a stack with a tape; nothing is trained on others.
template <Tensor X>
X dropped(const nn::dropout& by, const X& x) {
  if constexpr (contains<typename X::keys, keys::autograd>) {
    return by(x);
  } else {
    return x;
  }
}
/// `causal_attention`, in training by plain operators: the probabilities have a dropout.
auto attention_dropping(const nn::dropout& by, const auto& q, const auto& k, const auto& v) {
  using result = decltype(causal_attention(q, k, v));
  if constexpr (contains<typename result::keys, keys::autograd>) {
    if (by.training && by.p > 0.0) {
      const auto turn = [](const auto& x) { return transpose(x, 1, 2); };
      const auto weights =
          ops::detail::attention_weights(turn(q), turn(k), true, attention_scale(q.extent(-1)));
      return turn(ops::detail::in_type<typename result::value_type>(matmul(by(weights), turn(v))));
    }
  }
  return causal_attention(q, k, v);
}
}  // namespace detail

template <class Stack>
struct gpt_attention {
  using projection = gpt_projection<Stack>;
  BOOST_HANA_DEFINE_STRUCT(gpt_attention, (projection, c_attn), (projection, c_proj),
                           (nn::dropout, attn_dropout), (nn::dropout, resid_dropout));

  /// `attend(q, k, v)` mixes tokens; everything else treats each on its own.
  ///
  /// Shapes: `x`: (..., T, C); q, k and v of `attend`: (..., T, H, Dh).
  auto operator()(const auto& x, const gpt_config& c, const auto& attend) const {
    const auto all = c_attn(x);  // q, k and v side by side
    const auto part = [&](std::int64_t i) {
      return detail::split_heads(narrow(all, -1, i * c.dim, c.dim), c.heads, c.head_dim());
    };
    return detail::dropped(resid_dropout,
                           c_proj(detail::merge_heads(attend(part(0), part(1), part(2)))));
  }
};

template <class Stack>
struct gpt_mlp {
  using projection = gpt_projection<Stack>;
  BOOST_HANA_DEFINE_STRUCT(gpt_mlp, (projection, c_fc), (projection, c_proj),
                           (nn::dropout, dropout));

  auto operator()(const auto& x) const {
    return detail::dropped(dropout, c_proj(gelu_tanh(c_fc(x))));
  }
};

template <class Stack>
struct gpt_layer {
  using norm = nn::layer_norm<Stack>;
  using attention = gpt_attention<Stack>;
  using feed_forward = gpt_mlp<Stack>;
  BOOST_HANA_DEFINE_STRUCT(gpt_layer, (norm, ln_1), (attention, attn), (norm, ln_2),
                           (feed_forward, mlp));

  auto operator()(const auto& x, const gpt_config& c, const auto& attend) const {
    const auto y = add(x, attn(ln_1(x), c, attend));
    return add(y, mlp(ln_2(y)));
  }
};

template <class Stack>
struct gpt_trunk {
  using table = nn::embedding<Stack>;
  using norm = nn::layer_norm<Stack>;
  using layer_list = std::vector<gpt_layer<Stack>>;
  BOOST_HANA_DEFINE_STRUCT(gpt_trunk, (table, wte), (table, wpe), (nn::dropout, drop),
                           (layer_list, h), (norm, ln_f));
};

/// A language model; `lm_head` is empty where the output layer is the embedding (tied).
///
/// It is made for training, as a module of PyTorch is: where `config.dropout` is above 0 and the
/// stack has a tape, call `nn::eval` before the model is asked for its opinion.
/// Models `kv::PagedModel`: an engine serves it.
template <class Stack>
class gpt {
 public:
  using parameter = nn::parameter_of<Stack>;
  using scalar = typename parameter::value_type;
  using integers = typename Stack::template tensor<std::int32_t>;
  using trunk = gpt_trunk<Stack>;
  using head = nn::linear<Stack>;
  /// What a chip needs to serve it, and to train it where the stack has a tape.
  using operators = detail::operators_of_model<
      Stack, scalar, ops::operators<ops::gelu_tanh, ops::layer_norm, ops::narrow>,
      ops::operators<ops::dropout, ops::gelu_tanh_backward, ops::ge,
                     ops::layer_norm_backward_weight, ops::layer_norm_backward_x, ops::le, ops::neg,
                     ops::slice, ops::slice_backward, ops::softmax, ops::softmax_backward,
                     ops::square, ops::sub, ops::tanh, ops::tanh_backward, ops::uniform,
                     ops::unsqueeze, ops::where>>;

  BOOST_HANA_DEFINE_STRUCT(gpt, (trunk, transformer), (head, lm_head), (gpt_config, config));

  /// A model with parameters drawn by `seed`.
  ///
  /// Normal with deviation 0.02; what writes to the residual stream has it divided by
  /// sqrt(2 layers). Biases are zeros. Each dropout has a seed of its own.
  /// Throws: `argument_error` where `c` is no model.
  [[nodiscard]] static gpt make(const gpt_config& c, std::uint64_t seed);

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

  /// The mean cross entropy of the next tokens; see `llama::loss`.
  ///
  /// Shapes: `tokens`: (B, T); `targets`: (B * T); result: ().
  [[nodiscard]] loss_type loss(const integers& tokens, const integers& targets) const
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
  /// The same of tensors with any keys; see `llama::of_rows`.
  [[nodiscard]] auto of_rows(const auto& tokens, const auto& positions, const auto& attend,
                             const auto& asked) const;

  /// Stores the output layer by columns, so that multiplying one token by it reads memory in order;
  /// a tied one gets a copy of its own. The other matrices lie so already.
  ///
  /// Effects: bits of results stay the same.
  void lay_out_for_decoding();

 private:
  auto of_whole(const auto& tokens) const;
  auto embed(const auto& tokens, const auto& positions) const {
    return detail::dropped(transformer.drop,
                           add(transformer.wte(tokens), transformer.wpe(positions)));
  }
  auto logits(const auto& x) const {
    const auto y = transformer.ln_f(x);
    return lm_head.weight ? lm_head(y) : linear(y, transformer.wte.weight);
  }

  std::vector<float> logits_;
};

inline void gpt_config::check() const {
  const auto refuse = [](const std::string& what) {
    throw argument_error("ashlar::models::gpt_config", what);
  };
  struct extent {
    const char* name;
    std::int64_t value;
  };
  for (const auto& [name, value] :
       {extent{"dim", dim}, extent{"hidden", hidden}, extent{"layers", layers},
        extent{"heads", heads}, extent{"vocab", vocab}, extent{"context", context}}) {
    if (value < 1 || value > std::numeric_limits<std::int32_t>::max()) {
      refuse(std::string(name) + " is " + std::to_string(value) +
             "; it must be from 1 to 2147483647");
    }
  }
  if (dim % heads != 0) {
    refuse("dim is " + std::to_string(dim) + ", which " + std::to_string(heads) +
           " heads do not divide");
  }
  if (!(dropout >= 0 && dropout < 1)) {
    refuse("dropout is " + std::to_string(dropout) + "; it must be from 0 to below 1");
  }
  if (!(norm_eps > 0) || !std::isfinite(norm_eps)) {
    refuse("norm_eps is " + std::to_string(norm_eps) + "; it must be above 0");
  }
}

template <class Stack>
gpt<Stack> gpt<Stack>::make(const gpt_config& c, std::uint64_t seed) {
  using projection = gpt_projection<Stack>;
  using norm = nn::layer_norm<Stack>;
  using table = nn::embedding<Stack>;
  c.check();
  std::uint64_t dropouts = 0;
  const auto drop = [&] { return nn::dropout::make(c.dropout, philox_block(seed, dropouts++)[0]); };
  gpt m;
  m.config = c;
  m.transformer.drop = drop();
  m.transformer.wte = table::make(c.vocab, c.dim);
  m.transformer.wpe = table::make(c.context, c.dim);
  m.transformer.ln_f = norm::make(c.dim, c.norm_eps);
  for (std::int64_t i = 0; i < c.layers; ++i) {
    m.transformer.h.push_back(
        {norm::make(c.dim, c.norm_eps),
         {projection::make(c.dim, 3 * c.dim), projection::make(c.dim, c.dim), drop(), drop()},
         norm::make(c.dim, c.norm_eps),
         {projection::make(c.dim, c.hidden), projection::make(c.hidden, c.dim), drop()}});
  }
  if (!c.tied_embeddings) {
    m.lm_head = head::make(c.dim, c.vocab, false);
  }
  detail::draw_matrices(m, c.layers, seed,
                        [](const std::string& name) { return name.ends_with("c_proj.weight"); });
  return m;
}

template <class Stack>
auto gpt<Stack>::operator()(const integers& tokens) const -> logits_type {
  return of_whole(tokens);
}

template <class Stack>
auto gpt<Stack>::loss(const integers& tokens, const integers& targets) const -> loss_type
  requires(Stack::template has<kinds::differentiate>)
{
  return cross_entropy((*this)(tokens), targets);
}

template <class Stack>
auto gpt<Stack>::of_whole(const auto& tokens) const {
  detail::require_tokens("models::gpt", tokens, config.context);
  auto x = embed(tokens, arange<std::remove_cvref_t<decltype(tokens)>>(tokens.extent(1)));
  for (const auto& layer : transformer.h) {
    x = layer(x, config, [&](const auto& q, const auto& k, const auto& v) {
      return detail::attention_dropping(layer.attn.attn_dropout, q, k, v);
    });
  }
  return logits(reshape(x, shape{tokens.size(), config.dim}));
}

template <class Stack>
auto gpt<Stack>::make_cache(std::int32_t blocks, std::int32_t block_tokens) const -> cache_type {
  return cache_type::make(config.layers, config.heads, config.head_dim(), blocks, block_tokens);
}

template <class Stack>
void gpt<Stack>::copy_block(const cache_type& from, std::int32_t block, cache_type& to,
                            std::int32_t other) const {
  const no_grad off;
  from.copy_block(block, to, other);
}

template <class Stack>
std::span<const float> gpt<Stack>::forward(const kv::step& input, cache_type& cache) {
  return forward_through(input,
                         [&cache](const auto& now, std::size_t layer, const auto& q, const auto& k,
                                  const auto& v) { return now.attend(cache, layer, q, k, v); });
}

template <class Stack>
std::span<const float> gpt<Stack>::forward_through(const kv::step& input, const auto& attend) {
  return detail::forward_rows<Stack>(*this, input, attend, logits_);
}

template <class Stack>
auto gpt<Stack>::of_rows(const auto& tokens, const auto& positions, const auto& attend,
                         const auto& asked) const {
  auto x = embed(tokens, positions);
  for (std::size_t i = 0; i < transformer.h.size(); ++i) {
    x = transformer.h[i](
        x, config, [&](const auto& q, const auto& k, const auto& v) { return attend(i, q, k, v); });
  }
  return logits(asked(x));
}

template <class Stack>
void gpt<Stack>::lay_out_for_decoding() {
  const no_grad off;
  lm_head.weight = detail::by_columns(lm_head.weight ? lm_head.weight : transformer.wte.weight);
}

}  // namespace ashlar::models
