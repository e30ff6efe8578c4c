#include "device/ascend/cann_loader.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <longspan/error.h>

#include <charconv>
#include <filesystem>
#include <fstream>
#include <type_traits>
#include <utility>

namespace longspan::ascend {
namespace {

constexpr const char* kUsualHome = "/usr/local/Ascend/ascend-toolkit/latest";
// Releases from 8.5 on; the single library must not be mixed with them.
constexpr const char* kSplitLibraries[] = {"libopapi_math.so", "libopapi_nn.so",
                                           "libopapi_cv.so",   "libopapi_transformer.so",
                                           "libopapi_oam.so",  "libopapi_legacy.so"};
constexpr const char* kSingleLibrary = "libopapi.so";

void* find(const std::vector<void*>& libraries, const char* symbol) {
  for (void* library : libraries)
    if (void* found = dlsym(library, symbol)) return found;
  return nullptr;
}

[[noreturn]] void refuse(const std::string& what) {
  throw Error(ErrorCode::kNotSupported,
              fmt::format("backend ascend: {}; is CANN installed, and its set_env.sh sourced? ", what) +
                  "(--backend cpu runs without it)");
}

}  // namespace

Cann::Cann(const std::string& home)
    : Cann(home.empty() ? std::vector<std::string>{std::string(kUsualHome) + "/lib64/", ""}
                        : std::vector<std::string>{home + "/lib64/"}) {}

Cann::Cann(std::vector<std::string> places) {
  // Older toolkits have one runtime library; newer ones keep it for a while beside the one that replaces it.
  std::vector<void*> runtime;
  for (const std::string& place : places) {
    places_ = {place};
    for (const char* name : {"libascendcl.so", "libacl_rt.so"})
      if (void* library = open(name)) runtime.push_back(library);
    if (!runtime.empty()) break;
  }
  if (runtime.empty()) refuse(fmt::format("no ACL runtime; tried {}", fmt::join(tried_, ", ")));
  tried_.clear();
  void* base_library = open("libnnopbase.so");
  if (!base_library) refuse(fmt::format("no libnnopbase.so; tried {}", fmt::join(tried_, ", ")));

  const auto resolve_all = [&](const std::vector<void*>& libraries, const char* in, auto&&... entries) {
    (resolve(libraries, in, *entries.first, entries.second), ...);
  };
  const auto entry = [](auto& function, const char* name) { return std::pair(&function, name); };
  resolve_all(
      runtime, "libascendcl.so, libacl_rt.so", entry(acl.aclInit, "aclInit"),
      entry(acl.aclrtSetDevice, "aclrtSetDevice"), entry(acl.aclrtGetDeviceCount, "aclrtGetDeviceCount"),
      entry(acl.aclrtCreateStream, "aclrtCreateStream"), entry(acl.aclrtDestroyStream, "aclrtDestroyStream"),
      entry(acl.aclrtSynchronizeStream, "aclrtSynchronizeStream"),
      entry(acl.aclrtCreateEventExWithFlag, "aclrtCreateEventExWithFlag"),
      entry(acl.aclrtDestroyEvent, "aclrtDestroyEvent"), entry(acl.aclrtRecordEvent, "aclrtRecordEvent"),
      entry(acl.aclrtStreamWaitEvent, "aclrtStreamWaitEvent"), entry(acl.aclrtMalloc, "aclrtMalloc"),
      entry(acl.aclrtFree, "aclrtFree"), entry(acl.aclrtMallocHost, "aclrtMallocHost"),
      entry(acl.aclrtFreeHost, "aclrtFreeHost"), entry(acl.aclrtMemcpy, "aclrtMemcpy"),
      entry(acl.aclrtMemcpyAsync, "aclrtMemcpyAsync"), entry(acl.aclrtMemset, "aclrtMemset"),
      entry(acl.aclrtMemsetAsync, "aclrtMemsetAsync"), entry(acl.aclrtGetMemInfo, "aclrtGetMemInfo"),
      entry(acl.aclrtGetSocName, "aclrtGetSocName"), entry(acl.aclGetRecentErrMsg, "aclGetRecentErrMsg"));
  acl.aclsysGetVersionStr =
      reinterpret_cast<decltype(acl.aclsysGetVersionStr)>(find(runtime, "aclsysGetVersionStr"));
  acl.aclsysGetCANNVersion =
      reinterpret_cast<decltype(acl.aclsysGetCANNVersion)>(find(runtime, "aclsysGetCANNVersion"));
  resolve_all(
      {base_library}, "libnnopbase.so", entry(base.aclCreateTensor, "aclCreateTensor"),
      entry(base.aclCreateScalar, "aclCreateScalar"), entry(base.aclCreateIntArray, "aclCreateIntArray"),
      entry(base.aclCreateTensorList, "aclCreateTensorList"),
      entry(base.aclDestroyTensor, "aclDestroyTensor"), entry(base.aclDestroyScalar, "aclDestroyScalar"),
      entry(base.aclDestroyIntArray, "aclDestroyIntArray"),
      entry(base.aclDestroyTensorList, "aclDestroyTensorList"),
      entry(base.aclDestroyAclOpExecutor, "aclDestroyAclOpExecutor"));
  load_operators();
  load_hccl();
  version_ = find_version();
}

void* Cann::open(const std::string& name) {
  for (const std::string& place : places_) {
    const std::string path = place + name;
    if (void* library = dlopen(path.c_str(), RTLD_LAZY | RTLD_LOCAL)) {
      paths_.push_back(path);
      return library;
    }
    const char* reason = dlerror();  // names the path
    tried_.push_back(reason ? reason : path);
  }
  return nullptr;
}

template <class F>
void Cann::resolve(const std::vector<void*>& libraries, const char* names, F*& function, const char* symbol) {
  function = reinterpret_cast<F*>(find(libraries, symbol));
  if (!function) refuse(fmt::format("{} is in none of {}", symbol, names));
}

// An operator that is missing is told when it is needed: which there are differs from release to release.
void Cann::load_operators() {
  tried_.clear();
  const auto add = [&](const char* name) {
    if (void* library = open(name)) {
      operators_.push_back(library);
      operator_names_.push_back(name);
    }
  };
  for (const char* name : kSplitLibraries) add(name);
  if (operators_.empty()) add(kSingleLibrary);
  if (operators_.empty()) refuse(fmt::format("no operator library; tried {}", fmt::join(tried_, ", ")));
  for_each_op(ops, [&](auto& op) {
    op.describe = reinterpret_cast<decltype(op.describe)>(
        find(operators_, fmt::format("{}GetWorkspaceSize", op.name).c_str()));
    op.launch = reinterpret_cast<AclnnLaunch>(find(operators_, op.name));
    if (!op.describe || !op.launch) op.describe = nullptr;
  });
}

// What is missing is told where ranks have cards of their own. From CANN 9 on groups have a library apart.
void Cann::load_hccl() {
  tried_.clear();
  std::vector<void*> libraries;
  for (const char* name : {"libhccl.so", "libhcomm.so"})
    if (void* library = open(name)) libraries.push_back(library);
  if (libraries.empty()) {
    hccl_missing_ = fmt::format("no libhccl.so; tried {}", fmt::join(tried_, ", "));
    return;
  }
  const auto entry = [&](auto& function, const char* name, bool needed = true) {
    function = reinterpret_cast<std::decay_t<decltype(function)>>(find(libraries, name));
    if (needed && !function && hccl_missing_.empty())
      hccl_missing_ = fmt::format("{} is in none of libhccl.so, libhcomm.so", name);
  };
  entry(hccl.HcclGetRootInfo, "HcclGetRootInfo");
  entry(hccl.HcclCommInitRootInfo, "HcclCommInitRootInfo");
  entry(hccl.HcclCommDestroy, "HcclCommDestroy");
  entry(hccl.HcclGetErrorString, "HcclGetErrorString");
  entry(hccl.HcclBarrier, "HcclBarrier");
  entry(hccl.HcclAllGather, "HcclAllGather");
  entry(hccl.HcclAllGatherV, "HcclAllGatherV", /*needed=*/false);
  entry(hccl.HcclAllReduce, "HcclAllReduce");
  entry(hccl.HcclReduceScatter, "HcclReduceScatter");
  entry(hccl.HcclBroadcast, "HcclBroadcast");
  entry(hccl.HcclAlltoAllV, "HcclAlltoAllV");
}

void Cann::require_hccl() const {
  if (!has_hccl()) refuse(fmt::format("--comm hccl: {}", hccl_missing_));
}

std::string Cann::operator_libraries() const {
  return fmt::format("{}", fmt::join(operator_names_, ", "));
}

bool Cann::has_operator(const char* name) const {
  return find(operators_, name) != nullptr;
}

std::string Cann::find_version() const {
  char package[] = "runtime";
  char text[256] = {};
  if (acl.aclsysGetVersionStr && acl.aclsysGetVersionStr(package, text) == 0 && text[0]) return text;
  AclCannVersion older = {};
  if (acl.aclsysGetCANNVersion && acl.aclsysGetCANNVersion(kAclPackageCann, &older) == 0 && older.version[0])
    return older.version;
  const std::string& place = places_.front();
  const std::string written =
      place.empty() ? ""
                    : installed_version(std::filesystem::path(place).parent_path().parent_path().string());
  return written.empty() ? "unknown" : written;
}

std::string installed_version(const std::string& home) {
  for (const char* folder : {"", "aarch64-linux/", "x86_64-linux/"}) {
    std::ifstream file(home + "/" + folder + "ascend_toolkit_install.info");
    constexpr std::string_view kKey = "version=";
    for (std::string line; std::getline(file, line);)
      if (line.starts_with(kKey)) return line.substr(kKey.size());
  }
  return "";
}

bool is_at_least(std::string_view version, int major, int minor) {
  const char* end = version.data() + version.size();
  int found_major = 0, found_minor = 0;
  const auto first = std::from_chars(version.data(), end, found_major);
  if (first.ec != std::errc() || first.ptr == end || *first.ptr != '.') return false;
  if (std::from_chars(first.ptr + 1, end, found_minor).ec != std::errc()) return false;
  return std::pair(found_major, found_minor) >= std::pair(major, minor);
}

}  // namespace longspan::ascend
