// aclsysGetCANNVersion: deprecated, gone from the newest release.

#include <cstring>

#include "abi/acl.h"
#include "core/profile.h"
#include "core/runtime.h"

using cann_sim::fail;

extern "C" aclError aclsysGetCANNVersion(aclCANNPackageName, aclCANNPackageVersion* version) {
  return cann_sim::entry(__func__, [&] {
    if (!version) fail(ACL_ERROR_INVALID_PARAM, "aclsysGetCANNVersion: null");
    const char* text = cann_sim::profile().version;  // "8.1"
    *version = {};
    std::strcpy(version->version, text);
    version->majorVersion[0] = text[0];
    version->minorVersion[0] = text[2];
    version->releaseVersion[0] = version->patchVersion[0] = '0';
  });
}
