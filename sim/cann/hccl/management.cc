// Communicators: made by every rank of one root info, each rank a thread with a device of its own.

#include <condition_variable>
#include <cstdlib>
#include <cstring>

#include "core/group.h"

using namespace cann_sim;

namespace {

std::chrono::seconds seconds_of(const char* variable, int otherwise) {
  const char* text = std::getenv(variable);
  return std::chrono::seconds(text && *text ? std::atoi(text) : otherwise);
}

// Ranks that wait for each other to make one communicator.
struct Rendezvous {
  std::shared_ptr<Group> group;
  std::map<uint32_t, int> devices;  // of the ranks that have come
};

struct Rendezvouses {
  std::mutex mutex;
  std::condition_variable came;
  uint64_t next = 1;
  std::map<uint64_t, Rendezvous> by_id;
};

Rendezvouses& rendezvouses() {
  static Rendezvouses* const all = new Rendezvouses;
  return *all;
}

constexpr char kMark[] = "cann_sim root";

uint64_t id_of(const HcclRootInfo& root) {
  if (std::memcmp(root.internal, kMark, sizeof kMark) != 0)
    fail(HCCL_E_PARA, "HcclCommInitRootInfo: rootInfo does not come from HcclGetRootInfo");
  uint64_t id = 0;
  std::memcpy(&id, root.internal + sizeof kMark, sizeof id);
  return id;
}

}  // namespace

extern "C" {

HcclResult HcclGetRootInfo(HcclRootInfo* rootInfo) {
  return guarded_hccl([&] {
    if (!rootInfo) fail(HCCL_E_PTR, "HcclGetRootInfo: null");
    Runtime::get().current_device("HcclGetRootInfo", HCCL_E_RUNTIME);
    Runtime::get().disturb("HcclGetRootInfo");
    Rendezvouses& all = rendezvouses();
    const std::lock_guard lock(all.mutex);
    const uint64_t id = all.next++;
    all.by_id[id];
    std::memset(rootInfo->internal, 0, sizeof rootInfo->internal);
    std::memcpy(rootInfo->internal, kMark, sizeof kMark);
    std::memcpy(rootInfo->internal + sizeof kMark, &id, sizeof id);
  });
}

HcclResult HcclCommInitRootInfo(uint32_t nRanks, const HcclRootInfo* rootInfo, uint32_t rank,
                                HcclComm* comm) {
  return guarded_hccl([&] {
    if (!rootInfo || !comm) fail(HCCL_E_PTR, "HcclCommInitRootInfo: null");
    if (nRanks == 0 || rank >= nRanks)
      fail(HCCL_E_PARA, "HcclCommInitRootInfo: rank {} of {} ranks", rank, nRanks);
    const int device = Runtime::get().current_device("HcclCommInitRootInfo", HCCL_E_RUNTIME);
    Runtime::get().disturb("HcclCommInitRootInfo");
    const uint64_t id = id_of(*rootInfo);
    Rendezvouses& all = rendezvouses();
    std::unique_lock lock(all.mutex);
    const auto found = all.by_id.find(id);
    if (found == all.by_id.end()) fail(HCCL_E_PARA, "HcclCommInitRootInfo: this rootInfo is used up");
    Rendezvous& meeting = found->second;
    if (!meeting.group)
      meeting.group = std::make_shared<Group>(nRanks, seconds_of("HCCL_EXEC_TIMEOUT", 1836));
    const std::shared_ptr<Group> group = meeting.group;
    if (group->size() != nRanks)
      fail(HCCL_E_PARA, "HcclCommInitRootInfo: rank {} says {} ranks, another said {}", rank, nRanks,
           group->size());
    for (const auto& [other, its] : meeting.devices)
      if (other == rank || its == device)
        fail(HCCL_E_PARA,
             "HcclCommInitRootInfo: rank {} on device {} came already (now rank {} on device {})", other, its,
             rank, device);
    meeting.devices[rank] = device;
    all.came.notify_all();
    const std::chrono::seconds limit = seconds_of("HCCL_CONNECT_TIMEOUT", 120);
    const auto complete = [&] {
      const auto at = all.by_id.find(id);
      return at == all.by_id.end() || at->second.devices.size() == nRanks;
    };
    if (!all.came.wait_for(lock, limit, complete)) {
      const size_t came = meeting.devices.size();
      meeting.devices.erase(rank);  // it may come again, and must not count while it is gone
      fail(HCCL_E_TIMEOUT, "EI0006: HcclCommInitRootInfo: {} of {} ranks came within {} s", came, nRanks,
           limit.count());
    }
    all.by_id.erase(id);
    lock.unlock();
    auto* made = new Communicator{group, rank, device};
    Runtime::get().born(made, kCommunicator);
    *comm = made;
  });
}

HcclResult HcclCommDestroy(HcclComm comm) {
  return guarded_hccl([&] {
    Communicator& communicator = communicator_of(comm, "HcclCommDestroy");
    Runtime::get().disturb("HcclCommDestroy");
    Runtime::get().died(comm, kCommunicator);
    delete &communicator;
  });
}

HcclResult HcclGetRankSize(HcclComm comm, uint32_t* rankSize) {
  return guarded_hccl([&] {
    if (!rankSize) fail(HCCL_E_PTR, "HcclGetRankSize: null");
    Runtime::get().disturb("HcclGetRankSize");
    *rankSize = communicator_of(comm, "HcclGetRankSize").group->size();
  });
}

HcclResult HcclGetRankId(HcclComm comm, uint32_t* rank) {
  return guarded_hccl([&] {
    if (!rank) fail(HCCL_E_PTR, "HcclGetRankId: null");
    Runtime::get().disturb("HcclGetRankId");
    *rank = communicator_of(comm, "HcclGetRankId").rank;
  });
}

HcclResult HcclGetCommAsyncError(HcclComm comm, HcclResult* asyncError) {
  return guarded_hccl([&] {
    if (!asyncError) fail(HCCL_E_PTR, "HcclGetCommAsyncError: null");
    Runtime::get().disturb("HcclGetCommAsyncError");
    *asyncError =
        communicator_of(comm, "HcclGetCommAsyncError").group->failure() ? HCCL_E_TIMEOUT : HCCL_SUCCESS;
  });
}

const char* HcclGetErrorString(HcclResult code) {
  switch (code) {
    case HCCL_SUCCESS:
      return "no error";
    case HCCL_E_PARA:
      return "parameter error";
    case HCCL_E_PTR:
      return "null pointer";
    case HCCL_E_NOT_SUPPORT:
      return "not supported";
    case HCCL_E_TIMEOUT:
      return "time-out";
    case HCCL_E_RUNTIME:
      return "runtime error";
    default:
      return "another error";
  }
}

}  // extern "C"
