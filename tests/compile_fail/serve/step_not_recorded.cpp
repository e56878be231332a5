// EXPECT-ERROR: the model must model kv::RecordingModel
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/serve/engine.hpp"
#include "ashlar/serve/static_engine.hpp"

namespace serve = ashlar::serve;
struct model {
  using cache_type = int;
  int make_cache(int, int) { return 0; }
  std::span<const float> forward(const serve::step&, int&) { return {}; }
  int vocabulary() const { return 1; }
  int context_length() const { return 1; }
};
void use(serve::engine<model, serve::static_engine<1, 8>>& e) { e.step(); }
