// SPDX-License-Identifier: Apache-2.0
#include "ashlar/ops/dynamic.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/views.hpp"

namespace al = ashlar;

namespace {

int runs = 0;
std::vector<double> seen;  // attributes of the last call

void* allocate(std::size_t bytes) { return std::aligned_alloc(64, (bytes + 63) / 64 * 64); }
void release(void* p, std::size_t) { std::free(p); }
void copy(void* to, const void* from, std::size_t bytes) { std::memcpy(to, from, bytes); }
void wait() {}

float& at(const ashlar_plugin_tensor& x, std::int64_t i) {
  return static_cast<float*>(x.data)[x.rank == 0 ? 0 : i * x.stride[0]];
}
bool is_line(const ashlar_plugin_tensor& x) { return x.rank == 1; }

std::int32_t takes_lines(const ashlar_plugin_call* c) {
  CHECK(c->outputs == nullptr);
  CHECK(c->output_count == 0);
  return is_line(c->inputs[0]) && is_line(c->inputs[1]) &&
         c->inputs[0].extent[0] == c->inputs[1].extent[0];
}
std::int32_t multiply(const ashlar_plugin_call* c) {
  ++runs;
  CHECK(c->output_count == 1);
  CHECK(c->input_count == 2);
  for (std::int64_t i = 0; i < c->outputs[0].size; ++i) {
    at(c->outputs[0], i) = at(c->inputs[0], i) * at(c->inputs[1], i);
  }
  return 0;
}
std::int32_t scale(const ashlar_plugin_call* c) {
  ++runs;
  seen = {c->attributes[0].real, c->attributes[1].real};
  CHECK(c->attribute_count == 2);
  for (std::int64_t i = 0; i < c->outputs[0].size; ++i) {
    at(c->outputs[0], i) = at(c->inputs[0], i) * static_cast<float>(seen[0]);
  }
  return 0;
}
std::int32_t sum(const ashlar_plugin_call* c) {
  ++runs;
  CHECK(c->attributes[0].kind == ashlar_plugin_list);
  CHECK(c->attributes[1].kind == ashlar_plugin_integer);
  seen = {static_cast<double>(c->attributes[0].length),
          static_cast<double>(c->attributes[0].list[0]),
          static_cast<double>(c->attributes[1].integer)};
  float total = 0;
  for (std::int64_t i = 0; i < c->inputs[0].size; ++i) {
    total += at(c->inputs[0], i);
  }
  at(c->outputs[0], 0) = total;
  return 0;
}
std::int32_t fails(const ashlar_plugin_call*) { return 7; }

const std::vector<ashlar_plugin_kernel> kernels{
    {"mul", ashlar_plugin_float32, takes_lines, multiply},
    {"scale", ashlar_plugin_float32, nullptr, scale},
    {"sum", ashlar_plugin_float32, nullptr, sum},
    {"neg", ashlar_plugin_float32, nullptr, fails},
    {"cast", ashlar_plugin_float32, nullptr, fails},
};
const ashlar_plugin good{
    ashlar_plugin_version, sizeof(ashlar_plugin), "card", allocate, release, copy, copy, wait,
    kernels.data(),        kernels.size()};

using card = al::chip::dynamic;
using real = al::tensor<float, al::key_set<al::keys::backend<card>>>;
using whole = al::tensor<std::int32_t, al::key_set<al::keys::backend<card>>>;

struct admitted {
  admitted() {
    card::admit(&good);
    runs = 0;
  }
};

/// The field that an admission complains about.
std::string refused(const ashlar_plugin* table) {
  try {
    al::chip::plug_in<1>::admit(table);
  } catch (const al::chip::plugin_error& e) {
    CHECK(std::string(e.what()).find(e.field) != std::string::npos);
    return e.field;
  }
  return "";
}

}  // namespace

TEST_CASE("ops/dynamic: before a plug-in is there, tensors and calls say so") {
  using empty_slot = al::chip::plug_in<2>;
  using nothing = al::tensor<float, al::key_set<al::keys::backend<empty_slot>>>;
  CHECK_FALSE(empty_slot::admitted());
  CHECK_THROWS_AS(static_cast<void>(al::empty<nothing>({4})), al::chip::plugin_error);
}

TEST_CASE("ops/dynamic: a table with a wrong version or without an entry is refused by name") {
  CHECK(refused(nullptr) == "table");
  const auto changed = [](auto change) {
    ashlar_plugin table = good;
    change(table);
    return refused(&table);
  };
  CHECK(changed([](auto& t) { t.version = 2; }) == "version");
  CHECK(changed([](auto& t) { t.version = 0; }) == "version");
  CHECK(changed([](auto& t) { t.bytes -= 8; }) == "bytes");
  CHECK(changed([](auto& t) { t.name = nullptr; }) == "name");
  CHECK(changed([](auto& t) { t.allocate = nullptr; }) == "allocate");
  CHECK(changed([](auto& t) { t.release = nullptr; }) == "release");
  CHECK(changed([](auto& t) { t.copy_in = nullptr; }) == "copy_in");
  CHECK(changed([](auto& t) { t.copy_out = nullptr; }) == "copy_out");
  CHECK(changed([](auto& t) { t.wait = nullptr; }) == "wait");
  CHECK(changed([](auto& t) { t.kernels = nullptr; }) == "kernels");
  const auto with_kernel = [&](auto change) {
    auto list = kernels;
    change(list[2]);
    return changed([&](auto& t) { t.kernels = list.data(); });
  };
  CHECK(with_kernel([](auto& k) { k.op = nullptr; }) == "kernels[2].op");
  CHECK(with_kernel([](auto& k) { k.run = nullptr; }) == "kernels[2].run");
  CHECK(with_kernel([](auto& k) { k.element = 9; }) == "kernels[2].element");
  CHECK_FALSE(al::chip::plug_in<1>::admitted());
  CHECK(refused(&good).empty());
  CHECK(refused(&good).empty());  // the same one again is no harm
  const ashlar_plugin other = good;
  CHECK(refused(&other) == "name");
}

TEST_CASE("ops/dynamic: the plug-in's kernels run in all forms, with attributes") {
  const admitted here;
  const auto x = al::from_values<real>({3}, {1, 2, 3});
  auto y = al::mul(x, x);
  CHECK(al::to_vector(y) == std::vector<float>{1, 4, 9});
  al::mul.out(y, y, x);
  al::mul.in_place(y, x);
  CHECK(al::to_vector(y) == std::vector<float>{1, 16, 81});
  CHECK(runs == 3);
  CHECK(al::to_vector(al::scale(x, 2.5, 0.0)) == std::vector<float>{2.5, 5, 7.5});
  CHECK(seen == std::vector<double>{2.5, 0});
  CHECK(al::item(al::sum(x, {0}, false)) == 6.0f);
  CHECK(seen == std::vector<double>{1, 0, 0});
  CHECK(runs == 5);
}

TEST_CASE("ops/dynamic: what the plug-in lacks or does not take happens on the host") {
  const admitted here;
  const auto x = al::from_values<real>({2, 2}, {1, 2, 3, 4});
  const auto line = al::from_values<real>({2}, {10, 20});
  CHECK(al::to_vector(al::sub(x, line)) == std::vector<float>{-9, -18, -7, -16});  // no kernel
  CHECK(al::to_vector(al::mul(x, line)) == std::vector<float>{10, 40, 30, 80});    // not taken
  auto column = al::select(x, 1, 1);
  CHECK(al::to_vector(al::mul(al::select(x, 1, 0), column)) == std::vector<float>{2, 12});
  CHECK(runs == 1);  // columns are lines with a stride
  al::mul.in_place(column, column);
  CHECK(al::to_vector(x) == std::vector<float>{1, 4, 3, 16});
  CHECK(runs == 2);
  const auto i = al::from_values<whole>({2}, {3, 4});
  CHECK(al::to_vector(al::mul(i, i)) == std::vector<std::int32_t>{9, 16});  // of floats only
  CHECK(runs == 2);
  using eighth = al::tensor<al::float8_e4m3, al::key_set<al::keys::backend<card>>>;
  const auto e = al::from_values<eighth>({2}, {al::float8_e4m3(1.5f), al::float8_e4m3(-2.0f)});
  CHECK(al::to_vector(al::cast<float>(e)) == std::vector<float>{1.5, -2});  // no number for these
  CHECK_THROWS_AS(al::cast<float>(i), al::chip::plugin_error);
}

TEST_CASE("ops/dynamic: an error of a kernel is an exception with its code") {
  const admitted here;
  const auto x = al::from_values<real>({1}, {1});
  try {
    static_cast<void>(al::neg(x));
    FAIL("must throw");
  } catch (const al::chip::plugin_error& e) {
    CHECK(e.plugin == "card");
    CHECK(e.field == "neg.run");
    CHECK(e.reason.find('7') != std::string::npos);
  }
  CHECK(al::to_vector(al::mul(x, x)) == std::vector<float>{1});
}
