// SPDX-License-Identifier: Apache-2.0
#if defined(ASHLAR_BENCH_DEBUG_BUILD) || !defined(NDEBUG)
#error "ashlar: figures of a Debug build mean nothing; use the preset `bench`"
#endif
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>

#include "ashlar/chip/host/codegen.hpp"
#include "ashlar/core/shape.hpp"
#include "ashlar/ops.hpp"
#include "ashlar/ops/tile.hpp"
#include "ashlar/tile/interpret.hpp"

// Operators of the host: the kernel that it has (`host`) beside the operator's tile program as
// native code (`tile`). Both allocate their results alike. Pin to one core from outside.
namespace {

namespace al = ashlar;

/// The host without kernels of its own.
struct tiles {
  static constexpr al::chip_description description = al::chip::host::description;
  using memory = al::chip::host::memory;
  using queue = al::chip::host::queue;
  struct codegen {
    template <class K>
    static void run(al::context<tiles>&, const al::tile::grid& grid,
                    std::span<const al::tile::argument> arguments) {
      al::chip::host_codegen::run<al::chip::host_codegen::source<K>>(grid, arguments);
    }
    static void run(al::context<tiles>&, const al::tile::program& program,
                    const al::tile::grid& grid, std::span<const al::tile::argument> arguments) {
      al::tile::interpret(program, grid, arguments);
    }
  };
};

template <class C, class T = float>
using on = al::tensor<T, al::make_key_set<al::keys::backend<C>>>;

/// Numbers in [-1, 1].
template <class C>
on<C> numbers(const al::shape& extents, int salt = 0) {
  on<C> x = al::empty<on<C>>(extents);
  for (std::int64_t i = 0; i < x.size(); ++i) {
    x.data()[i] = static_cast<float>(std::sin(1.37 * static_cast<double>(i) + salt));
  }
  return x;
}
template <class C, class T>
on<C, T> counted(const al::shape& extents, std::int64_t modulo) {
  on<C, T> x = al::empty<on<C, T>>(extents);
  for (std::int64_t i = 0; i < x.size(); ++i) {
    x.data()[i] = static_cast<T>(i * 7919 % modulo);
  }
  return x;
}

/// `prepare()` makes the arguments and gives the call.
template <class C, class F>
void add(const std::string& name, F prepare) {
  const char* const impl = std::is_same_v<C, tiles> ? "tile" : "host";
  benchmark::RegisterBenchmark((name + "/impl:" + impl).c_str(), [prepare](auto& state) {
    const auto call = prepare();
    for (auto _ : state) {
      call();
      benchmark::ClobberMemory();
    }
  });
}

template <class C>
void rows() {
  for (const std::int64_t columns : {1024, 4096}) {
    const std::string dims = "/f32/512x" + std::to_string(columns);
    const al::shape s{512, columns};
    add<C>("softmax" + dims, [s] { return [x = numbers<C>(s)] { al::softmax(x); }; });
    add<C>("log_softmax" + dims, [s] { return [x = numbers<C>(s)] { al::log_softmax(x); }; });
    add<C>("softmax_backward" + dims, [s] {
      return [y = numbers<C>(s), g = numbers<C>(s, 1)] {
        al::call<al::ops::softmax_backward>(y, g, std::int64_t{-1});
      };
    });
    add<C>("log_softmax_backward" + dims, [s] {
      return [y = numbers<C>(s), g = numbers<C>(s, 1)] {
        al::call<al::ops::log_softmax_backward>(y, g, std::int64_t{-1});
      };
    });
    add<C>("rms_norm" + dims,
           [s] { return [x = numbers<C>(s), w = numbers<C>({s[1]})] { al::rms_norm(x, w); }; });
    add<C>("layer_norm" + dims, [s] {
      return [x = numbers<C>(s), w = numbers<C>({s[1]}), b = numbers<C>({s[1]}, 2)] {
        al::layer_norm(x, w, b);
      };
    });
    add<C>("rms_norm_backward_x" + dims, [s] {
      return [x = numbers<C>(s), g = numbers<C>(s, 1), w = numbers<C>({s[1]})] {
        al::call<al::ops::rms_norm_backward_x>(g, x, w, 1e-5);
      };
    });
    add<C>("layer_norm_backward_x" + dims, [s] {
      return [x = numbers<C>(s), g = numbers<C>(s, 1), w = numbers<C>({s[1]})] {
        al::call<al::ops::layer_norm_backward_x>(g, x, w, 1e-5);
      };
    });
    add<C>("rms_norm_backward_weight" + dims, [s] {
      return [x = numbers<C>(s), g = numbers<C>(s, 1)] {
        al::call<al::ops::rms_norm_backward_weight>(g, x, 1e-5);
      };
    });
    add<C>("layer_norm_backward_weight" + dims, [s] {
      return [x = numbers<C>(s), g = numbers<C>(s, 1)] {
        al::call<al::ops::layer_norm_backward_weight>(g, x, 1e-5);
      };
    });
    add<C>("cross_entropy" + dims, [s] {
      return [x = numbers<C>(s), t = counted<C, std::int64_t>({s[0]}, s[1])] {
        al::cross_entropy(x, t);
      };
    });
    add<C>("cross_entropy_backward" + dims, [s] {
      return [x = numbers<C>(s), t = counted<C, std::int64_t>({s[0]}, s[1]), g = numbers<C>({})] {
        al::call<al::ops::cross_entropy_backward>(g, x, t, std::int64_t{-100});
      };
    });
    add<C>("sum/along_rows" + dims, [s] { return [x = numbers<C>(s)] { al::sum(x, 1); }; });
    add<C>("sum/over_rows" + dims, [s] { return [x = numbers<C>(s)] { al::sum(x, 0); }; });
    add<C>("sum/all" + dims, [s] { return [x = numbers<C>(s)] { al::sum(x); }; });
    add<C>("max/along_rows" + dims, [s] { return [x = numbers<C>(s)] { al::max(x, 1); }; });
    add<C>("argmax/along_rows" + dims, [s] { return [x = numbers<C>(s)] { al::argmax(x, 1); }; });
    add<C>("sum_squares" + dims, [s] { return [x = numbers<C>(s)] { al::sum_squares(x); }; });
    add<C>("adamw_step" + dims, [s] {
      // Second moments are not negative.
      return [p = numbers<C>(s), g = numbers<C>(s, 1), m = numbers<C>(s, 2),
              v = counted<C, float>(s, 5)] { al::adamw_step(p, g, m, v, {}, 10); };
    });
    add<C>("sgd_step" + dims, [s] {
      return [p = numbers<C>(s), g = numbers<C>(s, 1), m = numbers<C>(s, 2)] {
        al::sgd_step(p, g, m, {.lr = 1e-3, .momentum = 0.9});
      };
    });
  }
}

template <class C>
void tokens() {
  add<C>("rope/f32/T:512/H:12/Dh:64", [] {
    return [x = numbers<C>({512, 12, 64}), p = counted<C, std::int64_t>({512}, 512)] {
      al::rope(x, p, 1e4, false);
    };
  });
  add<C>("embedding/f32/T:512/V:4096/C:768", [] {
    return [w = numbers<C>({4096, 768}), t = counted<C, std::int64_t>({512}, 4096)] {
      al::embedding(w, t);
    };
  });
  add<C>("embedding_backward/f32/T:512/V:4096/C:768", [] {
    return [g = numbers<C>({512, 768}), t = counted<C, std::int64_t>({512}, 4096)] {
      al::call<al::ops::embedding_backward>(g, t, std::int64_t{4096});
    };
  });
}

template <class C>
void attention() {
  for (const al::shape& s : {al::shape{4, 8, 256, 32}, al::shape{1, 12, 1024, 64}}) {
    const std::string dims = "/f32/B:" + std::to_string(s[0]) + "/H:" + std::to_string(s[1]) +
                             "/T:" + std::to_string(s[2]) + "/Dh:" + std::to_string(s[3]);
    add<C>("attention" + dims, [s] {
      return [q = numbers<C>(s, 1), k = numbers<C>(s, 2), v = numbers<C>(s, 3)] {
        al::scaled_dot_product_attention(q, k, v, true);
      };
    });
    add<C>("attention_backward" + dims, [s] {
      const auto q = numbers<C>(s, 1);
      const auto k = numbers<C>(s, 2);
      const auto v = numbers<C>(s, 3);
      return [=, g = numbers<C>(s, 4), y = al::scaled_dot_product_attention(q, k, v, true, 0.125)] {
        al::call<al::ops::scaled_dot_product_attention_backward>(g, q, k, v, y, true, 0.125);
      };
    });
  }
  add<C>("paged_attention/f32/rows:8/H:8/Hkv:4/T:256/Dh:64", [] {
    return [q = numbers<C>({8, 8, 64}), k = numbers<C>({128, 4, 64, 16}),
            v = numbers<C>({128, 4, 16, 64}), tables = counted<C, std::int32_t>({8, 16}, 128),
            rows = counted<C, std::int32_t>({8}, 8), at = al::full<on<C, std::int32_t>>({8}, 255)] {
      al::paged_attention(q, k, v, tables, rows, at, 0.125);
    };
  });
}

const bool registered = [] {
  rows<al::chip::host>();
  rows<tiles>();
  tokens<al::chip::host>();
  tokens<tiles>();
  attention<al::chip::host>();
  attention<tiles>();
  return true;
}();

}  // namespace
