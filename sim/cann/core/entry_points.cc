#include "core/entry_points.h"

#include <dlfcn.h>

#include <filesystem>
#include <set>

#include "core/profile.h"

namespace cann_sim {

bool is_entry_point(const std::string& name) {
  static const std::set<std::string> texts = {"aclGetRecentErrMsg", "aclrtGetSocName", "HcclGetErrorString"};
  if ((!name.starts_with("acl") && !name.starts_with("Hccl")) || texts.contains(name)) return false;
  Dl_info here = {};
  if (!dladdr(reinterpret_cast<void*>(&profile), &here)) return false;
  std::error_code unreadable;
  for (const auto& file :
       std::filesystem::directory_iterator(std::filesystem::path(here.dli_fname).parent_path(), unreadable)) {
    void* library = dlopen(file.path().c_str(), RTLD_LAZY | RTLD_LOCAL);
    if (!library) continue;
    const bool found = dlsym(library, name.c_str()) != nullptr;
    dlclose(library);
    if (found) return true;
  }
  return false;
}

}  // namespace cann_sim
