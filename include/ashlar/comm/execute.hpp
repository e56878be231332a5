// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "ashlar/comm/operation.hpp"
#include "ashlar/comm/reduce.hpp"
#include "ashlar/comm/schedule.hpp"
#include "ashlar/comm/transport.hpp"

namespace ashlar::comm {

/// A transport that keeps a record of what its ranks join: see `flight_recorder`.
///
/// `enter` numbers an operation among those of its tag; `compare` throws `collective_mismatch`
/// where the peer's operation of that number is another one; `absent` says who has not joined.
template <class T>
concept RecordingTransport =
    Transport<T> && requires(T& t, const operation& o, std::size_t number, int peer) {
      { t.enter(o) } -> std::same_as<std::size_t>;
      t.exit(o, number);
      t.compare(o, number, peer);
      { t.absent(o, number) } -> std::same_as<std::vector<rank_report>>;
    };

/// One whose ranks need not all enter: `enter` asks nobody. See `checked` for one that does.
template <class T>
concept SilentlyRecording = RecordingTransport<T> && !requires { requires T::enter_asks_all; };

/// A transport that notes down when collectives begin and end: see `traced`.
template <class T>
concept TimedTransport = Transport<T> && requires(T& t, const operation& o, std::int64_t at) {
  { t.began() } -> std::same_as<std::int64_t>;
  t.ended(o, at);
};

/// A transport that is told which round of a schedule sends what it is given next, and 0 when that
/// is over: see `logged`.
template <class T>
concept SteppedTransport = Transport<T> && requires(T& t, int step) { t.sends_of(step); };

/// A transport that is told of collectives when its rank begins and waits for them: see `recorded`.
///
/// `plans` gives a number, for `awaits`.
template <class T>
concept PlanningTransport =
    Transport<T> && requires(T& t, const operation& o, const schedule& plan,
                             std::size_t element_bytes, std::size_t number) {
      { t.plans(o, plan, element_bytes) } -> std::same_as<std::size_t>;
      t.awaits(number);
    };

/// The memory that a schedule works on, of elements whose type only `reduce` knows.
struct memory_of {
  const std::byte* input = nullptr;
  std::byte* data = nullptr;
  std::size_t element_bytes = 1;
  reducer reduce = nullptr;  ///< not asked for by schedules that only move
  /// Called with part `finished` of the data and the number of ranks when all is done.
  void (*finish)(std::byte*, std::size_t, int) = nullptr;
  chunk finished = {0, 0};
  /// What `place::piece` counts.
  std::byte* const* pieces = nullptr;
};

namespace detail {

/// Where the elements of steps lie.
class resolver {
 public:
  resolver(const memory_of& m, std::byte* scratch) : memory_(m), scratch_(scratch) {}

  [[nodiscard]] const std::byte* read(region r) const {
    if (r.in == place::piece) {
      return memory_.pieces[r.first];
    }
    const std::byte* const base = r.in == place::input  ? memory_.input
                                  : r.in == place::data ? memory_.data
                                                        : scratch_;
    return base == nullptr ? nullptr : base + r.first * memory_.element_bytes;
  }
  [[nodiscard]] std::byte* write(region r) const {
    if (r.in == place::piece) {
      return memory_.pieces[r.first];
    }
    std::byte* const base = r.in == place::data ? memory_.data : scratch_;
    return base == nullptr ? nullptr : base + r.first * memory_.element_bytes;
  }
  [[nodiscard]] std::size_t bytes(const step& s) const { return s.count * memory_.element_bytes; }

  void reduce(const step& s, const std::byte* arrived) const {
    std::byte* const to = write(s.to);
    if (s.count != 0) {
      s.arrived_is_left ? memory_.reduce(to, arrived, to, s.count)
                        : memory_.reduce(to, to, arrived, s.count);
    }
  }
  /// The steps that need nobody else.
  void local(const step& s) const {
    if (s.does == verb::reduce) {
      reduce(s, read(s.from));
    } else if (s.does == verb::copy && s.count != 0) {
      std::memmove(write(s.to), read(s.from), bytes(s));
    }
  }

 private:
  memory_of memory_;
  std::byte* scratch_;
};

}  // namespace detail

/// One rank's schedule under way on a transport.
///
/// Several may be under way at once, with tags of their own. `test` makes progress and says whether
/// it has ended; `wait` waits for that. What the transport throws ends it, withdraws its messages
/// and leaves `data` partly changed.
/// Requires: transport and memory outlive it. Every rank begins its schedule of the same collective
///           with the same tag.
template <Transport Tr>
class running {
 public:
  running(Tr& t, schedule plan, const memory_of& memory, const operation& what)
      : transport_(&t),
        plan_(std::move(plan)),
        memory_(memory),
        what_(what),
        scratch_(plan_.scratch() == 0 ? nullptr
                                      : std::make_unique_for_overwrite<std::byte[]>(
                                            plan_.scratch() * memory.element_bytes)),
        at_(memory, scratch_.get()) {
    if constexpr (RecordingTransport<Tr>) {
      number_ = t.enter(what_);
    }
    if constexpr (TimedTransport<Tr>) {
      began_ = t.began();
    }
    if constexpr (PlanningTransport<Tr>) {
      planned_ = t.plans(what_, plan_, memory_.element_bytes);
    }
    begin();
    conclude();
  }
  running(running&&) = default;
  running& operator=(running&&) = delete;  // what is under way writes to the scratch memory
  ~running() = default;

  [[nodiscard]] bool done() const { return round_ >= plan_.rounds(); }

  /// Returns: whether the schedule has ended.
  bool test() {
    return advance([this](message& m) {
      place_sends();
      return test(m);
    });
  }

  void wait() {
    if constexpr (PlanningTransport<Tr>) {
      transport_->awaits(planned_);
    }
    advance([this](message& m) {
      for (int i = 0; i < looks && place_sends(); ++i) {
        if (m.ended || test(m)) {
          return true;
        }
      }
      if (!m.ended) {
        wait(m);
      }
      return true;
    });
  }

  /// The round that is under way.
  [[nodiscard]] int round() const { return round_; }

 private:
  /// How often who waits for a message looks at what it sends as well, before it only waits.
  static constexpr int looks = 256;
  /// Whoever comes first moves a message shorter than this. [bytes]
  static constexpr std::size_t short_message = 4096;

  struct buffer {
    std::unique_ptr<std::byte[]> bytes;
    std::size_t size = 0;
  };
  struct message {
    std::size_t step;
    buffer staged;  // freed after the request that writes it
    typename Tr::request request;
    bool ended = false;
  };

  /// Memory of a round that is over, or new memory.
  buffer room_for(std::size_t bytes) {
    const auto at = std::ranges::find_if(spare_, [&](const buffer& b) { return b.size >= bytes; });
    if (at == spare_.end()) {
      return {std::make_unique_for_overwrite<std::byte[]>(bytes), bytes};
    }
    buffer found = std::move(*at);
    spare_.erase(at);
    return found;
  }

  void begin() {
    for (; !done(); ++round_) {
      plan_.round(round_, steps_);
      if constexpr (SteppedTransport<Tr>) {
        transport_->sends_of(round_);
      }
      // Places first: who finds its message's place there can put it in.
      for (std::size_t i = 0; i < steps_.size(); ++i) {
        const step& s = steps_[i];
        if (s.does == verb::receive) {
          messages_.push_back(
              {i, {}, transport_->irecv(s.peer, {at_.write(s.to), at_.bytes(s)}, what_.tag)});
        } else if (s.does == verb::receive_reduce) {
          if constexpr (LendingTransport<Tr>) {
            messages_.push_back({i, {}, transport_->iborrow(s.peer, at_.bytes(s), what_.tag)});
          } else {
            buffer staged = room_for(at_.bytes(s));
            const std::span<std::byte> in(staged.bytes.get(), at_.bytes(s));
            messages_.push_back({i, std::move(staged), transport_->irecv(s.peer, in, what_.tag)});
          }
        }
      }
      for (std::size_t i = 0; i < steps_.size(); ++i) {
        const step& s = steps_[i];
        if (s.sends()) {
          messages_.push_back(
              {i, {}, transport_->isend(s.peer, {at_.read(s.from), at_.bytes(s)}, what_.tag)});
        }
      }
      if constexpr (SteppedTransport<Tr>) {
        transport_->sends_of(0);
      }
      if (!messages_.empty()) {
        return;
      }
      local();
    }
  }

  /// Goes on, receives of a round before its sends, until `ended` says of a message that it has
  /// not. Returns: whether the schedule has ended.
  template <class F>
  bool advance(const F& ended) {
    return guarded([&] {
      while (!done()) {
        for (; received_ < messages_.size(); ++received_) {
          message& m = messages_[received_];
          if (!steps_[m.step].sends()) {
            if (!ended(m)) {
              return false;
            }
            arrived(m);
          }
        }
        for (; sent_ < messages_.size(); ++sent_) {
          message& m = messages_[sent_];
          if (steps_[m.step].sends() && !m.ended && !ended(m)) {
            return false;
          }
        }
        end();
      }
      return true;
    });
  }

  /// Moves what this rank sends, while it is in this core's cache, where messages are moved by
  /// whoever comes first. Returns: whether more is to be moved.
  bool place_sends() {
    bool more = false;
    if constexpr (LendingTransport<Tr>) {
      for (message& m : messages_) {
        const step& s = steps_[m.step];
        if (!m.ended && s.sends() && at_.bytes(s) >= short_message) {
          m.ended = test(m);
          more = more || !m.ended;
        }
      }
    }
    return more;
  }

  void arrived(message& m) {
    const step& s = steps_[m.step];
    if (s.does == verb::receive_reduce) {
      if constexpr (LendingTransport<Tr>) {
        at_.reduce(s, transport_->borrowed(m.request).data());
        transport_->give_back(m.request);
      } else {
        at_.reduce(s, m.staged.bytes.get());
      }
    }
  }

  /// After an exception nothing is under way any more.
  template <class F>
  auto guarded(const F& f) {
    try {
      return f();
    } catch (...) {
      messages_.clear();
      round_ = plan_.rounds();
      throw;
    }
  }

  bool test(message& m) {
    return told(m, [&] { return transport_->test(m.request); });
  }
  void wait(message& m) {
    told(m, [&] { transport_->wait(m.request); });
  }
  /// `f()`; what it throws is told in words of collectives where the transport has records of them.
  template <class F>
  auto told(const message& m, const F& f) {
    if constexpr (RecordingTransport<Tr>) {
      try {
        return f();
      } catch (const timed_out&) {
        throw collective_timed_out(what_, transport_->rank(), transport_->absent(what_, number_));
      } catch (const size_mismatch&) {
        transport_->compare(what_, number_, steps_[m.step].peer);
        throw;  // the same collective, so its schedule is wrong
      }
    } else {
      return f();
    }
  }

  void local() {
    for (const step& s : steps_) {
      at_.local(s);
    }
  }

  void end() {
    if constexpr (RecordingTransport<Tr>) {
      // Whoever has sent us something has entered, so its record is there.
      for (const step& s : steps_) {
        if (!compared_ && s.receives()) {
          transport_->compare(what_, number_, s.peer);
          compared_ = true;
        }
      }
    }
    for (message& m : messages_) {
      if (m.staged.bytes) {
        spare_.push_back(std::move(m.staged));
      }
    }
    messages_.clear();
    received_ = 0;
    sent_ = 0;
    local();
    ++round_;
    begin();
    conclude();
  }

  void conclude() {
    if (done()) {
      if (memory_.finish != nullptr) {
        memory_.finish(memory_.data + memory_.finished.first * memory_.element_bytes,
                       memory_.finished.size(), transport_->size());
      }
      if constexpr (RecordingTransport<Tr>) {
        transport_->exit(what_, number_);
      }
      if constexpr (TimedTransport<Tr>) {
        transport_->ended(what_, began_);
      }
    }
  }

  Tr* transport_;
  schedule plan_;
  memory_of memory_;
  operation what_;
  std::unique_ptr<std::byte[]> scratch_;
  detail::resolver at_;
  std::size_t number_ = 0;   // of the operation, in the transport's records
  std::int64_t began_ = 0;   // by the transport's clock
  std::size_t planned_ = 0;  // of the schedule, in the transport's program
  bool compared_ = false;
  int round_ = 0;
  round_steps steps_;
  std::vector<buffer> spare_;
  std::vector<message> messages_;
  std::size_t received_ = 0;
  std::size_t sent_ = 0;
};

/// Runs one rank's schedule to its end.
template <Transport Tr>
void execute(Tr& t, schedule plan, const memory_of& memory, const operation& what) {
  running<Tr>(t, std::move(plan), memory, what).wait();
}

}  // namespace ashlar::comm
