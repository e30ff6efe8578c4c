#pragma once

// What a test may ask of the simulator beyond CANN. Exported by the core library.

#include <cstdint>

extern "C" {

/// "8.1", "8.5" or "9.0".
const char* cann_sim_profile(void);

/// How often something has happened in this process: "launch" (all kernels), "launch:<operator>",
/// "phase1:<operator>", "sync" (a host thread waited for the device), "memcpy:h2d", "memcpy:d2h",
/// "memcpy:d2d", "malloc", "malloc:host", "fault" (found while running, whether told or not), "collective"
/// (calls of any rank), "collective:<name>". "collective:bytes" (between cards) and "memcpy:h2d:bytes" (and so
/// on) are sums.
uint64_t cann_sim_count(const char* what);
void cann_sim_reset_counts(void);

/// Seeds the order in which streams run; also CANN_SIM_SEED.
void cann_sim_seed(uint64_t seed);

/// Adds a rule in the words of a CANN_SIM_FAULTS file (README.md): "aclnnMm nth 3 fail 561002". Calls are
/// counted from now on. 0, or ACL_ERROR_INVALID_PARAM with a text for aclGetRecentErrMsg.
int cann_sim_fault(const char* rule);
void cann_sim_clear_faults(void);

/// From now on (1; 0: no more) keeps what streams are given and host threads wait for; so does
/// CANN_SIM_TRACE.
void cann_sim_record(int on);
/// That of one device in the order of calls, a line each: "ROW KIND NAME BYTES". ROW: a stream's number on
/// its device, of host threads 10000 and on. KIND: launch, collective, h2d, d2h, d2d, memset, wait. BYTES:
/// for collectives what travels between cards. Valid until the thread's next call.
const char* cann_sim_journal(int device);
/// Writes it as CANN_SIM_TRACE does, what did not run yet left out. 0, or a code with a text.
int cann_sim_write_trace(const char* path);

/// Bytes of device memory and of pinned host memory that are allocated, with what rounding takes.
uint64_t cann_sim_device_bytes(int device);
uint64_t cann_sim_pinned_bytes(void);

/// What is alive: device allocations, pinned host allocations, streams, events, tensors and other handles,
/// executors that were never run, communicators; one line each, "" if nothing. Valid until the thread's next
/// call. aclFinalize fails with the same text.
const char* cann_sim_leaks(void);

}  // extern "C"
