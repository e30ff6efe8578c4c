#pragma once

#include <vector>

#include "checkpoint/model_config.h"
#include "comm/communicator.h"
#include "device/ops.h"
#include "model/weights.h"
#include "plan/cp_plan.h"
#include "plan/expert_exchange.h"
#include "plan/expert_plan.h"

namespace longspan {

/// The ranks that together hold all experts, as one of them sees it.
struct MoeGroup {
  Communicator* comm = nullptr;  // null: this rank alone
  ExpertExchange exchange = ExpertExchange::kReduce;
  ExpertGroup place = {};
};

/// The experts of a layer, for the rows of one rank. Where rows travel, the shared expert meets those that
/// are here meanwhile.
class MoeLayer {
 public:
  MoeLayer(const ModelConfig& config, const MoeGroup& group, Ops& ops)
      : config_(config), group_(group), ops_(ops) {}

  /// out += what all experts make of x; x, out f32 [T_local, H]. Collective over the group, whose ranks get
  /// the same bits for copies of a row.
  void forward(OpContext& ctx, const MoeWeights& weights, const CpPlan& plan, Matrix x, Matrix out) const;
  bool meets_others() const { return group_.comm != nullptr; }

 private:
  /// The choices of some rows as they travel: f32 [T, 2k], k expert ids (as bits), then their weights.
  struct Choices {
    Matrix all;
    Matrix ids() const { return {all.data, DType::kI32, all.rows, all.cols / 2, all.row_stride}; }
    Matrix weights() const { return all.slice_cols(all.cols / 2, all.cols / 2); }
  };
  /// What the shared expert makes of some rows: [T, H], and its gate [T, 1].
  struct Shared {
    Matrix y, gate;
    Shared rows(int64_t begin, int64_t count) const {
      return {y.slice_rows(begin, count), gate.slice_rows(begin, count)};
    }
  };

  void here(OpContext& ctx, const MoeWeights& weights, Matrix x, Matrix out) const;
  void reduce(OpContext& ctx, const MoeWeights& weights, Matrix x, Matrix out) const;
  void gather(OpContext& ctx, const MoeWeights& weights, const CpPlan& plan, Matrix x, Matrix out) const;
  void all_to_all(OpContext& ctx, const MoeWeights& weights, const CpPlan& plan, Matrix x, Matrix out) const;

  std::vector<int32_t> section_rows(const CpPlan& plan) const;
  void route(OpContext& ctx, const MoeWeights& weights, Matrix x, Matrix ids, Matrix expert_weights) const;
  Choices gather_choices(OpContext& ctx, const MoeWeights& weights, std::span<const int32_t> rows,
                         Matrix x) const;
  void routed(OpContext& ctx, const MoeWeights& weights, Matrix x, Matrix out) const;
  bool adds_shared(const MoeWeights& weights) const;
  Shared make_shared(OpContext& ctx, const MoeWeights& weights, int64_t rows) const;
  void shared(OpContext& ctx, const MoeWeights& weights, Matrix x, Shared to) const;
  void add_shared(OpContext& ctx, const MoeWeights& weights, Shared shared, Matrix out) const;

  const ModelConfig& config_;
  const MoeGroup group_;
  Ops& ops_;
};

}  // namespace longspan
