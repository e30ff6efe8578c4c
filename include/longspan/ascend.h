#pragma once

#include <cstdint>
#include <string>

namespace longspan {

/// Where the ascend backend finds CANN, Huawei's toolkit for its NPUs.
struct AscendOptions {
  std::string home;     ///< toolkit folder ($ASCEND_HOME_PATH); "": /usr/local/Ascend/ascend-toolkit/latest
  bool use_fia = true;  ///< fused attention; there is no other attention, so false is refused
  int32_t cp_launches = 0;  ///< of attention where sequences are cut: 1, or 2 (first and second halves
                            ///< apart); 0: 2 before CANN 8.5 and where the release is unknown, else 1
  int32_t device = 0;  ///< which NPU, of those that the runtime shows; the first, where ranks have one each
};

}  // namespace longspan
