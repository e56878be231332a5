// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/dispatch/keys.hpp"
#include "ashlar/dispatch/op.hpp"
#include "ashlar/dispatch/step.hpp"
#include "ashlar/trace/chrome.hpp"
#include "ashlar/trace/timeline.hpp"

/// A key that times and counts calls.
namespace ashlar {

namespace keys {
/// Calls of tensors with this key tell the thread's `profiler`, where there is one. It stands above
/// all other keys of the library, so times are those of the whole call, recording and casts of the
/// keys below included. Cost without a profiler: one thread-local read.
struct profile {
  static constexpr int priority = 900;
  static constexpr std::string_view name = "profile";
};
}  // namespace keys

/// What one operator took on arguments of the same shapes.
struct profile_row {
  std::string op;      ///< and its form, where that is `out=` or in place
  std::string shapes;  ///< of the tensor arguments, with their element types
  std::int64_t calls = 0;
  std::int64_t total = 0;  ///< [ns]; so all below
  std::int64_t self = 0;   ///< without the calls that were made inside
  std::int64_t least = 0, most = 0;

  friend bool operator==(const profile_row&, const profile_row&) = default;
};

struct profile_options {
  /// Waits for the queue after each call, so that times are those of the work. Where a chip's
  /// launches return at once, they are otherwise those of enqueueing.
  bool wait = false;
  /// The clock. [ns]
  std::int64_t (*now)() = [] {
    return static_cast<std::int64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                         std::chrono::steady_clock::now().time_since_epoch())
                                         .count());
  };
};

/// Hears the calls of the threads that it listens to.
///
/// `{ const profiler::listening on(p); model(x); }`, then `p.table()`. Several threads may share
/// one. Cost: about 200 bytes and a microsecond per call.
class profiler {
 public:
  explicit profiler(profile_options options = {}) : options_(options), began_(options.now()) {}
  profiler(const profiler&) = delete;
  profiler& operator=(const profiler&) = delete;

  /// This thread's calls go to `p` for as long as it lives. Scopes nest; the innermost one hears.
  class listening {
   public:
    explicit listening(profiler& p) : before_(std::exchange(current(), &p)) {}
    ~listening() { current() = before_; }
    listening(const listening&) = delete;
    listening& operator=(const listening&) = delete;

   private:
    profiler* before_;
  };

  /// A call from its beginning to the end of this object's life.
  class call {
   public:
    call(profiler& p, std::string op, std::string shapes)
        : to_(p),
          op_(std::move(op)),
          shapes_(std::move(shapes)),
          around_(std::exchange(innermost(), this)),
          start_(p.options_.now()) {}
    ~call() {
      const std::int64_t took = to_.options_.now() - start_;
      innermost() = around_;
      if (around_ != nullptr) {
        around_->inside_ += took;
      }
      to_.add({std::move(op_), std::move(shapes_), 0, start_, took, took - inside_});
    }
    call(const call&) = delete;
    call& operator=(const call&) = delete;

   private:
    static call*& innermost() {
      static constinit thread_local call* c = nullptr;
      return c;
    }
    profiler& to_;
    std::string op_, shapes_;
    call* around_;
    std::int64_t start_;
    std::int64_t inside_ = 0;
  };

  /// Who listens to this thread, or null.
  static profiler*& current() {
    static constinit thread_local profiler* p = nullptr;
    return p;
  }
  [[nodiscard]] const profile_options& options() const { return options_; }

  /// One row for each operator and list of shapes, the largest total first.
  [[nodiscard]] std::vector<profile_row> rows() const {
    const std::lock_guard hold(mutex_);
    std::map<std::pair<std::string_view, std::string_view>, profile_row> all;
    for (const record& r : records_) {
      profile_row& row = all[{r.op, r.shapes}];
      row.least = row.calls == 0 ? r.took : std::min(row.least, r.took);
      row.most = std::max(row.most, r.took);
      row.total += r.took;
      row.self += r.self;
      ++row.calls;
    }
    std::vector<profile_row> rows;
    for (auto& [key, row] : all) {
      row.op = key.first;
      row.shapes = key.second;
      rows.push_back(std::move(row));
    }
    std::stable_sort(rows.begin(), rows.end(),
                     [](const profile_row& a, const profile_row& b) { return a.total > b.total; });
    return rows;
  }

  /// The rows as text, times in microseconds.
  [[nodiscard]] std::string table() const {
    const std::vector<profile_row> all = rows();
    std::size_t width = 8;
    for (const profile_row& r : all) {
      width = std::max(width, r.op.size());
    }
    const auto right = [](std::string text) {
      return std::string(text.size() < 11 ? 11 - text.size() : 1, ' ') + text;
    };
    const auto time = [&](std::int64_t ns) {
      const std::string digits = std::to_string(ns / 10 % 100);
      return right(std::to_string(ns / 1000) + '.' + (digits.size() < 2 ? "0" : "") + digits);
    };
    const auto left = [&](const std::string& text) {
      return text + std::string(width - text.size(), ' ');
    };
    std::string text = left("operator") + right("calls") + right("total us") + right("self us") +
                       right("least us") + right("most us") + "  shapes\n";
    for (const profile_row& r : all) {
      text += left(r.op) + right(std::to_string(r.calls)) + time(r.total) + time(r.self) +
              time(r.least) + time(r.most) + "  " + r.shapes + '\n';
    }
    return text;
  }

  /// Every call as an event, a lane for each thread.
  [[nodiscard]] trace::timeline timeline() const {
    const std::lock_guard hold(mutex_);
    trace::timeline t;
    t.ticks_per_microsecond = 1000;
    for (int lane = 0; lane < static_cast<int>(threads_.size()); ++lane) {
      t.name_lane(0, lane, "thread " + std::to_string(lane));
    }
    for (const record& r : records_) {
      t.add({.name = r.op,
             .category = "operator",
             .lane = r.lane,
             .start = r.start - began_,
             .duration = r.took,
             .details = {{"shapes", r.shapes}}});
    }
    return t;
  }
  /// Writes the timeline to a file that `chrome://tracing` and Perfetto open.
  /// Throws: `argument_error` where the file cannot be written.
  void write_chrome_trace(const std::filesystem::path& path) const {
    std::ofstream file(path, std::ios::binary);
    file << trace::to_chrome_trace(timeline());
    if (!file.flush()) {
      throw argument_error("ashlar::profiler::write_chrome_trace",
                           path.string() + " cannot be written; give another path");
    }
  }

  void clear() {
    const std::lock_guard hold(mutex_);
    records_.clear();
  }

 private:
  struct record {
    std::string op, shapes;
    int lane;
    std::int64_t start, took, self;
  };

  void add(record r) {
    const std::lock_guard hold(mutex_);
    const auto me = std::this_thread::get_id();
    const auto found = std::find(threads_.begin(), threads_.end(), me);
    r.lane = static_cast<int>(found - threads_.begin());
    if (found == threads_.end()) {
      threads_.push_back(me);
    }
    records_.push_back(std::move(r));
  }

  profile_options options_;
  std::int64_t began_;
  mutable std::mutex mutex_;
  std::vector<record> records_;
  std::vector<std::thread::id> threads_;  ///< by lane
};

template <>
struct fallback<keys::profile> {
  template <class Step, class... A>
  ASHLAR_INLINE static decltype(auto) impl(Step next, A&... args) {
    if (profiler* const p = profiler::current()) [[unlikely]] {
      return heard(*p, next, args...);
    }
    return next(args...);
  }

 private:
  template <class Step, class... A>
  [[gnu::noinline]] static decltype(auto) heard(profiler& p, Step next, A&... args) {
    const profiler::call now(p, title<Step>(), shapes(args...));
    if constexpr (std::is_void_v<decltype(next(args...))>) {
      next(args...);
      finish<Step>(p);
    } else {
      decltype(auto) returned = next(args...);
      finish<Step>(p);
      return returned;  // by reference or by value, as it came
    }
  }
  template <class Step>
  static void finish(const profiler& p) {
    if (p.options().wait) {
      context<chip_of<typename Step::keys>>::current().queue.wait();
    }
  }
  template <class Step>
  static std::string title() {
    return std::string(Step::op::name) + (Step::kind == form::out        ? " out="
                                          : Step::kind == form::in_place ? " in place"
                                                                         : "");
  }
  template <class... A>
  static std::string shapes(const A&... args) {
    std::string text;
    const auto append = [&]<class X>(const X& x) {
      if constexpr (Tensor<X>) {
        text += text.empty() ? "" : " ";
        text += x ? std::string(name_of(x.spec().type)) + to_string(x.shape()) : "none";
      }
    };
    (append(args), ...);
    return text;
  }
};

}  // namespace ashlar
