// Communicators: made by every rank of one root info, each rank a thread of this process or of another one, with
// a device of its own.

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "core/join.h"

using namespace cann_sim;

namespace {

std::chrono::seconds seconds_of(const char* variable, int otherwise) {
  const char* text = std::getenv(variable);
  return std::chrono::seconds(text && *text ? std::atoi(text) : otherwise);
}

// Meeting points that this process has made, until their ranks have joined. They are there as long as
// somebody has them open.
struct Roots {
  std::mutex mutex;
  std::map<uint64_t, std::unique_ptr<MeetingPoint>> by_id;
};

Roots& roots() {
  static Roots* const all = new Roots;
  return *all;
}

constexpr char kMark[] = "cann_sim root";

MeetingPoint::Address address_of(const HcclRootInfo& root) {
  if (std::memcmp(root.internal, kMark, sizeof kMark) != 0)
    fail(HCCL_E_PARA, "HcclCommInitRootInfo: rootInfo does not come from HcclGetRootInfo");
  MeetingPoint::Address address;
  std::memcpy(&address, root.internal + sizeof kMark, sizeof address);
  return address;
}

}  // namespace

extern "C" {

HcclResult HcclGetRootInfo(HcclRootInfo* rootInfo) {
  return guarded_hccl([&] {
    if (!rootInfo) fail(HCCL_E_PTR, "HcclGetRootInfo: null");
    Runtime::get().current_device("HcclGetRootInfo", HCCL_E_RUNTIME);
    Runtime::get().disturb("HcclGetRootInfo");
    auto point = std::make_unique<MeetingPoint>();
    const MeetingPoint::Address address = point->address();
    {
      const std::lock_guard lock(roots().mutex);
      roots().by_id[address.id] = std::move(point);
    }
    std::memset(rootInfo->internal, 0, sizeof rootInfo->internal);
    std::memcpy(rootInfo->internal, kMark, sizeof kMark);
    std::memcpy(rootInfo->internal + sizeof kMark, &address, sizeof address);
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
    const MeetingPoint::Address address = address_of(*rootInfo);
    const std::shared_ptr<Group> group =
        join_group(address, {.ranks = nRanks,
                             .rank = rank,
                             .device = device,
                             .connect_limit = seconds_of("HCCL_CONNECT_TIMEOUT", 120),
                             .exec_limit = seconds_of("HCCL_EXEC_TIMEOUT", 1836)});
    {
      const std::lock_guard lock(roots().mutex);
      roots().by_id.erase(address.id);
    }
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
