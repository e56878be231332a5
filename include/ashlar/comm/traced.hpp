// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "ashlar/comm/collectives.hpp"
#include "ashlar/comm/execute.hpp"
#include "ashlar/comm/operation.hpp"
#include "ashlar/comm/timeline.hpp"
#include "ashlar/comm/transport.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/trace/timeline.hpp"

namespace ashlar::comm {

/// What one rank did, with times: computation, collectives, messages. A tick is a nanosecond.
///
/// Several threads may add to it at once.
class run_record {
 public:
  using clock = std::chrono::steady_clock;

  /// Times count from `start`, which ranks of one process share.
  explicit run_record(int rank, clock::time_point start = clock::now())
      : rank_(rank), start_(start) {
    timeline_.ticks_per_microsecond = 1e3;
  }

  [[nodiscard]] std::int64_t now() const {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(clock::now() - start_).count();
  }
  /// Adds what began at `began` and ends now.
  void add(std::string name, const char* category, int lane, const std::string& lane_name,
           std::int64_t began, std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    timeline_.name_lane(rank_, lane, "rank " + std::to_string(rank_) + " " + lane_name);
    trace::event e{std::move(name), category, rank_, lane, began, now() - began};
    if (bytes != 0) {
      e.details.emplace_back("bytes", std::to_string(bytes));
    }
    timeline_.add(std::move(e));
  }
  /// The rank computes this from here on, but while it waits in a `traced` transport; an empty name
  /// ends it. Other than `traced::compute` it is not split by who uses it, but by what it waits
  /// for.
  ///
  /// Requires: one thread of the rank calls it. What others wait for splits nothing.
  void computes(std::string name) {
    pause();
    computing_ = std::move(name);
    computer_ = std::this_thread::get_id();
    resume();
  }
  void pause() {
    if (computes_here()) {
      add(computing_, lanes::compute, 0, lanes::compute, since_, 0);
    }
  }
  void resume() {
    if (computes_here()) {
      since_ = now();
    }
  }
  /// Requires: nobody adds to it.
  [[nodiscard]] const trace::timeline& timeline() const { return timeline_; }

 private:
  [[nodiscard]] bool computes_here() const {
    return computer_.load() == std::this_thread::get_id() && !computing_.empty();
  }

  int rank_;
  clock::time_point start_;
  std::mutex mutex_;
  trace::timeline timeline_;
  std::atomic<std::thread::id> computer_ = {};
  std::string computing_;  // of that thread, as is the next
  std::int64_t since_ = 0;
};

/// A transport that also notes down when messages and collectives begin and end, and what its rank
/// computes meanwhile; a transport without it pays nothing. Models what `Inner` models.
///
/// A message ends where somebody learns of its end, by `test` or `wait`. Collectives are noted of
/// this transport and of each `group` over it; `logged` and `checked` stand below it.
template <Transport Inner>
class traced : public blocking<traced<Inner>> {
 public:
  class request {
   public:
    request() = default;

   private:
    friend class traced;
    request(typename Inner::request inner, int peer, bool sends, std::size_t bytes,
            std::int64_t began)
        : inner_(std::move(inner)), peer_(peer), sends_(sends), bytes_(bytes), began_(began) {}

    typename Inner::request inner_;
    int peer_ = -1;
    bool sends_ = false;
    bool noted_ = false;
    std::size_t bytes_ = 0;
    std::int64_t began_ = 0;
  };

  /// Requires: `inner` and `record` outlive this object.
  traced(Inner& inner, run_record& record) : inner_(&inner), record_(&record) {}

  [[nodiscard]] int rank() const { return inner_->rank(); }
  [[nodiscard]] int size() const { return inner_->size(); }

  request isend(int to, std::span<const std::byte> out, int tag) {
    const std::int64_t at = record_->now();
    return {inner_->isend(to, out, tag), to, true, out.size(), at};
  }
  request irecv(int from, std::span<std::byte> in, int tag) {
    const std::int64_t at = record_->now();
    return {inner_->irecv(from, in, tag), from, false, in.size(), at};
  }
  bool test(request& r) {
    const bool over = inner_->test(r.inner_);
    if (over) {
      note(r);
    }
    return over;
  }
  void wait(request& r) {
    record_->pause();
    try {
      inner_->wait(r.inner_);
    } catch (...) {
      record_->resume();
      throw;
    }
    record_->resume();
    note(r);
  }

  request iborrow(int from, std::size_t bytes, int tag)
    requires LendingTransport<Inner>
  {
    const std::int64_t at = record_->now();
    return {inner_->iborrow(from, bytes, tag), from, false, bytes, at};
  }
  [[nodiscard]] std::span<const std::byte> borrowed(const request& r) const
    requires LendingTransport<Inner>
  {
    return inner_->borrowed(r.inner_);
  }
  void give_back(request& r)
    requires LendingTransport<Inner>
  {
    inner_->give_back(r.inner_);
  }

  static constexpr bool enter_asks_all = RecordingTransport<Inner> && !SilentlyRecording<Inner>;
  std::size_t enter(const operation& o)
    requires RecordingTransport<Inner>
  {
    return inner_->enter(o);
  }
  void exit(const operation& o, std::size_t number)
    requires RecordingTransport<Inner>
  {
    inner_->exit(o, number);
  }
  void compare(const operation& o, std::size_t number, int peer) const
    requires RecordingTransport<Inner>
  {
    inner_->compare(o, number, peer);
  }
  [[nodiscard]] std::vector<rank_report> absent(const operation& o, std::size_t number) const
    requires RecordingTransport<Inner>
  {
    return inner_->absent(o, number);
  }

  /// See `SteppedTransport`.
  void sends_of(int step)
    requires SteppedTransport<Inner>
  {
    inner_->sends_of(step);
  }

  /// See `TimedTransport`.
  [[nodiscard]] std::int64_t began() const { return record_->now(); }
  void ended(operation o, std::int64_t at) {
    const auto [lane, name] = lanes::of_collective(o.tag);
    o.tag %= tags::of_each_group;
    record_->add(describe(o), lanes::collective, lane, name, at, o.count * size_of(o.type));
  }

  /// Computation, until what it returns is destroyed.
  class computation {
   public:
    computation(run_record& record, std::string name)
        : record_(&record), name_(std::move(name)), began_(record.now()) {}
    computation(const computation&) = delete;
    computation& operator=(const computation&) = delete;
    ~computation() { record_->add(std::move(name_), lanes::compute, 0, lanes::compute, began_, 0); }

   private:
    run_record* record_;
    std::string name_;
    std::int64_t began_;
  };
  [[nodiscard]] computation compute(std::string name) { return {*record_, std::move(name)}; }

 private:
  void note(request& r) {
    if (!r.noted_) {
      r.noted_ = true;
      record_->add((r.sends_ ? "send to " : "receive from ") + std::to_string(r.peer_),
                   r.sends_ ? "send" : "receive", r.sends_ ? 1 : 2, r.sends_ ? "sends" : "receives",
                   r.began_, r.bytes_);
    }
  }

  Inner* inner_;
  run_record* record_;
};

namespace detail {
inline void write(std::vector<std::uint8_t>& out, std::int64_t number) {
  for (int i = 0; i < 8; ++i) {
    out.push_back(static_cast<std::uint8_t>(static_cast<std::uint64_t>(number) >> (8 * i)));
  }
}
inline void write(std::vector<std::uint8_t>& out, const std::string& text) {
  write(out, static_cast<std::int64_t>(text.size()));
  out.insert(out.end(), text.begin(), text.end());
}
inline std::int64_t number_from(std::span<const std::uint8_t>& in) {
  std::uint64_t number = 0;
  for (int i = 0; i < 8; ++i) {
    number |= static_cast<std::uint64_t>(in[static_cast<std::size_t>(i)]) << (8 * i);
  }
  in = in.subspan(8);
  return static_cast<std::int64_t>(number);
}
inline std::string text_from(std::span<const std::uint8_t>& in) {
  const auto size = static_cast<std::size_t>(number_from(in));
  std::string text(in.begin(), in.begin() + static_cast<std::ptrdiff_t>(size));
  in = in.subspan(size);
  return text;
}
}  // namespace detail

/// Collects the ranks' timelines, which need not have their memory in common, into one.
///
/// Every rank calls it. Returns: the same timeline on all of them.
template <Transport Tr>
trace::timeline gather_timelines(Tr& t, const trace::timeline& mine) {
  std::vector<std::uint8_t> bytes;
  detail::write(bytes, std::ssize(mine.events()));
  for (const trace::event& e : mine.events()) {
    for (const std::int64_t n : {std::int64_t{e.process}, std::int64_t{e.lane}, e.start, e.duration,
                                 std::ssize(e.details)}) {
      detail::write(bytes, n);
    }
    detail::write(bytes, e.name);
    detail::write(bytes, e.category);
    for (const auto& [key, value] : e.details) {
      detail::write(bytes, key);
      detail::write(bytes, value);
    }
  }
  detail::write(bytes, std::ssize(mine.lanes()));
  for (const auto& lane : mine.lanes()) {
    detail::write(bytes, lane.process);
    detail::write(bytes, lane.lane);
    detail::write(bytes, lane.name);
  }
  std::vector<std::int64_t> sizes(static_cast<std::size_t>(t.size()));
  const auto own = std::ssize(bytes);
  const std::vector<std::int64_t> one{own};
  all_gather(t, std::span(one), std::span(sizes));
  std::vector<std::size_t> counts(sizes.begin(), sizes.end());
  const partition parts(counts);
  std::vector<std::uint8_t> everything(parts.count());
  all_gather(t, std::span<const std::uint8_t>(bytes), std::span(everything), parts);

  trace::timeline all;
  all.ticks_per_microsecond = mine.ticks_per_microsecond;
  std::span<const std::uint8_t> in(everything);
  for (int rank = 0; rank < t.size(); ++rank) {
    for (std::int64_t left = detail::number_from(in); left > 0; --left) {
      trace::event e;
      e.process = static_cast<int>(detail::number_from(in));
      e.lane = static_cast<int>(detail::number_from(in));
      e.start = detail::number_from(in);
      e.duration = detail::number_from(in);
      const std::int64_t details = detail::number_from(in);
      e.name = detail::text_from(in);
      e.category = detail::text_from(in);
      for (std::int64_t i = 0; i < details; ++i) {
        std::string key = detail::text_from(in);
        e.details.emplace_back(std::move(key), detail::text_from(in));
      }
      all.add(std::move(e));
    }
    for (std::int64_t left = detail::number_from(in); left > 0; --left) {
      const int process = static_cast<int>(detail::number_from(in));
      const int lane = static_cast<int>(detail::number_from(in));
      all.name_lane(process, lane, detail::text_from(in));
    }
  }
  return all;
}

}  // namespace ashlar::comm
