#pragma once

#include <longspan/error.h>
#include <mpi.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "comm/job.h"

namespace longspan {

/// Memory that MPI reads and writes. It belongs to an exchange, never to a caller, so that a caller may leave
/// a collective while a message is still on its way.
class StagingBuffer {
 public:
  /// `held` counts the bytes of all buffers.
  explicit StagingBuffer(std::atomic<int64_t>& held) : held_(held) {}
  ~StagingBuffer() { held_ -= capacity_; }
  StagingBuffer(const StagingBuffer&) = delete;
  StagingBuffer& operator=(const StagingBuffer&) = delete;

  /// At least `bytes`; what was in it is gone.
  std::byte* resize(int64_t bytes) {
    if (bytes > capacity_) {
      data_.reset();  // before there is more
      held_ -= std::exchange(capacity_, 0);
      data_ = std::make_unique_for_overwrite<std::byte[]>(static_cast<size_t>(bytes));
      held_ += capacity_ = bytes;
    }
    return data_.get();
  }
  std::byte* data() const { return data_.get(); }

 private:
  std::atomic<int64_t>& held_;
  std::unique_ptr<std::byte[]> data_;
  int64_t capacity_ = 0;
};

struct WireMessage {
  int32_t peer = 0;  // rank in the job
  bool incoming = false;
  std::byte* data = nullptr;
  int64_t bytes = 0;  // both ends know it
};

/// Messages to and from some peers that are under way together. Filled in by a caller, then the transport's
/// until it has ended; it can be used again after that.
class Exchange {
 public:
  Exchange(int32_t channel, std::atomic<int64_t>& held)
      : outgoing(held), incoming(held), channel_(channel) {}
  bool ended() const { return ended_; }

  std::vector<WireMessage> messages;
  StagingBuffer outgoing, incoming;

 private:
  friend class Transport;
  struct Piece {
    size_t message;
    std::byte* data;
    int bytes;
    bool matched;  // an incoming one that has been seen, or an outgoing one
  };

  const int32_t channel_;  // messages of one channel between two processes stay in order
  // Of the serving thread.
  std::chrono::steady_clock::time_point begun_;
  std::vector<Piece> pieces_;          // of a message in order
  std::vector<MPI_Request> requests_;  // [pieces]
  std::vector<int32_t> pieces_left_;   // [messages], guarded by Transport::mutex_
  std::atomic<bool> ended_ = true;
  bool called_off_ = false;  // rank 0 has left; guarded by Transport::mutex_
};

/// Bytes between the processes of a job. One thread makes all calls to MPI, so that messages move while
/// callers compute; it also tells the others that this process is alive, and notices when one of them no
/// longer is.
class Transport {
 public:
  static std::shared_ptr<Transport> open(const JobOptions& options);
  ~Transport();

  int32_t rank() const { return rank_; }
  int32_t size() const { return size_; }

  /// One that nobody has filled in yet; it lives no longer than the transport.
  std::shared_ptr<Exchange> make_exchange(int32_t channel) {
    return std::make_shared<Exchange>(channel, staging_bytes_);
  }
  /// Of all exchanges.
  int64_t staging_bytes() const { return staging_bytes_; }

  void start(std::shared_ptr<Exchange> exchange);
  /// Until all messages have arrived; `what` names the collective. Throws as Job::make_group says.
  void await(const Exchange& exchange, std::optional<std::chrono::milliseconds> limit, std::string_view what);
  void require_alive(std::string_view what);
  /// Why the job is lost; empty while it is not.
  std::string dead() {
    const std::lock_guard lock(mutex_);
    return dead_;
  }
  void abort(std::string_view reason) noexcept;
  void leave();
  /// leave(), or what is left to do in a job that is lost.
  void close() noexcept;

 private:
  using Clock = std::chrono::steady_clock;
  enum class NoteKind : int32_t { kAlive, kAbort, kLeft };
  static constexpr int kNoteText = 1020;
  struct Note {
    NoteKind kind;
    char text[kNoteText];
  };
  struct SentNote {
    int32_t peer;
    Note note;
    MPI_Request request = MPI_REQUEST_NULL;
  };

  explicit Transport(const JobOptions& options) : options_(options) {}

  // On the thread that calls MPI.
  void serve();
  void initialise();
  void finalise();
  bool take_posted();
  void post(Exchange& exchange);
  bool test_exchanges();
  bool match(Exchange& exchange);
  bool test(Exchange& exchange);
  void listen();
  void receive_notes();
  void send_note(int32_t peer, NoteKind kind, std::string_view text);
  void send_to_all(NoteKind kind, std::string_view text);
  bool test_notes();
  void tell_alive(Clock::time_point now);
  void judge(Clock::time_point now);
  void nap(bool moved);
  void tell_end();
  bool ok(int code, const char* call);

  // With mutex_ held.
  bool wait_until(std::unique_lock<std::mutex>& lock, std::chrono::milliseconds limit,
                  const std::function<bool()>& over);
  void die(const std::string& reason, bool tell_others = true);
  std::vector<int32_t> awaited(const Exchange& exchange) const;
  [[noreturn]] void throw_dead(std::string_view what) const;

  const JobOptions options_;
  int32_t rank_ = 0, size_ = 1;
  std::thread thread_;
  std::atomic<int64_t> staging_bytes_ = 0;

  // Of the serving thread.
  MPI_Comm comm_ = MPI_COMM_NULL;
  std::vector<std::shared_ptr<Exchange>> active_;
  std::vector<std::shared_ptr<Exchange>> called_off_;  // MPI may still send from their buffers
  Note received_;
  MPI_Request note_request_ = MPI_REQUEST_NULL;
  std::vector<int> indices_;
  std::vector<MPI_Status> statuses_;
  std::list<SentNote> sent_notes_;
  std::vector<Clock::time_point> heard_;  // [size] last sign of life
  std::vector<char> left_;                // [size]
  Clock::time_point told_alive_{}, last_round_{};
  std::optional<Clock::time_point> told_to_stop_;
  bool told_left_ = false;
  int quiet_rounds_ = 0;
  Clock::time_point moved_;  // when something last did

  std::mutex mutex_;  // guards what follows
  std::condition_variable posted_, changed_;
  std::deque<std::shared_ptr<Exchange>> queue_;
  std::string dead_;          // why, once the job is
  bool tell_others_ = false;  // that it is
  bool initialised_ = false, leaving_ = false, everyone_left_ = false;
  bool finished_ = false;  // MPI has ended in order
  bool stopped_ = false;   // no more calls to MPI
  uint64_t rounds_ = 0;
  Clock::duration frozen_{};  // how long this process was stopped, in all
  std::string init_error_;
};

}  // namespace longspan
