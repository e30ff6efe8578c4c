#pragma once

// What a test may ask of the simulator beyond CANN. Exported by the core library.

#include <cstdint>

extern "C" {

/// "8.1", "8.5" or "9.0".
const char* cann_sim_profile(void);

/// How often something has happened in this process: "launch" (all kernels), "launch:<operator>",
/// "phase1:<operator>", "sync" (a host thread waited for the device), "memcpy:h2d", "memcpy:d2h",
/// "memcpy:d2d", "malloc", "fault" (found while running, whether told or not), "collective" (calls of any
/// rank), "collective:<name>".
uint64_t cann_sim_count(const char* what);
void cann_sim_reset_counts(void);

/// Seeds the order in which streams run; also CANN_SIM_SEED.
void cann_sim_seed(uint64_t seed);

/// The next call of `call` after `after` others fails with `code`, once: aclInit, aclrtGetDeviceCount,
/// aclrtMalloc, aclrtMallocHost, HcclCommInitRootInfo, or an operator ("aclnnMm": its phase 2, "aclnnMmGetWorkspaceSize": phase 1).
/// Code 0 takes back what was asked of this call.
void cann_sim_fail(const char* call, uint64_t after, int code);

/// Bytes of device memory and of pinned host memory that are allocated, with what rounding takes.
uint64_t cann_sim_device_bytes(int device);
uint64_t cann_sim_pinned_bytes(void);

/// What is alive: device allocations, pinned host allocations, streams, events, tensors and other handles,
/// executors that were never run, communicators; one line each, "" if nothing. Valid until the thread's next
/// call. aclFinalize fails with the same text.
const char* cann_sim_leaks(void);

}  // extern "C"
