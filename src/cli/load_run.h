#pragma once

#include <longspan/request.h>

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cli/load_stats.h"
#include "server/http_client.h"

namespace longspan::cli {

/// Sends each request when it is due, whatever became of the ones before, over as many connections as it
/// takes.
class LoadRun {
 public:
  /// `due` [requests.size()]: seconds from the start, ascending. `now`: seconds on a steady clock, from any
  /// thread.
  LoadRun(std::vector<Request> requests, std::vector<double> due, std::string model,
          std::function<double()> now);

  /// Until the last answer, or until `interrupted` says so: false then. `connections`: at most so many at a
  /// time. `poll` is called every so often with the number of requests that have ended. Once.
  /// Throws Error(kCapacity) if no thread can be started; with some of them it goes on.
  bool run(const std::function<std::unique_ptr<server::HttpClient>()>& connect, size_t connections,
           const std::function<bool()>& interrupted, const std::function<void(size_t ended)>& poll);

  /// Times from the start of the run on: [requests.size()].
  const std::vector<LoadSample>& samples() const { return samples_; }

 private:
  void work(server::HttpClient& client);
  bool wait_until(double due);
  bool ask(server::HttpClient& client, size_t index);

  const std::vector<Request> requests_;
  const std::vector<double> due_;
  const std::string model_;
  const std::function<double()> now_;
  double start_ = 0;
  std::vector<LoadSample> samples_;  // each of the one thread that has taken its request

  std::mutex mutex_;  // guards what follows
  std::condition_variable wake_;
  size_t next_ = 0, ended_ = 0;
  bool stopping_ = false;
};

}  // namespace longspan::cli
