// SPDX-License-Identifier: Apache-2.0
// Starts kernels of `chip::llvm_nvptx64` through the CUDA driver, checks and times them.
#pragma once
#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <ashlar/chip/llvm.hpp>
#include <ashlar/core/ceil_div.hpp>
#include <ashlar/core/dtype.hpp>
#include <ashlar/tile/argument.hpp>
#include <ashlar/tile/interpret.hpp>
#include <ashlar/tile/program.hpp>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace gpu {

namespace al = ashlar;
namespace tile = ashlar::tile;

/// The driver, found when the program runs: nothing of CUDA is needed to build it.
class driver {
 public:
  using address = unsigned long long;

  explicit driver(const std::string& ptx) {
    check(call<unsigned>("cuInit", 0), "cuInit");
    int device = 0;
    check(call<int*, int>("cuDeviceGet", &device, 0), "cuDeviceGet");
    check(call<char*, int, int>("cuDeviceGetName", name_.data(), 100, device), "cuDeviceGetName");
    void* context = nullptr;
    check(call<void**, int>("cuDevicePrimaryCtxRetain", &context, device), "a context");
    check(call<void*>("cuCtxSetCurrent", context), "cuCtxSetCurrent");
    check(call<void**, const void*>("cuModuleLoadData", &module_, ptx.c_str()), "the PTX");
    status_ = memory(4);
  }
  static bool is_there() { return dlopen("libcuda.so.1", RTLD_NOW) != nullptr; }
  [[nodiscard]] const char* name() const { return name_.data(); }

  address memory(std::size_t bytes) {
    address a = 0;
    check(call<address*, std::size_t>("cuMemAlloc_v2", &a, std::max<std::size_t>(bytes, 1)),
          "memory");
    check(call<address, unsigned char, std::size_t>("cuMemsetD8_v2", a, 0, bytes), "memory");
    return a;
  }
  void free(address a) { check(call<address>("cuMemFree_v2", a), "cuMemFree"); }
  void upload(address to, const void* from, std::size_t bytes) {
    if (bytes == 0) {
      return;
    }
    check(call<address, const void*, std::size_t>("cuMemcpyHtoD_v2", to, from, bytes), "a copy");
  }
  void download(void* to, address from, std::size_t bytes) {
    if (bytes == 0) {
      return;
    }
    check(call<void*, address, std::size_t>("cuMemcpyDtoH_v2", to, from, bytes), "a copy");
  }
  void copy(address to, address from, std::size_t bytes) {
    check(call<address, address, std::size_t>("cuMemcpyDtoD_v2", to, from, bytes), "a copy");
  }
  void wait() { check(call<>("cuCtxSynchronize"), "the kernel"); }

  /// Whether a program stopped since the last time; the launches before are done.
  bool failed() {
    std::int32_t now = 0;
    const std::int32_t none = 0;
    download(&now, status_, sizeof(now));
    upload(status_, &none, sizeof(none));
    return now != 0;
  }

  void launch(const al::chip::llvm_module::function& f, const tile::grid& grid, address arguments,
              address scratch) {
    void* kernel = nullptr;
    check(
        call<void**, void*, const char*>("cuModuleGetFunction", &kernel, module_, f.symbol.c_str()),
        f.symbol.c_str());
    std::array<void*, 3> given{&arguments, &scratch, &status_};
    const auto u = [](std::int64_t n) { return static_cast<unsigned>(n); };
    check(
        call<void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*,
             void**, void**>("cuLaunchKernel", kernel, u(grid[0]), u(grid[1]), u(grid[2]),
                             u(f.threads), 1, 1, u(f.shared_bytes), nullptr, given.data(), nullptr),
        "a launch");
  }

 private:
  template <class... A>
  int call(const char* name, A... a) {
    void* const f = dlsym(library_, name);
    if (f == nullptr) {
      throw std::runtime_error(std::string("no ") + name);
    }
    return reinterpret_cast<int (*)(A...)>(f)(a...);
  }
  static void check(int code, const char* what) {
    if (code != 0) {
      throw std::runtime_error(std::string(what) + ": CUDA error " + std::to_string(code));
    }
  }

  void* library_ = dlopen("libcuda.so.1", RTLD_NOW);
  void* module_ = nullptr;
  address status_ = 0;
  std::array<char, 100> name_{};
};

/// One launch. Arguments say the shapes and point nowhere; `memory` is theirs on the host.
struct launch {
  std::string what;
  std::size_t kernel;
  tile::grid grid;
  std::vector<tile::argument> arguments{};
  std::vector<std::vector<std::byte>> memory{};
  double allowed = 0;  ///< units of the last place between the GPU and the interpreter
  double flops = 0;    ///< 0: its speed is that of the memory
};

/// Puts launches together; rows begin at multiples of the alignment.
class launch_maker {
 public:
  launch_maker(std::string what, std::size_t kernel, const tile::grid& grid, std::size_t alignment,
               bool filled)
      : made_{std::move(what), kernel, grid}, alignment_(alignment), filled_(filled) {}

  /// Views; their elements are numbers around 0, of integers 0 to 6.
  template <class T>
  launch_maker& views(std::initializer_list<std::vector<std::int64_t>> all) {
    std::for_each(all.begin(), all.end(), [&](const auto& extents) { view<T>(extents); });
    return *this;
  }
  template <class T>
  launch_maker& view(const std::vector<std::int64_t>& extents) {
    std::vector<std::int64_t> strides(extents.size());
    const auto unit = static_cast<std::int64_t>(std::max(alignment_ / sizeof(T), std::size_t{1}));
    std::int64_t size = 1;
    for (std::size_t a = extents.size(); a-- > 0;) {
      strides[a] = size;
      size = al::ceil_div(size * std::max<std::int64_t>(extents[a], 1), unit) * unit;
    }
    made_.arguments.push_back(tile::argument(static_cast<T*>(nullptr), extents, strides));
    std::vector<std::byte> bytes(filled_ ? static_cast<std::size_t>(size) * sizeof(T) : 0);
    for (std::size_t i = 0; i < bytes.size() / sizeof(T); ++i) {
      const double x = std::sin(0.37 * static_cast<double>(i + 7 * made_.memory.size())) * 3;
      const T y = std::is_integral_v<T> ? T(i * 5 % 7) : T(static_cast<float>(x));
      std::memcpy(bytes.data() + i * sizeof(T), &y, sizeof(T));
    }
    made_.memory.push_back(std::move(bytes));
    return *this;
  }
  template <class T>
  launch_maker& number(T x) {
    made_.arguments.push_back(tile::argument(x));
    made_.memory.emplace_back();
    return *this;
  }
  launch_maker& allow(double ulp) {
    made_.allowed = ulp;
    return *this;
  }
  launch_maker& flops(double n) {
    made_.flops = n;
    return *this;
  }
  [[nodiscard]] launch done() const { return made_; }

 private:
  launch made_;
  std::size_t alignment_;
  bool filled_;
};

/// Bytes from a view's first element to its last.
inline std::size_t bytes_of(const tile::argument& a) {
  std::int64_t last = 0;
  for (int axis = 0; axis < a.rank; ++axis) {
    const auto u = static_cast<std::size_t>(axis);
    last += std::max<std::int64_t>(a.extents[u] - 1, 0) * a.strides[u];
  }
  return a.rank < 0 ? 0 : static_cast<std::size_t>(last + 1) * al::size_of(a.element);
}
/// Bytes of its elements.
inline double read_bytes(const tile::argument& a) {
  double n = a.rank < 0 ? 0 : static_cast<double>(al::size_of(a.element));
  for (int axis = 0; axis < a.rank; ++axis) {
    n *= static_cast<double>(a.extents[static_cast<std::size_t>(axis)]);
  }
  return n;
}

/// How many numbers lie between two floats; of other types, whether they differ.
inline double distance(al::dtype element, std::span<const std::byte> a,
                       std::span<const std::byte> b) {
  double most = 0;
  tile::eval::with_scalar(element, [&]<class T>(std::type_identity<T>) {
    for (std::size_t i = 0; i < a.size() / sizeof(T); ++i) {
      T x, y;
      std::memcpy(&x, a.data() + i * sizeof(T), sizeof(T));
      std::memcpy(&y, b.data() + i * sizeof(T), sizeof(T));
      if (std::memcmp(&x, &y, sizeof(T)) == 0) {
        continue;
      }
      const auto p = static_cast<double>(x), q = static_cast<double>(y);
      const float size = std::abs(static_cast<float>(q));
      const double ulp = std::nextafter(size, INFINITY) - size;
      const double apart = std::abs(p - q) / ulp;
      most = p != p && q != q                             ? most
             : std::is_same_v<T, float> && apart == apart ? std::max(most, apart)
                                                          : std::numeric_limits<double>::infinity();
    }
  });
  return most;
}

class runner {
 public:
  runner(driver& on, const al::chip::llvm_module& m, const std::vector<tile::program>& programs)
      : on_(on), module_(m), programs_(programs) {}

  /// Largest difference from the interpreter of the same program, in units of the last place.
  double check(launch l) {
    const prepared p = prepare(l);
    for (std::size_t k = 0; k < l.memory.size(); ++k) {
      on_.upload(p.memory[k], l.memory[k].data(), l.memory[k].size());
      l.arguments[k].data = l.memory[k].data();
    }
    start(l, p);
    on_.wait();
    tile::interpret(programs_[l.kernel], l.grid, l.arguments);
    double most = on_.failed() ? std::numeric_limits<double>::infinity() : 0;
    for (std::size_t k = 0; k < l.memory.size(); ++k) {
      std::vector<std::byte> got(l.memory[k].size());
      on_.download(got.data(), p.memory[k], got.size());
      most = std::max(most, distance(l.arguments[k].element, got, l.memory[k]));
    }
    release(p);
    return most;
  }

  /// Returns: seconds per launch, the mean of many.
  double time(const launch& l) {
    const prepared p = prepare(l);
    const double s = seconds([&] { start(l, p); });
    release(p);
    return s;
  }
  double time_copy(std::size_t bytes) {
    const auto from = on_.memory(bytes), to = on_.memory(bytes);
    const double s = seconds([&] { on_.copy(to, from, bytes); });
    on_.free(from);
    on_.free(to);
    return s;
  }

 private:
  struct prepared {
    std::vector<driver::address> memory;
    driver::address arguments, scratch;
  };
  prepared prepare(const launch& l) {
    prepared p{};
    std::vector<al::chip::llvm_argument> all;
    for (std::size_t k = 0; k < l.arguments.size(); ++k) {
      const tile::argument& a = l.arguments[k];
      // What is copied there ends with whole rows.
      p.memory.push_back(on_.memory(std::max({bytes_of(a), l.memory[k].size(), std::size_t{256}})));
      all.emplace_back(a);
      std::memcpy(&all.back().data, &p.memory.back(), sizeof(void*));
    }
    const std::size_t bytes = all.size() * sizeof(all[0]);
    p.arguments = on_.memory(bytes);
    on_.upload(p.arguments, all.data(), bytes);
    p.scratch = on_.memory(static_cast<std::size_t>(module_.functions[l.kernel].scratch_bytes *
                                                    l.grid[0] * l.grid[1] * l.grid[2]));
    return p;
  }
  void start(const launch& l, const prepared& p) {
    if (l.grid[0] * l.grid[1] * l.grid[2] > 0) {  // CUDA refuses a grid without places
      on_.launch(module_.functions[l.kernel], l.grid, p.arguments, p.scratch);
    }
  }
  void release(const prepared& p) {
    std::for_each(p.memory.begin(), p.memory.end(), [&](auto a) { on_.free(a); });
    on_.free(p.arguments);
    on_.free(p.scratch);
  }
  template <class F>
  double seconds(const F& start) {
    start();
    on_.wait();
    const auto before = std::chrono::steady_clock::now();
    constexpr int times = 50;
    for (int i = 0; i < times; ++i) {
      start();
    }
    on_.wait();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - before).count() / times;
  }

  driver& on_;
  const al::chip::llvm_module& module_;
  const std::vector<tile::program>& programs_;
};

}  // namespace gpu
