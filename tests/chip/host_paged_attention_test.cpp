// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstddef>
#include <numeric>
#include <span>
#include <tuple>
#include <utility>

#include "ashlar/chip/host/attention.hpp"
#include "ashlar/chip/host/kept_attention.hpp"
#include "ashlar/chip/host/paged_attention.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/core/float8.hpp"
#include "ashlar/kv/precision.hpp"
#include "attention_support.hpp"

namespace {

using namespace attention_test;
namespace kernels = ashlar::chip::host_kernels;

using indices = array<std::int32_t>;

/// Sequences with their whole keys and values, and the same in a paged cache in shuffled blocks.
template <class T>
struct served {
  std::int64_t H, Hkv, Dh, block_tokens;
  std::vector<std::int64_t> length;
  std::vector<array<T>> q, k, v, expected;  // (1, heads, length, Dh)
  array<T> key_cache, value_cache;
  indices tables;

  served(std::int64_t heads, std::int64_t kv_heads, std::int64_t dim, std::int64_t block,
         std::vector<std::int64_t> lengths, bool permuted_cache = false)
      : H(heads), Hkv(kv_heads), Dh(dim), block_tokens(block), length(std::move(lengths)) {
    std::int64_t blocks = 1;  // block 0 stays unused
    std::int64_t most = 0;
    for (const std::int64_t n : length) {
      most = std::max(most, (n + block - 1) / block);
      blocks += (n + block - 1) / block;
    }
    // Places that nothing was written to hold NaN and must not matter.
    constexpr T unset = std::numeric_limits<T>::quiet_NaN();
    key_cache = array<T>({blocks, Hkv, Dh, block}, unset);
    value_cache = array<T>({blocks, Hkv, block, Dh}, unset);
    if (permuted_cache) {
      key_cache = array<T>({blocks, Hkv, Dh, block}, {1, 0, 3, 2}, 1);
      value_cache = array<T>({blocks, Hkv, block, Dh}, {3, 2, 1, 0}, 0);
    }
    const auto sequences = std::ssize(length);
    tables = indices({sequences, most + 2}, -7);
    std::vector<std::int32_t> order(static_cast<std::size_t>(blocks - 1));
    std::iota(order.begin(), order.end(), 1);
    std::shuffle(order.begin(), order.end(), std::mt19937(5));
    for (std::int64_t s = 0; s < sequences; ++s) {
      const std::int64_t n = length[static_cast<std::size_t>(s)];
      const auto seed = static_cast<unsigned>(3 * s);
      q.push_back(array<T>({1, H, n, Dh}).randomise(seed, 3));
      k.push_back(array<T>({1, Hkv, n, Dh}).randomise(seed + 1, 3));
      v.push_back(array<T>({1, Hkv, n, Dh}).randomise(seed + 2, 3));
      expected.emplace_back(std::initializer_list<std::int64_t>{1, H, n, Dh});
      kernels::sdpa<T>(expected.back(), q.back(), k.back(), v.back(), true, 0.3);
      array<T> new_k({n, Hkv, Dh});
      array<T> new_v({n, Hkv, Dh});
      array<std::int64_t> slots({n});
      for (std::int64_t i = 0; i < n; ++i) {
        if (i % block == 0) {
          tables(s, i / block) = order.back();
          order.pop_back();
        }
        slots(i) = tables(s, i / block) * block + i % block;
        for (std::int64_t h = 0; h < Hkv; ++h) {
          for (std::int64_t d = 0; d < Dh; ++d) {
            new_k(i, h, d) = k.back()(0, h, i, d);
            new_v(i, h, d) = v.back()(0, h, i, d);
          }
        }
      }
      kernels::cache_write<T>(key_cache, value_cache, new_k, new_v, slots);
    }
  }

  /// Whether the rows (sequence, position) of one step have the bits of whole attention.
  bool step_is_exact(const std::vector<std::pair<std::int32_t, std::int32_t>>& rows) {
    const auto n = std::ssize(rows);
    array<T> x({n, H, Dh});
    array<T> out({n, H, Dh}, std::numeric_limits<T>::quiet_NaN());
    indices sequence({n});
    indices position({n});
    for (std::int64_t i = 0; i < n; ++i) {
      std::tie(sequence(i), position(i)) = rows[static_cast<std::size_t>(i)];
      for (std::int64_t h = 0; h < H; ++h) {
        for (std::int64_t d = 0; d < Dh; ++d) {
          x(i, h, d) = q[static_cast<std::size_t>(sequence(i))](0, h, position(i), d);
        }
      }
    }
    kernels::paged_attention<T>(out, x, key_cache, value_cache, tables, sequence, position, 0.3);
    bool exact = true;
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t h = 0; h < H; ++h) {
        auto& whole = expected[static_cast<std::size_t>(sequence(i))];
        exact = exact && std::memcmp(&out(i, h, 0), &whole(0, h, position(i), 0),
                                     static_cast<std::size_t>(Dh) * sizeof(T)) == 0;
      }
    }
    return exact;
  }
};

struct heads {
  std::int64_t query, key, dim;
};

TEST_CASE_TEMPLATE("chip/host_paged_attention: any step over any blocks has the bits of sdpa", T,
                   float, double) {
  for (const std::int64_t block : {1, 5, 8, 16, 24, 32, 48}) {
    for (const heads h : {heads{4, 2, 8}, heads{4, 1, 20}, heads{2, 2, 64}, heads{3, 3, 1}}) {
      served<T> s(h.query, h.key, h.dim, block, {1, 37, 64, 90});
      CAPTURE(block);
      CAPTURE(h.dim);
      CHECK(s.step_is_exact({}));
      CHECK(s.step_is_exact({{1, 36}}));
      CHECK(s.step_is_exact({{0, 0}, {3, 89}, {1, 15}, {2, 63}, {2, 16}}));
      std::vector<std::pair<std::int32_t, std::int32_t>> mixed;
      for (std::int32_t i = 0; i < 90; ++i) {
        mixed.emplace_back(3, i);  // a whole prompt
      }
      mixed.emplace_back(0, 0);  // a decoded token
      for (std::int32_t i = 11; i < 53; ++i) {
        mixed.emplace_back(2, i);  // a chunk of a prompt
      }
      CHECK(s.step_is_exact(mixed));
      std::reverse(mixed.begin(), mixed.end());
      CHECK(s.step_is_exact(mixed));
    }
  }
}

TEST_CASE("chip/host_paged_attention: the cache may have any strides") {
  for (const std::int64_t block : {7, 16}) {
    served<float> s(4, 2, 12, block, {50, 33}, true);
    CHECK(s.step_is_exact({{0, 49}, {1, 32}, {1, 3}, {0, 17}, {0, 18}}));
  }
}

TEST_CASE("chip/host_paged_attention: the number of threads does not change a bit") {
  served<float> s(8, 2, 32, 16, {700, 500});
  std::vector<std::pair<std::int32_t, std::int32_t>> rows;
  for (std::int32_t i = 400; i < 500; ++i) {
    rows.emplace_back(1, i);
    rows.emplace_back(0, i + 200);
  }
  for (const int threads : {1, 2, 3}) {
    const ashlar::chip::thread_limit limit(threads);
    CHECK(s.step_is_exact(rows));
  }
}

TEST_CASE("chip/host_paged_attention: what does not exist is refused and nothing is written") {
  served<float> s(2, 1, 4, 16, {20, 10});
  const auto refused = [&](std::int32_t sequence, std::int32_t position) {
    array<float> x({1, 2, 4});
    array<float> out({1, 2, 4}, 5.0f);
    CHECK_THROWS_AS(
        kernels::paged_attention<float>(out, x, s.key_cache, s.value_cache, s.tables,
                                        indices({1}, sequence), indices({1}, position), 1),
        ashlar::argument_error);
    CHECK(out(0, 1, 3) == 5.0f);
  };
  refused(2, 0);
  refused(-1, 0);
  refused(0, -1);
  refused(0, 32);  // reaches into the padding of the table
  refused(1, 16);
  refused(1, 5000);
  array<float> token({1, 1, 4});
  const auto before = s.key_cache.values();
  for (const std::int64_t slot : {std::int64_t{-1}, s.key_cache.spec[0] * 16}) {
    CHECK_THROWS_AS(kernels::cache_write<float>(s.key_cache, s.value_cache, token, token,
                                                array<std::int64_t>({1}, slot)),
                    ashlar::argument_error);
  }
  CHECK(same_bits(s.key_cache.values(), before));
  array<float> wide({1, 1, 5});
  CHECK_THROWS_AS(kernels::cache_write<float>(s.key_cache, s.value_cache, wide, wide,
                                              array<std::int64_t>({1}, std::int64_t{0})),
                  ashlar::shape_error);
  CHECK(s.step_is_exact({{0, 19}, {1, 9}}));
}

/// A `kv::Precision` as values, so that one kernel does for all.
struct kept_as {
  const char* name;
  std::size_t (*bytes)(std::size_t);
  void (*write)(std::span<const float>, std::span<std::byte>);
  void (*read)(std::span<const std::byte>, std::span<float>);
};
template <class P>
constexpr kept_as precision(const char* name) {
  return {name, &P::bytes, &P::write, &P::read};
}
namespace kv = ashlar::kv;
constexpr std::array precisions{precision<kv::as<float>>("float32"),
                                precision<kv::as<ashlar::float16>>("float16"),
                                precision<kv::as<ashlar::bfloat16>>("bfloat16"),
                                precision<kv::as<ashlar::float8_e4m3, 500>>("float8_e4m3"),
                                precision<kv::int8_per_head>("int8")};

/// A cache of random numbers, narrow and widened, and the table of three sequences in it.
struct narrow_and_wide {
  kept_as how;
  std::vector<std::byte> keys, values;
  kernels::kept_cache narrow;
  array<float> wide_keys, wide_values;
  indices tables{{3, 4}};

  narrow_and_wide(const kept_as& p, std::int64_t kv_heads, std::int64_t dim, std::int64_t block)
      : how(p) {
    constexpr std::int64_t blocks = 13;
    const auto head_bytes = p.bytes(static_cast<std::size_t>(dim));
    keys.resize(static_cast<std::size_t>(blocks * kv_heads * block) * head_bytes);
    values.resize(keys.size());
    narrow = {keys, values, blocks, kv_heads, dim, block, static_cast<std::int64_t>(head_bytes)};
    wide_keys = array<float>({blocks, kv_heads, dim, block});
    wide_values = array<float>({blocks, kv_heads, block, dim});
    for (std::int64_t i = 0; i < 12; ++i) {
      tables(i / 4, i % 4) = static_cast<std::int32_t>(i * 7 % 12 + 1);
    }
    array<float> head({dim});
    std::minstd_rand bits(3);
    for (std::int64_t b = 0; b < blocks; ++b) {
      for (std::int64_t h = 0; h < kv_heads; ++h) {
        for (std::int64_t t = 0; t < block; ++t) {
          const auto place = narrow.at(b, h, t);
          const auto keep = [&](std::vector<std::byte>& to) {
            for (float& x : head.storage) {
              x = static_cast<float>(bits() % 4096) / 1024 - 2;
            }
            p.write(head.storage, std::span(to).subspan(place, head_bytes));
            p.read(std::span(to).subspan(place, head_bytes), head.storage);
          };
          keep(keys);
          for (std::int64_t d = 0; d < dim; ++d) {
            wide_keys(b, h, d, t) = head(d);
          }
          keep(values);
          for (std::int64_t d = 0; d < dim; ++d) {
            wide_values(b, h, t, d) = head(d);
          }
        }
      }
    }
  }

  /// Whether the narrow cache gives rows (sequence, position) the bits of the widened one.
  bool step_is_exact(std::int64_t heads,
                     const std::vector<std::pair<std::int32_t, std::int32_t>>& rows) {
    const auto n = std::ssize(rows);
    auto q = array<float>({n, heads, narrow.dim}).randomise(7, 3);
    array<float> out({n, heads, narrow.dim}, -1.0F);
    array<float> expected = out;
    indices sequence({n});
    indices position({n});
    for (std::int64_t i = 0; i < n; ++i) {
      std::tie(sequence(i), position(i)) = rows[static_cast<std::size_t>(i)];
    }
    kernels::paged_attention<float>(expected, q, wide_keys, wide_values, tables, sequence, position,
                                    0.3);
    kernels::kept_attention<float>(out, q, narrow, tables, sequence, position, 0.3, how.read);
    return same_bits(out.storage, expected.storage);
  }
};

TEST_CASE("chip/host_kept_attention: narrow keys and values give the bits of widened ones") {
  for (const kept_as& p : precisions) {
    for (const std::int64_t block : {1, 7, 16, 32}) {
      for (const heads h : {heads{4, 2, 8}, heads{6, 2, 17}, heads{3, 3, 1}, heads{2, 1, 64}}) {
        CAPTURE(p.name);
        CAPTURE(block);
        CAPTURE(h.dim);
        narrow_and_wide both(p, h.key, h.dim, block);
        CHECK(both.step_is_exact(h.query, {}));
        const auto most = static_cast<std::int32_t>(4 * block - 1);
        CHECK(both.step_is_exact(h.query, {{2, most}, {0, 0}, {1, most / 2}}));  // decoding
        std::vector<std::pair<std::int32_t, std::int32_t>> mixed{{1, most}};
        for (std::int32_t i = std::max(0, most - 40); i <= most; ++i) {
          mixed.emplace_back(0, i);  // a prompt, or the end of one
        }
        CHECK(both.step_is_exact(h.query, mixed));
      }
    }
  }
}

TEST_CASE("chip/host_kept_attention: any number of threads, and what does not exist is refused") {
  narrow_and_wide both(precisions.back(), 2, 32, 128);
  std::vector<std::pair<std::int32_t, std::int32_t>> rows;
  for (std::int32_t i = 440; i < 500; ++i) {
    rows.emplace_back(i % 3, i);
  }
  for (const int threads : {1, 2, 3}) {
    const ashlar::chip::thread_limit limit(threads);
    CHECK(both.step_is_exact(4, rows));
  }
  array<float> x({1, 4, 32});
  array<float> out({1, 4, 32});
  const auto attend = [&](const kernels::kept_cache& cache, std::int32_t sequence) {
    kernels::kept_attention<float>(out, x, cache, both.tables, indices({1}, sequence),
                                   indices({1}, 0), 1, both.how.read);
  };
  CHECK_THROWS_AS(attend(both.narrow, 3), ashlar::argument_error);
  auto less = both.narrow;
  less.values = less.values.first(less.values.size() - 1);
  CHECK_THROWS_AS(attend(less, 0), ashlar::argument_error);
  less = both.narrow;
  less.dim = 31;
  CHECK_THROWS_AS(attend(less, 0), ashlar::shape_error);
  // Half of a head's bytes in twice the blocks: what reads them refuses, on whatever thread.
  less = both.narrow;
  less.blocks *= 2;
  less.head_bytes /= 2;
  both.narrow = less;
  for (const int threads : {1, 2, 3}) {
    const ashlar::chip::thread_limit limit(threads);
    CHECK_THROWS_AS(static_cast<void>(both.step_is_exact(4, rows)), ashlar::argument_error);
  }
}

}  // namespace
