#pragma once

#include <cstdint>
#include <string>

namespace longspan {

/// Where the ascend backend finds CANN, Huawei's toolkit for its NPUs.
struct AscendOptions {
  std::string home;     ///< toolkit folder ($ASCEND_HOME_PATH); "": /usr/local/Ascend/ascend-toolkit/latest
  bool use_fia = true;  ///< fused attention; there is no other attention, so false is refused
  int32_t device = 0;   ///< which NPU, among those that the runtime shows; all local ranks share it
};

}  // namespace longspan
