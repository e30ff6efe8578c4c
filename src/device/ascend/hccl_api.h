#pragma once

#include "device/ascend/acl_api.h"

/// Declarations of our own for HCCL, as for the rest of CANN (acl_api.h). Counts and displacements are
/// elements; arrays of them lie in host memory.
namespace longspan::ascend {

using HcclHandle = void*;
using HcclStatus = int;

struct HcclRoot {
  char bytes[4108];
};

/// Not the values of AclDType.
enum HcclDType : int { kHcclInt8 = 0, kHcclFloat = 4 };
enum HcclReduction : int { kHcclSum = 0 };

/// Functions of the collectives' libraries, by their names in them.
struct HcclApi {
  HcclStatus (*HcclGetRootInfo)(HcclRoot* root) = nullptr;
  HcclStatus (*HcclCommInitRootInfo)(uint32_t ranks, const HcclRoot* root, uint32_t rank,
                                     HcclHandle* comm) = nullptr;
  HcclStatus (*HcclCommDestroy)(HcclHandle comm) = nullptr;
  const char* (*HcclGetErrorString)(HcclStatus status) = nullptr;
  HcclStatus (*HcclBarrier)(HcclHandle comm, AclStream stream) = nullptr;
  HcclStatus (*HcclAllGather)(void* send, void* recv, uint64_t send_count, HcclDType dtype, HcclHandle comm,
                              AclStream stream) = nullptr;
  HcclStatus (*HcclAllGatherV)(void* send, uint64_t send_count, void* recv, const void* recv_counts,
                               const void* recv_displs, HcclDType dtype, HcclHandle comm,
                               AclStream stream) = nullptr;  // newer releases only
  HcclStatus (*HcclAllReduce)(void* send, void* recv, uint64_t count, HcclDType dtype, HcclReduction op,
                              HcclHandle comm, AclStream stream) = nullptr;
  HcclStatus (*HcclReduceScatter)(void* send, void* recv, uint64_t recv_count, HcclDType dtype,
                                  HcclReduction op, HcclHandle comm, AclStream stream) = nullptr;
  HcclStatus (*HcclBroadcast)(void* data, uint64_t count, HcclDType dtype, uint32_t root, HcclHandle comm,
                              AclStream stream) = nullptr;
  HcclStatus (*HcclAlltoAllV)(const void* send, const void* send_counts, const void* send_displs,
                              HcclDType send_dtype, const void* recv, const void* recv_counts,
                              const void* recv_displs, HcclDType recv_dtype, HcclHandle comm,
                              AclStream stream) = nullptr;
};

}  // namespace longspan::ascend
