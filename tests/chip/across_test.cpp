// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/chip/host/codegen.hpp"
#include "ashlar/core/ceil_div.hpp"
#include "chip/llvm_emulator.hpp"
#include "chip/llvm_native.hpp"
#include "chip/llvm_support.hpp"
#include "support/tile_kernels.hpp"

/// The same kernels, the same memory: the host, x86-64 through LLVM, RISC-V in an emulator, and
/// double precision.
namespace {

namespace al = ashlar;
namespace chip = ashlar::chip;
namespace tile = ashlar::tile;
using llvm_test::launch;
using llvm_test::launch_maker;
using llvm_test::random_view;
using memory = std::vector<std::vector<std::byte>>;

constexpr double roundoff = 0x1p-24;  // of float, the type in which all of these add up

/// A matrix in some memory; as numbers of double precision.
class matrix {
 public:
  matrix(const launch& l, const memory& bytes, std::size_t parameter)
      : view_(l.given[parameter]), bytes_(bytes[parameter].data()) {}
  [[nodiscard]] std::int64_t rows() const { return view_.extents[0]; }
  [[nodiscard]] std::int64_t columns() const { return view_.extents[1]; }
  [[nodiscard]] double operator()(std::int64_t i, std::int64_t j) const {
    return tile::eval::with_scalar(view_.element, [&]<class T>(std::type_identity<T>) {
      return static_cast<double>(
          tile::detail::element_at<T>(bytes_, i * view_.strides[0] + j * view_.strides[1]));
    });
  }

 private:
  tile::argument view_;
  const std::byte* bytes_;
};

/// A number and how far from it a result may be.
struct near {
  double value;
  double bound;
};

struct sample {
  launch l;
  void (*host)(const tile::grid&, std::span<const tile::argument>);
  bool same_bits = true;  ///< no function whose last bits are a library's
  /// The element (i, j) of the result, which is the last parameter; of what is there before.
  std::function<near(const launch&, std::int64_t, std::int64_t)> reference{};
};

template <class K>
sample make(launch l, bool same_bits = true) {
  return {std::move(l),
          chip::host_codegen::run<chip::host_codegen::source<K, chip::product_order::chain>>,
          same_bits};
}

/// A product is a chain of fused steps along K: each rounds a sum of at most all magnitudes.
near product_near(const launch& l, std::int64_t i, std::int64_t j, bool turned) {
  const matrix a(l, l.memory, 0);
  const matrix b(l, l.memory, 1);
  double sum = 0;
  double magnitudes = 0;
  for (std::int64_t k = 0; k < a.columns(); ++k) {
    const double x = a(i, k) * (turned ? b(j, k) : b(k, j));
    sum += x;
    magnitudes += std::abs(x);
  }
  return {sum, static_cast<double>(a.columns()) * roundoff * magnitudes};
}

near softmax_near(const launch& l, std::int64_t i, std::int64_t j) {
  const matrix x(l, l.memory, 0);
  double most = -std::numeric_limits<double>::infinity();
  for (std::int64_t k = 0; k < x.columns(); ++k) {
    most = std::max(most, x(i, k));
  }
  double sum = 0;
  for (std::int64_t k = 0; k < x.columns(); ++k) {
    sum += std::exp(x(i, k) - most);
  }
  const double y = std::exp(x(i, j) - most) / sum;
  // Differences of at most 8 round, which exp multiplies with; exp is within 2 ulp, above and
  // below; each sum takes at most all of a row; and the quotient rounds.
  const double steps = 2 * (8 + 2 * 2) + static_cast<double>(x.columns()) + 1;
  return {y, steps * roundoff * y};
}

/// Strides of a dense matrix, of its transpose, and with gaps.
std::vector<std::int64_t> strides_of(int kind, std::int64_t rows, std::int64_t columns) {
  return kind == 0   ? std::vector<std::int64_t>{std::max<std::int64_t>(columns, 1), 1}
         : kind == 1 ? std::vector<std::int64_t>{1, std::max<std::int64_t>(rows, 1)}
                     : std::vector<std::int64_t>{2 * columns + 3, 2};
}

class samples {
 public:
  explicit samples(std::uint64_t seed) : dice_(seed) {}

  template <class T, class C, int M, int N, int K>
  void products(const char* name) {
    using kernel = tile_kernels::matmul<T, C, M, N, K>;
    for (const auto& [m, n, k] : three_extents(M, N, K)) {
      sample s = make<kernel>(launch_maker(name, tile::program_of<kernel>, grid(m, M, n, N))
                                  .add(view<T>(m, k))
                                  .add(view<T>(k, n))
                                  .add(view<C>(m, n))
                                  .done());
      s.reference = [](const launch& l, std::int64_t i, std::int64_t j) {
        return product_near(l, i, j, false);
      };
      add(std::move(s), m, n, k);
    }
  }

  template <int M, int N, int K>
  void turned_products() {
    using kernel = tile_kernels::matmul_turned<M, N, K>;
    for (const auto& [m, n, k] : three_extents(M, N, K)) {
      sample s =
          make<kernel>(launch_maker("matmul_turned", tile::program_of<kernel>, grid(m, M, n, N))
                           .add(view<float>(m, k))
                           .add(view<float>(n, k))
                           .add(view<float>(m, n))
                           .done());
      s.reference = [](const launch& l, std::int64_t i, std::int64_t j) {
        return product_near(l, i, j, true);
      };
      add(std::move(s), m, n, k);
    }
  }

  template <int B>
  void softmaxes() {
    using kernel = tile_kernels::softmax<B>;
    for (const std::int64_t n : extents(B)) {
      const std::int64_t m = dice_.between(0, 5);
      sample s = make<kernel>(launch_maker("softmax", tile::program_of<kernel>, {m, 1, 1})
                                  .add(view<float>(m, n))
                                  .add(view<float>(m, n))
                                  .done(),
                              false);
      s.reference = softmax_near;
      add(std::move(s), m, n, 0);
    }
  }

  template <class T, int B>
  void integers() {
    using kernel = tile_kernels::integers<T, B>;
    for (const std::int64_t n : extents(B)) {
      add(make<kernel>(
              launch_maker("integers", tile::program_of<kernel>, {al::ceil_div(n, B), 1, 1})
                  .add(random_view<T>{{n}, {dice_.between(1, 2)}, -99, 99})
                  .add(random_view<T>{{n}, {dice_.between(1, 2)}, -9, 70})
                  .add(view<T>(kernel::rows, n))
                  .done()),
          n, 0, 0);
    }
  }

  /// Gathers, scatters and atomics to places inside and outside.
  template <int B>
  void places() {
    using kernel = tile_kernels::places<B>;
    for (const std::int64_t n : extents(B)) {
      const std::int64_t m = 5 + dice_.between(0, 3);  // rows are written up to the fifth
      add(make<kernel>(launch_maker("places", tile::program_of<kernel>, {4, 1, 1})
                           .add(view<float>(m, n))
                           .add(random_view<std::int64_t>{{n}, {}, -3, 9})
                           .add(view<float>(m, n))
                           .add(static_cast<float>(dice_.between(-4, 4)))
                           .done()),
          m, n, 0);
    }
  }

  std::vector<sample> all{};

 private:
  /// None, one, primes, one under and over a block, and one by chance.
  std::vector<std::int64_t> extents(int block) {
    return {0, 1, 13, block - 1, block, block + 1, dice_.between(2, 3 * block)};
  }
  /// Each of these along each axis at least once.
  std::vector<std::array<std::int64_t, 3>> three_extents(int m, int n, int k) {
    std::vector<std::array<std::int64_t, 3>> triples;
    const auto a = extents(m);
    const auto b = extents(n);
    const auto c = extents(k);
    for (std::size_t i = 0; i < a.size(); ++i) {
      triples.push_back({a[i], b[(i + 2) % b.size()], c[(i + 4) % c.size()]});
      triples.push_back({a[i], b[i], c[(i + 1) % c.size()]});
    }
    return triples;
  }
  static tile::grid grid(std::int64_t m, int rows, std::int64_t n, int columns) {
    return {al::ceil_div(m, rows), al::ceil_div(n, columns), 1};
  }
  template <class T>
  random_view<T> view(std::int64_t rows, std::int64_t columns) {
    return {{rows, columns}, strides_of(dice_.between(0, 2), rows, columns)};
  }
  void add(sample s, std::int64_t a, std::int64_t b, std::int64_t c) {
    s.l.name += " " + std::to_string(a) + ", " + std::to_string(b) + ", " + std::to_string(c);
    all.push_back(std::move(s));
  }

  tile_test::dice dice_;
};

/// How far the result of some memory is from the reference, in bounds.
double beyond(const sample& s, const memory& after) {
  const matrix result(s.l, after, after.size() - 1);
  double most = 0;
  for (std::int64_t i = 0; i < result.rows(); ++i) {
    for (std::int64_t j = 0; j < result.columns(); ++j) {
      const near wanted = s.reference(s.l, i, j);
      const double off = std::abs(result(i, j) - wanted.value);
      most = std::max(most, off == 0 ? 0 : off / wanted.bound);
    }
  }
  return most;
}

}  // namespace

TEST_CASE(
    "chip/across: kernels on the host, by LLVM and on RISC-V give the same, near double "
    "precision") {
  samples made(4711);
  made.products<float, float, 5, 7, 8>("matmul float");
  made.products<al::bfloat16, float, 4, 16, 8>("matmul bfloat16");
  made.products<std::int8_t, std::int32_t, 4, 16, 8>("matmul int8");
  made.turned_products<4, 16, 8>();
  made.softmaxes<16>();
  made.integers<std::int32_t, 16>();
  made.places<12>();

  chip::thread_limit one(1);  // one order of atomics
  std::vector<launch> launches;
  for (const sample& s : made.all) {
    launches.push_back(s.l);
  }
  const bool native = llvm_test::can_compile();
  const bool emulates = llvm_test::can_emulate();
  const std::vector<memory> by_llvm =
      native ? llvm_test::compiled(launches, chip::llvm_x86_64) : std::vector<memory>{};
  const std::vector<memory> on_riscv =
      emulates ? llvm_test::emulated(launches) : std::vector<memory>{};
  for (std::size_t i = 0; i < made.all.size(); ++i) {
    const sample& s = made.all[i];
    CAPTURE(s.l.name);
    memory by_host = s.l.memory;
    s.host(s.l.size, s.l.arguments(by_host));
    const auto check = [&](const memory& other) {
      if (s.same_bits) {
        CHECK(llvm_test::distance(s.l, other, by_host) == 0);
      }
      if (s.reference) {
        CHECK(beyond(s, other) <= 1);
      }
    };
    check(by_host);
    if (native) {
      check(by_llvm[i]);
    }
    if (emulates) {
      check(on_riscv[i]);
    }
  }
}
