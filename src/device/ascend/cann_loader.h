#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "device/ascend/aclnn_api.h"
#include "device/ascend/hccl_api.h"

namespace longspan::ascend {

/// The libraries of an installed CANN, opened at run time; never closed, since their threads outlive us.
class Cann {
 public:
  /// `home`: the toolkit's folder ($ASCEND_HOME_PATH), "" for the usual place, then the system's search.
  /// Throws Error(kNotSupported) that names the library or symbol that is missing and what was tried.
  explicit Cann(const std::string& home);
  /// `places`: what stands in front of a library's name ("/a/b/lib64/"; "" for the system's search). All come
  /// from the first where there is a runtime, so that two installations never mix.
  explicit Cann(std::vector<std::string> places);

  AclRuntimeApi acl;
  AclBaseApi base;
  AclnnApi ops;
  HcclApi hccl;

  const std::vector<std::string>& libraries() const { return paths_; }  // those that were opened
  /// The operators' libraries, for messages.
  std::string operator_libraries() const;
  /// Whether an operator that this backend does not call is there.
  bool has_operator(const char* name) const;
  /// Throws Error(kNotSupported) where the collectives' library or a function of it is missing.
  void require_hccl() const;
  bool has_hccl() const { return hccl_missing_.empty(); }
  /// e.g. "8.5"; "unknown" where neither the runtime nor a file of the toolkit can tell.
  const std::string& version() const { return version_; }

 private:
  /// The library `name` in the places. Null: nowhere.
  void* open(const std::string& name);
  void load_operators();
  void load_hccl();
  std::string find_version() const;
  template <class F>
  void resolve(const std::vector<void*>& libraries, const char* names, F*& function, const char* symbol);

  std::vector<std::string> places_;  // in front of a library's name
  std::vector<std::string> tried_, paths_, operator_names_;
  std::vector<void*> operators_;
  std::string version_;
  std::string hccl_missing_;  // what, where something is
};

/// The version that the toolkit's own record of its installation names (ascend_toolkit_install.info in the
/// folder, or in its folder for the processor); "" where there is none.
std::string installed_version(const std::string& home);
/// Whether a version ("8.5", "8.2.RC1.alpha003") is known to be at least major.minor; false where it can't be
/// read.
bool is_at_least(std::string_view version, int major, int minor);

}  // namespace longspan::ascend
