#pragma once

#include <string>
#include <vector>

#include "device/ascend/aclnn_api.h"

namespace longspan::ascend {

/// The libraries of an installed CANN, opened at run time; never closed, since their threads outlive us.
class Cann {
 public:
  /// `home`: the toolkit's folder ($ASCEND_HOME_PATH), "" for the usual place. Throws Error(kNotSupported)
  /// that names the library or symbol that is missing and what was tried.
  explicit Cann(const std::string& home);

  AclRuntimeApi acl;
  AclBaseApi base;
  AclnnApi ops;

  const std::vector<std::string>& libraries() const { return paths_; }  // those that were opened
  /// The operators' libraries, for messages.
  std::string operator_libraries() const;
  /// e.g. "8.5"; "unknown" where the release can't tell.
  std::string version() const;

 private:
  /// The library `name` in the toolkit's folder; where none was named, also what the system's search finds,
  /// so that two installations never mix. Null: nowhere.
  void* open(const std::string& name);
  void load_operators();
  template <class F>
  void resolve(const std::vector<void*>& libraries, const char* names, F*& function, const char* symbol);

  std::vector<std::string> places_;  // in front of a library's name
  std::vector<std::string> tried_, paths_, operator_names_;
};

}  // namespace longspan::ascend
