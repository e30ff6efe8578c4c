// aclsysGetVersionStr: newer releases only.

#include <cstring>

#include "abi/acl.h"
#include "core/fault.h"
#include "core/profile.h"

using cann_sim::fail;

extern "C" aclError aclsysGetVersionStr(char* pkgName, char* versionStr) {
  return cann_sim::guarded([&] {
    if (!pkgName || !versionStr) fail(ACL_ERROR_INVALID_PARAM, "aclsysGetVersionStr: null");
    std::strcpy(versionStr, cann_sim::profile().version);
  });
}
