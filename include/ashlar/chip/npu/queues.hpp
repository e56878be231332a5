// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <exception>
#include <functional>
#include <iostream>
#include <mutex>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/chip/npu/chip.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/memory/resource.hpp"
#include "ashlar/tile/argument.hpp"
#include "ashlar/tile/program.hpp"

/// The accelerator with queues that defer: launches return at once, and happen when somebody waits.
///
/// What a wait needs happens, in the order of each queue, and nothing else: programs that forget a
/// wait get other results, always the same ones. Before that they get an error, because every
/// launch is checked against those that nothing orders it after.
namespace ashlar::chip::npu_queues {

using memory::queue_id;

/// One launch, for messages.
struct launch_name {
  queue_id queue = 0;
  std::uint64_t number = 0;  ///< among what was enqueued on the queue, counted from 1
  std::string op;            ///< whose kernel it is; the program's name where no operator called

  [[nodiscard]] std::string to_string() const {
    return "launch " + std::to_string(number) + " of queue " + std::to_string(queue) + " (" + op +
           ")";
  }
  friend bool operator==(const launch_name&, const launch_name&) = default;
};

/// Two launches on different queues touch the same bytes, one of them writes, and nothing orders
/// them. The later one was not enqueued.
struct unordered_launches final : error {
  launch_name later, earlier;

  unordered_launches(launch_name second, launch_name first,
                     std::source_location where = std::source_location::current())
      : error(where), later(std::move(second)), earlier(std::move(first)) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::chip::npu: " + later.to_string() + " and " + earlier.to_string() +
           " touch the same bytes and nothing orders them; let the later queue wait_for an event "
           "of the other";
  }
};

/// The host reads or writes bytes that a launch may still be busy with. Nothing was copied.
struct unfinished_launch final : error {
  launch_name launch;
  std::string copy;  ///< `copy_in`, `copy_out` or `free`

  unfinished_launch(launch_name busy, std::string what,
                    std::source_location where = std::source_location::current())
      : error(where), launch(std::move(busy)), copy(std::move(what)) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::chip::npu: " + copy + " of bytes that " + launch.to_string() +
           " uses and the host has not waited for; wait for the queue first";
  }
};

/// For each queue, how much of it is known to be over.
class known {
 public:
  [[nodiscard]] std::uint64_t of(queue_id q) const { return q < done_.size() ? done_[q] : 0; }
  void raise(queue_id q, std::uint64_t to) {
    done_.resize(std::max<std::size_t>(done_.size(), q + std::size_t{1}));
    done_[q] = std::max(done_[q], to);
  }
  void join(const known& other) {
    for (queue_id q = 0; q < other.done_.size(); ++q) {
      raise(q, other.done_[q]);
    }
  }

 private:
  std::vector<std::uint64_t> done_;
};

/// The place that a queue had reached when it was recorded.
struct event {
  queue_id queue = 0;
  std::uint64_t number = 0;
  known behind{};  ///< what is over when it happens
};

/// Bytes that a launch reads or writes.
struct access {
  std::int64_t first = 0, last = 0;  ///< `last` excluded
  bool writes = false;
};

/// All queues of one machine. Safe to use from several threads, which are one host to it.
class scheduler {
 public:
  queue_id open() {
    const std::lock_guard hold(mutex_);
    queues_.emplace_back();
    return static_cast<queue_id>(queues_.size() - 1);
  }

  /// Throws: `unordered_launches`.
  void enqueue(queue_id q, std::string op, const std::vector<access>& touches,
               std::function<void()> run) {
    const std::lock_guard hold(mutex_);
    state& s = queues_[q];
    s.behind.join(host_);
    const launch_name name{q, s.enqueued + 1, std::move(op)};
    for (const use& u : uses_) {
      if (u.by.queue != q && u.by.number > s.behind.of(u.by.queue) &&
          std::any_of(touches.begin(), touches.end(),
                      [&](const access& a) { return conflict(a, u.what); })) {
        throw unordered_launches(name, u.by);
      }
    }
    for (const access& a : touches) {
      uses_.push_back({a, name});
    }
    push(q, {std::move(run), {}});
  }

  [[nodiscard]] event record(queue_id q) {
    const std::lock_guard hold(mutex_);
    state& s = queues_[q];
    s.behind.join(host_);
    return {q, s.enqueued, s.behind};
  }
  void wait_for(queue_id q, const event& e) {
    const std::lock_guard hold(mutex_);
    queues_[q].behind.join(e.behind);
    if (queues_[e.queue].done < e.number) {
      push(q, {{}, e});
    }
  }
  /// Whether it has happened; if so, the host knows now.
  [[nodiscard]] bool happened(const event& e) {
    const std::lock_guard hold(mutex_);
    if (queues_[e.queue].done < e.number) {
      return false;
    }
    learn(e.behind);
    return true;
  }

  /// Lets everything happen that is enqueued on the queue.
  ///
  /// Throws: the first fault of a launch since the last wait. What was enqueued then, on any queue,
  ///         is dropped; the queues stay usable.
  void wait(queue_id q) {
    const std::lock_guard hold(mutex_);
    advance(q, queues_[q].enqueued);
    learn(queues_[q].behind);
    rethrow();
  }
  /// As `wait`, up to the event; a fault is kept for the next wait that may throw.
  void wait_until(const event& e) {
    const std::lock_guard hold(mutex_);
    advance(e.queue, e.number);
    learn(e.behind);
  }
  void wait_for_all() {
    const std::lock_guard hold(mutex_);
    for (queue_id q = 0; q < queues_.size(); ++q) {
      advance(q, queues_[q].enqueued);
      learn(queues_[q].behind);
    }
  }

  /// Throws: `unfinished_launch`.
  void require_over(const access& a, const char* copy) {
    const std::lock_guard hold(mutex_);
    for (const use& u : uses_) {
      if (conflict(a, u.what)) {
        throw unfinished_launch(u.by, copy);
      }
    }
  }

 private:
  struct command {
    std::function<void()> run;  ///< empty: a wait
    event on;
  };
  struct state {
    std::deque<command> pending;
    std::uint64_t enqueued = 0, done = 0;
    known behind;  ///< what is over when the next command happens
  };
  struct use {
    access what;
    launch_name by;
  };

  static bool conflict(const access& a, const access& b) {
    return (a.writes || b.writes) && a.first < b.last && b.first < a.last;
  }

  void push(queue_id q, command c) {
    state& s = queues_[q];
    s.pending.push_back(std::move(c));
    s.behind.raise(q, ++s.enqueued);
  }

  /// Launches that the host knows to be over can be in nobody's way.
  void learn(const known& more) {
    host_.join(more);
    std::erase_if(uses_, [&](const use& u) { return u.by.number <= host_.of(u.by.queue); });
  }

  /// Not recursive: queues may wait for each other many times.
  void advance(queue_id q, std::uint64_t number) {
    std::vector<std::pair<queue_id, std::uint64_t>> wanted{{q, number}};
    while (!wanted.empty()) {
      const auto [at, until] = wanted.back();
      state& s = queues_[at];
      if (s.done >= until) {
        wanted.pop_back();
        continue;
      }
      command& next = s.pending.front();
      if (!next.run && queues_[next.on.queue].done < next.on.number) {
        wanted.emplace_back(next.on.queue, next.on.number);
        continue;
      }
      const command now = std::move(next);
      s.pending.pop_front();
      ++s.done;
      if (now.run) {
        try {
          now.run();
        } catch (...) {
          fault_ = fault_ ? fault_ : std::current_exception();
          drop_all();
        }
      }
    }
  }
  void drop_all() {
    for (state& s : queues_) {
      s.pending.clear();
      s.done = s.enqueued;
    }
  }
  void rethrow() {
    if (fault_) {
      std::rethrow_exception(std::exchange(fault_, nullptr));
    }
  }

  std::mutex mutex_;
  std::deque<state> queues_ = std::deque<state>(1);
  std::vector<use> uses_;  ///< of launches that the host has not waited for
  known host_;
  std::exception_ptr fault_;
};

/// What a launch touches: the bytes that its views reach.
inline std::vector<access> accesses(const tile::program& p,
                                    std::span<const tile::argument> arguments) {
  std::vector<access> all;
  for (int k = 0; k < p.parameter_count; ++k) {
    if (p.parameter_at(k).is_view()) {
      const auto [first, last] = tile::reach_of(arguments[static_cast<std::size_t>(k)]);
      all.push_back({first, last, p.parameter_at(k).written});
    }
  }
  return all;
}

}  // namespace ashlar::chip::npu_queues

namespace ashlar::chip {

/// The reference accelerator with any number of queues, whose launches happen when they are waited
/// for. Models: `ashlar::RunsTiles`, `ashlar::HasQueues`. The host may not address its memory.
///
/// `context<queued_npu<D>>::use_queue scope(queued_npu<D>::queue::open());` sends a thread's calls
/// to a queue of their own.
template <npu_description D>
struct queued_npu {
  static constexpr npu_description machine = D;
  static constexpr chip_description description = D.general();

  static npu_queues::scheduler& scheduler() {
    static auto& all =
        *new npu_queues::scheduler;  // tensors of static objects may outlive any order
    return all;
  }

  struct memory {
    static constexpr std::size_t alignment = npu<D>::memory::alignment;
    using event = npu_queues::event;

    static std::byte* allocate(std::size_t bytes) noexcept {
      return npu<D>::memory::allocate(bytes);
    }
    /// Waits for everything: a driver gives pages back when no launch can reach them.
    static void free(std::byte* p, std::size_t bytes) noexcept {
      scheduler().wait_for_all();
      npu<D>::memory::free(p, bytes);
    }
    /// Throws: `npu_queues::unfinished_launch`; so does `copy_out`.
    static void copy_in(std::byte* to, const void* from, std::size_t bytes) {
      scheduler().require_over(reach(to, bytes, true), "copy_in");
      std::memcpy(to, from, bytes);
    }
    static void copy_out(void* to, const std::byte* from, std::size_t bytes) {
      scheduler().require_over(reach(from, bytes, false), "copy_out");
      std::memcpy(to, from, bytes);
    }

    static event record(npu_queues::queue_id q) noexcept { return scheduler().record(q); }
    static bool happened(const event& e) noexcept { return scheduler().happened(e); }
    static void wait(const event& e) noexcept { scheduler().wait_until(e); }

   private:
    static npu_queues::access reach(const std::byte* p, std::size_t bytes, bool writes) {
      const auto first = static_cast<std::int64_t>(reinterpret_cast<std::intptr_t>(p));
      return {first, first + static_cast<std::int64_t>(bytes), writes};
    }
  };

  /// A handle: copies are the same queue. A default one is queue 0, which all threads share.
  class queue {
   public:
    queue() = default;
    /// A new one.
    static queue open() { return queue(scheduler().open()); }

    [[nodiscard]] npu_queues::queue_id id() const { return id_; }
    /// Throws: what a launch on it does wrong (the simulator's faults, `tile::execution_error`).
    void wait() { scheduler().wait(id_); }
    void wait_for(const npu_queues::event& e) { scheduler().wait_for(id_, e); }

   private:
    explicit queue(npu_queues::queue_id id) : id_(id) {}
    npu_queues::queue_id id_ = 0;
  };

  struct codegen {
    /// Compiles the program where it has not been yet, and enqueues it.
    ///
    /// Throws: `launch_error`; `npu_codegen::unsupported`, `npu_codegen::out_of_scratchpad`;
    ///         `npu_queues::unordered_launches`.
    template <class Context>
    static void run(Context& on, const tile::program& program, const tile::grid& grid,
                    std::span<const tile::argument> arguments) {
      static npu_codegen::program_cache cache(D);
      const npu_codegen::compiled& made = npu_codegen::prepare(cache, program, arguments);
      scheduler().enqueue(on.queue.id(),
                          std::string(on.running.empty() ? program.name() : on.running),
                          npu_queues::accesses(program, arguments),
                          [&made, grid, all = std::vector(arguments.begin(), arguments.end())] {
                            npu_codegen::launch(made, grid, all, {.timeline = false}, &std::cerr);
                          });
    }
  };
};

}  // namespace ashlar::chip
