#include "abi/acl.h"
#include "core/fault.h"
#include "core/profile.h"
#include "core/runtime.h"

using cann_sim::entry;
using cann_sim::fail;
using cann_sim::guarded;
using cann_sim::Runtime;

extern "C" {

aclError aclInit(const char*) {
  return guarded([] { Runtime::get().init(); });
}

aclError aclFinalize(void) {
  return entry(__func__, [] { Runtime::get().finalize(); });
}

aclError aclrtSetDevice(int32_t deviceId) {
  return entry(__func__, [&] { Runtime::get().set_device(deviceId); });
}

aclError aclrtResetDevice(int32_t deviceId) {
  return entry(__func__, [&] { Runtime::get().reset_device(deviceId); });
}

aclError aclrtGetDevice(int32_t* deviceId) {
  return entry(__func__, [&] {
    if (!deviceId) fail(ACL_ERROR_INVALID_PARAM, "aclrtGetDevice: null");
    *deviceId = Runtime::get().current_device("aclrtGetDevice", ACL_ERROR_RT_CONTEXT_NULL);
  });
}

aclError aclrtGetDeviceCount(uint32_t* count) {
  return entry(__func__, [&] {
    if (!count) fail(ACL_ERROR_INVALID_PARAM, "aclrtGetDeviceCount: null");
    *count = static_cast<uint32_t>(Runtime::get().device_count());
  });
}

aclError aclrtGetRunMode(aclrtRunMode* runMode) {
  return entry(__func__, [&] {
    if (!runMode) fail(ACL_ERROR_INVALID_PARAM, "aclrtGetRunMode: null");
    *runMode = ACL_HOST;
  });
}

const char* aclrtGetSocName(void) {
  return cann_sim::profile().soc;
}

const char* aclGetRecentErrMsg(void) {
  return cann_sim::take_error();
}

}  // extern "C"
