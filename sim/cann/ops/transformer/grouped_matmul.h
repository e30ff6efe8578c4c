#pragma once

#include "core/call.h"

namespace cann_sim {

/// The arguments that both versions of the operator share.
struct GroupedMatmul {
  const aclTensorList *x, *weight, *bias, *scale, *offset, *antiquant_scale, *antiquant_offset,
      *per_token_scale;
  const aclTensor* group_list;
  const aclTensorList *activation_input, *activation_quant_scale, *activation_quant_offset;
  int64_t split_item, group_type, group_list_type, act_type;
  aclTensorList *out, *activation_feature_out, *dyn_quant_scale_out;
};

/// Unquantised, rows of one x split over the matrices of one weight [E, K, N].
void describe_grouped_matmul(Call& call, const GroupedMatmul& g);

}  // namespace cann_sim
