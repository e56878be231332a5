// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>

#include "ashlar/config.hpp"
#include "ashlar/core/ceil_div.hpp"
#if defined(_OPENMP)
#include <omp.h>
#endif

namespace ashlar::chip {

namespace detail {
// 0: as many as OpenMP gives. Constant initialisation keeps the read free of a guard.
inline constinit thread_local int host_thread_setting = 0;
}  // namespace detail

/// Threads that kernels started from this thread may use; 1 inside a parallel loop and when built
/// without OpenMP.
[[nodiscard]] inline int host_threads() noexcept {
#if defined(_OPENMP)
  const int n = detail::host_thread_setting;
  if (n == 1 || omp_in_parallel() != 0) {
    return 1;
  }
  return n > 0 ? n : omp_get_max_threads();
#else
  return 1;
#endif
}

/// Sets `host_threads` for the calling thread; 0 or less goes back to the default.
inline void set_host_threads(int n) noexcept { detail::host_thread_setting = std::max(n, 0); }

/// Limits `host_threads` for a scope.
class thread_limit {
 public:
  explicit thread_limit(int n) noexcept : before_(detail::host_thread_setting) {
    set_host_threads(n);
  }
  ~thread_limit() { detail::host_thread_setting = before_; }
  thread_limit(const thread_limit&) = delete;
  thread_limit& operator=(const thread_limit&) = delete;

 private:
  int before_;
};

namespace detail {

#if defined(_OPENMP)
template <class F>
[[gnu::noinline]] void parallel_run(std::int64_t n, int threads, F& f) {
  std::exception_ptr failure;
  std::atomic<bool> failed{false};
#pragma omp parallel num_threads(threads)
  {
    const std::int64_t count = omp_get_num_threads();  // may be fewer than asked for
    const std::int64_t me = omp_get_thread_num();
    const std::int64_t each = n / count;
    const std::int64_t extra = n % count;
    const std::int64_t begin = me * each + std::min(me, extra);
    const std::int64_t end = begin + each + (me < extra ? 1 : 0);
    if (begin < end) {
      try {
        f(begin, end);
      } catch (...) {
        if (!failed.exchange(true)) {
          failure = std::current_exception();
        }
      }
    }
  }
  if (failure) {
    std::rethrow_exception(failure);
  }
}
#endif

}  // namespace detail

/// Calls `f(begin, end)` on contiguous chunks that cover 0 .. n, one chunk per thread.
///
/// Runs inline when one chunk of `grain` covers everything, with one thread, and inside another
/// parallel loop. Which thread gets which chunk depends on the number of threads, so `f` must not
/// let its results depend on the cut.
/// Throws:   what `f` throws; of several exceptions, one. Other chunks still run to their end.
/// Cost:     about a nanosecond inline; a fork and a join (microseconds) otherwise.
template <class F>
ASHLAR_INLINE void parallel_for(std::int64_t n, std::int64_t grain, F&& f) {
  if (n <= 0) {
    return;
  }
#if defined(_OPENMP)
  if (n > grain) {
    const std::int64_t chunks = ceil_div(n, std::max<std::int64_t>(grain, 1));
    const int threads = static_cast<int>(std::min<std::int64_t>(host_threads(), chunks));
    if (threads > 1) {
      detail::parallel_run(n, threads, f);
      return;
    }
  }
#else
  static_cast<void>(grain);
#endif
  f(std::int64_t{0}, n);
}

}  // namespace ashlar::chip
