#pragma once

// aclnnScatterPaKvCache: one name with two lists of arguments. Which of them a release has can't be told from
// the symbol, so they are types here and no prototypes.

#include "abi/aclnn.h"

/// Until August 2025.
using ScatterPaKvCache9 = aclnnStatus(const aclTensor* key, aclTensor* keyCacheRef,
                                      const aclTensor* slotMapping, const aclTensor* value,
                                      aclTensor* valueCacheRef, const aclTensor* compressLens,
                                      const aclTensor* compressSeqOffset, const aclTensor* seqLens,
                                      char* cacheMode, CANN_SIM_WS);
/// Since October 2025.
using ScatterPaKvCache12 = aclnnStatus(const aclTensor* key, aclTensor* keyCacheRef,
                                       const aclTensor* slotMapping, const aclTensor* value,
                                       aclTensor* valueCacheRef, const aclTensor* compressLens,
                                       const aclTensor* compressSeqOffset, const aclTensor* seqLens,
                                       char* cacheMode, char* scatterMode, const aclIntArray* strides,
                                       const aclIntArray* offsets, CANN_SIM_WS);
