// SPDX-License-Identifier: Apache-2.0
// Tile programs on an NVIDIA GPU: LLVM writes PTX, the CUDA driver loads and starts it.
//
//   example_06_gpu                     makes the kernels, checks and times them
//   example_06_gpu FILE.ptx            the same with PTX that was made before
//   example_06_gpu --write FILE.ptx    makes it, on a machine that has LLVM and needs no GPU
#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <ashlar/chip/llvm.hpp>
#include <ashlar/tile.hpp>
#include <ashlar/tile/interpret.hpp>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>
namespace al = ashlar;
namespace tile = ashlar::tile;
using matrix = std::vector<float>;

/// y = max(2 x + 1, 0), B elements per program.
template <int B>
struct affine_relu {
  static constexpr auto name = "affine_relu";
  constexpr void operator()(tile::scope& k, tile::in<float, 2> x, tile::out<float, 2> y) const {
    const auto at = k.program_id(0) * B;
    tile::store(y, max(tile::load<B>(x, 0, at) * 2 + 1, k.zeros<float, B>()), 0, at);
  }
};

/// A row per program, of at most B elements.
template <int B>
struct softmax {
  static constexpr auto name = "softmax";
  constexpr void operator()(tile::scope& k, tile::in<float, 2> x, tile::out<float, 2> y) const {
    const auto row = k.program_id(0);
    const auto a = tile::load<B>(x.outside(-std::numeric_limits<double>::infinity()), row, 0);
    const auto e = exp(a - tile::max<0>(a));
    tile::store(y, e / tile::sum<0>(e), row, 0);
  }
};

template <int B>
struct rms_norm {
  static constexpr auto name = "rms_norm";
  constexpr void operator()(tile::scope& k, tile::in<float, 2> x, tile::out<float, 2> y) const {
    const auto row = k.program_id(0);
    const auto a = tile::load<B>(x, row, 0);
    const auto mean = tile::sum<0>(a * a) / tile::cast<float>(x.extent(1));
    tile::store(y, a * rsqrt(mean + 1e-5F), row, 0);
  }
};

template <int M, int N, int K>
struct matmul {
  static constexpr auto name = "matmul";
  constexpr void operator()(tile::scope& k, tile::in<float, 2> a, tile::in<float, 2> b,
                            tile::out<float, 2> c) const {
    const auto m = k.program_id(0) * M;
    const auto n = k.program_id(1) * N;
    tile::store(c,
                k.loop(
                    0, a.extent(1), K,
                    [&](tile::index i, auto sum) {
                      return tile::dot(tile::load<M, K>(a, m, i), tile::load<K, N>(b, i, n), sum);
                    },
                    k.zeros<float, M, N>()),
                m, n);
  }
};

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
    check(call<address, const void*, std::size_t>("cuMemcpyHtoD_v2", to, from, bytes), "a copy");
  }
  void download(void* to, address from, std::size_t bytes) {
    check(call<void*, address, std::size_t>("cuMemcpyDtoH_v2", to, from, bytes), "a copy");
  }
  void copy(address to, address from, std::size_t bytes) {
    check(call<address, address, std::size_t>("cuMemcpyDtoD_v2", to, from, bytes), "a copy");
  }
  void wait() { check(call<>("cuCtxSynchronize"), "the kernel"); }

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

/// One launch of a kernel on matrices; the last is written.
struct launch {
  const char* what;
  std::size_t kernel;
  tile::grid grid;
  std::vector<std::array<std::int64_t, 2>> shapes;
  double flops = 0;  ///< 0: its speed is that of the memory
};

tile::argument argument_of(float* data, const std::array<std::int64_t, 2>& shape) {
  return tile::argument(data, std::vector<std::int64_t>(shape.begin(), shape.end()),
                        std::vector<std::int64_t>{shape[1], 1});
}

class runner {
 public:
  runner(driver& on, const al::chip::llvm_module& m, const std::vector<tile::program>& programs)
      : on_(on), module_(m), programs_(programs) {}

  /// Largest difference from the interpreter of the same program, in units of the last place.
  double check(const launch& l) {
    std::vector<matrix> host;
    for (const auto& s : l.shapes) {
      matrix x(static_cast<std::size_t>(s[0] * s[1]));
      for (std::size_t i = 0; i < x.size(); ++i) {
        x[i] = static_cast<float>(std::sin(0.37 * static_cast<double>(i + 7 * host.size())) * 3);
      }
      host.push_back(x);
    }
    const prepared p = prepare(l);
    for (std::size_t k = 0; k < host.size(); ++k) {
      on_.upload(p.memory[k], host[k].data(), host[k].size() * sizeof(float));
    }
    on_.launch(module_.functions[l.kernel], l.grid, p.arguments, p.scratch);
    on_.wait();
    matrix got(host.back().size());
    on_.download(got.data(), p.memory.back(), got.size() * sizeof(float));
    release(p);
    std::vector<tile::argument> arguments;
    for (std::size_t k = 0; k < host.size(); ++k) {
      arguments.push_back(argument_of(host[k].data(), l.shapes[k]));
    }
    tile::interpret(programs_[l.kernel], l.grid, arguments);
    double most = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      const float expected = host.back()[i];
      const double ulp = std::nextafter(std::abs(expected), INFINITY) - std::abs(expected);
      most = std::max(most, std::abs(static_cast<double>(got[i]) - expected) / ulp);
    }
    return most;
  }

  /// Returns: seconds per launch, the mean of many.
  double time(const launch& l) {
    const prepared p = prepare(l);
    const double s =
        seconds([&] { on_.launch(module_.functions[l.kernel], l.grid, p.arguments, p.scratch); });
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
    for (const auto& s : l.shapes) {
      p.memory.push_back(on_.memory(static_cast<std::size_t>(s[0] * s[1]) * sizeof(float)));
      all.emplace_back(argument_of(nullptr, s));
      std::memcpy(&all.back().data, &p.memory.back(), sizeof(void*));
    }
    const std::size_t bytes = all.size() * sizeof(all[0]);
    p.arguments = on_.memory(bytes);
    on_.upload(p.arguments, all.data(), bytes);
    p.scratch = on_.memory(static_cast<std::size_t>(module_.functions[l.kernel].scratch_bytes *
                                                    l.grid[0] * l.grid[1] * l.grid[2]));
    return p;
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

std::string compile(const std::string& ir) {
  namespace tools = al::chip::llvm_codegen;
  const tools::temporary_folder folder;
  tools::write_file(folder / "kernels.ll", ir);
  const std::string clang = tools::expect_tool("clang");
  std::vector<std::string> command{clang,          "--target=nvptx64-nvidia-cuda",
                                   "-march=sm_80", "-O3",
                                   "-S",           "-x",
                                   "ir",           folder / "kernels.ll",
                                   "-o",           folder / "kernels.ptx"};
  for (const std::string& word : tools::pointer_switch(clang)) {
    command.push_back(word);
  }
  tools::expect_run(command);
  std::stringstream ptx;
  ptx << std::ifstream(folder / "kernels.ptx").rdbuf();
  return ptx.str();
}

int run(int argc, char** argv) {
  const std::vector<tile::program> programs{
      tile::program_of<affine_relu<1024>>, tile::program_of<softmax<1024>>,
      tile::program_of<softmax<4096>>,     tile::program_of<rms_norm<1024>>,
      tile::program_of<rms_norm<4096>>,    tile::program_of<matmul<64, 64, 32>>};
  const auto module = al::chip::llvm_codegen::emit(programs, al::chip::llvm_nvptx64);
  if (argc == 3 && std::string(argv[1]) == "--write") {
    al::chip::llvm_codegen::write_file(argv[2], compile(module.text));
    return 0;
  }
  if (dlopen("libcuda.so.1", RTLD_NOW) == nullptr) {
    std::printf("SKIPPED: no CUDA driver on this machine\n");
    return 0;
  }
  std::stringstream ptx;
  argc == 2 ? ptx << std::ifstream(argv[1]).rdbuf() : ptx << compile(module.text);
  driver on(ptx.str());
  runner r(on, module, programs);

  // Edges everywhere: no extent is a multiple of its block.
  const std::vector<launch> checks{{"relu(2x+1)", 0, {4, 1, 1}, {{1, 3333}, {1, 3333}}},
                                   {"softmax", 1, {7, 1, 1}, {{7, 1000}, {7, 1000}}},
                                   {"softmax", 2, {5, 1, 1}, {{5, 4093}, {5, 4093}}},
                                   {"rms_norm", 3, {7, 1, 1}, {{7, 1000}, {7, 1000}}},
                                   {"rms_norm", 4, {5, 1, 1}, {{5, 4093}, {5, 4093}}},
                                   {"matmul", 5, {3, 3, 1}, {{131, 77}, {77, 129}, {131, 129}}}};
  bool right = true;
  for (const launch& l : checks) {
    // All but exp is rounded as the interpreter does; exp is within 2 ulp, a sum of them and a
    // quotient double that.
    const double ulp = r.check(l), allowed = std::strcmp(l.what, "softmax") == 0 ? 5 : 0;
    right = right && ulp <= allowed;
    std::printf("%-10s differs from the interpreter by %.0f ulp%s\n", l.what, ulp,
                ulp <= allowed ? "" : ": WRONG");
  }

  const double copy = 2.0 * (1 << 30) / r.time_copy(1 << 30) / 1e9;
  std::printf("%s copies %.0f GB/s\n", on.name(), copy);
  constexpr std::int64_t n = 1 << 28;
  const std::vector<launch> timed{
      {"relu(2x+1) 2^28", 0, {n / 1024, 1, 1}, {{1, n}, {1, n}}},
      {"softmax 65536x1024", 1, {65536, 1, 1}, {{65536, 1024}, {65536, 1024}}},
      {"softmax 16384x4096", 2, {16384, 1, 1}, {{16384, 4096}, {16384, 4096}}},
      {"rms_norm 65536x1024", 3, {65536, 1, 1}, {{65536, 1024}, {65536, 1024}}},
      {"rms_norm 16384x4096", 4, {16384, 1, 1}, {{16384, 4096}, {16384, 4096}}},
      {"matmul 2048^3",
       5,
       {32, 32, 1},
       {{2048, 2048}, {2048, 2048}, {2048, 2048}},
       2.0 * (1LL << 33)}};
  for (const launch& l : timed) {
    const double s = r.time(l);
    double bytes = 0;
    for (const auto& shape : l.shapes) {
      bytes += 4.0 * static_cast<double>(shape[0] * shape[1]);
    }
    if (l.flops > 0) {
      std::printf("%-20s %8.1f us %7.2f TFLOP/s\n", l.what, s * 1e6, l.flops / s / 1e12);
    } else {
      std::printf("%-20s %8.1f us %7.0f GB/s, %.2f of the copy\n", l.what, s * 1e6, bytes / s / 1e9,
                  bytes / s / 1e9 / copy);
    }
  }
  return right ? 0 : 1;
}

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
