// SPDX-License-Identifier: Apache-2.0
#include "serve.hpp"

#include <algorithm>
#include <cstdio>
#include <utility>

namespace demo {

namespace {

/// The text of one request on its way to the reader.
struct stream {
  std::size_t number;
  al::io::stream_decoder decoder;
  std::string line;  ///< not printed yet

  void print(bool end) {
    for (auto at = line.find('\n'); at != std::string::npos; at = line.find('\n')) {
      std::printf("[%zu] %s\n", number, line.substr(0, at).c_str());
      line.erase(0, at + 1);
    }
    if (end) {
      std::printf("[%zu] %s\n", number, line.c_str());
      line.clear();
    }
  }
};

}  // namespace

void serve(serving_model& model, const al::io::tokenizer& tokenizer,
           const std::vector<std::string>& prompts, const options& o) {
  const serving_stack::session session;
  const bool alone = prompts.size() == 1;
  std::vector<stream> streams;

  al::serve::engine_options settings;
  settings.cache_tokens =
      o.cache_tokens != 0 ? o.cache_tokens
                          : model.context_length() * std::max<std::int64_t>(4, std::ssize(prompts));
  settings.seed = o.seed;
  for (const std::int32_t end : {tokenizer.bos(), tokenizer.eos()}) {
    if (end >= 0 && end < model.vocabulary() && !std::ranges::count(settings.eos_tokens, end)) {
      settings.eos_tokens.push_back(end);
    }
  }
  settings.on_token = [&](const al::serve::token_event& e) {
    stream& s = streams[static_cast<std::size_t>(e.id)];
    s.line += s.decoder.push(e.token);
    if (e.finish) {
      s.line += s.decoder.finish();
    }
    if (alone) {
      std::fwrite(s.line.data(), 1, s.line.size(), stdout);
      s.line.clear();
      if (e.finish) {
        std::fputc('\n', stdout);
      }
      std::fflush(stdout);
    } else if (!o.raw) {
      s.print(e.finish.has_value());
      std::fflush(stdout);
    }
  };

  al::serve::engine_for<serving_stack, serving_model> engine(model, std::move(settings));
  const std::int32_t most = o.max_tokens != 0 ? o.max_tokens : o.model.empty() ? 48 : 256;
  for (const std::string& prompt : prompts) {
    al::serve::request r;
    r.tokens = tokenizer.encode_prompt(prompt);
    if (r.tokens.empty()) {
      r.tokens.push_back(std::max(tokenizer.bos(), 0));
    }
    const auto room = static_cast<std::size_t>(model.context_length() - 1);
    if (r.tokens.size() > room) {  // the end of a long prompt matters most
      r.tokens.erase(r.tokens.begin(), r.tokens.end() - static_cast<std::ptrdiff_t>(room));
      std::fprintf(
          stderr, "a prompt is longer than the model's context; its last %zu tokens count\n", room);
    }
    r.max_tokens = most;
    r.sampling.temperature = o.temperature;
    r.sampling.top_p = o.top_p;
    streams.push_back({streams.size(), al::io::stream_decoder(tokenizer, r.tokens), {}});
    if (!o.raw) {
      streams.back().line = prompt;
    }
    engine.submit(std::move(r));
  }
  const auto results = engine.run();
  if (o.raw && !alone) {
    for (const stream& s : streams) {
      std::printf("%s\n", s.line.c_str());
    }
  }

  const auto s = engine.statistics();
  std::fprintf(stderr,
               "served %zu prompts: %lld tokens in, %lld out, %.0f tokens/s\n"
               "KV cache: %lld of %lld blocks at most, %.1f %% of used memory wasted on average "
               "(%.1f %% at worst), %lld preemptions\n",
               results.size(), static_cast<long long>(s.prompt_tokens),
               static_cast<long long>(s.generated_tokens),
               s.seconds > 0 ? static_cast<double>(s.generated_tokens) / s.seconds : 0.0,
               static_cast<long long>(s.blocks_peak), static_cast<long long>(s.blocks),
               100 * s.waste_mean, 100 * s.waste_peak, static_cast<long long>(s.preemptions));
}

}  // namespace demo
