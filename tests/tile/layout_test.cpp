// SPDX-License-Identifier: Apache-2.0
#include "ashlar/tile/layout.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "ashlar/tile/banks.hpp"
#include "support/tile_random.hpp"

namespace tile = ashlar::tile;
using tile::layout;
using tile::layout_error;
using tile_test::dice;

namespace {

std::string text(const layout& l) {
  std::string s;
  for (const layout::axis& a : l.axes()) {
    s += "(" + std::to_string(a.extent) + ":" + std::to_string(a.stride) + ")";
  }
  return s;
}

bool same_function(const layout& a, const layout& b) {
  bool same = a.size() == b.size();
  for (std::int64_t i = 0; same && i < a.size(); ++i) {
    same = a(i) == b(i);
  }
  return same;
}

/// Small extents and strides that divide one another more often than not.
layout any_layout(dice& d, int most_axes = 4) {
  layout l;
  const int rank = d.between(0, most_axes);
  for (int a = 0; a < rank; ++a) {
    const int extent = d.one_of({1, 2, 2, 3, 4, 4, 6, 8});
    const int stride = d.one_of({0, 1, 1, 2, 3, 4, 6, 8, 12, 16, 24, 48, 5});
    l.push({extent, stride});
  }
  return l;
}

/// A layout whose offsets are 0 ... size - 1, each once.
layout any_permutation(dice& d) {
  const int rank = d.between(0, 5);
  std::array<layout::axis, 5> axes{};
  std::int64_t stride = 1;
  for (int a = 0; a < rank; ++a) {
    const int extent = d.one_of({1, 2, 3, 4, 5});
    axes[static_cast<std::size_t>(a)] = {extent, stride};
    stride *= extent;
  }
  for (int a = rank - 1; a > 0; --a) {
    std::swap(axes[static_cast<std::size_t>(a)], axes[static_cast<std::size_t>(d.between(0, a))]);
  }
  layout l;
  for (int a = 0; a < rank; ++a) {
    l.push(axes[static_cast<std::size_t>(a)]);
  }
  return l;
}

constexpr std::uint64_t seeds = 8000;

}  // namespace

TEST_CASE("tile/layout: a place is split into coordinates with the last axis fastest") {
  constexpr layout l{{2, 100}, {3, 10}, {4, 1}};
  static_assert(l.size() == 24 && l.rank() == 3 && l.last() == 123 && l.first() == 0);
  static_assert(l(0) == 0 && l(23) == 123 && l(1, 2, 3) == 123 && layout{}(0) == 0);
  std::int64_t place = 0;
  for (int i = 0; i < 2; ++i) {
    for (int j = 0; j < 3; ++j) {
      for (int k = 0; k < 4; ++k, ++place) {
        CHECK(l(place) == 100 * i + 10 * j + k);
        CHECK(l(i, j, k) == l(place));
      }
    }
  }
  static_assert(tile::row_major({2, 3, 4}) == layout{{2, 12}, {3, 4}, {4, 1}});
  static_assert(layout{{3, -2}, {2, 5}}.first() == -4);
}

TEST_CASE("tile/layout: merged keeps the function and has no two axes that are one") {
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    dice d(seed);
    layout l = any_layout(d);
    if (d.chance(30)) {
      l.push({d.between(1, 3), -d.between(0, 4)});
    }
    const layout m = merged(l);
    CAPTURE(text(l));
    REQUIRE(same_function(l, m));
    for (int a = 0; a < m.rank(); ++a) {
      REQUIRE(m[a].extent > 1);
      REQUIRE((a == 0 || m[a - 1].stride != m[a].stride * m[a].extent));
    }
    // One function, one merged form.
    const layout split = any_layout(d);
    REQUIRE((!same_function(l, split) || merged(split) == m));
  }
}

TEST_CASE("tile/layout: a composition is one function after the other") {
  int composed = 0;
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    dice d(seed);
    const layout outer = d.chance(50) ? any_permutation(d) : any_layout(d);
    const layout inner = any_layout(d, 3);
    CAPTURE(text(outer));
    CAPTURE(text(inner));
    try {
      const layout c = compose(outer, inner);
      ++composed;
      REQUIRE(c.size() == inner.size());
      for (std::int64_t i = 0; i < c.size(); ++i) {
        REQUIRE(inner(i) < outer.size());
        REQUIRE(c(i) == outer(inner(i)));
      }
    } catch (const layout_error& e) {
      REQUIRE(e.operation == "compose");
    }
  }
  CHECK(composed > 2000);
  // Laws of functions: one after the other is associative, the identity does nothing.
  int associated = 0;
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    dice d(seed);
    const layout a = any_permutation(d);
    const layout b = any_layout(d, 2);
    const layout c = any_layout(d, 2);
    REQUIRE(merged(compose(a, layout{{a.size(), 1}})) == merged(a));
    REQUIRE(merged(compose(layout{{a.size(), 1}}, a)) == merged(a));
    try {
      const layout left = compose(compose(a, b), c);
      const layout right = compose(a, compose(b, c));
      ++associated;
      REQUIRE(same_function(left, right));
    } catch (const layout_error&) {
    }
  }
  CHECK(associated > 500);
}

TEST_CASE("tile/layout: an inverse leads back, from places and from offsets") {
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    dice d(seed);
    const layout l = any_permutation(d);
    const layout back = inverse(l);
    CAPTURE(text(l));
    REQUIRE(back.size() == l.size());
    for (std::int64_t i = 0; i < l.size(); ++i) {
      REQUIRE(back(l(i)) == i);
      REQUIRE(l(back(i)) == i);
    }
    REQUIRE(merged(inverse(back)) == merged(l));
    REQUIRE(merged(compose(back, l)) == merged(layout{{l.size(), 1}}));
    // Whatever is not 0 ... size - 1, each once, is refused.
    const layout other = any_layout(d);
    std::vector<std::int64_t> offsets;
    for (std::int64_t i = 0; i < other.size(); ++i) {
      offsets.push_back(other(i));
    }
    std::sort(offsets.begin(), offsets.end());
    std::vector<std::int64_t> dense(offsets.size());
    std::iota(dense.begin(), dense.end(), 0);
    bool has_inverse = true;
    try {
      static_cast<void>(inverse(other));
    } catch (const layout_error& e) {
      has_inverse = false;
      REQUIRE(e.operation == "inverse");
    }
    REQUIRE(has_inverse == (offsets == dense));
  }
}

TEST_CASE("tile/layout: a complement reaches what is left, each offset once") {
  int found = 0;
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    dice d(seed);
    const layout l = any_layout(d, 3);
    const std::int64_t n = d.between(1, 96);
    CAPTURE(text(l));
    CAPTURE(n);
    try {
      const layout rest = complement(l, n);
      ++found;
      std::vector<int> seen(static_cast<std::size_t>(n));
      const layout all = joined(rest, l);
      REQUIRE(all.size() == n);
      for (std::int64_t i = 0; i < n; ++i) {
        REQUIRE(all(i) < n);
        REQUIRE(all(i) == rest(i / l.size()) + l(i % l.size()));
        ++seen[static_cast<std::size_t>(all(i))];
      }
      REQUIRE(std::all_of(seen.begin(), seen.end(), [](int k) { return k == 1; }));
    } catch (const layout_error& e) {
      REQUIRE(e.operation == "complement");
    }
  }
  CHECK(found > 200);
}

TEST_CASE("tile/layout: blocks of a division are the layout at the places of a block") {
  int divided = 0;
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    dice d(seed);
    const layout l = d.chance(50) ? any_permutation(d) : any_layout(d);
    const layout block = any_layout(d, 2);
    CAPTURE(text(l));
    CAPTURE(text(block));
    try {
      const tile::layout_parts p = divide(l, block);
      ++divided;
      const layout rest = complement(block, l.size());
      REQUIRE(p.each.size() == block.size());
      REQUIRE(p.blocks.size() * p.each.size() == l.size());
      std::vector<int> seen(static_cast<std::size_t>(l.size()));
      for (std::int64_t j = 0; j < rest.size(); ++j) {
        for (std::int64_t i = 0; i < block.size(); ++i) {
          const std::int64_t place = rest(j) + block(i);
          REQUIRE(p.blocks(j) + p.each(i) == l(place));
          REQUIRE(p.whole()(j * block.size() + i) == l(place));
          ++seen[static_cast<std::size_t>(place)];
        }
      }
      REQUIRE(std::all_of(seen.begin(), seen.end(), [](int k) { return k == 1; }));
    } catch (const layout_error&) {
    }
  }
  CHECK(divided > 200);
}

TEST_CASE("tile/layout: a product repeats a layout, and copies do not overlap") {
  int multiplied = 0;
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    dice d(seed);
    const layout l = any_layout(d, 3);
    const layout copies = any_permutation(d);
    CAPTURE(text(l));
    CAPTURE(text(copies));
    try {
      const tile::layout_parts p = product(l, copies);
      ++multiplied;
      REQUIRE(p.each == l);
      REQUIRE(p.blocks.size() == copies.size());
      std::vector<std::int64_t> offsets;
      for (std::int64_t j = 0; j < copies.size(); ++j) {
        for (std::int64_t i = 0; i < l.size(); ++i) {
          offsets.push_back(p.blocks(j) + l(i));
        }
      }
      std::sort(offsets.begin(), offsets.end());
      REQUIRE(std::adjacent_find(offsets.begin(), offsets.end()) == offsets.end());
      if (l.last() == l.size() - 1) {  // no gaps: copies follow one another as arranged
        for (std::int64_t j = 0; j < copies.size(); ++j) {
          REQUIRE(p.blocks(j) == copies(j) * l.size());
        }
      }
    } catch (const layout_error&) {
    }
  }
  CHECK(multiplied > 500);
}

TEST_CASE("tile/layout: everything is a constant expression") {
  // A row-major 8 x 12 in blocks of 4 x 3, elements of a block row by row.
  constexpr layout matrix = tile::row_major({8, 12});
  constexpr tile::layout_parts cut = divide(matrix, layout{{4, 12}, {3, 1}});
  static_assert(cut.each == layout{{4, 12}, {3, 1}});
  static_assert(merged(cut.blocks) == layout{{2, 48}, {4, 3}});
  // The same blocks one after the other in memory: where (i, j) goes.
  constexpr layout packed = compose(layout{{2, 48}, {4, 3}, {4, 12}, {3, 1}},
                                    inverse(layout{{2, 48}, {4, 12}, {4, 3}, {3, 1}}));
  static_assert(packed.size() == 96);
  constexpr layout transposed{{12, 1}, {8, 12}};
  static_assert(compose(matrix, transposed) == transposed);
  static_assert(merged(compose(inverse(transposed), transposed)) == layout{{96, 1}});
  static_assert(tile::product(layout{{4, 1}}, layout{{3, 1}}).whole() == layout{{3, 4}, {4, 1}});
  static_assert(complement(layout{{4, 2}}, 16) == layout{{2, 8}, {2, 1}});
}

TEST_CASE("tile/layout: what is no layout is refused with its rule") {
  CHECK_THROWS_AS((layout{{0, 1}}), layout_error);
  CHECK_THROWS_AS((layout{{1 << 30, 1}, {1 << 30, 1}}), layout_error);
  CHECK_THROWS_AS((layout{{2, std::int64_t{1} << 41}}), layout_error);
  CHECK_THROWS_AS((layout{{1, 0}, {1, 0}, {1, 0}, {1, 0}, {1, 0}, {1, 0}, {1, 0}, {1, 0}, {1, 0}}),
                  layout_error);
  CHECK_THROWS_WITH_AS(compose(tile::row_major({4}), layout{{8, 1}}),
                       "ashlar::tile::compose: the inner layout leads out of the outer one",
                       layout_error);
  // 0 1 1 2 over (2:1)(2:10): place 1 + 1 carries into the slower axis.
  CHECK_THROWS_AS(compose(layout{{2, 10}, {2, 1}}, layout{{2, 1}, {2, 1}}), layout_error);
  CHECK_THROWS_AS(inverse(layout{{4, 2}}), layout_error);
  CHECK_THROWS_AS(complement(layout{{4, 2}}, 12), layout_error);
  CHECK_THROWS_AS(complement(layout{{2, 3}, {2, 2}}, 24), layout_error);
}

TEST_CASE("tile/banks: an exchange of offsets is its own inverse and stays in its room") {
  for (int bits = 0; bits <= 3; ++bits) {
    for (int base = 0; base <= 2; ++base) {
      for (int shift = bits; shift <= 5; ++shift) {
        const tile::swizzled_layout s{tile::row_major({12, 20}), {bits, base, shift}};
        std::vector<int> seen(static_cast<std::size_t>(s.room()));
        for (std::int64_t i = 0; i < s.size(); ++i) {
          REQUIRE(s(i) >= 0);
          REQUIRE(s(i) < s.room());
          REQUIRE(++seen[static_cast<std::size_t>(s(i))] == 1);
          REQUIRE(s.exchange(s(i)) == s.plain(i));
        }
      }
    }
  }
}

TEST_CASE("tile/banks: conflicts are words of one bank beyond the first") {
  constexpr tile::bank_shape banks{32, 8};
  const auto count = [&](const auto& where, const layout& access) {
    std::int64_t extra = 0;
    const std::int64_t lanes = access[access.rank() - 1].extent;
    for (std::int64_t s = 0; s < access.size() / lanes; ++s) {
      std::array<std::vector<std::int64_t>, 32> words;
      for (std::int64_t l = 0; l < lanes; ++l) {
        const std::int64_t word = where(access(s * lanes + l)) * 4 / 8;
        std::vector<std::int64_t>& own = words[static_cast<std::size_t>(word % 32)];
        if (std::find(own.begin(), own.end(), word) == own.end()) {
          own.push_back(word);
        }
      }
      std::size_t most = 1;
      for (const auto& own : words) {
        most = std::max(most, own.size());
      }
      extra += static_cast<std::int64_t>(most) - 1;
    }
    return extra;
  };
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    dice d(seed);
    const std::int64_t row = d.one_of({32, 33, 34, 48, 64, 66, 128});
    const int bits = d.between(0, 4);
    const tile::swizzled_layout where{{{32, row}, {32, 1}}, {bits, 1, bits + d.between(0, 3)}};
    for (const layout& access : {tile::row_access(32, 32, 32), tile::column_access(32, 32, 32),
                                 tile::column_access(32, 32, 16)}) {
      REQUIRE(bank_conflicts(where, access, 4, banks) == count(where, access));
    }
  }
  constexpr layout plain = tile::row_major({32, 64});
  static_assert(bank_conflicts(plain, tile::row_access(32, 64, 32), 4, banks) == 0);
  static_assert(bank_conflicts(plain, layout{{1, 0}, {32, 64}}, 4, banks) == 31);
  CHECK_THROWS_AS(bank_conflicts(plain, layout{{2, 2048}, {2, 1}}, 4, banks), layout_error);
  CHECK_THROWS_AS(bank_conflicts(layout{{4, -1}}, layout{{4, 1}}, 4, banks), layout_error);
}

TEST_CASE("tile/banks: a placement removes conflicts of rows and columns together") {
  constexpr tile::bank_shape banks{32, 8};
  for (const std::int64_t columns : {32, 64, 128}) {
    const std::array accesses{tile::row_access(64, columns, 32),
                              tile::column_access(64, columns, 32)};
    const tile::layout plain = tile::row_major({64, columns});
    CHECK(bank_conflicts(plain, accesses[1], 4, banks) > 0);
    const auto exchanged = tile::place_matrix(64, columns, 4, banks, accesses);
    CHECK(exchanged.conflicts == 0);
    CHECK(exchanged.where.exchange.bits > 0);
    CHECK(exchanged.room() == 64 * columns);
    const auto padded =
        tile::place_matrix(64, columns, 4, banks, accesses, {.swizzles = false, .row_bytes = 8});
    CHECK(padded.conflicts == 0);
    CHECK(padded.where.exchange == tile::swizzle{});
    CHECK(padded.where.plain[0].stride == columns + 2);
    const auto neither =
        tile::place_matrix(64, columns, 4, banks, accesses, {.swizzles = false, .pads = false});
    CHECK(neither.conflicts == bank_conflicts(plain, accesses[1], 4, banks));
    const std::array rows{tile::row_access(64, columns, 32)};
    CHECK(tile::place_matrix(64, columns, 4, banks, rows).where ==
          tile::swizzled_layout{plain, {}});
  }
  static constexpr std::array columns_of_8{tile::column_access(8, 8, 8)};
  constexpr auto small = tile::place_matrix(8, 8, 4, {4, 8}, columns_of_8);
  static_assert(small.conflicts == 8);  // eight words in four banks, eight times
}
