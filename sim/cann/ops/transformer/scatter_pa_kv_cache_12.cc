// aclnnScatterPaKvCache with the arguments that were added behind cacheMode.

#include <cstring>

#include "abi/scatter_pa_kv_cache.h"
#include "ops/transformer/scatter_pa_kv_cache.h"

using namespace cann_sim;

extern "C" {

aclnnStatus aclnnScatterPaKvCacheGetWorkspaceSize(const aclTensor* key, aclTensor* keyCacheRef,
                                                  const aclTensor* slotMapping, const aclTensor* value,
                                                  aclTensor* valueCacheRef, const aclTensor* compressLens,
                                                  const aclTensor* compressSeqOffset,
                                                  const aclTensor* seqLens, char* cacheMode,
                                                  char* scatterMode, const aclIntArray* strides,
                                                  const aclIntArray* offsets, CANN_SIM_WS) {
  return describe("aclnnScatterPaKvCache", workspaceSize, executor, [&](Call& call) {
    call.require(!scatterMode || std::strcmp(scatterMode, "None") == 0,
                 "scatterMode '{}': the simulator knows 'None' only", scatterMode ? scatterMode : "");
    if (strides)
      call.require(call.integers("strides", strides) == std::vector<int64_t>{1, 1}, "strides must be 1, 1");
    if (offsets)
      call.require(call.integers("offsets", offsets) == std::vector<int64_t>{0, 0}, "offsets must be 0, 0");
    describe_page_scatter(call, {key, keyCacheRef, slotMapping, value, valueCacheRef, compressLens,
                                 compressSeqOffset, seqLens, cacheMode});
  });
}
CANN_SIM_LAUNCH(aclnnScatterPaKvCache)

}  // extern "C"

static_assert(std::is_same_v<decltype(aclnnScatterPaKvCacheGetWorkspaceSize), ScatterPaKvCache12>);
