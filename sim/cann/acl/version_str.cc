// aclsysGetVersionStr: newer releases only.

#include <cstring>

#include "abi/acl.h"
#include "core/profile.h"
#include "core/runtime.h"

using cann_sim::fail;

extern "C" aclError aclsysGetVersionStr(char* pkgName, char* versionStr) {
  return cann_sim::entry(__func__, [&] {
    if (!pkgName || !versionStr) fail(ACL_ERROR_INVALID_PARAM, "aclsysGetVersionStr: null");
    std::strcpy(versionStr, cann_sim::profile().version);
  });
}
