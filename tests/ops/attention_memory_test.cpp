// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <thread>

#include "ashlar/chip/host/parallel.hpp"
#include "ashlar/ops/attention.hpp"
#include "ashlar/ops/matmul.hpp"
#include "ashlar/ops/softmax.hpp"
#include "ashlar/ops/tile/attention.hpp"
#include "ashlar/ops/tile/attention_backward.hpp"
#include "support/tile_chip.hpp"

// Every byte of this program comes through here, so that working memory counts whoever keeps it.
namespace {

std::atomic<std::int64_t> live{0};
std::atomic<std::int64_t> most{0};

void* counted(std::size_t bytes, std::size_t alignment) {
  // The size stands in front of the block, in as many bytes as keep it aligned.
  const std::size_t front = std::max(alignment, alignof(std::max_align_t));
  const std::size_t whole = (front + bytes + front - 1) / front * front;
  auto* const p = static_cast<std::byte*>(std::aligned_alloc(front, whole));
  if (p == nullptr) {
    return nullptr;
  }
  *reinterpret_cast<std::size_t*>(p + front - sizeof(std::size_t)) = bytes;
  const std::int64_t now = live += static_cast<std::int64_t>(bytes);
  std::int64_t before = most;
  while (before < now && !most.compare_exchange_weak(before, now)) {
  }
  return p + front;
}

void released(void* p, std::size_t alignment) noexcept {
  if (p == nullptr) {
    return;
  }
  auto* const block = static_cast<std::byte*>(p);
  live -= static_cast<std::int64_t>(*reinterpret_cast<std::size_t*>(block - sizeof(std::size_t)));
  std::free(block - std::max(alignment, alignof(std::max_align_t)));
}

void* counted_or_throw(std::size_t bytes, std::size_t alignment) {
  void* const p = counted(bytes, alignment);
  return p != nullptr ? p : throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t n) { return counted_or_throw(n, 1); }
void* operator new(std::size_t n, std::align_val_t a) {
  return counted_or_throw(n, static_cast<std::size_t>(a));
}
void* operator new(std::size_t n, const std::nothrow_t&) noexcept { return counted(n, 1); }
void* operator new(std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return counted(n, static_cast<std::size_t>(a));
}
void operator delete(void* p) noexcept { released(p, 1); }
void operator delete(void* p, std::size_t) noexcept { released(p, 1); }
void operator delete(void* p, std::align_val_t a) noexcept {
  released(p, static_cast<std::size_t>(a));
}
void operator delete(void* p, std::size_t, std::align_val_t a) noexcept {
  released(p, static_cast<std::size_t>(a));
}

using namespace tile_test;

namespace {

/// Tensors from `operator new`, each block as large as asked for.
template <class C>
struct plain_resource final : al::memory::resource {
  std::byte* allocate(std::size_t bytes) override { return C::memory::allocate(bytes); }
  void deallocate(std::byte* p, std::size_t bytes) noexcept override { C::memory::free(p, bytes); }
};

/// The most bytes that `f(T)` has at a time; a thread of its own gives back what threads keep.
template <class C, class F>
std::int64_t peak(const F& f, std::int64_t tokens) {
  std::int64_t bytes = 0;
  std::thread([&] {
    const al::chip::thread_limit one(1);
    plain_resource<C> memory;
    const typename al::context<C>::use_allocator here(memory);
    const std::int64_t before = live;
    most = before;
    f(tokens);
    bytes = most - before;
  }).join();
  return bytes;
}

constexpr std::int64_t heads = 2;
constexpr std::int64_t width = 16;

template <class X>
X rows(std::int64_t tokens) {
  return al::full<X>({1, heads, tokens, width}, 0.5);
}

template <class X>
void forward(std::int64_t tokens) {
  al::scaled_dot_product_attention(rows<X>(tokens), rows<X>(tokens), rows<X>(tokens), true);
}

template <class X>
void both_ways(std::int64_t tokens) {
  const X q = rows<X>(tokens);
  const X k = rows<X>(tokens);
  const X v = rows<X>(tokens);
  const X y = al::scaled_dot_product_attention(q, k, v, true, 0.25);
  al::call<al::ops::scaled_dot_product_attention_backward>(rows<X>(tokens), q, k, v, y, true, 0.25);
}

/// What four times the tokens may take of what one time takes. Scratch memory is a quarter larger
/// than was asked for, and grows only when a head or a direction needs more.
constexpr double linear = 4 * 1.25;

template <class C, class F>
double growth(const F& f) {
  const std::int64_t one = peak<C>(f, 128);
  const std::int64_t two = peak<C>(f, 256);
  const std::int64_t four = peak<C>(f, 512);
  CHECK(one > 4 * 128 * heads * width * 4);  // queries, keys, values and results at least
  CHECK(two > one);
  return static_cast<double>(four) / static_cast<double>(one);
}

}  // namespace

TEST_CASE("ops/attention_memory: the host's working memory is linear in the sequence") {
  CHECK(growth<al::chip::host>(forward<twins::plain<float>>) < linear);
  CHECK(growth<al::chip::host>(both_ways<twins::plain<float>>) < linear);
}

TEST_CASE("ops/attention_memory: a tile program's memory is linear in the sequence") {
  CHECK(growth<tile_chip>(forward<on_tiles<float>>) < linear);
  CHECK(growth<tile_chip>(both_ways<on_tiles<float>>) < linear);
}

TEST_CASE("ops/attention_memory: scores that are kept are seen to be quadratic") {
  const auto composed = [](std::int64_t tokens) {
    using X = twins::plain<float>;
    const auto scores = al::matmul(rows<X>(tokens), al::transpose(rows<X>(tokens), -1, -2));
    al::matmul(al::softmax(scores), rows<X>(tokens));
  };
  CHECK(growth<al::chip::host>(composed) > 2 * linear);
}
