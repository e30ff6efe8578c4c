#include "model/message_memory.h"

#include <gtest/gtest.h>

#include "comm/staging.h"
#include "device/device.h"
#include "model/layout_model.h"

namespace longspan {
namespace {

constexpr int64_t kRows = 1000, kHidden = 64, kVocab = 300, kContext = 4096;

class MessageMemory : public testing::Test {
 protected:
  MessageMemory() {
    config_.num_layers = 2;
    config_.hidden_size = kHidden;
    config_.num_heads = 8;
    config_.num_kv_heads = 4;
    config_.head_dim = 16;
    config_.vocab_size = kVocab;
    config_.context_length = kContext;
    options_.chunked_prefill_size = kRows;
    options_.max_running_requests = 1;
    options_.page_size = 16;
  }
  int64_t bytes(const LayoutOptions& layout) {
    options_.layout = layout;
    return message_bytes(options_, config_, make_layout(layout, layout_model(config_)), device_->ops());
  }
  // A step's order, and its results: the last row's logits, every token's score.
  static constexpr int64_t kOrders = 4 * (6 + 3 + kContext / 16 + 2 * kRows) + 4 * (kVocab + kRows);

  EngineOptions options_;
  ModelConfig config_;
  std::unique_ptr<Device> device_ = make_device({.backend = "reference", .compute = DType::kF32});
};

TEST_F(MessageMemory, OneRankHasNobodyToTalkTo) {
  EXPECT_EQ(bytes({}), 0);
}

// The longest share: half of a cut sequence, its two odd tokens, and one too short to be cut.
TEST_F(MessageMemory, KeysAndValuesOverCp) {
  const int64_t row = 2 * 4 * 16 * 4, local = kRows / 2 + 2 + 4;
  EXPECT_EQ(bytes({.cp = 2}), kOrders + (local + kRows) * row);
}

TEST_F(MessageMemory, SumsAndLogitsOverAttnTp) {
  const Staging sums = all_reduce_staging(kRows * kHidden, 2);
  EXPECT_GT(sums.incoming, kVocab * 4);
  EXPECT_EQ(bytes({.tp = 2}), kOrders + sums.bytes());
}

TEST_F(MessageMemory, RowsOfAMoeGroupThatIsNotWholeElsewhere) {
  config_.num_experts = 8;
  config_.num_experts_per_tok = 8;  // every row goes everywhere
  config_.moe_intermediate_size = 32;
  config_.layer_is_moe = {true, true};
  const int64_t row = 2 * 4 * 16 * 4, local = kRows / 2 + 2 + 4;
  const int64_t keys = (local + kRows) * row;
  EXPECT_EQ(bytes({.cp = 2, .moe_dp = 2}), kOrders + keys);
  const Staging sums = reduce_scatter_staging(local * kHidden, 2);
  const int64_t rows_out = local * kHidden * 4, rows_in = kRows * kHidden * 4;
  EXPECT_EQ(bytes({.cp = 2, .moe_dp = 1}),
            kOrders + keys + std::max(rows_out, sums.outgoing) + std::max(rows_in, sums.incoming));
}

TEST_F(MessageMemory, RowsThatGoToTheirExpertsAndBack) {
  config_.num_experts = 8;
  config_.num_experts_per_tok = 1;
  config_.moe_intermediate_size = 32;
  config_.layer_is_moe = {true, true};
  const int64_t local = kRows / 2 + 2 + 4, row = kHidden * 4;
  const int64_t keys = (local + kRows) * 2 * 4 * 16 * 4;
  // With one choice a row has one target; all rows may have the same, which sends all of them back.
  EXPECT_EQ(bytes({.cp = 2, .moe_dp = 1, .ep = 2}), kOrders + keys + 2 * (kRows * row));
  config_.shared_expert_intermediate_size = 16;
  EXPECT_EQ(bytes({.cp = 2, .moe_dp = 1, .ep = 2}), kOrders + keys + 2 * (2 * local * row));
}

TEST_F(MessageMemory, ShardedKvBringsQueriesOrEarlierKeys) {
  options_.shard_kv = true;
  const int64_t replicated = [&] {
    EngineOptions whole = options_;
    whole.shard_kv = false;
    return message_bytes(whole, config_, make_layout({.cp = 2}, layout_model(config_)), device_->ops());
  }();
  options_.shard_exchange = ShardExchange::kRing;
  EXPECT_GE(bytes({.cp = 2}), replicated);
  options_.shard_exchange = ShardExchange::kGatherQ;
  const int64_t local = kRows / 2 + 2 + 4, partial = 8 * 17 * 4, query = 8 * 16 * 4;
  const int64_t order = 4 * (6 + 3 + 2 * kContext / 16 + 2 * kRows) + 4 * (kVocab + kRows);
  EXPECT_EQ(bytes({.cp = 2}), order + kRows * partial + std::max(local * 2 * partial, kRows * query));
  options_.shard_exchange = ShardExchange::kAuto;
  EXPECT_GE(bytes({.cp = 2}), 2 * (int64_t{16} << 20)) << "the probe's messages";
}

TEST_F(MessageMemory, AStepWithoutALimitIsAsLongAsTheContext) {
  options_.chunked_prefill_size = kContext;
  const int64_t limited = bytes({.cp = 2});
  options_.chunked_prefill_size = -1;
  EXPECT_EQ(bytes({.cp = 2}), limited);
}

}  // namespace
}  // namespace longspan
