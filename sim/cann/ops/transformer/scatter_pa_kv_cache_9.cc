// aclnnScatterPaKvCache in its first form.

#include "abi/scatter_pa_kv_cache.h"
#include "ops/transformer/scatter_pa_kv_cache.h"

using namespace cann_sim;

extern "C" {

aclnnStatus aclnnScatterPaKvCacheGetWorkspaceSize(const aclTensor* key, aclTensor* keyCacheRef,
                                                  const aclTensor* slotMapping, const aclTensor* value,
                                                  aclTensor* valueCacheRef, const aclTensor* compressLens,
                                                  const aclTensor* compressSeqOffset,
                                                  const aclTensor* seqLens, char* cacheMode, CANN_SIM_WS) {
  return describe("aclnnScatterPaKvCache", workspaceSize, executor, [&](Call& call) {
    describe_page_scatter(call, {key, keyCacheRef, slotMapping, value, valueCacheRef, compressLens,
                                 compressSeqOffset, seqLens, cacheMode});
  });
}
CANN_SIM_LAUNCH(aclnnScatterPaKvCache)

}  // extern "C"

static_assert(std::is_same_v<decltype(aclnnScatterPaKvCacheGetWorkspaceSize), ScatterPaKvCache9>);
