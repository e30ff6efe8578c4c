#include "engine/rank_team.h"

#include <fmt/format.h>
#include <longspan/error.h>
#include <omp.h>
#include <sched.h>

#include <condition_variable>
#include <exception>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>

#include "base/check.h"

namespace longspan {
namespace {

void pin_to(const std::vector<int>& cores) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int core : cores) CPU_SET(core, &set);
  sched_setaffinity(0, sizeof(set), &set);  // threads of the team inherit it; a refusal costs speed only
}

}  // namespace

std::vector<int> usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cores;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    for (int core = 0; core < CPU_SETSIZE; ++core) {
      if (CPU_ISSET(core, &set)) cores.push_back(core);
    }
  }
  if (cores.empty()) cores.push_back(0);
  return cores;
}

struct RankTeam::State {
  std::mutex mutex;
  std::condition_variable posted, finished;
  uint64_t generation = 0;  // of the posted body
  int begin = 0, end = 0, unfinished = 0;
  const std::function<void(int)>* body = nullptr;
  const std::function<void(int, const std::string&)>* on_failure = nullptr;
  std::exception_ptr first_failure;
  bool stopping = false;
  std::vector<std::thread> threads;

  void start(const std::vector<std::vector<int>>& cores_of, bool pin) {
    const auto count = static_cast<int>(cores_of.size());
    try {
      for (int worker = 0; worker < count; ++worker) {
        threads.emplace_back([this, worker, cores = cores_of[worker], pin] {
          if (pin) pin_to(cores);
          omp_set_num_threads(static_cast<int>(cores.size()));
          serve(worker);
        });
      }
    } catch (const std::system_error& error) {
      const size_t started = threads.size();
      stop();
      throw Error(ErrorCode::kCapacity,
                  fmt::format("the system starts {} of {} threads of ranks, then says: {}", started, count,
                              error.code().message()));
    }
  }

  void stop() {
    {
      const std::lock_guard lock(mutex);
      stopping = true;
    }
    posted.notify_all();
    for (std::thread& thread : threads) thread.join();
    threads.clear();
  }

  void execute(int worker) {
    try {
      (*body)(worker);
    } catch (const std::exception& failure) {
      {
        const std::lock_guard lock(mutex);
        if (!first_failure) first_failure = std::current_exception();
      }
      (*on_failure)(worker, failure.what());
    }
  }

  void serve(int worker) {
    uint64_t seen = 0;
    std::unique_lock lock(mutex);
    for (;;) {
      posted.wait(lock, [&] { return stopping || generation != seen; });
      if (stopping) return;
      seen = generation;
      if (worker < begin || worker >= end) continue;
      lock.unlock();
      execute(worker);
      lock.lock();
      if (--unfinished == 0) finished.notify_all();
    }
  }
};

RankTeam::RankTeam(const std::vector<std::vector<int>>& cores_of, bool pin)
    : state_(std::make_unique<State>()) {
  state_->start(cores_of, pin);
}

RankTeam::~RankTeam() {
  state_->stop();
}

int RankTeam::size() const {
  return static_cast<int>(state_->threads.size());
}

void RankTeam::run(int begin, int end, const std::function<void(int)>& body,
                   const std::function<void(int, const std::string&)>& on_failure) {
  check(0 <= begin && begin < end && end <= size(), "workers out of range");
  std::unique_lock lock(state_->mutex);
  state_->begin = begin;
  state_->end = end;
  state_->unfinished = end - begin;
  state_->body = &body;
  state_->on_failure = &on_failure;
  state_->first_failure = nullptr;
  ++state_->generation;
  state_->posted.notify_all();
  state_->finished.wait(lock, [&] { return state_->unfinished == 0; });
  if (state_->first_failure) std::rethrow_exception(state_->first_failure);
}

}  // namespace longspan
