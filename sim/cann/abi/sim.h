#pragma once

// What a test may ask of the simulator beyond CANN. Exported by the core library.

#include <cstdint>

extern "C" {

/// "8.1", "8.5" or "9.0".
const char* cann_sim_profile(void);

/// How often something has happened in this process: "launch" (all kernels), "launch:<operator>",
/// "phase1:<operator>", "sync" (a host thread waited for the device), "memcpy:h2d", "memcpy:d2h",
/// "memcpy:d2d", "malloc", "malloc:host", "fault" (found while running, whether told or not), "collective"
/// (calls of any rank), "collective:<name>".
uint64_t cann_sim_count(const char* what);
void cann_sim_reset_counts(void);

/// Seeds the order in which streams run; also CANN_SIM_SEED.
void cann_sim_seed(uint64_t seed);

/// Adds a rule in the words of a CANN_SIM_FAULTS file (README.md): "aclnnMm nth 3 fail 561002". Calls are
/// counted from now on. 0, or ACL_ERROR_INVALID_PARAM with a text for aclGetRecentErrMsg.
int cann_sim_fault(const char* rule);
void cann_sim_clear_faults(void);

/// Bytes of device memory and of pinned host memory that are allocated, with what rounding takes.
uint64_t cann_sim_device_bytes(int device);
uint64_t cann_sim_pinned_bytes(void);

/// What is alive: device allocations, pinned host allocations, streams, events, tensors and other handles,
/// executors that were never run, communicators; one line each, "" if nothing. Valid until the thread's next
/// call. aclFinalize fails with the same text.
const char* cann_sim_leaks(void);

}  // extern "C"
