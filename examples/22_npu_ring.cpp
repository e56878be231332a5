// SPDX-License-Identifier: Apache-2.0
// A ring all-reduce in the memories of four simulated accelerators. Ranks tell each other addresses
// only; the accelerators' DMA engines read each other's memory. The host could not help: it may not
// touch what lies at those addresses.
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "ashlar/chip/npu/builder.hpp"
#include "ashlar/chip/npu/simulator.hpp"
#include "ashlar/comm.hpp"

namespace comm = ashlar::comm;
namespace isa = ashlar::chip::npu_isa;

namespace {

constexpr int ranks = 4;
constexpr std::size_t count = 48000;
constexpr ashlar::chip::npu_description machine{.devices = ranks};

std::atomic<std::int64_t> host_bytes = 0;
std::atomic<std::int64_t> loaded_bytes = 0;
std::atomic<std::int64_t> stored_bytes = 0;

/// One accelerator's memory. The host knows its addresses, at which the system lets it read and
/// write nothing; the bytes go in and out by `copy_in` and `copy_out`.
class device_memory {
 public:
  explicit device_memory(std::size_t bytes)
      : contents_(bytes),
        addresses_(mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
    if (addresses_ == MAP_FAILED) {
      std::abort();
    }
  }
  ~device_memory() { munmap(addresses_, contents_.size()); }
  device_memory(const device_memory&) = delete;
  device_memory& operator=(const device_memory&) = delete;

  [[nodiscard]] std::byte* address() const { return static_cast<std::byte*>(addresses_); }
  [[nodiscard]] isa::region region() {
    return {static_cast<std::int64_t>(reinterpret_cast<std::intptr_t>(addresses_)), contents_};
  }
  void copy_in(std::span<const float> from) {
    std::memcpy(contents_.data(), from.data(), from.size_bytes());
    host_bytes += static_cast<std::int64_t>(from.size_bytes());
  }
  void copy_out(std::span<float> to) const {
    std::memcpy(to.data(), contents_.data(), to.size_bytes());
    host_bytes += static_cast<std::int64_t>(to.size_bytes());
  }

 private:
  std::vector<std::byte> contents_;
  void* addresses_;
};

std::vector<isa::region> bus;  // every device's memory, which all can reach

/// Runs a program that moves `n` floats on one accelerator: `into = left`, or `left + right`.
void launch(std::byte* into, const std::byte* left, const std::byte* right, std::size_t n) {
  constexpr std::int32_t most = 16384;  // of a tile: three of them fit into the scratchpad
  const auto cols = static_cast<std::int32_t>(n);
  isa::builder b(3);
  const auto view = [&](int argument) {
    return isa::global_view{isa::element::f32, b.argument(argument), 1, cols, cols, 1};
  };
  const auto x = b.allocate(isa::element::f32, 1, most);
  const auto y = b.allocate(isa::element::f32, 1, most);
  for (std::int32_t at = 0; at < cols; at += most) {
    const auto part = [&](const isa::scratch_tile& t) {
      return t.part(0, 0, 1, std::min(most, cols - at));
    };
    b.load(0, part(x), view(1), 0, at);
    if (right != nullptr) {
      b.load(0, part(y), view(2), 0, at);
      b.signal(isa::dma_unit(0), 0);
      b.wait(isa::vector_unit, 0);
      b.binary(isa::opcode::v_add, part(x), part(x), part(y));
      b.signal(isa::vector_unit, 1);
      b.wait(isa::dma_unit(0), 1);
    }
    b.store(0, part(x), view(0), 0, at);
  }
  const auto number = [](const std::byte* p) {
    return static_cast<std::int64_t>(reinterpret_cast<std::intptr_t>(p));
  };
  const auto report = isa::simulate(machine, b.finish(), bus,
                                    std::array{number(into), number(left), number(right)});
  loaded_bytes += report.bytes_loaded;
  stored_bytes += report.bytes_stored;
}

/// A rank is an accelerator. Models `comm::LendingTransport`: `comm::threads` brings the sender's
/// address, the receiver's DMA reads what is there.
class peer_dma {
 public:
  struct request {
    comm::threads::request inner;
    std::span<std::byte> place = {};  // of a receive that has one
    bool moved = false;
  };

  explicit peer_dma(comm::threads& inner) : inner_(&inner) {}
  [[nodiscard]] int rank() const { return inner_->rank(); }
  [[nodiscard]] int size() const { return inner_->size(); }

  request isend(int to, std::span<const std::byte> out, int tag) {
    return {inner_->isend(to, out, tag)};
  }
  request irecv(int from, std::span<std::byte> in, int tag) {
    return {inner_->iborrow(from, in.size(), tag), in};
  }
  request iborrow(int from, std::size_t bytes, int tag) {
    return {inner_->iborrow(from, bytes, tag)};
  }
  [[nodiscard]] std::span<const std::byte> borrowed(const request& r) const {
    return inner_->borrowed(r.inner);
  }
  void give_back(request& r) { inner_->give_back(r.inner); }

  bool test(request& r) {
    if (!r.moved && inner_->test(r.inner)) {
      arrived(r);
    }
    return r.moved;
  }
  void wait(request& r) {
    if (!r.moved) {
      inner_->wait(r.inner);
      arrived(r);
    }
  }

 private:
  void arrived(request& r) {
    r.moved = true;
    if (r.place.data() != nullptr) {
      launch(r.place.data(), borrowed(r).data(), nullptr, r.place.size() / sizeof(float));
      give_back(r);
    }
  }
  comm::threads* inner_;
};
static_assert(comm::LendingTransport<peer_dma>);

std::vector<float> values_of(int rank) {
  std::vector<float> v(count);
  for (std::size_t i = 0; i < count; ++i) {
    v[i] = static_cast<float>((i * 31 + static_cast<std::size_t>(rank) * 17) % 1009) / 7.0f;
  }
  return v;
}

}  // namespace

int main() {
  std::array<device_memory, ranks> memories{device_memory(count * 4), device_memory(count * 4),
                                            device_memory(count * 4), device_memory(count * 4)};
  for (int rank = 0; rank < ranks; ++rank) {
    memories[static_cast<std::size_t>(rank)].copy_in(values_of(rank));
    bus.push_back(memories[static_cast<std::size_t>(rank)].region());
  }
  const std::int64_t before = host_bytes;
  comm::run(ranks, [&](comm::threads& t) {
    peer_dma link(t);
    comm::memory_of memory;
    memory.data = memories[static_cast<std::size_t>(t.rank())].address();
    memory.element_bytes = sizeof(float);
    memory.reduce = launch;
    comm::execute(link, comm::ring{}.all_reduce(comm::problem::even(ranks, t.rank(), count, 4)),
                  memory, {comm::collective::all_reduce, count, ashlar::dtype::float32, "sum"});
  });
  const std::int64_t through_host = host_bytes - before;

  const auto expected = comm::run(ranks, [](comm::threads& t) {
    auto mine = values_of(t.rank());
    comm::all_reduce<comm::ring>(t, std::span(mine));
    return mine;
  });
  int right = 0;
  for (int rank = 0; rank < ranks; ++rank) {
    std::vector<float> got(count);
    memories[static_cast<std::size_t>(rank)].copy_out(got);
    right += got == expected[static_cast<std::size_t>(rank)] ? 1 : 0;
  }
  std::printf("ring all-reduce of %zu floats in the memories of %d accelerators\n", count, ranks);
  std::printf("DMA: %lld bytes loaded, %lld stored, through the host: %lld\n",
              static_cast<long long>(loaded_bytes), static_cast<long long>(stored_bytes),
              static_cast<long long>(through_host));
  std::printf("the host's bits on %d of them\n", right);
  return right == ranks && through_host == 0 ? 0 : 1;
}

// What comes is loaded twice (to be added, to be copied), what it is added to once: 3 n (p - 1)
// floats; stored are 2 n (p - 1).
// prints: ring all-reduce of 48000 floats in the memories of 4 accelerators
// prints: DMA: 1728000 bytes loaded, 1152000 stored, through the host: 0
// prints: the host's bits on 4 of them
