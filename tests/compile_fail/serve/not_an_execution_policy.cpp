// EXPECT-ERROR: a policy must be a cache .kv::CachePolicy., a schedule .SchedulePolicy., a sampler,
// a Proposer or an SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <span>

#include "ashlar/serve/engine.hpp"

namespace serve = ashlar::serve;
struct model {
  using cache_type = int;
  int make_cache(int, int) { return 0; }
  std::span<const float> forward(const serve::step&, int&) { return {}; }
  int vocabulary() const { return 1; }
  int context_length() const { return 1; }
};
struct without_statistics {
  static constexpr int spare_blocks = 0;
  template <class Model>
  struct runner {
    runner(Model&, int&, std::int32_t, int) {}
    std::span<const float> operator()(const serve::step&) { return {}; }
  };
};
void use(serve::engine<model, without_statistics>& e) { e.step(); }
