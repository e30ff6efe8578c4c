#include "comm/mpi/transport.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <longspan/error.h>
#include <sys/prctl.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "comm/collective_rules.h"

namespace longspan {
namespace {

using namespace std::chrono_literals;

constexpr int64_t kLargestPiece = 1 << 20;  // bytes of a message that travel as one; MPI counts are ints
constexpr int kNoteTag = 0;
constexpr int kCallerSpins = 2000;  // of a caller, before it sleeps
constexpr int kQuietRounds = 100;   // of the serving thread, before it sleeps between rounds
constexpr auto kShortestNap = 10us, kLongNap = 100us, kIdleNap = 2000us;
constexpr auto kIdleAfter = 2s;      // without a message
constexpr auto kStopGrace = 500ms;   // launchers kill after about a second
constexpr auto kAbortFlush = 500ms;  // for the last words to a job that is lost
constexpr auto kRoundGrace = 1s;     // for a round of the serving thread, which wakes every few milliseconds

std::string ranks_text(const std::vector<int32_t>& ranks) {
  return fmt::format("rank{} {}", ranks.size() == 1 ? "" : "s", fmt::join(ranks, ", "));
}

std::string mpi_error(int code) {
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  return std::string(text, static_cast<size_t>(length));
}

}  // namespace

std::shared_ptr<Transport> Transport::open(const JobOptions& options) {
  const std::shared_ptr<Transport> transport(new Transport(options));
  // The thread owns the transport too: it may outlive everybody inside an MPI call that never returns.
  transport->thread_ = std::thread([transport] { transport->serve(); });
  std::unique_lock lock(transport->mutex_);
  const auto up = [&] { return transport->initialised_ || !transport->init_error_.empty(); };
  if (!transport->changed_.wait_for(lock, options.silence_limit, up)) {
    transport->thread_.detach();
    throw Error(ErrorCode::kRankLost,
                fmt::format("MPI_Init did not return within {} ms: some process of the job has not come up",
                            options.silence_limit.count()));
  }
  if (!transport->init_error_.empty()) {
    lock.unlock();
    transport->thread_.join();
    throw Error(ErrorCode::kUsage, transport->init_error_);
  }
  return transport;
}

Transport::~Transport() {
  if (thread_.joinable()) thread_.detach();  // it has ended, or never will
}

void Transport::close() noexcept {
  try {
    leave();
  } catch (const Error&) {
    // Its last words to the others are worth a moment; this process may end after that.
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, 2 * kAbortFlush, [&] { return stopped_; });
  }
}

// ---- callers ----

void Transport::start(std::shared_ptr<Exchange> exchange) {
  check(exchange->ended_, "an exchange is started again only when it has ended");
  exchange->ended_ = false;
  const std::lock_guard lock(mutex_);
  exchange->pieces_left_.assign(exchange->messages.size(), 1);
  queue_.push_back(std::move(exchange));
  posted_.notify_one();
}

void Transport::await(const Exchange& exchange, std::optional<std::chrono::milliseconds> limit,
                      std::string_view what) {
  for (int spin = 0; spin < kCallerSpins; ++spin)
    if (exchange.ended_.load(std::memory_order_acquire)) return;
  std::unique_lock lock(mutex_);
  const auto over = [&] { return exchange.ended_.load() || exchange.called_off_ || !dead_.empty(); };
  if (!limit) {
    changed_.wait(lock, over);
  } else if (!wait_until(lock, *limit, over)) {
    die(fmt::format("{} did not reach {} within {} ms; rank {} gave up waiting",
                    ranks_text(awaited(exchange)), what, limit->count(), rank_));
  }
  if (exchange.called_off_)
    throw Error(ErrorCode::kCancelled, fmt::format("rank {} left {}: rank 0 has left the job", rank_, what));
  if (!exchange.ended_) throw_dead(what);
}

// False once the limit has passed, in which time that a whole stopped job lets pass does not count.
bool Transport::wait_until(std::unique_lock<std::mutex>& lock, std::chrono::milliseconds limit,
                           const std::function<bool()>& over) {
  Clock::time_point deadline = Clock::now() + limit;
  for (Clock::duration seen = frozen_;;) {
    if (changed_.wait_until(lock, deadline, over)) return true;
    // This thread may have been woken before the one that would notice; the round under way began before.
    const uint64_t noticed = rounds_ + 2;
    for (const auto give_up = Clock::now() + kRoundGrace; rounds_ < noticed && Clock::now() < give_up;)
      if (changed_.wait_for(lock, kIdleNap, over)) return true;
    if (frozen_ == seen) return false;
    deadline += frozen_ - std::exchange(seen, frozen_);
  }
}

void Transport::require_alive(std::string_view what) {
  const std::lock_guard lock(mutex_);
  if (!dead_.empty()) throw_dead(what);
}

void Transport::abort(std::string_view reason) noexcept {
  const std::lock_guard lock(mutex_);
  if (!dead_.empty()) return;
  die(reason.empty() ? "aborted" : std::string(reason));
}

void Transport::leave() {
  std::unique_lock lock(mutex_);
  if (finished_) return;
  leaving_ = true;
  posted_.notify_one();
  changed_.wait(lock, [&] { return everyone_left_ || !dead_.empty(); });
  const auto ended = [&] { return finished_ || !dead_.empty(); };
  if (!changed_.wait_for(lock, options_.silence_limit, ended)) {
    std::vector<int32_t> others;
    for (int32_t peer = 0; peer < size_; ++peer)
      if (peer != rank_) others.push_back(peer);
    dead_ = fmt::format("MPI_Finalize did not return within {} ms{}", options_.silence_limit.count(),
                        others.empty() ? "" : ": lost after it had left is one of " + ranks_text(others));
    stopped_ = true;  // the thread is in there
  }
  if (!finished_)
    throw Error(ErrorCode::kRankLost, fmt::format("rank {} could not leave the job: {}", rank_, dead_));
  lock.unlock();
  thread_.join();
}

void Transport::die(const std::string& reason, bool tell_others) {
  if (!dead_.empty()) return;
  dead_ = reason;
  tell_others_ = tell_others;
  changed_.notify_all();
  posted_.notify_one();
}

std::vector<int32_t> Transport::awaited(const Exchange& exchange) const {
  std::vector<int32_t> ranks;
  for (size_t i = 0; i < exchange.messages.size(); ++i)
    if (exchange.pieces_left_[i] > 0) ranks.push_back(exchange.messages[i].peer);
  std::sort(ranks.begin(), ranks.end());
  ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
  return ranks;
}

void Transport::throw_dead(std::string_view what) const {
  throw Error(ErrorCode::kRankLost, fmt::format("rank {} left {}: {}", rank_, what, dead_));
}

// ---- the thread that calls MPI ----

void Transport::serve() {
  prctl(PR_SET_TIMERSLACK, 1000UL);  // naps are short: wake within a microsecond of their end
  initialise();
  {
    const std::lock_guard lock(mutex_);
    initialised_ = init_error_.empty();
    changed_.notify_all();
    if (!initialised_) return;
  }
  for (;;) {
    bool moved = take_posted();
    receive_notes();  // before the exchanges: a process that left has sent its messages first
    moved |= test_exchanges();
    test_notes();
    const Clock::time_point now = Clock::now();
    tell_alive(now);
    judge(now);
    {
      std::unique_lock lock(mutex_);
      if (!dead_.empty()) {
        lock.unlock();
        tell_end();
        lock.lock();
        stopped_ = true;
        changed_.notify_all();
        return;
      }
      if (everyone_left_ && sent_notes_.empty()) break;
    }
    nap(moved);
  }
  finalise();
  const std::lock_guard lock(mutex_);
  finished_ = dead_.empty();
  stopped_ = true;
  if (finished_) dead_ = "the job has been left";
  changed_.notify_all();
}

void Transport::initialise() {
  int initialised = 0;
  MPI_Initialized(&initialised);
  if (initialised) {
    init_error_ = "MPI is in use in this process already; a process joins one job, once";
    return;
  }
  int provided = 0;
  if (const int code = MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided); code != MPI_SUCCESS)
    init_error_ = fmt::format("MPI_Init_thread failed: {}", mpi_error(code));
  if (provided < MPI_THREAD_FUNNELED) init_error_ = "this MPI can't be used from one thread of several";
  if (!init_error_.empty()) return;
  MPI_Comm_dup(MPI_COMM_WORLD, &comm_);  // what fails up to here ends the process, in MPI's own words
  MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
  MPI_Comm_rank(comm_, &rank_);
  MPI_Comm_size(comm_, &size_);
  heard_.assign(size_, Clock::now());
  left_.assign(size_, false);
  last_round_ = moved_ = Clock::now();
  listen();
}

void Transport::listen() {
  ok(MPI_Irecv(&received_, sizeof(received_), MPI_BYTE, MPI_ANY_SOURCE, kNoteTag, comm_, &note_request_),
     "MPI_Irecv");
}

// Whether a call succeeded; the job is lost where one did not.
bool Transport::ok(int code, const char* call) {
  if (code == MPI_SUCCESS) return true;
  const std::lock_guard lock(mutex_);
  die(fmt::format("{} of rank {} failed: {}", call, rank_, mpi_error(code)));
  return false;
}

void Transport::finalise() {
  (void)(ok(MPI_Cancel(&note_request_), "MPI_Cancel") &&
         ok(MPI_Wait(&note_request_, MPI_STATUS_IGNORE), "MPI_Wait") &&
         ok(MPI_Comm_free(&comm_), "MPI_Comm_free") && ok(MPI_Finalize(), "MPI_Finalize"));
}

bool Transport::take_posted() {
  std::deque<std::shared_ptr<Exchange>> posted;
  {
    const std::lock_guard lock(mutex_);
    posted.swap(queue_);
  }
  for (auto& exchange : posted) {
    post(*exchange);
    active_.push_back(std::move(exchange));
  }
  return !posted.empty();
}

// Only the last piece of a message is short, be it empty: so pieces agree in size if messages do.
void Transport::post(Exchange& exchange) {
  exchange.begun_ = Clock::now();
  exchange.requests_.clear();
  exchange.pieces_.clear();
  for (size_t i = 0; i < exchange.messages.size(); ++i) {
    const WireMessage& message = exchange.messages[i];
    int64_t done = 0;
    int bytes = 0;
    do {
      bytes = static_cast<int>(std::min(message.bytes - done, kLargestPiece));
      exchange.pieces_.push_back({i, message.data + done, bytes, /*matched=*/!message.incoming});
      MPI_Request& request = exchange.requests_.emplace_back(MPI_REQUEST_NULL);
      if (!message.incoming)
        ok(MPI_Isend(message.data + done, bytes, MPI_BYTE, message.peer, exchange.channel_, comm_, &request),
           "MPI_Isend");
      done += bytes;
    } while (bytes == kLargestPiece);
  }
  const std::lock_guard lock(mutex_);
  std::fill(exchange.pieces_left_.begin(), exchange.pieces_left_.end(), 0);
  for (const Exchange::Piece& piece : exchange.pieces_) ++exchange.pieces_left_[piece.message];
}

bool Transport::test_exchanges() {
  bool moved = false;
  for (size_t i = 0; i < active_.size();) {
    Exchange& exchange = *active_[i];
    moved |= match(exchange);
    moved |= test(exchange);
    const std::lock_guard lock(mutex_);
    const auto& left = exchange.pieces_left_;
    if (!dead_.empty() || std::any_of(left.begin(), left.end(), [](int32_t pieces) { return pieces > 0; })) {
      ++i;
      continue;
    }
    exchange.ended_.store(true, std::memory_order_release);
    changed_.notify_all();
    active_.erase(active_.begin() + static_cast<std::ptrdiff_t>(i));
    moved = true;
  }
  return moved;
}

// Receives what has arrived, after a look at its size: a message longer than its buffer is not MPI's to cut.
bool Transport::match(Exchange& exchange) {
  bool moved = false;
  for (size_t i = 0; i < exchange.pieces_.size(); ++i) {
    Exchange::Piece& piece = exchange.pieces_[i];
    const bool waits =
        i > 0 && exchange.pieces_[i - 1].message == piece.message && !exchange.pieces_[i - 1].matched;
    if (piece.matched || waits) continue;
    const WireMessage& expected = exchange.messages[piece.message];
    int arrived = 0;
    MPI_Message message;
    MPI_Status status;
    if (!ok(MPI_Improbe(expected.peer, exchange.channel_, comm_, &arrived, &message, &status), "MPI_Improbe"))
      return true;
    if (!arrived) continue;
    moved = piece.matched = true;
    int bytes = 0;
    if (!ok(MPI_Get_count(&status, MPI_BYTE, &bytes), "MPI_Get_count")) return true;
    if (bytes != piece.bytes) {
      const int64_t sent = piece.data - expected.data + bytes;  // or more, after a whole piece
      const std::lock_guard lock(mutex_);
      die(sizes_disagree(rank_, expected.bytes, expected.peer, sent, bytes == kLargestPiece));
      return true;
    }
    if (!ok(MPI_Imrecv(piece.data, bytes, MPI_BYTE, &message, &exchange.requests_[i]), "MPI_Imrecv"))
      return true;
  }
  return moved;
}

// True if something arrived or went out.
bool Transport::test(Exchange& exchange) {
  const size_t count = exchange.requests_.size();
  indices_.resize(count);
  statuses_.resize(count);
  int completed = 0;
  const int code = MPI_Testsome(static_cast<int>(count), exchange.requests_.data(), &completed,
                                indices_.data(), statuses_.data());
  if (code != MPI_ERR_IN_STATUS && !ok(code, "MPI_Testsome")) return false;
  if (completed == MPI_UNDEFINED) return false;
  const std::lock_guard lock(mutex_);
  for (int i = 0; i < completed; ++i) {
    const size_t message = exchange.pieces_[indices_[i]].message;
    --exchange.pieces_left_[message];
    if (code == MPI_SUCCESS || statuses_[i].MPI_ERROR == MPI_SUCCESS) continue;
    die(fmt::format("a message between rank {} and rank {} failed: {}", rank_,
                    exchange.messages[message].peer, mpi_error(statuses_[i].MPI_ERROR)));
  }
  return completed > 0;
}

void Transport::receive_notes() {
  for (;;) {
    int arrived = 0;
    MPI_Status status;
    if (!ok(MPI_Test(&note_request_, &arrived, &status), "MPI_Test") || !arrived) return;
    const int32_t from = status.MPI_SOURCE;
    heard_[from] = Clock::now();
    received_.text[kNoteText - 1] = '\0';
    if (received_.kind == NoteKind::kLeft) left_[from] = true;
    if (received_.kind == NoteKind::kAbort) {
      const std::lock_guard lock(mutex_);
      die(received_.text, /*tell_others=*/false);
    }
    listen();
  }
}

void Transport::send_note(int32_t peer, NoteKind kind, std::string_view text) {
  SentNote& sent = sent_notes_.emplace_back();
  sent.peer = peer;
  sent.note.kind = kind;
  const size_t length = std::min(text.size(), size_t{kNoteText - 1});
  std::memcpy(sent.note.text, text.data(), length);
  sent.note.text[length] = '\0';
  const int bytes = static_cast<int>(offsetof(Note, text) + length + 1);
  ok(MPI_Isend(&sent.note, bytes, MPI_BYTE, peer, kNoteTag, comm_, &sent.request), "MPI_Isend");
}

void Transport::send_to_all(NoteKind kind, std::string_view text) {
  for (int32_t peer = 0; peer < size_; ++peer)
    if (peer != rank_) send_note(peer, kind, text);
}

bool Transport::test_notes() {
  for (auto sent = sent_notes_.begin(); sent != sent_notes_.end();) {
    int gone = 0;
    if (!ok(MPI_Test(&sent->request, &gone, MPI_STATUS_IGNORE), "MPI_Test")) gone = true;
    sent = gone ? sent_notes_.erase(sent) : std::next(sent);
  }
  return sent_notes_.empty();
}

// Signs of life; the last one says that this process leaves.
void Transport::tell_alive(Clock::time_point now) {
  if (told_left_) return;
  bool leaving;
  {
    const std::lock_guard lock(mutex_);
    leaving = leaving_ && queue_.empty() && dead_.empty();
  }
  if (leaving && active_.empty()) {
    told_left_ = true;
    left_[rank_] = true;
    send_to_all(NoteKind::kLeft, "");
    return;
  }
  const auto interval = std::min<Clock::duration>(1s, options_.silence_limit / 8);
  if (now - told_alive_ < interval) return;
  told_alive_ = now;
  for (int32_t peer = 0; peer < size_; ++peer) {
    const bool pending = std::any_of(sent_notes_.begin(), sent_notes_.end(),
                                     [&](const SentNote& sent) { return sent.peer == peer; });
    if (peer != rank_ && !pending) send_note(peer, NoteKind::kAlive, "");
  }
}

// Whether the job goes on, and what waits for somebody who won't come.
void Transport::judge(Clock::time_point now) {
  const Clock::duration gap = now - std::exchange(last_round_, now);
  if (!told_to_stop_ && options_.told_to_stop()) told_to_stop_ = now;

  const std::lock_guard lock(mutex_);
  ++rounds_;
  // What a stopped process did not hear says nothing about the others.
  if (gap > options_.silence_limit / 2) {
    std::fill(heard_.begin(), heard_.end(), now);
    frozen_ += gap;
  }
  if (told_left_ && std::all_of(left_.begin(), left_.end(), [](char left) { return left; })) {
    everyone_left_ = true;
    changed_.notify_all();
    return;
  }
  for (int32_t peer = 0; peer < size_; ++peer) {
    if (peer == rank_ || left_[peer] || now - heard_[peer] <= options_.silence_limit) continue;
    die(fmt::format("rank {} has given rank {} no sign of life for {} ms", peer, rank_,
                    options_.silence_limit.count()));
  }
  for (size_t i = 0; i < active_.size();) {
    const std::vector<int32_t> ranks = awaited(*active_[i]);
    if (told_to_stop_ && now - std::max(*told_to_stop_, active_[i]->begun_) > kStopGrace)
      die(fmt::format("rank {} was told to stop while it waited for {}", rank_, ranks_text(ranks)),
          /*tell_others=*/false);
    const auto gone = std::find_if(ranks.begin(), ranks.end(), [&](int32_t rank) { return left_[rank]; });
    if (gone == ranks.end()) {
      ++i;
    } else if (*gone == 0) {
      active_[i]->called_off_ = true;
      changed_.notify_all();
      called_off_.push_back(std::move(active_[i]));
      active_.erase(active_.begin() + static_cast<std::ptrdiff_t>(i));
    } else {
      die(fmt::format("rank {} has left the job", *gone));
      return;
    }
  }
}

void Transport::nap(bool moved) {
  if (moved) moved_ = last_round_;
  quiet_rounds_ = moved ? 0 : std::min(quiet_rounds_ + 1, 10'000);
  if (!active_.empty() && quiet_rounds_ < kQuietRounds) return;
  const bool idle = active_.empty() || last_round_ - moved_ > kIdleAfter;
  const auto length = idle ? std::chrono::microseconds(kIdleNap)
                           : std::min<std::chrono::microseconds>(
                                 kLongNap, kShortestNap * (1 + (quiet_rounds_ - kQuietRounds) / 16));
  std::unique_lock lock(mutex_);
  posted_.wait_for(lock, length, [&] { return !queue_.empty() || !dead_.empty(); });
}

// Tells the others why the job is lost, as far as they listen. MPI is not ended: it would wait for the lost.
void Transport::tell_end() {
  std::string reason;
  {
    const std::lock_guard lock(mutex_);
    if (!tell_others_) return;
    reason = dead_;
  }
  send_to_all(NoteKind::kAbort, reason);
  const Clock::time_point give_up = Clock::now() + kAbortFlush;
  while (!test_notes() && Clock::now() < give_up) std::this_thread::sleep_for(kShortestNap);
}

}  // namespace longspan
