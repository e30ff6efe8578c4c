#pragma once

#include <longspan/engine.h>

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/model_config.h"
#include "device/device.h"
#include "engine/host_share.h"
#include "engine/rank_team.h"
#include "engine/step.h"
#include "engine/step_orders.h"
#include "engine/step_plan.h"
#include "engine/together.h"
#include "model/decoder.h"
#include "plan/batch.h"
#include "plan/layout_rules.h"
#include "plan/transfer_cost.h"

namespace longspan {

/// The ranks of this process: weights, KV pools, threads; runs one batch at a time on all of them. In a job
/// that is one rank, and rank 0 makes the others run the same batch.
class StepRunner {
 public:
  /// Loads and packs the weights and reserves the KV pool. `config` must outlive the runner. Throws Error:
  /// kUsage, kUnreadable, kNotSupported, kCapacity. Collective over the job, where there is one: an error of
  /// one process is thrown in all.
  StepRunner(const EngineOptions& options, const ModelConfig& config, Checkpoint checkpoint,
             std::unique_ptr<Device> device);
  ~StepRunner();

  /// Runs the batch as rank 0's plan says on every rank. A batch in which nothing is cut runs as one wide
  /// rank on all cores, where ranks share their KV and each holds the whole model. Throws Error(kRankLost)
  /// naming the rank; then the runner is dead.
  StepOutput run(const Batch& batch, const StepWants& wants);
  /// In a process of a job other than rank 0: runs what rank 0 runs, until its runner is gone.
  void follow();

  /// Whether ranks make use of Batch::next: those whose ops only enqueue.
  bool prepares() const { return ranks_.front().stream != nullptr; }
  /// Steps whose plan and tables were made while the device had the one before.
  int64_t steps_prepared() const { return steps_prepared_; }
  int32_t pages() const { return pages_; }  // of each rank's pool
  /// Ranks that each keep some of the pages; 1: everyone has all.
  int32_t page_owners() const { return shard_kv_ ? layout_.cp : 1; }
  EngineInfo info() const;
  HardwareLimits measure_limits() const;

 private:
  struct Rank {
    Device* device = nullptr;
    std::unique_ptr<Arena> arena, probe_arena;       // of steps; of the probe while it runs, or has failed
    std::unique_ptr<Communicator> kv, attn_tp, moe;  // null: a group of one
    std::unique_ptr<KvExchange> exchange;
    std::unique_ptr<Decoder> decoder;
    int32_t cp_rank = 0;
    bool reports = true;  // of the attn_tp ranks, which know the same results, the lowest
    int threads = 1;
    struct Prepared {
      std::shared_ptr<const StepPlan> plan;
      PreparedStep step;
    } prepared = {};                 // for the next step, if that comes as expected
    std::unique_ptr<Stream> stream;  // last, so that it ends before what its work uses
  };

  void load(const std::vector<std::vector<int>>& shares);
  void add_rank(int32_t rank, int threads, PackedSlices& packed);
  void make_pools(int32_t processes_on_host);
  void make_groups();
  using GroupOf = std::function<std::vector<int32_t>(int32_t rank)>;
  std::vector<std::unique_ptr<Communicator>> make_group(JobChannel channel, const GroupOf& group_of);
  std::vector<std::unique_ptr<Communicator>> join_cards(const GroupOf& group_of);
  OpContext context_of(const Rank& rank, Arena& arena) const {
    return {.arena = arena, .threads = rank.threads, .stream = rank.stream.get()};
  }
  OpContext context_of(const Rank& rank) const { return context_of(rank, *rank.arena); }
  /// Whether rows travel while ranks compute.
  bool overlaps_exchange() const { return job_ || options_.hccl; }
  std::unique_ptr<KvExchange> make_exchange(size_t index, const TransferFigures& figures);
  TransferFigures transfer_figures();
  TransferFigures measure_figures();
  int32_t rank_of(size_t index) const { return job_ ? job_->rank() : static_cast<int32_t>(index); }
  bool is_wide(size_t index) const { return has_wide_rank_ && index + 1 == ranks_.size(); }
  void copy_rows(const std::vector<RowCopy>& copies);
  std::shared_ptr<const StepPlan> make_plan(const BatchLayout& layout) const;
  std::shared_ptr<const StepPlan> take_plan(const BatchLayout& layout);
  void prepare(Rank& rank, const BatchLayout& layout);
  StepOutput run_here(const Batch& batch, const StepWants& wants);
  void run_rank(Rank& rank, const Batch& batch, const StepPlan& step, const StepWants& wants,
                StepOutput& output);
  void score_rows(const Rank& rank, OpContext& ctx, Matrix hidden, const CpPlan& plan, const StepWants& wants,
                  StepOutput& output) const;

  const EngineOptions options_;
  const ModelConfig& config_;
  Checkpoint checkpoint_;
  const Layout layout_;
  Job* const job_;       // null: the ranks are threads
  const bool shard_kv_;  // each page on one cp rank
  const bool share_kv_;  // one pool for ranks with the same kv heads
  const bool has_wide_rank_;
  std::unique_ptr<Device> device_;
  std::vector<std::unique_ptr<Device>> more_devices_;  // of ranks 1 .. tp - 1, where each has its own
  std::vector<ModelWeights> weights_;                  // of each rank, until its decoder takes them
  int64_t weight_bytes_ = 0;                           // of all ranks here
  int64_t device_weight_bytes_ = 0;                    // on one device, at most
  int32_t pages_ = 0;
  std::vector<std::unique_ptr<KvPool>> pools_;          // one per slice of kv heads, or per rank
  std::vector<std::unique_ptr<KvPool>> scratch_pools_;  // one per rank of this process, where KV is sharded
  std::vector<Rank> ranks_;  // [tp], then the wide rank where there is one; in a job this process' own
  std::unique_ptr<RankTeam> team_;
  std::unique_ptr<StepOrders> orders_;  // in a job
  int64_t steps_prepared_ = 0;
  bool lost_ = false;
};

}  // namespace longspan
