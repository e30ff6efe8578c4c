#pragma once

// aclnn: handles, the two-phase convention, and the operators that the simulator has. The second phase of
// every operator has one form, so it is declared by a macro.

#include "abi/acl.h"

extern "C" {

typedef int32_t aclnnStatus;
struct aclTensor;
struct aclScalar;
struct aclIntArray;
struct aclFloatArray;
struct aclBoolArray;
struct aclTensorList;
struct aclOpExecutor;

enum : aclnnStatus {
  ACLNN_SUCCESS = 0,
  ACLNN_ERR_PARAM_NULLPTR = 161001,
  ACLNN_ERR_PARAM_INVALID = 161002,
  ACLNN_ERR_RUNTIME_ERROR = 361001,
  ACLNN_ERR_INNER = 561000,
  ACLNN_ERR_INNER_TILING_ERROR = 561002,
  ACLNN_ERR_INNER_NULLPTR = 561103,
  ACLNN_ERR_INNER_OPP_PATH_NOT_FOUND = 561107,
};

aclnnStatus aclnnInit(const char* configPath);
aclnnStatus aclnnFinalize(void);
aclTensor* aclCreateTensor(const int64_t* viewDims, uint64_t viewDimsNum, aclDataType dataType,
                           const int64_t* stride, int64_t offset, aclFormat format,
                           const int64_t* storageDims, uint64_t storageDimsNum, void* tensorData);
aclScalar* aclCreateScalar(void* value, aclDataType dataType);
aclIntArray* aclCreateIntArray(const int64_t* value, uint64_t size);
aclFloatArray* aclCreateFloatArray(const float* value, uint64_t size);
aclBoolArray* aclCreateBoolArray(const bool* value, uint64_t size);
aclTensorList* aclCreateTensorList(const aclTensor* const* value, uint64_t size);
aclnnStatus aclDestroyTensor(const aclTensor* tensor);
aclnnStatus aclDestroyScalar(const aclScalar* scalar);
aclnnStatus aclDestroyIntArray(const aclIntArray* array);
aclnnStatus aclDestroyFloatArray(const aclFloatArray* array);
aclnnStatus aclDestroyBoolArray(const aclBoolArray* array);
aclnnStatus aclDestroyTensorList(const aclTensorList* list);
aclnnStatus aclSetRawTensorAddr(aclTensor* tensor, void* addr);
aclnnStatus aclGetRawTensorAddr(const aclTensor* tensor, void** addr);
aclnnStatus aclSetAclOpExecutorRepeatable(aclOpExecutor* executor);
aclnnStatus aclDestroyAclOpExecutor(aclOpExecutor* executor);

#define CANN_SIM_WS uint64_t *workspaceSize, aclOpExecutor **executor
#define CANN_SIM_PHASE2(op) \
  aclnnStatus op(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor, aclrtStream stream)

// Normalisation.
aclnnStatus aclnnRmsNormGetWorkspaceSize(const aclTensor* x, const aclTensor* gamma, double epsilon,
                                         const aclTensor* yOut, const aclTensor* rstdOut, CANN_SIM_WS);
CANN_SIM_PHASE2(aclnnRmsNorm);
aclnnStatus aclnnAddRmsNormGetWorkspaceSize(const aclTensor* x1, const aclTensor* x2, const aclTensor* gamma,
                                            double epsilon, aclTensor* yOut, aclTensor* rstdOut,
                                            aclTensor* xOut, CANN_SIM_WS);
CANN_SIM_PHASE2(aclnnAddRmsNorm);
aclnnStatus aclnnInplaceAddRmsNormGetWorkspaceSize(aclTensor* x1Ref, aclTensor* x2Ref, const aclTensor* gamma,
                                                   double epsilon, const aclTensor* rstdOut, CANN_SIM_WS);
CANN_SIM_PHASE2(aclnnInplaceAddRmsNorm);

// Rotary embedding.
aclnnStatus aclnnRotaryPositionEmbeddingGetWorkspaceSize(const aclTensor* x, const aclTensor* cos,
                                                         const aclTensor* sin, int64_t mode, aclTensor* out,
                                                         CANN_SIM_WS);
CANN_SIM_PHASE2(aclnnRotaryPositionEmbedding);
aclnnStatus aclnnApplyRotaryPosEmbV2GetWorkspaceSize(aclTensor* queryRef, aclTensor* keyRef,
                                                     const aclTensor* cos, const aclTensor* sin,
                                                     int64_t layout, char* rotaryMode, CANN_SIM_WS);
CANN_SIM_PHASE2(aclnnApplyRotaryPosEmbV2);

// Dense products and activations.
aclnnStatus aclnnMmGetWorkspaceSize(const aclTensor* self, const aclTensor* mat2, aclTensor* out,
                                    int8_t cubeMathType, CANN_SIM_WS);
CANN_SIM_PHASE2(aclnnMm);
aclnnStatus aclnnMatmulGetWorkspaceSize(const aclTensor* self, const aclTensor* mat2, aclTensor* out,
                                        int8_t cubeMathType, CANN_SIM_WS);
CANN_SIM_PHASE2(aclnnMatmul);
aclnnStatus aclnnSwiGluGetWorkspaceSize(const aclTensor* x, int64_t dim, const aclTensor* out, CANN_SIM_WS);
CANN_SIM_PHASE2(aclnnSwiGlu);
aclnnStatus aclnnSiluGetWorkspaceSize(const aclTensor* self, aclTensor* out, CANN_SIM_WS);
CANN_SIM_PHASE2(aclnnSilu);
aclnnStatus aclnnSoftmaxGetWorkspaceSize(const aclTensor* self, int64_t dim, aclTensor* out, CANN_SIM_WS);
CANN_SIM_PHASE2(aclnnSoftmax);
aclnnStatus aclnnMulGetWorkspaceSize(const aclTensor* self, const aclTensor* other, aclTensor* out,
                                     CANN_SIM_WS);
CANN_SIM_PHASE2(aclnnMul);
aclnnStatus aclnnMulsGetWorkspaceSize(const aclTensor* self, const aclScalar* other, aclTensor* out,
                                      CANN_SIM_WS);
CANN_SIM_PHASE2(aclnnMuls);
aclnnStatus aclnnAddGetWorkspaceSize(const aclTensor* self, const aclTensor* other, const aclScalar* alpha,
                                     aclTensor* out, CANN_SIM_WS);
CANN_SIM_PHASE2(aclnnAdd);
aclnnStatus aclnnInplaceAddGetWorkspaceSize(const aclTensor* selfRef, const aclTensor* other,
                                            const aclScalar* alpha, CANN_SIM_WS);
CANN_SIM_PHASE2(aclnnInplaceAdd);

// Moving and converting.
aclnnStatus aclnnCastGetWorkspaceSize(const aclTensor* self, const aclDataType dtype, aclTensor* out,
                                      CANN_SIM_WS);
CANN_SIM_PHASE2(aclnnCast);
aclnnStatus aclnnInplaceCopyGetWorkspaceSize(aclTensor* selfRef, const aclTensor* src, CANN_SIM_WS);
CANN_SIM_PHASE2(aclnnInplaceCopy);
aclnnStatus aclnnCatGetWorkspaceSize(const aclTensorList* tensors, int64_t dim, aclTensor* out, CANN_SIM_WS);
CANN_SIM_PHASE2(aclnnCat);
aclnnStatus aclnnArgMaxGetWorkspaceSize(const aclTensor* self, int64_t dim, bool keepdim, aclTensor* out,
                                        CANN_SIM_WS);
CANN_SIM_PHASE2(aclnnArgMax);
aclnnStatus aclnnEmbeddingGetWorkspaceSize(const aclTensor* weight, const aclTensor* indices,
                                           const aclTensor* out, CANN_SIM_WS);
CANN_SIM_PHASE2(aclnnEmbedding);
aclnnStatus aclnnIndexSelectGetWorkspaceSize(const aclTensor* self, int64_t dim, const aclTensor* index,
                                             aclTensor* out, CANN_SIM_WS);
CANN_SIM_PHASE2(aclnnIndexSelect);
aclnnStatus aclnnScatterNdUpdateGetWorkspaceSize(aclTensor* varRef, const aclTensor* indices,
                                                 const aclTensor* updates, CANN_SIM_WS);
CANN_SIM_PHASE2(aclnnScatterNdUpdate);
aclnnStatus aclnnInplaceIndexCopyGetWorkspaceSize(aclTensor* selfRef, int64_t dim, const aclTensor* index,
                                                  const aclTensor* source, CANN_SIM_WS);
CANN_SIM_PHASE2(aclnnInplaceIndexCopy);

// Mixture of experts.
aclnnStatus aclnnMoeGatingTopKSoftmaxV2GetWorkspaceSize(const aclTensor* x, const aclTensor* finishedOptional,
                                                        int64_t k, int64_t renorm,
                                                        bool outputSoftmaxResultFlag, const aclTensor* yOut,
                                                        const aclTensor* expertIdxOut,
                                                        const aclTensor* softmaxResultOutOptional,
                                                        CANN_SIM_WS);
CANN_SIM_PHASE2(aclnnMoeGatingTopKSoftmaxV2);
aclnnStatus aclnnMoeInitRoutingV2GetWorkspaceSize(
    const aclTensor* x, const aclTensor* expertIdx, int64_t activeNum, int64_t expertCapacity,
    int64_t expertNum, int64_t dropPadMode, int64_t expertTokensCountOrCumsumFlag,
    bool expertTokensBeforeCapacityFlag, const aclTensor* expandedXOut, const aclTensor* expandedRowIdxOut,
    const aclTensor* expertTokensCountOrCumsumOut, const aclTensor* expertTokensBeforeCapacityOut,
    CANN_SIM_WS);
CANN_SIM_PHASE2(aclnnMoeInitRoutingV2);
aclnnStatus aclnnMoeInitRoutingV3GetWorkspaceSize(
    const aclTensor* x, const aclTensor* expertIdx, const aclTensor* scale, const aclTensor* offset,
    int64_t activeNum, int64_t expertCapacity, int64_t expertNum, int64_t dropPadMode,
    int64_t expertTokensNumType, bool expertTokensNumFlag, int64_t quantMode,
    const aclIntArray* activeExpertRange, int64_t rowIdxType, const aclTensor* expandedXOut,
    const aclTensor* expandedRowIdxOut, const aclTensor* expertTokensCountOrCumsumOut,
    const aclTensor* expandedScaleOut, CANN_SIM_WS);
CANN_SIM_PHASE2(aclnnMoeInitRoutingV3);
#define CANN_SIM_GROUPED_MATMUL_IN                                                                          \
  const aclTensorList *x, const aclTensorList *weight, const aclTensorList *bias,                           \
      const aclTensorList *scale, const aclTensorList *offset, const aclTensorList *antiquantScale,         \
      const aclTensorList *antiquantOffset, const aclTensorList *perTokenScale, const aclTensor *groupList, \
      const aclTensorList *activationInput, const aclTensorList *activationQuantScale,                      \
      const aclTensorList *activationQuantOffset, int64_t splitItem, int64_t groupType,                     \
      int64_t groupListType, int64_t actType
#define CANN_SIM_GROUPED_MATMUL_OUT \
  aclTensorList *out, aclTensorList *activationFeatureOut, aclTensorList *dynQuantScaleOut, CANN_SIM_WS
aclnnStatus aclnnGroupedMatmulV4GetWorkspaceSize(CANN_SIM_GROUPED_MATMUL_IN, CANN_SIM_GROUPED_MATMUL_OUT);
CANN_SIM_PHASE2(aclnnGroupedMatmulV4);
aclnnStatus aclnnGroupedMatmulV5GetWorkspaceSize(CANN_SIM_GROUPED_MATMUL_IN,
                                                 aclIntArray* tuningConfigOptional,
                                                 CANN_SIM_GROUPED_MATMUL_OUT);
CANN_SIM_PHASE2(aclnnGroupedMatmulV5);
aclnnStatus aclnnMoeFinalizeRoutingV2GetWorkspaceSize(const aclTensor* expandedX,
                                                      const aclTensor* expandedRowIdx, const aclTensor* x1Opt,
                                                      const aclTensor* x2Opt, const aclTensor* biasOpt,
                                                      const aclTensor* scalesOpt,
                                                      const aclTensor* expertIdxOpt, int64_t dropPadMode,
                                                      const aclTensor* out, CANN_SIM_WS);
CANN_SIM_PHASE2(aclnnMoeFinalizeRoutingV2);

// Fused attention. Of its versions V3 alone.
aclnnStatus aclnnFusedInferAttentionScoreV3GetWorkspaceSize(
    const aclTensor* query, const aclTensorList* key, const aclTensorList* value, const aclTensor* pseShift,
    const aclTensor* attenMask, const aclIntArray* actualSeqLengths, const aclIntArray* actualSeqLengthsKv,
    const aclTensor* deqScale1, const aclTensor* quantScale1, const aclTensor* deqScale2,
    const aclTensor* quantScale2, const aclTensor* quantOffset2, const aclTensor* antiquantScale,
    const aclTensor* antiquantOffset, const aclTensor* blockTable, const aclTensor* queryPaddingSize,
    const aclTensor* kvPaddingSize, const aclTensor* keyAntiquantScale, const aclTensor* keyAntiquantOffset,
    const aclTensor* valueAntiquantScale, const aclTensor* valueAntiquantOffset,
    const aclTensor* keySharedPrefix, const aclTensor* valueSharedPrefix,
    const aclIntArray* actualSharedPrefixLen, const aclTensor* queryRope, const aclTensor* keyRope,
    const aclTensor* keyRopeAntiquantScale, int64_t numHeads, double scaleValue, int64_t preTokens,
    int64_t nextTokens, char* inputLayout, int64_t numKeyValueHeads, int64_t sparseMode, int64_t innerPrecise,
    int64_t blockSize, int64_t antiquantMode, bool softmaxLseFlag, int64_t keyAntiquantMode,
    int64_t valueAntiquantMode, const aclTensor* attentionOut, const aclTensor* softmaxLse, CANN_SIM_WS);
CANN_SIM_PHASE2(aclnnFusedInferAttentionScoreV3);
aclnnStatus aclnnAttentionUpdateGetWorkspaceSize(const aclTensorList* lse, const aclTensorList* localOut,
                                                 int64_t updateType, aclTensor* out, aclTensor* lseOut,
                                                 CANN_SIM_WS);
CANN_SIM_PHASE2(aclnnAttentionUpdate);

}  // extern "C"
