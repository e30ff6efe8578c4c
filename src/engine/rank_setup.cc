#include "engine/rank_setup.h"

#include <fmt/format.h>
#include <longspan/error.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "engine/rank_team.h"

namespace longspan {

std::vector<std::vector<int>> share_cores(std::vector<int> cores, int32_t threads, int32_t ranks, bool wide) {
  if (threads > 0) {
    for (size_t i = 0; std::ssize(cores) < threads; ++i)
      cores.push_back(cores[i]);  // oversubscribed on request
    cores.resize(threads);
  }
  const int64_t each = std::max<int64_t>(1, std::ssize(cores) / ranks);
  std::vector<std::vector<int>> shares(ranks);
  for (int64_t i = 0; i < ranks * each; ++i) shares[i / each].push_back(cores[i % std::ssize(cores)]);
  if (wide) shares.push_back(cores);
  return shares;
}

int32_t place_on_host(Job& job) {
  const std::vector<std::string> hosts = exchange_texts(job, this_host(), "hosts");
  return static_cast<int32_t>(std::count(hosts.begin(), hosts.begin() + job.rank(), hosts[job.rank()]));
}

std::unique_ptr<Communicator> join_cards_of_job(Job& job, const std::vector<int32_t>& ranks, Device& device,
                                                const OpContext& ctx) {
  const bool alone = ranks.size() == 1;
  const std::string mine = together(&job, "making groups of cards", [&] {
    if (alone || ranks.front() != job.rank()) return std::string();
    const std::vector<std::byte> group = device.new_group();
    return std::string(reinterpret_cast<const char*>(group.data()), group.size());
  });
  const std::vector<std::string> groups = exchange_texts(job, mine, "groups of cards");
  return together(&job, "joining groups of cards", [&]() -> std::unique_ptr<Communicator> {
    if (alone) return nullptr;
    const auto place = std::find(ranks.begin(), ranks.end(), job.rank()) - ranks.begin();
    return device.join_group(std::as_bytes(std::span(groups[ranks.front()])), static_cast<int32_t>(place),
                             static_cast<int32_t>(ranks.size()), ctx);
  });
}

void tell_who_is_lost(Job& job, const std::string& failure) {
  using namespace std::chrono_literals;
  const auto give_up = std::chrono::steady_clock::now() + 1s;
  do {
    if (const std::string reason = job.lost(); !reason.empty())
      throw Error(ErrorCode::kRankLost, fmt::format("{}; rank {}: {}", reason, job.rank(), failure));
    std::this_thread::sleep_for(10ms);
  } while (std::chrono::steady_clock::now() < give_up);
}

// A tensor that no rank reads is a mistake; one that another reads is not.
void add_tensors_of_others(Job& job, const Checkpoint& checkpoint, PackedSlices& packed) {
  std::string mine;
  for (const std::string& name : checkpoint.names()) mine += packed.tensors.contains(name) ? '1' : '0';
  for (const std::string& read : exchange_texts(job, mine, "tensors read")) {
    if (read.size() != mine.size())
      throw AgreedError(
          ErrorCode::kUnreadable,
          fmt::format(
              "the model folder holds {} tensors on one process of the job and {} on another; give all "
              "the same model",
              mine.size(), read.size()));
    size_t i = 0;
    for (const std::string& name : checkpoint.names())
      if (read[i++] == '1') packed.tensors.insert(name);
  }
}

HostShare share_of_host(Job* job, int32_t threads) {
  std::vector<HostPlace> places;
  if (job) {
    for (const std::string& text : exchange_texts(*job, to_text(this_place(usable_cores())), "cores"))
      places.push_back(host_place_from_text(text));
  } else {
    places.push_back(this_place(usable_cores()));
  }
  const int32_t rank = job ? job->rank() : 0;
  if (rank == 0) {
    if (const std::string note = job ? binding_note(places) : ""; !note.empty()) spdlog::warn(note);
    for (int32_t other = 0; other < std::ssize(places); ++other) {
      const auto cores = std::ssize(share_host(places, other).cores);
      if (threads <= cores) continue;
      spdlog::warn("--threads {}: {} may use {} cores; the threads share them, unpinned", threads,
                   job ? fmt::format("rank {}", other) : "this process", cores);
      break;
    }
  }
  return share_host(places, rank);
}

}  // namespace longspan
