// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <exception>
#include <source_location>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/comm/transport.hpp"
#include "ashlar/core/error.hpp"

/// Ranks that are processes of MPI. Link `ashlar::mpi`, which adds MPI to `ashlar::ashlar`.
namespace ashlar::comm {

/// Thrown where MPI says that something failed.
struct mpi_error final : error {
  int code;
  std::string what_failed;
  std::string reason;  ///< MPI's own words

  mpi_error(int error_code, std::string call,
            std::source_location where = std::source_location::current())
      : error(where), code(error_code), what_failed(std::move(call)) {
    char text[MPI_MAX_ERROR_STRING] = {};
    int length = 0;
    if (MPI_Error_string(code, text, &length) == MPI_SUCCESS) {
      reason.assign(text, static_cast<std::size_t>(length));
    }
  }

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::comm::mpi: " + what_failed + ": " + reason;
  }
};

namespace detail {
inline void expect_mpi(int code, const char* call) {
  if (code != MPI_SUCCESS) {
    throw mpi_error(code, call);
  }
}
/// Who has gone in the middle of sending a message, as its communicator counts, or -1: this process
/// must not call MPI any more, which might still write to where that message was to go.
inline int mpi_gone = -1;
}  // namespace detail

/// MPI for as long as it lives; one per process, made before the first `mpi`.
///
/// Where MPI is running already, whoever started it ends it. An exception that leaves its scope
/// leaves MPI running: `MPI_Finalize` would wait for ranks that wait for this one, or are dead.
/// `mpirun` sees a process that has gone so and ends the others, unless `--enable-recovery` tells
/// it to leave them their time-outs.
class mpi_session {
 public:
  mpi_session() {
    int running = 0;
    detail::expect_mpi(MPI_Initialized(&running), "MPI_Initialized");
    if (running == 0) {
      int given = 0;
      detail::expect_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &given),
                         "MPI_Init_thread");
      own_ = true;
    }
  }
  ~mpi_session() {
    if (own_ && detail::mpi_gone < 0 && std::uncaught_exceptions() == exceptions_) {
      MPI_Finalize();
    }
  }
  /// This process, too, will go without `MPI_Finalize`: for who has caught a failure and goes.
  void abandon() noexcept { own_ = false; }
  mpi_session(const mpi_session&) = delete;
  mpi_session& operator=(const mpi_session&) = delete;

 private:
  bool own_ = false;
  int exceptions_ = std::uncaught_exceptions();
};

/// One process of a communicator. Models `Transport`.
///
/// Works in a copy of the communicator, so that its messages meet nobody else's. Messages move
/// while somebody is in `test` or `wait`.
/// Throws: `argument_error` where a peer does not exist or a tag is out of MPI's range;
///         `size_mismatch` on the receiver's side, which has then taken the message away;
///         `timed_out`; `mpi_error`; `peer_failed`, with that sender, from all calls of this
///         process once one has gone in the middle of a message. An MPI that loses a rank usually
///         ends the others, too: `mpirun --enable-recovery` of Open MPI does not.
class mpi : public blocking<mpi> {
 public:
  /// Requires: a `mpi_session`; every rank of `of` calls this at the same place of its program.
  /// With a `timeout` other than 0, whoever waits longer gets `timed_out`.
  explicit mpi(MPI_Comm of = MPI_COMM_WORLD, std::chrono::duration<double> timeout = {})
      : timeout_(timeout) {
    detail::expect_mpi(MPI_Comm_rank(of, &rank_), "MPI_Comm_rank");
    expect_whole();
    detail::expect_mpi(MPI_Comm_dup(of, &comm_), "MPI_Comm_dup");
    detail::expect_mpi(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN),
                       "MPI_Comm_set_errhandler");
    detail::expect_mpi(MPI_Comm_size(comm_, &size_), "MPI_Comm_size");
    void* most = nullptr;
    int known = 0;
    detail::expect_mpi(MPI_Comm_get_attr(comm_, MPI_TAG_UB, &most, &known), "MPI_Comm_get_attr");
    most_tag_ = known != 0 ? *static_cast<int*>(most) : 32767;
  }
  ~mpi() {
    int over = 0;
    MPI_Finalized(&over);
    if (comm_ != MPI_COMM_NULL && over == 0 && detail::mpi_gone < 0) {
      MPI_Comm_free(&comm_);
    }
  }
  mpi(mpi&& other) noexcept
      : comm_(std::exchange(other.comm_, MPI_COMM_NULL)),
        rank_(other.rank_),
        size_(other.size_),
        most_tag_(other.most_tag_),
        timeout_(other.timeout_) {}
  mpi& operator=(mpi&&) = delete;

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int size() const { return size_; }

  /// A message under way, in parts of 1 GiB: MPI counts in `int`.
  ///
  /// A receive that is withdrawn leaves its memory alone from then on; where a message had met it,
  /// that is taken to its end first; where there is a time-out and that end does not come within
  /// it, this process is done with MPI. MPI takes no send back: the memory of a withdrawn one stays
  /// MPI's until its receiver has the message, or for ever where none comes.
  class request {
   public:
    request() = default;
    request(request&&) = default;
    request& operator=(request&& other) noexcept {
      withdraw();
      parts_ = std::move(other.parts_);
      description_ = other.description_;
      return *this;
    }
    ~request() { withdraw(); }

   private:
    friend class mpi;
    void withdraw() noexcept {
      for (MPI_Request& part : parts_) {
        if (part == MPI_REQUEST_NULL || detail::mpi_gone >= 0) {
          continue;
        }
        if (description_.sends) {
          MPI_Request_free(&part);
          continue;
        }
        MPI_Cancel(&part);  // until it has ended MPI may write
        int ended = description_.patience.count() > 0 ? 0 : 1;
        const auto began = std::chrono::steady_clock::now();
        while (ended == 0 && detail::mpi_gone < 0) {
          MPI_Test(&part, &ended, MPI_STATUS_IGNORE);
          if (ended == 0 && std::chrono::steady_clock::now() - began > description_.patience) {
            detail::mpi_gone = description_.peer;
          }
        }
        if (detail::mpi_gone < 0 && part != MPI_REQUEST_NULL) {
          MPI_Wait(&part, MPI_STATUS_IGNORE);
        }
      }
      parts_.clear();
    }

    struct {
      int peer = -1;
      int tag = 0;
      bool sends = false;
      std::size_t size = 0;
      std::chrono::duration<double> patience = {};
    } description_;
    std::vector<MPI_Request> parts_;
  };

  request isend(int to, std::span<const std::byte> out, int tag) {
    return start(to, tag, true, out, [&](std::span<const std::byte> part, MPI_Request* r) {
      detail::expect_mpi(MPI_Isend(part.data(), count(part), MPI_BYTE, to, tag, comm_, r),
                         "MPI_Isend");
    });
  }
  request irecv(int from, std::span<std::byte> in, int tag) {
    return start(from, tag, false, in, [&](std::span<std::byte> part, MPI_Request* r) {
      detail::expect_mpi(MPI_Irecv(part.data(), count(part), MPI_BYTE, from, tag, comm_, r),
                         "MPI_Irecv");
    });
  }

  bool test(request& r) {
    expect_whole();
    for (MPI_Request& part : r.parts_) {
      int ended = 0;
      MPI_Status status{};
      const bool pending = part != MPI_REQUEST_NULL;
      const int code = MPI_Test(&part, &ended, &status);
      if (code == MPI_SUCCESS && ended == 0) {
        return false;
      }
      if (pending) {
        judge(r, part, code, status);
      }
    }
    return true;
  }

  void wait(request& r) {
    expect_whole();
    if (timeout_.count() > 0) {
      const auto began = std::chrono::steady_clock::now();
      while (!test(r)) {
        if (std::chrono::steady_clock::now() - began > timeout_) {
          throw timed_out(rank_, r.description_.peer, r.description_.tag, r.description_.sends,
                          timeout_.count());
        }
      }
      return;
    }
    for (MPI_Request& part : r.parts_) {
      if (part != MPI_REQUEST_NULL) {
        MPI_Status status{};
        const int code = MPI_Wait(&part, &status);
        judge(r, part, code, status);
      }
    }
  }

 private:
  static constexpr std::size_t most_at_once = std::size_t{1} << 30;

  static int count(std::span<const std::byte> part) { return static_cast<int>(part.size()); }

  /// Once where there are no bytes: an empty message is a message.
  template <class Bytes, class F>
  request start(int peer, int tag, bool sends, Bytes bytes, const F& f) {
    check(peer, tag);
    expect_whole();
    request r;
    r.description_ = {peer, tag, sends, bytes.size(), timeout_};
    do {
      const auto part = bytes.first(std::min(bytes.size(), most_at_once));
      bytes = bytes.subspan(part.size());
      r.parts_.push_back(MPI_REQUEST_NULL);
      f(part, &r.parts_.back());
    } while (!bytes.empty());
    return r;
  }

  /// Looks at a part that has ended. A message that was too long is cut off by MPI, which says how
  /// long it was.
  void judge(const request& r, const MPI_Request& part, int code, const MPI_Status& status) const {
    if (code != MPI_SUCCESS) {
      int sort = code;
      MPI_Error_class(code, &sort);
      if (sort != MPI_ERR_TRUNCATE) {
        throw mpi_error(code, "MPI_Wait");
      }
    }
    if (!r.description_.sends) {
      int length = 0;
      detail::expect_mpi(MPI_Get_count(&status, MPI_BYTE, &length), "MPI_Get_count");
      const auto before = static_cast<std::size_t>(&part - r.parts_.data()) * most_at_once;
      const std::size_t expected = std::min(r.description_.size - before, most_at_once);
      if (static_cast<std::size_t>(length) != expected || code != MPI_SUCCESS) {
        throw size_mismatch(r.description_.peer, rank_, r.description_.tag,
                            before + static_cast<std::size_t>(length), r.description_.size);
      }
    }
  }

  void expect_whole() const {
    if (detail::mpi_gone >= 0) {
      throw peer_failed(rank_, detail::mpi_gone);
    }
  }
  void check(int peer, int tag) const {
    detail::check_rank("ashlar::comm::mpi", peer, size_);
    if (tag < 0 || tag > most_tag_) {
      throw argument_error(
          "ashlar::comm::mpi",
          "the tag " + std::to_string(tag) + " is not one of 0 to " + std::to_string(most_tag_));
    }
  }

  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0;
  int size_ = 1;
  int most_tag_ = 0;
  std::chrono::duration<double> timeout_;
};

}  // namespace ashlar::comm
