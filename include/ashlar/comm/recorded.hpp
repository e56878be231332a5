// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <chrono>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "ashlar/comm/collectives.hpp"
#include "ashlar/comm/execute.hpp"
#include "ashlar/comm/operation.hpp"
#include "ashlar/comm/program.hpp"
#include "ashlar/comm/schedule.hpp"
#include "ashlar/comm/transport.hpp"

namespace ashlar::comm {

/// Writes a rank's program down while it runs.
///
/// Computation is either told, with what it is to take, or measured: what passes by a clock between
/// one call of the transport and the next. Only the rank's own thread may use it.
class program_recorder {
 public:
  using clock = double (*)();  ///< seconds since any time

  /// With a clock, computation is measured by it; one that counts only this thread's own work does
  /// not count who else was running.
  explicit program_recorder(clock measures = nullptr) : clock_(measures) { resume(); }

  /// The rank computes something from here on; `seconds` count where nothing is measured.
  void computes(std::string name, double seconds) {
    pause();
    name_ = std::move(name);
    if (clock_ == nullptr) {
      program_.compute(name_, seconds);
    }
    resume();
  }
  void mark() {
    pause();
    program_.mark();
    resume();
  }
  /// What was measured until now is computation; until `resume` nothing is.
  void pause() {
    if (clock_ != nullptr && since_) {
      program_.compute(name_, clock_() - *since_);
      since_.reset();
    }
  }
  void resume() {
    if (clock_ != nullptr) {
      since_ = clock_();
    }
  }

  [[nodiscard]] rank_program& program() { return program_; }

 private:
  clock clock_;
  std::optional<double> since_;
  std::string name_ = "compute";
  rank_program program_;
};

/// A transport that carries what another one carries, and records its rank's program: what it
/// computed, which collectives and messages it began, and what it waited for. With
/// `simulate_programs` a program that ran here is timed on any network.
///
/// A wait is a call of `wait`, or of a receive's `test` that says true; so records are the same on
/// every run of a program that waits for what it uses. Collectives are noted of this transport and
/// of each `group` over it. Models `Transport`, `PlanningTransport`.
template <Transport Inner>
class recorded : public blocking<recorded<Inner>> {
 public:
  class request {
   public:
    request() = default;

   private:
    friend class recorded;
    request(typename Inner::request inner, std::optional<std::size_t> number, bool sends)
        : inner_(std::move(inner)), number_(number), sends_(sends) {}

    typename Inner::request inner_;
    std::optional<std::size_t> number_;  // of a message that is no collective's
    bool sends_ = false;
  };

  /// Requires: `inner` and `recorder` outlive this object.
  recorded(Inner& inner, program_recorder& recorder) : inner_(&inner), recorder_(&recorder) {}

  [[nodiscard]] int rank() const { return inner_->rank(); }
  [[nodiscard]] int size() const { return inner_->size(); }

  request isend(int to, std::span<const std::byte> out, int tag) {
    const outside o(*recorder_);
    std::optional<std::size_t> number;
    if (!tags::is_collective(tag)) {
      number = recorder_->program().send(to, out.size(), tag);
    }
    return {inner_->isend(to, out, tag), number, true};
  }
  request irecv(int from, std::span<std::byte> in, int tag) {
    const outside o(*recorder_);
    std::optional<std::size_t> number;
    if (!tags::is_collective(tag)) {
      number = recorder_->program().receive(from, in.size(), tag);
    }
    return {inner_->irecv(from, in, tag), number, false};
  }
  bool test(request& r) {
    const outside o(*recorder_);
    const bool over = inner_->test(r.inner_);
    if (over && !r.sends_) {
      note(r);
    }
    return over;
  }
  void wait(request& r) {
    const outside o(*recorder_);
    note(r);
    inner_->wait(r.inner_);
  }

  /// See `PlanningTransport`.
  std::size_t plans(const operation& o, const schedule& plan, std::size_t element_bytes) {
    const outside here(*recorder_);
    return recorder_->program().begin({describe(o), plan, element_bytes, o.tag, false});
  }
  void awaits(std::size_t number) {
    const outside here(*recorder_);
    recorder_->program().wait(number);
  }

 private:
  /// Not computation.
  struct outside {
    program_recorder& recorder;
    explicit outside(program_recorder& r) : recorder(r) { recorder.pause(); }
    ~outside() { recorder.resume(); }
    outside(const outside&) = delete;
    outside& operator=(const outside&) = delete;
  };
  void note(request& r) {
    if (const auto number = std::exchange(r.number_, std::nullopt)) {
      recorder_->program().wait(*number);
    }
  }

  Inner* inner_;
  program_recorder* recorder_;
};

}  // namespace ashlar::comm
