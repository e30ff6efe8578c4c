#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "comm/job.h"
#include "engine/step.h"
#include "plan/batch.h"
#include "plan/cp_plan.h"
#include "plan/layout_rules.h"

namespace longspan {

/// A step as rank 0 of a job orders it: all that another process needs to make the same plan.
struct StepOrder {
  Batch batch;
  StepWants wants;
};

std::vector<int32_t> encode(const Batch& batch, const StepWants& wants);
StepOrder decode_step(std::span<const int32_t> words);

/// Rank 0's orders to the other processes of a job, and their results back. The others wait for an order as
/// long as rank 0 is alive; results have the time limit of a collective.
class StepOrders {
 public:
  StepOrders(Job& job, const Layout& layout, std::chrono::milliseconds limit);

  /// On rank 0.
  void send(const Batch& batch, const StepWants& wants);
  void send_end();
  /// On the others; nothing once rank 0 sends the end.
  std::optional<StepOrder> receive();

  /// Brings what every rank has put into its `output` to rank 0's: logits of the rows that a rank ends and
  /// scores of its tokens, where it is the one that reports them. Collective.
  void collect(const CpPlan& plan, const StepWants& wants, int64_t vocab_size, StepOutput& output);

 private:
  void broadcast(std::vector<int32_t>& words);

  Job& job_;
  const Layout layout_;
  std::unique_ptr<Communicator> orders_, results_;
};

}  // namespace longspan
