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
  /// rank on all cores, where ranks share their KV. Throws Error(kRankLost) naming the rank; then the runner
  /// is dead.
  StepOutput run(const Batch& batch, const StepWants& wants);

  int32_t pages() const { return pages_; }
  EngineInfo info() const;
  HardwareLimits measure_limits() const;

 private:
  struct Rank {
    std::unique_ptr<Arena> arena;
    std::unique_ptr<KvExchange> exchange;
    int threads = 1;
  };

  void run_rank(const Rank& rank, const Batch& batch, const CpPlan& plan, int32_t plan_rank,
                const StepWants& wants, StepOutput& output) const;

  const EngineOptions options_;
  const ModelConfig& config_;
  Checkpoint checkpoint_;
  int32_t cp_;
  std::unique_ptr<Device> device_;
  ModelWeights weights_;
  std::unique_ptr<Decoder> decoder_;
  int32_t pages_ = 0;
  std::vector<std::unique_ptr<KvPool>> pools_;  // one, or one per rank
  std::vector<std::unique_ptr<Communicator>> cp_group_;
  std::vector<Rank> ranks_;  // [cp], then the wide rank where there is one
  bool has_wide_rank_;
  std::unique_ptr<RankTeam> team_;
};

}  // namespace longspan
