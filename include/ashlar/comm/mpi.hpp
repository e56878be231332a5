// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <mpi.h>

#include <algorithm>
#include <cstddef>
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
}  // namespace detail

/// MPI for as long as it lives; one per process, made before the first `mpi`.
///
/// Where MPI is running already, whoever started it ends it.
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
    if (own_) {
      MPI_Finalize();
    }
  }
  mpi_session(const mpi_session&) = delete;
  mpi_session& operator=(const mpi_session&) = delete;

 private:
  bool own_ = false;
};

/// One process of a communicator. Models `Transport`.
///
/// Works in a copy of the communicator, so that its messages meet nobody else's.
/// Throws: `argument_error` where a peer does not exist or a tag is out of MPI's range;
///         `size_mismatch` on the receiver's side, which has then taken the message away;
///         `mpi_error`. An MPI that loses a rank usually ends the others, too.
class mpi {
 public:
  /// Requires: a `mpi_session`; every rank of `of` calls this at the same place of its program.
  explicit mpi(MPI_Comm of = MPI_COMM_WORLD) {
    detail::expect_mpi(MPI_Comm_dup(of, &comm_), "MPI_Comm_dup");
    detail::expect_mpi(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN),
                       "MPI_Comm_set_errhandler");
    detail::expect_mpi(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
    detail::expect_mpi(MPI_Comm_size(comm_, &size_), "MPI_Comm_size");
    void* most = nullptr;
    int known = 0;
    detail::expect_mpi(MPI_Comm_get_attr(comm_, MPI_TAG_UB, &most, &known), "MPI_Comm_get_attr");
    most_tag_ = known != 0 ? *static_cast<int*>(most) : 32767;
  }
  ~mpi() {
    int over = 0;
    MPI_Finalized(&over);
    if (comm_ != MPI_COMM_NULL && over == 0) {
      MPI_Comm_free(&comm_);
    }
  }
  mpi(mpi&& other) noexcept
      : comm_(std::exchange(other.comm_, MPI_COMM_NULL)),
        rank_(other.rank_),
        size_(other.size_),
        most_tag_(other.most_tag_) {}
  mpi& operator=(mpi&&) = delete;

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int size() const { return size_; }

  void send(int to, std::span<const std::byte> out, int tag) {
    check(to, tag);
    each_part(out, [&](std::span<const std::byte> part) {
      detail::expect_mpi(MPI_Send(part.data(), count(part), MPI_BYTE, to, tag, comm_), "MPI_Send");
    });
  }

  void recv(int from, std::span<std::byte> in, int tag) {
    check(from, tag);
    each_part(in, [&](std::span<std::byte> part) { receive(from, part, tag); });
  }

  /// Sends and receives at once. Requires: `in` and `out` do not overlap.
  void sendrecv(int to, std::span<const std::byte> out, int from, std::span<std::byte> in,
                int tag) {
    check(to, tag);
    check(from, tag);
    while (true) {
      const auto part = out.first(std::min(out.size(), most_at_once));
      const auto place = in.first(std::min(in.size(), most_at_once));
      out = out.subspan(part.size());
      in = in.subspan(place.size());
      pending sent(part, to, tag, comm_);
      receive(from, place, tag);
      sent.wait();
      if (out.empty() || in.empty()) {
        break;
      }
    }
    if (!out.empty()) {
      send(to, out, tag);
    }
    if (!in.empty()) {
      recv(from, in, tag);
    }
  }

 private:
  /// MPI counts in `int`: longer messages go in parts, which both sides cut alike.
  static constexpr std::size_t most_at_once = std::size_t{1} << 30;

  /// A message under way; MPI may read its memory until `wait`.
  class pending {
   public:
    pending(std::span<const std::byte> part, int to, int tag, MPI_Comm comm) {
      detail::expect_mpi(MPI_Isend(part.data(), count(part), MPI_BYTE, to, tag, comm, &request_),
                         "MPI_Isend");
    }
    pending(const pending&) = delete;
    pending& operator=(const pending&) = delete;
    ~pending() { MPI_Wait(&request_, MPI_STATUS_IGNORE); }
    void wait() { detail::expect_mpi(MPI_Wait(&request_, MPI_STATUS_IGNORE), "MPI_Wait"); }

   private:
    MPI_Request request_ = MPI_REQUEST_NULL;
  };

  static int count(std::span<const std::byte> part) { return static_cast<int>(part.size()); }

  void check(int peer, int tag) const {
    if (peer < 0 || peer >= size_) {
      throw argument_error("ashlar::comm::mpi", "there is no rank " + std::to_string(peer) +
                                                    " in a group of " + std::to_string(size_));
    }
    if (tag < 0 || tag > most_tag_) {
      throw argument_error(
          "ashlar::comm::mpi",
          "the tag " + std::to_string(tag) + " is not one of 0 to " + std::to_string(most_tag_));
    }
  }

  /// Calls `f` for each part; once where there are no bytes: an empty message is a message.
  template <class Bytes, class F>
  static void each_part(Bytes bytes, const F& f) {
    do {
      const auto part = bytes.first(std::min(bytes.size(), most_at_once));
      bytes = bytes.subspan(part.size());
      f(part);
    } while (!bytes.empty());
  }

  /// The length is asked for first, so that a message that is too long does no harm.
  void receive(int from, std::span<std::byte> in, int tag) {
    MPI_Message message = MPI_MESSAGE_NULL;
    MPI_Status status{};
    detail::expect_mpi(MPI_Mprobe(from, tag, comm_, &message, &status), "MPI_Mprobe");
    int length = 0;
    detail::expect_mpi(MPI_Get_count(&status, MPI_BYTE, &length), "MPI_Get_count");
    const auto sent = static_cast<std::size_t>(length);
    if (sent != in.size()) {
      std::vector<std::byte> unwanted(sent);
      detail::expect_mpi(MPI_Mrecv(unwanted.data(), length, MPI_BYTE, &message, MPI_STATUS_IGNORE),
                         "MPI_Mrecv");
      throw size_mismatch(from, rank_, tag, sent, in.size());
    }
    detail::expect_mpi(MPI_Mrecv(in.data(), length, MPI_BYTE, &message, MPI_STATUS_IGNORE),
                       "MPI_Mrecv");
  }

  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0;
  int size_ = 1;
  int most_tag_ = 0;
};

}  // namespace ashlar::comm
