// SPDX-License-Identifier: Apache-2.0
#include "ashlar/dispatch/keys.hpp"

#include <doctest/doctest.h>

#include <type_traits>

#include "ashlar/autograd/node.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/chip/meta.hpp"
#include "laws/key.hpp"

using namespace ashlar;

namespace {

struct low {
  static constexpr int priority = 10;
};
struct middle {
  static constexpr int priority = 20;
};
struct high {
  static constexpr int priority = 30;
};
struct upper_middle {
  static constexpr int priority = 21;
};
using host = keys::backend<chip::host>;
using on_meta = keys::backend<chip::meta>;

template <class A, class B>
inline constexpr bool same = std::is_same_v<A, B>;

}  // namespace

TEST_CASE("dispatch/keys: a set has one form whatever the order it was written in") {
  static_assert(same<make_key_set<low, high, middle>, key_set<high, middle, low>>);
  static_assert(same<make_key_set<middle, low, middle, high, low>, key_set<high, middle, low>>);
  // Backends are all of priority 0: their names decide.
  static_assert(same<make_key_set<on_meta, host>, make_key_set<host, on_meta>>);
  static_assert(same<make_key_set<>, key_set<>>);
  CHECK(true);
}

TEST_CASE(
    "dispatch/keys: union is commutative, idempotent, associative, with the empty set neutral") {
  using a = make_key_set<low, host>;
  using b = make_key_set<high, host>;
  using c = make_key_set<middle, upper_middle>;
  static_assert(laws::semilattice<a, b, c>());
  static_assert(laws::semilattice<b, c, a>());
  static_assert(laws::semilattice<a, a, key_set<>>());
  static_assert(same<set_union<a, b, c>, make_key_set<high, upper_middle, middle, low, host>>);
  CHECK(true);
}

TEST_CASE("dispatch/keys: the laws of a key hold for the library's and for one's own") {
  using none = key_set<>;
  using some = make_key_set<middle, upper_middle>;
  static_assert(laws::key_laws<host, keys::autograd, some, none>());
  static_assert(laws::key_laws<keys::autograd, host, some, make_key_set<low, host>>());
  static_assert(laws::key_laws<on_meta, keys::autograd, some, make_key_set<high>>());
  static_assert(laws::key_laws<low, host, make_key_set<high, keys::autograd>, some>());
  static_assert(laws::key_laws<high, upper_middle, make_key_set<host>, some>());
  CHECK(true);
}

TEST_CASE("dispatch/keys: exclusion takes one key out and leaves the rest in order") {
  using all = make_key_set<low, middle, high, host>;
  static_assert(same<exclude<all, middle>, make_key_set<low, high, host>>);
  static_assert(same<exclude<all, upper_middle>, all>);
  static_assert(same<exclude<exclude<all, low>, high>, exclude<exclude<all, high>, low>>);
  static_assert(is_subset<exclude<all, low>, all> && !is_subset<all, exclude<all, low>>);
  CHECK(true);
}

TEST_CASE("dispatch/keys: a key comes and goes by type") {
  using both = tensor<float, make_key_set<low, host>>;
  static_assert(same<decltype(with<low>(tensor<float, make_key_set<host>>{})), both>);
  static_assert(same<decltype(with<low>(both{})), both>);
  static_assert(same<decltype(without<low>(both{})), tensor<float, make_key_set<host>>>);
  CHECK(true);
}

TEST_CASE("dispatch/keys: the chip of a set is its one backend key") {
  static_assert(same<chip_of<make_key_set<host, high>>, chip::host>);
  static_assert(backend_of<make_key_set<host, high>>::is_one);
  static_assert(!backend_of<make_key_set<host, on_meta>>::is_one);
  static_assert(!backend_of<make_key_set<high>>::is_one);
  static_assert(!backend_of<key_set<>>::is_one);
  CHECK(true);
}
