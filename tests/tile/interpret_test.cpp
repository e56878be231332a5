// SPDX-License-Identifier: Apache-2.0
// Operations on whole tiles, element by element, against a loop that says the same in C++.
#include "ashlar/tile/interpret.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <vector>

#include "support/tile_random.hpp"
#include "tile/interpret_support.hpp"

namespace tile = ashlar::tile;
using ashlar::bfloat16;
using ashlar::dtype;
using ashlar::float16;
using interpret_test::array;
using interpret_test::number;
using interpret_test::same;
using interpret_test::short_name;

namespace {

using i64 = std::int64_t;
using all_types = ashlar::scalar_types;

/// `f(type_identity<T>)` for each element type.
template <class F>
void for_each_type(F f) {
  [&]<class... T>(std::type_identity<std::tuple<T...>>) {
    (f(std::type_identity<T>()), ...);
  }(std::type_identity<all_types>());
}

template <class T>
array<T> random_array(std::vector<i64> shape, std::uint64_t seed) {
  array<T> x(std::move(shape));
  tile_test::dice d(seed);
  for (i64 i = 0; i < x.size; ++i) {
    if constexpr (std::same_as<T, bool>) {
      x[i] = d.chance(50);
    } else if constexpr (std::integral<T>) {
      x[i] = static_cast<T>(d.bits() >> d.between(0, 60));
    } else {
      x[i] = number<T>(d.between(-4000, 4000) / 512.0);
    }
  }
  return x;
}

/// A kernel over n elements in tiles of 16 with some inputs, one output and one operation.
std::string elementwise(std::string_view op, dtype in, dtype out, int inputs) {
  const std::string t = short_name(in);
  const std::string r = short_name(out);
  std::string text = "kernel \"e\"(";
  for (int k = 0; k < inputs; ++k) {
    text += std::string("x") + std::to_string(k) + ": " + t + "[?], ";
  }
  text += "y: " + r + "[?] written) {\n%i = program_id axis=0 : i64\n%n = constant 16 : i64\n" +
          "%at = mul %i, %n : i64\n";
  for (int k = 0; k < inputs; ++k) {
    text += std::string("%") + std::to_string(k) + " = load x" + std::to_string(k) +
            ", %at : " + t + "[16]\n";
  }
  text += std::string("%r = ") + std::string(op);
  for (int k = 0; k < inputs; ++k) {
    text += std::string(k == 0 ? " %" : ", %") + std::to_string(k);
  }
  return text + " : " + r + "[16]\nstore y, %r, %at\n}";
}

const std::array<i64, 6> sizes{0, 1, 7, 16, 17, 61};

/// Bytes of any element type, so that one loop serves all.
struct raw {
  dtype element;
  std::vector<i64> extents;
  std::vector<std::byte> bytes;

  raw(dtype e, i64 n)
      : element(e), extents{n}, bytes(static_cast<std::size_t>(n + 1) * ashlar::size_of(e)) {}
  [[nodiscard]] std::byte* at(i64 i) {
    return bytes.data() + static_cast<std::size_t>(i) * ashlar::size_of(element);
  }
  operator tile::argument() {
    tile::argument a;
    a.data = bytes.data();
    a.element = element;
    a.rank = 1;
    a.writable = true;
    a.extents[0] = extents[0];
    a.strides[0] = 1;
    return a;
  }
};

raw random_raw(dtype e, i64 n, std::uint64_t seed, bool positive) {
  raw x(e, n);
  tile::eval::with_scalar(e, [&]<class T>(std::type_identity<T>) {
    const array<T> numbers = random_array<T>({n}, seed);
    for (i64 i = 0; i < n; ++i) {
      const bool low = positive && !(numbers[i] > number<T>(0));
      tile::detail::set_element(x.bytes.data(), i, low ? number<T>(1.5) : numbers[i]);
    }
  });
  return x;
}

/// Writes what an operation should give for elements at `a` and `b` to `want`.
using raw_twin = std::function<void(const std::byte* a, const std::byte* b, std::byte* want)>;

/// Runs `op` on arrays of all sizes and compares with `twin`.
void check(std::string_view op, dtype in, dtype out, int inputs, bool positive,
           const raw_twin& twin) {
  const tile::program p = tile::parse(elementwise(op, in, out, inputs));
  for (const i64 n : sizes) {
    raw a = random_raw(in, n, 1, positive);
    raw b = random_raw(in, n, 2, positive);
    for (i64 i = 0; i < n; i += 3) {  // equal ones and zeros among them
      if (i % 2 == 0) {
        std::copy(a.at(i), a.at(i + 1), b.at(i));
      } else {
        std::fill(b.at(i), b.at(i + 1), std::byte{0});
      }
    }
    raw y(out, n);
    raw want(out, n);
    std::vector<tile::argument> arguments{a};
    if (inputs == 2) {
      arguments.emplace_back(b);
    }
    arguments.emplace_back(y);
    tile::interpret(p, {(n + 15) / 16, 1, 1}, arguments);
    for (i64 i = 0; i < n; ++i) {
      twin(a.at(i), b.at(i), want.at(i));
      CAPTURE(op);
      CAPTURE(ashlar::name_of(in));
      REQUIRE(tile::eval::with_scalar(out, [&]<class T>(std::type_identity<T>) {
        return same(tile::detail::element_at<T>(y.at(i), 0),
                    tile::detail::element_at<T>(want.at(i), 0));
      }));
    }
  }
}

template <class T, class R, class F>
void check_unary(std::string_view op, F twin, bool positive = false) {
  check(op, ashlar::dtype_of<T>, ashlar::dtype_of<R>, 1, positive,
        [=](const std::byte* a, const std::byte*, std::byte* want) {
          tile::detail::set_element(want, 0,
                                    static_cast<R>(twin(tile::detail::element_at<T>(a, 0))));
        });
}

template <class T, class R, class F>
void check_binary(std::string_view op, F twin) {
  check(op, ashlar::dtype_of<T>, ashlar::dtype_of<R>, 2, false,
        [=](const std::byte* a, const std::byte* b, std::byte* want) {
          tile::detail::set_element(want, 0,
                                    static_cast<R>(twin(tile::detail::element_at<T>(a, 0),
                                                        tile::detail::element_at<T>(b, 0))));
        });
}

/// In a wide unsigned type and cut, which is what wrapping means.
template <class T, class F>
auto wrapping(F f) {
  return [f](T a, T b) {
    return static_cast<T>(f(static_cast<std::uint64_t>(a), static_cast<std::uint64_t>(b)));
  };
}

}  // namespace

TEST_CASE("tile/interpret: arithmetic of floating types, the narrow ones by way of float") {
  for_each_type([]<class T>(std::type_identity<T>) {
    if constexpr (ashlar::Floating<T>) {
      using c = ashlar::compute_type<T>;
      const auto lift = [](auto f) {
        return [f](T a, T b) { return T(f(static_cast<c>(a), static_cast<c>(b))); };
      };
      check_binary<T, T>("add", lift([](c a, c b) { return a + b; }));
      check_binary<T, T>("sub", lift([](c a, c b) { return a - b; }));
      check_binary<T, T>("mul", lift([](c a, c b) { return a * b; }));
      check_binary<T, T>("div", lift([](c a, c b) { return a / b; }));
      check_binary<T, T>("min", lift([](c a, c b) { return a < b ? a : b; }));
      check_binary<T, T>("max", lift([](c a, c b) { return a > b ? a : b; }));
      const auto one = [](auto f) { return [f](T a) { return T(f(static_cast<c>(a))); }; };
      check_unary<T, T>("neg", one([](c a) { return -a; }));
      check_unary<T, T>("abs", one([](c a) { return std::abs(a); }));
      check_unary<T, T>("floor", one([](c a) { return std::floor(a); }));
      check_unary<T, T>("exp", one([](c a) { return std::exp(a); }));
      check_unary<T, T>("log", one([](c a) { return std::log(a); }), true);
      check_unary<T, T>("sqrt", one([](c a) { return std::sqrt(a); }), true);
      check_unary<T, T>("rsqrt", one([](c a) { return 1 / std::sqrt(a); }), true);
      check_unary<T, T>("tanh", one([](c a) { return std::tanh(a); }));
      check_unary<T, T>("sigmoid", one([](c a) { return 1 / (1 + std::exp(-a)); }));
      check_unary<T, T>("erf", one([](c a) { return std::erf(a); }));
    }
  });
}

TEST_CASE("tile/interpret: arithmetic of integers wraps, bits and shifts have no bad operands") {
  for_each_type([]<class T>(std::type_identity<T>) {
    if constexpr (std::integral<T> && !std::same_as<T, bool>) {
      using u = std::uint64_t;
      check_binary<T, T>("add", wrapping<T>([](u a, u b) { return a + b; }));
      check_binary<T, T>("sub", wrapping<T>([](u a, u b) { return a - b; }));
      check_binary<T, T>("mul", wrapping<T>([](u a, u b) { return a * b; }));
      check_binary<T, T>("bit_and", wrapping<T>([](u a, u b) { return a & b; }));
      check_binary<T, T>("bit_or", wrapping<T>([](u a, u b) { return a | b; }));
      check_binary<T, T>("bit_xor", wrapping<T>([](u a, u b) { return a ^ b; }));
      check_binary<T, T>("min", [](T a, T b) { return a < b ? a : b; });
      check_binary<T, T>("max", [](T a, T b) { return a > b ? a : b; });
      // __int128 would be no standard type; -1 divides as the negative.
      const auto divided = [](T a, T b) -> T {
        return b == T{0} ? T{0}
               : std::is_signed_v<T> && b == static_cast<T>(-1)
                   ? static_cast<T>(u{0} - static_cast<u>(a))
                   : static_cast<T>(a / b);
      };
      check_binary<T, T>("div", divided);
      check_binary<T, T>("rem", [=](T a, T b) {
        return static_cast<T>(static_cast<u>(a) -
                              static_cast<u>(divided(a, b)) * static_cast<u>(b));
      });
      constexpr int width = 8 * sizeof(T);
      check_binary<T, T>("shift_left", [](T a, T b) {
        return static_cast<T>(b >= T{0} && b < T{width} ? static_cast<u>(a) << b : 0);
      });
      check_binary<T, T>("shift_right", [](T a, T b) {
        i64 x = static_cast<i64>(a);
        for (i64 k = 0; k < (b >= T{0} && b < T{width} ? static_cast<i64>(b) : width); ++k) {
          x = (x - (x & 1)) / 2;
        }
        return static_cast<T>(x);
      });
      check_unary<T, T>("neg", [](T a) { return static_cast<T>(u{0} - static_cast<u>(a)); });
      check_unary<T, T>("abs", [](T a) {
        return static_cast<T>(a < T{0} ? u{0} - static_cast<u>(a) : static_cast<u>(a));
      });
      check_unary<T, T>("bit_not", [](T a) { return static_cast<T>(~static_cast<u>(a)); });
    }
  });
  check_binary<bool, bool>("bit_and", [](bool a, bool b) { return a && b; });
  check_binary<bool, bool>("bit_or", [](bool a, bool b) { return a || b; });
  check_binary<bool, bool>("bit_xor", [](bool a, bool b) { return a != b; });
  check_unary<bool, bool>("bit_not", [](bool a) { return !a; });
}

TEST_CASE("tile/interpret: comparisons, select and fma") {
  for_each_type([]<class T>(std::type_identity<T>) {
    using c = ashlar::compute_type<T>;
    check_binary<T, bool>("equal", [](c a, c b) { return a == b; });
    check_binary<T, bool>("not_equal", [](c a, c b) { return a != b; });
    if constexpr (!std::same_as<T, bool>) {
      check_binary<T, bool>("less", [](c a, c b) { return a < b; });
      check_binary<T, bool>("less_equal", [](c a, c b) { return a <= b; });
      const std::string t = short_name(ashlar::dtype_of<T>);
      const std::string text = "kernel \"s\"(a: " + t + "[?], b: " + t + "[?], y: " + t +
                               "[?] written) {\n%0 = constant 0 : i64\n%1 = load a, %0 : " + t +
                               "[61]\n%2 = load b, %0 : " + t +
                               "[61]\n%3 = less %1, %2 : bool[61]\n%4 = select %3, %2, %1 : " + t +
                               "[61]\n";
      const array<T> a = random_array<T>({61}, 3);
      const array<T> b = random_array<T>({61}, 4);
      array<T> y({61});
      tile::interpret(tile::parse(text + "store y, %4, %0\n}"), {1, 1, 1}, {a, b, y});
      for (i64 i = 0; i < 61; ++i) {
        CHECK(same(y[i], static_cast<c>(a[i]) < static_cast<c>(b[i]) ? b[i] : a[i]));
      }
      if constexpr (ashlar::Floating<T>) {
        tile::interpret(
            tile::parse(text + "%5 = fma %1, %2, %4 : " + t + "[61]\nstore y, %5, %0\n}"),
            {1, 1, 1}, {a, b, y});
        for (i64 i = 0; i < 61; ++i) {
          const auto p = static_cast<c>(a[i]);
          const auto q = static_cast<c>(b[i]);
          CHECK(same(y[i], T(std::fma(p, q, p < q ? q : p))));
        }
      }
    }
  });
}

namespace {
/// The 8-bit formats go everywhere by way of `float`, so that a few types stand for all.
template <class From, class To>
constexpr bool meets_float8 = [] {
  const auto is_8 = [](dtype d) { return d == dtype::float8_e4m3 || d == dtype::float8_e5m2; };
  const auto stands = [](dtype d) {
    return d == dtype::float32 || d == dtype::int8 || d == dtype::float16;
  };
  constexpr dtype from = ashlar::dtype_of<From>;
  constexpr dtype to = ashlar::dtype_of<To>;
  return is_8(from) ? stands(to) : !is_8(to) || stands(from);
}();
}  // namespace

TEST_CASE("tile/interpret: casts between all element types") {
  for_each_type([]<class From>(std::type_identity<From>) {
    for_each_type([]<class To>(std::type_identity<To>) {
      if constexpr (meets_float8<From, To>) {
        check_unary<From, To>("cast", [](From x) -> To {
          const auto v = static_cast<ashlar::compute_type<From>>(x);
          if constexpr (std::same_as<To, bool>) {
            return v != 0;
          } else if constexpr (std::integral<To> && ashlar::Floating<From>) {
            const double whole = std::trunc(static_cast<double>(v));
            // Beside the limits of the small types; none of these numbers is near the others'.
            const double low = static_cast<double>(std::numeric_limits<To>::lowest());
            return whole < low ? std::numeric_limits<To>::lowest() : static_cast<To>(whole);
          } else if constexpr (std::integral<To>) {
            return static_cast<To>(v);
          } else if constexpr (ashlar::NarrowFloating<To>) {
            return To(static_cast<float>(v));
          } else {
            return static_cast<To>(v);
          }
        });
        if constexpr (sizeof(From) == sizeof(To) && !std::same_as<To, bool>) {
          check_unary<From, To>("bitcast", [](From x) {
            To y;
            std::memcpy(static_cast<void*>(&y), &x, sizeof(y));
            return y;
          });
        }
      }
    });
  });
}

TEST_CASE("tile/interpret: a kernel of every shape operation") {
  const tile::program p = tile::parse(R"(kernel "shapes"(x: i32[?, ?], b: i8[?], u: u8[?],
      t: i32[?, ?] written, r: i32[?] written, s: i32[?, ?] written, j: i32[?, ?] written,
      w: i32[?, ?, ?] written, nb: i8[?] written, nu: u8[?] written, io: i32[?, ?] written) {
    %0 = constant 0 : i64
    %x = load x, %0, %0 : i32[3, 4]
    %t = transpose %x, axes=[1, 0] : i32[4, 3]
    store t, %t, %0, %0
    %r = reshape %t : i32[12]
    store r, %r, %0
    %s = split %x, half=1 : i32[3, 2]
    store s, %s, %0, %0
    %s0 = split %x, half=0 : i32[3, 2]
    %j = join %s, %s0 : i32[3, 4]
    store j, %j, %0, %0
    %c = reshape %s : i32[3, 1, 2]
    %w = broadcast %c : i32[3, 5, 2]
    store w, %w, %0, %0, %0
    %b = load b, %0 : i8[3]
    %nb = unpack_nibbles %b : i8[6]
    store nb, %nb, %0
    %u = load u, %0 : u8[3]
    %nu = unpack_nibbles %u : u8[6]
    store nu, %nu, %0
    %io = iota axis=1 : i32[3, 4]
    store io, %io, %0, %0
  })");
  array<std::int32_t> x({3, 4});
  for (i64 i = 0; i < 12; ++i) {
    x[i] = static_cast<std::int32_t>(10 * (i / 4) + i % 4);
  }
  const array<std::int8_t> b({3}, {0x17, -1, 0x08});
  const array<std::uint8_t> u({3}, {0x17, 0xff, 0x08});
  array<std::int32_t> t({4, 3}), r({12}), s({3, 2}), j({3, 4}), w({3, 5, 2}), io({3, 4});
  array<std::int8_t> nb({6});
  array<std::uint8_t> nu({6});
  tile::interpret(p, {1, 1, 1}, {x, b, u, t, r, s, j, w, nb, nu, io});
  for (i64 m = 0; m < 3; ++m) {
    for (i64 n = 0; n < 4; ++n) {
      CHECK(t[3 * n + m] == x[4 * m + n]);
      CHECK(r[3 * n + m] == x[4 * m + n]);
      CHECK(j[4 * m + n] == x[4 * m + (n ^ 1)]);
      CHECK(io[4 * m + n] == n);
    }
    for (i64 n = 0; n < 2; ++n) {
      CHECK(s[2 * m + n] == x[4 * m + 2 * n + 1]);
      for (i64 k = 0; k < 5; ++k) {
        CHECK(w[10 * m + 2 * k + n] == s[2 * m + n]);
      }
    }
  }
  const std::array<int, 6> halves{7, 1, 15, 15, 8, 0};
  for (i64 k = 0; k < 6; ++k) {
    const int half = halves[static_cast<std::size_t>(k)];
    CHECK(nu[k] == half);
    CHECK(nb[k] == (half > 7 ? half - 16 : half));
  }
}

TEST_CASE("tile/interpret: transpose takes any order of three axes") {
  const array<std::int32_t> x = random_array<std::int32_t>({2, 3, 5}, 1);
  std::array<int, 3> axes{0, 1, 2};
  const std::array<i64, 3> n{2, 3, 5};
  do {
    const auto at = [&](std::size_t a) { return n[static_cast<std::size_t>(axes[a])]; };
    const std::string to = std::string("i32[") + std::to_string(at(0)) + ", " +
                           std::to_string(at(1)) + ", " + std::to_string(at(2)) + "]";
    array<std::int32_t> y({at(0), at(1), at(2)});
    tile::interpret(
        tile::parse("kernel \"t\"(x: i32[?, ?, ?], y: i32[?, ?, ?] written) {\n%0 = constant 0 : "
                    "i64\n%x = load x, %0, %0, %0 : i32[2, 3, 5]\n%y = transpose %x, axes=[" +
                    std::to_string(axes[0]) + ", " + std::to_string(axes[1]) + ", " +
                    std::to_string(axes[2]) + "] : " + to + "\nstore y, %y, %0, %0, %0\n}"),
        {1, 1, 1}, {x, y});
    std::array<i64, 3> place{};
    for (place[0] = 0; place[0] < 2; ++place[0]) {
      for (place[1] = 0; place[1] < 3; ++place[1]) {
        for (place[2] = 0; place[2] < 5; ++place[2]) {
          const auto moved = [&](std::size_t a) {
            return place[static_cast<std::size_t>(axes[a])];
          };
          CHECK(y[(moved(0) * at(1) + moved(1)) * at(2) + moved(2)] ==
                x[(place[0] * 3 + place[1]) * 5 + place[2]]);
        }
      }
    }
  } while (std::next_permutation(axes.begin(), axes.end()));
}

namespace {

template <class T, class A>
void check_dot(i64 m, i64 k, i64 n, i64 batch) {
  const auto text = [](i64 x) { return std::to_string(x); };
  const std::string lead = batch > 0 ? text(batch) + ", " : "";
  const std::string t = short_name(ashlar::dtype_of<T>);
  const std::string s = short_name(ashlar::dtype_of<A>);
  const std::string axes = batch > 0 ? "[?, ?, ?]" : "[?, ?]";
  const std::string at = batch > 0 ? ", %0, %0, %0" : ", %0, %0";
  const std::string to = " : " + s + "[" + lead + text(m) + ", " + text(n) + "]\n";
  const tile::program p = tile::parse(
      "kernel \"dot\"(a: " + t + axes + ", b: " + t + axes + ", c: " + s + axes + " written) {\n" +
      "%0 = constant 0 : i64\n%a = load a" + at + " : " + t + "[" + lead + text(m) + ", " +
      text(k) + "]\n%b = load b" + at + " : " + t + "[" + lead + text(k) + ", " + text(n) +
      "]\n%c = load c" + at + to + "%d = dot %a, %b, %c" + to + "store c, %d" + at + "\n}");
  const i64 groups = std::max<i64>(batch, 1);
  const auto shaped = [&](i64 r, i64 q) {
    return batch > 0 ? std::vector<i64>{batch, r, q} : std::vector<i64>{r, q};
  };
  const array<T> a = random_array<T>(shaped(m, k), 1);
  const array<T> b = random_array<T>(shaped(k, n), 2);
  array<A> c = random_array<A>(shaped(m, n), 3);
  array<A> want(c.extents);
  for (i64 g = 0; g < groups; ++g) {
    for (i64 i = 0; i < m; ++i) {
      for (i64 j = 0; j < n; ++j) {
        A sum = c[(g * m + i) * n + j];
        for (i64 q = 0; q < k; ++q) {
          const auto x = static_cast<A>(a[(g * m + i) * k + q]);
          const auto y = static_cast<A>(b[(g * k + q) * n + j]);
          if constexpr (std::integral<A>) {
            sum =
                static_cast<A>(static_cast<std::uint32_t>(sum) + static_cast<std::uint32_t>(x * y));
          } else {
            sum = std::fma(x, y, sum);
          }
        }
        want[(g * m + i) * n + j] = sum;
      }
    }
  }
  tile::interpret(p, {1, 1, 1}, {a, b, c});
  for (i64 i = 0; i < c.size; ++i) {
    REQUIRE(same(c[i], want[i]));
  }
}

}  // namespace

TEST_CASE("tile/interpret: dot goes along K in order, one madd each") {
  for (const auto& [m, k, n, batch] :
       {std::array<i64, 4>{1, 1, 1, 0}, {3, 17, 5, 0}, {8, 64, 2, 0}, {2, 5, 3, 3}}) {
    check_dot<float, float>(m, k, n, batch);
    check_dot<double, double>(m, k, n, batch);
    check_dot<float16, float>(m, k, n, batch);
    check_dot<bfloat16, float>(m, k, n, batch);
    check_dot<std::int8_t, std::int32_t>(m, k, n, batch);
  }
}

TEST_CASE("tile/interpret: dot_scaled scales each group of 32") {
  const tile::program p = tile::parse(R"(kernel "scaled"(a: bf16[?, ?], sa: f32[?, ?],
      b: bf16[?, ?], sb: f32[?, ?], c: f32[?, ?] written) {
    %0 = constant 0 : i64
    %a = load a, %0, %0 : bf16[3, 64]
    %sa = load sa, %0, %0 : f32[3, 2]
    %b = load b, %0, %0 : bf16[64, 5]
    %sb = load sb, %0, %0 : f32[2, 5]
    %c = load c, %0, %0 : f32[3, 5]
    %d = dot_scaled %a, %sa, %b, %sb, %c : f32[3, 5]
    store c, %d, %0, %0
  })");
  const auto a = random_array<bfloat16>({3, 64}, 1);
  const auto sa = random_array<float>({3, 2}, 2);
  const auto b = random_array<bfloat16>({64, 5}, 3);
  const auto sb = random_array<float>({2, 5}, 4);
  auto c = random_array<float>({3, 5}, 5);
  array<float> want({3, 5});
  for (i64 i = 0; i < 3; ++i) {
    for (i64 j = 0; j < 5; ++j) {
      float sum = c[5 * i + j];
      for (i64 g = 0; g < 2; ++g) {
        float group = 0;
        for (i64 k = 32 * g; k < 32 * g + 32; ++k) {
          group =
              std::fma(static_cast<float>(a[64 * i + k]), static_cast<float>(b[5 * k + j]), group);
        }
        sum = std::fma(group, sa[2 * i + g] * sb[5 * g + j], sum);
      }
      want[5 * i + j] = sum;
    }
  }
  tile::interpret(p, {1, 1, 1}, {a, sa, b, sb, c});
  for (i64 i = 0; i < 15; ++i) {
    CHECK(same(c[i], want[i]));
  }
}

namespace {
/// Counts its calls and rounds a multiply-add twice.
struct counting_math : tile::eval::std_math {
  static inline int calls = 0;
  template <std::floating_point T>
  static T exp(T x) {
    ++calls;
    return std::exp(x);
  }
  template <std::floating_point T>
  static T madd(T a, T b, T c) {
    ++calls;
    return a * b + c;
  }
};
}  // namespace

TEST_CASE("tile/interpret: a chip's own functions take the place of the library's") {
  const tile::program p = tile::parse(R"(kernel "m"(y: f32[?] written) {
    %0 = constant 0 : i64
    %x = constant 0.1 : f32
    %t = broadcast %x : f32[4]
    %s = sigmoid %t : f32[4]
    %e = exp %s : f32[4]
    %ten = constant 10 : f32
    %one = constant -1 : f32
    %f = fma %x, %ten, %one : f32
    %g = broadcast %f : f32[4]
    %r = add %e, %g : f32[4]
    store y, %r, %0
  })");
  array<float> y({4}), z({4});
  tile::interpret<counting_math>(p, {1, 1, 1}, {y});
  CHECK(counting_math::calls == 9);
  tile::interpret(p, {1, 1, 1}, {z});
  CHECK(y[0] == std::exp(1 / (1 + std::exp(-0.1f))) + (0.1f * 10.0f - 1.0f));
  CHECK(z[0] == std::exp(1 / (1 + std::exp(-0.1f))) + std::fma(0.1f, 10.0f, -1.0f));
}
