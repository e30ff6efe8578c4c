#pragma once

#include <longspan/engine.h>

#include <memory>
#include <span>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/model_config.h"
#include "device/device.h"
#include "engine/rank_team.h"
#include "model/decoder.h"
#include "plan/batch.h"
#include "plan/layout_rules.h"

namespace longspan {

/// What a step is to compute besides KV.
struct StepWants {
  std::vector<char> logits;            // [bs] the logits after each row's last token?
  std::vector<int32_t> score_targets;  // [T] token whose log-probability is wanted after each token, -1: none
};

struct StepOutput {
  std::vector<std::vector<float>> logits;  // [bs] of [V], empty where not wanted
  std::vector<float> scores;               // [T] natural log-probabilities, where wanted
};

/// The ranks of this process: weights, KV pools, threads; runs one batch at a time on all of them.
class StepRunner {
 public:
  /// Loads and packs the weights and reserves the KV pool. `config` must outlive the runner. Throws Error:
  /// kUsage, kUnreadable, kNotSupported, kCapacity.
  StepRunner(const EngineOptions& options, const ModelConfig& config, Checkpoint checkpoint,
             std::unique_ptr<Device> device);
  ~StepRunner();

  /// Runs the batch as rank 0's plan says on every rank. A batch in which nothing is cut runs as one wide
  /// rank on all cores, where ranks share their KV and each holds the whole model. Throws Error(kRankLost)
  /// naming the rank; then the runner is dead.
  StepOutput run(const Batch& batch, const StepWants& wants);

  int32_t pages() const { return pages_; }
  EngineInfo info() const;
  HardwareLimits measure_limits() const;

 private:
  struct Rank {
    std::unique_ptr<Arena> arena;
    std::unique_ptr<Communicator> kv, attn_tp, moe;  // null: a group of one
    std::unique_ptr<KvExchange> exchange;
    std::unique_ptr<Decoder> decoder;
    int32_t cp_rank = 0;
    bool reports = true;  // of the attn_tp ranks, which know the same results, the lowest
    int threads = 1;
  };

  void make_groups();
  void add_rank(int32_t rank, int threads, PackedSlices& packed);
  void run_rank(const Rank& rank, const Batch& batch, const CpPlan& plan, const StepWants& wants,
                StepOutput& output) const;

  const EngineOptions options_;
  const ModelConfig& config_;
  Checkpoint checkpoint_;
  Layout layout_;
  std::unique_ptr<Device> device_;
  std::vector<ModelWeights> weights_;  // of each rank, until its decoder takes them
  int64_t weight_bytes_ = 0;
  int32_t pages_ = 0;
  std::vector<std::unique_ptr<KvPool>> pools_;  // one per slice of kv heads, or per rank
  std::vector<Rank> ranks_;                     // [tp], then the wide rank where there is one
  bool has_wide_rank_;
  std::unique_ptr<RankTeam> team_;
};

}  // namespace longspan
