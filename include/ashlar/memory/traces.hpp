// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/memory/replay.hpp"

/// Made-up requests of programs that are hard on an allocator. The same arguments, the same trace.
namespace ashlar::memory::traces {

using trace = std::vector<request>;

class writer {
 public:
  trace all;
  std::uint32_t get(std::size_t bytes) {
    std::uint32_t id = next_;
    if (spare_.empty()) {
      ++next_;
    } else {
      id = spare_.back();
      spare_.pop_back();
    }
    all.push_back({false, id, bytes, 0});
    return id;
  }
  void give(std::uint32_t id) {
    all.push_back({true, id, 0, 0});
    spare_.push_back(id);
  }
  void pass_by(std::size_t bytes) { give(get(bytes)); }

 private:
  std::uint32_t next_ = 0;
  std::vector<std::uint32_t> spare_;
};

struct model {
  std::size_t layers, channels, batch, tokens, vocabulary = 32000, heads = 12;
};

/// Steps of training: weights and moments stay; activations pile up forward and go backward.
/// `varied`: each step has its own number of tokens.
/// Throws: `argument_error` where a tensor would have more than 2^48 bytes, or `varied` asks for
/// less
///         than two tokens.
inline trace training(const model& m, int steps, bool varied) {
  const auto channels = static_cast<double>(m.channels), tokens = static_cast<double>(m.tokens);
  const double rows = static_cast<double>(m.batch) * tokens;
  const double numbers = std::max({4 * channels * channels, 4 * rows * channels,
                                   static_cast<double>(m.vocabulary) * std::max(channels, rows),
                                   static_cast<double>(m.heads) * rows * tokens});
  if (numbers > 70368744177664.0) {
    throw argument_error("ashlar::memory::traces::training",
                         "the largest tensor has " + std::to_string(numbers) +
                             " numbers; give a model of which none has more than 2^46");
  }
  if (varied && m.tokens < 2) {
    throw argument_error(
        "ashlar::memory::traces::training",
        "steps of up to " + std::to_string(m.tokens) + " tokens cannot vary; give 2 or more");
  }
  writer w;
  std::mt19937 random(1);
  const std::size_t c = m.channels;
  const std::size_t matrices[] = {3 * c * c, c * c, 4 * c * c, 4 * c * c};
  const auto weight = [&](std::size_t n) {
    for (int moment = 0; moment < 3; ++moment) {
      w.get(4 * n);
    }
  };
  weight(m.vocabulary * c);
  for (std::size_t l = 0; l < m.layers; ++l) {
    for (const std::size_t n : matrices) {
      weight(n);
    }
    weight(c);
    weight(c);
  }
  bool first = true;  // gradients stay after the first step
  for (int s = 0; s < steps; ++s) {
    const std::size_t t = varied ? m.tokens / 4 + random() % (m.tokens * 3 / 4) : m.tokens;
    const std::size_t row = 4 * m.batch * t, scores = 4 * m.batch * m.heads * t * t;
    std::vector<std::vector<std::uint32_t>> saved;
    saved.push_back({w.get(row * c)});
    for (std::size_t l = 0; l < m.layers; ++l) {
      std::vector<std::uint32_t> kept;
      for (const std::size_t n : {row * c, row, row * 3 * c}) {
        kept.push_back(w.get(n));
      }
      const auto raw = w.get(scores);
      kept.push_back(w.get(scores));
      w.give(raw);
      for (const std::size_t n : {row * c, row * c, row, row * 4 * c, row * 4 * c, row * c}) {
        w.pass_by(row * c);
        kept.push_back(w.get(n));
      }
      saved.push_back(std::move(kept));
    }
    const auto logits = w.get(row * m.vocabulary);
    const auto probabilities = w.get(row * m.vocabulary);
    w.give(logits);
    const auto seed = w.get(row * m.vocabulary);
    w.give(probabilities);
    auto flowing = w.get(row * c);
    w.give(seed);
    const auto gradient = [&](std::size_t n) { first ? void(w.get(4 * n)) : w.pass_by(4 * n); };
    gradient(m.vocabulary * c);
    for (; !saved.empty(); saved.pop_back()) {
      if (saved.size() > 1) {
        gradient(matrices[3]);
        const auto wide = w.get(row * 4 * c);
        gradient(matrices[2]);
        const auto narrow = w.get(row * c);
        w.give(wide);
        gradient(matrices[1]);
        const auto attention = w.get(scores);
        w.pass_by(scores);
        const auto qkv = w.get(row * 3 * c);
        w.give(attention);
        gradient(matrices[0]);
        const auto next = w.get(row * c);
        w.give(qkv);
        w.give(narrow);
        w.give(std::exchange(flowing, next));
      }
      for (auto id = saved.back().rbegin(); id != saved.back().rend(); ++id) {
        w.give(*id);
      }
    }
    w.give(flowing);
    first = false;
  }
  return w.all;
}

/// Up to 64 sequences whose keys and values are contiguous and move when they have grown by 128.
inline trace serving(int steps) {
  writer w;
  std::mt19937 random(2);
  struct sequence {
    std::uint32_t id;
    std::size_t length, end;
  };
  std::vector<sequence> running;
  constexpr std::size_t token = 2 * 4 * 64 * 12 * 2;
  for (int i = 0; i < steps; ++i) {
    if (running.size() < 64 && random() % 3 == 0) {
      const std::size_t length = 16 + random() % 1500;
      running.push_back({w.get(length * token), length, length + 1 + random() % 800});
    }
    for (const unsigned width : {768U, 2048U, 32000U}) {
      w.pass_by(running.size() * width * 4 + 1);
    }
    for (std::size_t k = 0; k < running.size();) {
      sequence& s = running[k];
      if (++s.length % 128 == 0) {
        const auto moved = w.get((s.length + 128) * token);
        w.give(std::exchange(s.id, moved));
      }
      if (s.length >= s.end) {
        w.give(s.id);
        s = running.back();
        running.pop_back();
      } else {
        ++k;
      }
    }
  }
  return w.all;
}

/// Layers whose weights are gathered when they are needed, one ahead, and sent back reduced.
inline trace gathered(int layers, int steps) {
  writer w;
  std::mt19937 random(3);
  const auto whole = [](int layer) {
    return 13'000'000 + static_cast<std::size_t>(layer % 3) * 280'000;
  };
  for (int l = 0; l < layers; ++l) {
    w.get(whole(l) / 4);
  }
  for (int s = 0; s < steps; ++s) {
    std::vector<std::uint32_t> activations;
    auto before = w.get(whole(0));
    for (int l = 1; l <= layers; ++l) {
      const auto ahead = w.get(whole(l));
      activations.push_back(w.get(6'000'000 + random() % 1000));
      activations.push_back(w.get(2'500'000));
      w.give(std::exchange(before, ahead));
    }
    w.give(before);
    for (int l = layers; l-- > 0;) {
      const auto weights = w.get(whole(l)), gradient = w.get(whole(l)), mine = w.get(whole(l) / 4);
      for (int k = 0; k < 2; ++k) {
        w.give(activations.back());
        activations.pop_back();
      }
      w.give(weights);
      w.give(gradient);
      w.give(mine);
    }
  }
  return w.all;
}

/// Ever larger blocks with a small one behind each that stays: what was freed never serves again.
inline trace pins(int count) {
  writer w;
  std::size_t bytes = 3 << 20;
  for (int i = 0; i < count; ++i, bytes += 512 << 10) {
    const auto large = w.get(bytes);
    w.get(1'100'000);
    w.give(large);
  }
  return w.all;
}

/// Sizes over five orders of magnitude, given back in any order.
inline trace mixed(int count) {
  writer w;
  std::mt19937 random(4);
  std::vector<std::uint32_t> held;
  for (int i = 0; i < count; ++i) {
    if (held.size() < 400 || (held.size() < 1200 && random() % 2 == 0)) {
      held.push_back(w.get(1 + random() % (std::size_t{1} << (8 + random() % 17))));
    } else {
      const std::size_t k = random() % held.size();
      w.give(std::exchange(held[k], held.back()));
      held.pop_back();
    }
  }
  return w.all;
}

/// Rounds of blocks that join, once free, to one of more than a split limit, with a pin behind: an
/// allocator whose oversized blocks serve oversized requests only takes fresh memory in each round.
inline trace split_limit(int rounds) {
  writer w;
  for (int r = 0; r < rounds; ++r) {
    std::vector<std::uint32_t> all;
    for (int i = 0; i < 22; ++i) {
      all.push_back(w.get(10 << 20));
    }
    w.get(9 << 17);  // stays, and parts this round's blocks from what comes
    for (const std::uint32_t id : all) {
      w.give(id);
    }
  }
  return w.all;
}

struct named {
  std::string name;
  trace requests;
};
inline std::vector<named> all() {
  return {{"training", training({12, 768, 4, 256}, 6, false)},
          {"varied_lengths", training({12, 768, 4, 256}, 30, true)},
          {"small_model", training({4, 128, 4, 64}, 30, true)},
          {"serving", serving(4000)},
          {"gathered_weights", gathered(24, 5)},
          {"pins", pins(60)},
          {"split_limit", split_limit(64)},
          {"mixed", mixed(100000)}};
}

}  // namespace ashlar::memory::traces
