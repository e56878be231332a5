// EXPECT-ERROR: two policies of one kind; keep one
// SPDX-License-Identifier: Apache-2.0
#include <vector>

#include "ashlar/serve/engine.hpp"
#include "ashlar/serve/proposers.hpp"

namespace serve = ashlar::serve;

struct model {
  using cache_type = int;
  static int make_cache(ashlar::kv::block_id, std::int32_t) { return 0; }
  static std::vector<float> forward(const serve::step&, int&) { return {}; }
  static int vocabulary() { return 1; }
  static int context_length() { return 1; }
};
using engine = serve::engine<model, serve::ngram_proposer<1, 2>, serve::suffix_proposer<>>;
engine* made(model& m, serve::suffix_proposer<>& p) { return new engine(m, {}, p); }
