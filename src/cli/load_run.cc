#include "cli/load_run.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <system_error>
#include <thread>
#include <utility>

#include "server/streamed_answer.h"

namespace longspan::cli {
namespace {

constexpr auto kPoll = std::chrono::milliseconds(100);

}  // namespace

LoadRun::LoadRun(std::vector<Request> requests, std::vector<double> due, std::string model,
                 std::function<double()> now)
    : requests_(std::move(requests)),
      due_(std::move(due)),
      model_(std::move(model)),
      now_(std::move(now)),
      samples_(requests_.size()) {}

bool LoadRun::run(const std::function<std::unique_ptr<server::HttpClient>()>& connect, size_t connections,
                  const std::function<bool()>& interrupted, const std::function<void(size_t)>& poll) {
  std::vector<std::unique_ptr<server::HttpClient>> clients;
  for (size_t i = 0; i < std::min(connections, requests_.size()); ++i) clients.push_back(connect());
  start_ = now_();
  std::vector<std::thread> threads;
  for (const auto& client : clients) {
    try {
      threads.emplace_back([this, &client] { work(*client); });
    } catch (const std::system_error&) {  // no more threads: those that are there do it all
      if (threads.empty()) throw Error(ErrorCode::kCapacity, "no thread could be started");
      break;
    }
  }
  bool stop = false;
  for (size_t ended = 0; ended < requests_.size() && !stop;) {
    {
      std::unique_lock lock(mutex_);
      wake_.wait_for(lock, kPoll, [&] { return ended_ == requests_.size(); });
      ended = ended_;
    }
    poll(ended);
    stop = interrupted();
  }
  if (stop) {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (stop)
    for (const auto& client : clients) client->stop();
  for (std::thread& thread : threads) thread.join();
  return !stop;
}

void LoadRun::work(server::HttpClient& client) {
  for (;;) {
    size_t index = 0;
    {
      const std::lock_guard lock(mutex_);
      if (next_ == requests_.size()) return;
      index = next_++;
    }
    if (!wait_until(due_[index]) || !ask(client, index)) return;
    const std::lock_guard lock(mutex_);
    if (++ended_ == requests_.size()) wake_.notify_all();
  }
}

bool LoadRun::wait_until(double due) {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const double left = start_ + due - now_();
    if (left <= 0) return true;
    wake_.wait_for(lock, std::chrono::duration<double>(left));
  }
  return false;
}

// False once the run is stopped.
bool LoadRun::ask(server::HttpClient& client, size_t index) {
  LoadSample& sample = samples_[index];
  sample.due = due_[index];
  sample.sent = now_() - start_;
  server::StreamedAnswer answer;
  try {
    answer = server::ask_streaming(client, model_, requests_[index], now_);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kCancelled) return false;
    answer.failure = to_string(error.code());
    answer.end_s = now_();
  } catch (const std::exception& error) {
    answer.failure = error.what();
    answer.end_s = now_();
  }
  if (answer.first_s) sample.first = *answer.first_s - start_;
  sample.end = answer.end_s - start_;
  sample.gaps = std::move(answer.gaps_s);
  sample.prompt_tokens = answer.prompt_tokens;
  sample.cached_tokens = answer.cached_tokens;
  sample.new_tokens = answer.new_tokens;
  sample.failure = std::move(answer.failure);
  return true;
}

}  // namespace longspan::cli
