#include "server/front.h"

#include <fmt/format.h>
#include <longspan/error.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "server/api_error.h"
#include "server/child_process.h"
#include "server/rank_link.h"
#include "server/relay.h"
#include "server/tls.h"

namespace longspan::server {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto kPoll = 50ms;
constexpr auto kDrainGrace = 10s;  // for a job to end after its last answer
constexpr auto kEndGrace = 5s;     // between SIGTERM and SIGKILL
constexpr int kSignalled = 128;    // from here on exit codes are those of programs that a signal has ended
constexpr const char* kRankZeroEnded = "rank 0 has ended";
constexpr auto kFirstPause = 500ms, kLongestPause = 30'000ms;

/// A folder that only this user may enter, for one job's sockets.
class SocketFolder {
 public:
  explicit SocketFolder(const std::string& parent) : path_(parent + "/longspan-XXXXXX") {
    if (!mkdtemp(path_.data()))
      throw Error(ErrorCode::kUsage,
                  fmt::format("can't make a folder for sockets in {}: {}; name another in TMPDIR", parent,
                              std::strerror(errno)));
  }
  ~SocketFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  SocketFolder(const SocketFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// One start of the job.
struct Run {
  explicit Run(const FrontOptions& options)
      : folder(options.temporary_folder),
        link(RankLink::listen(front_link_path(folder.path()))),
        child(command(options), options.variables) {}

  std::vector<std::string> command(const FrontOptions& options) const {
    std::vector<std::string> words = options.launcher;
    words.insert(words.end(), {"env", options.folder_variable + "=" + folder.path()});
    words.insert(words.end(), options.program.begin(), options.program.end());
    return words;
  }

  const SocketFolder folder;
  RankLink link;
  ChildProcess child;
  std::optional<Error> failure;  // as rank 0 told it
  std::optional<Clock::time_point> ready;
};

/// The answers of the front: its own while there is no rank 0 to ask, and on its state.
class FrontApi {
 public:
  enum class Phase { kStarting, kLoading, kReady, kFailed };

  void handle(const std::shared_ptr<Exchange>& exchange) {
    const HttpRequest& request = exchange->request();
    const bool asks = request.method == "GET" || request.method == "HEAD";
    const std::lock_guard lock(mutex_);
    if (request.path == "/health" && asks) return exchange->respond(health());
    if (draining_ || phase_ == Phase::kStarting || phase_ == Phase::kFailed)
      return exchange->respond(error_response(refusal("")));
    Relay::Hooks hooks;
    hooks.on_broken = [this](const std::string& what, bool connected) {
      const std::lock_guard broken_lock(mutex_);
      return refusal(what, connected);
    };
    if (request.path == "/metrics")
      hooks.on_response = [this](HttpResponse& response) {
        if (response.status == 200) response.body += restarts_text();
      };
    relay_.pass(exchange, front_http_path(folder_), std::move(hooks));
  }

  void start(const std::string& folder) {
    const std::lock_guard lock(mutex_);
    folder_ = folder;
    phase_ = Phase::kStarting;
  }
  void set(Phase phase) {
    const std::lock_guard lock(mutex_);
    if (phase_ != Phase::kFailed) phase_ = phase;
    if (phase == Phase::kReady) reason_.clear();
  }
  void fail(const std::string& reason) {
    const std::lock_guard lock(mutex_);
    phase_ = Phase::kFailed;
    reason_ = reason;
  }
  void drain() {
    const std::lock_guard lock(mutex_);
    draining_ = true;
  }
  void count_restart() { ++restarts_; }

 private:
  HttpResponse health() const {
    const char* const names[] = {"starting", "loading", "ok", "failed"};
    nlohmann::ordered_json body = {{"status", draining_ ? "draining" : names[static_cast<int>(phase_)]}};
    if (!reason_.empty()) body["reason"] = reason_;
    return {.status = body["status"] == "ok" ? 200 : 503,
            .body = body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)};
  }

  // `what`: how the connection to rank 0 broke, if there was one.
  ApiError refusal(const std::string& what, bool connected = true) const {
    ApiError error = api_error(ErrorCode::kRankLost, "");
    if (draining_ && phase_ != Phase::kFailed) {
      error.message = "the server is shutting down";
      error.code = "draining";
    } else if (!reason_.empty()) {
      error.message = reason_;
    } else if (phase_ == Phase::kStarting) {
      error.message = "the ranks are being started";
      error.code = "loading";
    } else if (!connected) {
      error.message = fmt::format("rank 0 can't be reached: {}", what);
      error.code = "unreachable";
    } else {
      error.message = fmt::format("a rank was lost: rank 0 broke off ({})", what);
    }
    return error;
  }

  std::string restarts_text() const {
    constexpr const char* kName = "longspan_rank_job_restarts_total";
    return fmt::format("# HELP {0} How often the ranks were started again\n# TYPE {0} counter\n{0} {1}\n",
                       kName, restarts_.load());
  }

  std::atomic<int64_t> restarts_{0};
  mutable std::mutex mutex_;  // guards what follows
  Phase phase_ = Phase::kStarting;
  bool draining_ = false;
  std::string folder_, reason_;  // reason: of the last failure, until a job is ready
  Relay relay_;                  // last: its thread uses the others until it is gone
};

class Front {
 public:
  Front(const FrontOptions& options, const FrontProcess& process)
      : options_(options),
        process_(process),
        http_(
            options.address, options.limits,
            [this](std::shared_ptr<Exchange> exchange) { api_.handle(exchange); },
            options.tls_cert.empty() ? nullptr : std::make_shared<Tls>(options.tls_cert, options.tls_key)) {}
  ~Front() { http_.stop(); }

  void run() {
    http_.start();
    if (process_.on_listening) process_.on_listening(http_.port());
    int64_t failures = 0;  // since a job was steady
    for (;; first_ = false) {
      Run run(options_);
      api_.start(run.folder.path());
      const std::optional<Error> lost = watch(run);
      if (!lost) return;
      if (draining_) throw Error(*lost);
      api_.fail(lost->what());
      const std::chrono::duration<double> steady(options_.steady_s + options_.comm_timeout_s);
      if (run.ready && Clock::now() - *run.ready > steady) failures = 0;
      const bool may_work = lost->code() == ErrorCode::kRankLost || lost->code() == ErrorCode::kInternal;
      if (!may_work || failures >= options_.restarts) {
        http_.drain();
        http_.await_answers(kLastWords);
        throw Error(*lost);
      }
      if (!pause(*lost, failures++)) return;
      api_.count_restart();
    }
  }

 private:
  // Until the job has ended; nothing if that was as it should be.
  std::optional<Error> watch(Run& run) {
    std::optional<Clock::time_point> lost;
    const std::chrono::duration<double> grace(options_.lost_grace_s);
    while (!run.child.status()) {
      listen(run);
      if (process_.told_to_stop()) return drain(run);
      if (!lost && (run.failure || run.link.over())) lost = Clock::now();
      if (lost && Clock::now() - *lost > grace) break;
      std::this_thread::sleep_for(kPoll);
    }
    run.child.end(kEndGrace);  // what is left of it
    listen(run);
    return failure_of(run);
  }

  void listen(Run& run) {
    for (const std::string& line : run.link.hear()) {
      if (line == kRankListens) api_.set(FrontApi::Phase::kLoading);
      if (line.starts_with(kRankReady)) {
        run.ready = Clock::now();
        api_.set(FrontApi::Phase::kReady);
        if (process_.on_ready) process_.on_ready(line);
      }
      if (is_failure(line)) run.failure = server::failure_of(line);
    }
    if (run.failure || run.link.over()) api_.fail(run.failure ? run.failure->what() : kRankZeroEnded);
  }

  Error failure_of(Run& run) const {
    if (run.failure) return *run.failure;
    const std::optional<int> status = run.child.status();
    const std::string how = status ? status_text(*status) : "does not end";
    const std::string& launcher = options_.launcher[0];
    if (run.link.met())
      return Error(ErrorCode::kRankLost, fmt::format("{}; {} {}", kRankZeroEnded, launcher, how));
    // One that gives up by itself would do so again; it does not where a process that it started is killed.
    const bool gave_up = status && WIFEXITED(*status) && WEXITSTATUS(*status) < kSignalled;
    return Error(first_ && gave_up ? ErrorCode::kUsage : ErrorCode::kRankLost,
                 fmt::format("{} {} before rank 0 was there", launcher, how));
  }

  std::optional<Error> drain(Run& run) {
    begin_to_drain();
    const auto begin = Clock::now();
    const std::chrono::duration<double> drain_timeout(options_.drain_timeout_s);
    if (run.ready && !run.failure && !run.link.over()) {
      run.link.say(kDrain);
      while (!run.child.status() && Clock::now() - begin < drain_timeout + kDrainGrace)
        std::this_thread::sleep_for(kPoll);
    }
    const bool ended = run.child.status().has_value();
    run.child.end(kEndGrace);
    // What rank 0 has said to its end its clients may still be reading.
    http_.await_answers(std::max<std::chrono::duration<double>>(begin + drain_timeout - Clock::now(), 0s) +
                        kLastWords);
    if (!ended || *run.child.status() == 0) return std::nullopt;
    listen(run);
    return failure_of(run);
  }

  void begin_to_drain() {
    draining_ = true;
    if (process_.on_drain) process_.on_drain();
    api_.drain();
    http_.drain();
  }

  // False if told to stop meanwhile.
  bool pause(const Error& lost, int64_t failures) {
    const auto length = std::min<std::chrono::milliseconds>(
        kLongestPause, kFirstPause * (int64_t{1} << std::min<int64_t>(failures, 10)));
    if (process_.on_restart)
      process_.on_restart(fmt::format("{}; starting the ranks again in {} s ({} of {} times)", lost.what(),
                                      static_cast<double>(length.count()) / 1000, failures + 1,
                                      options_.restarts));
    for (const auto until = Clock::now() + length; Clock::now() < until; std::this_thread::sleep_for(kPoll)) {
      if (!process_.told_to_stop()) continue;
      begin_to_drain();
      http_.await_answers(kLastWords);
      return false;
    }
    return true;
  }

  const FrontOptions& options_;
  const FrontProcess& process_;
  HttpServer http_;
  FrontApi api_;  // after the server, whose exchanges its relay has
  bool draining_ = false;
  bool first_ = true;  // start of the job
};

}  // namespace

std::string front_link_path(const std::string& folder) {
  return folder + "/link";
}
std::string front_http_path(const std::string& folder) {
  return folder + "/http";
}

void serve_front(const FrontOptions& options, const FrontProcess& process) {
  Front(options, process).run();
}

}  // namespace longspan::server
