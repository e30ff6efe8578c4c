#include "plan/transfer_cost.h"

#include <gtest/gtest.h>
#include <longspan/error.h>

namespace longspan {
namespace {

// Qwen3-30B-A3B with bf16 KV.
constexpr TransferShape kShape{.heads_q = 32, .heads_kv = 4, .dim_k = 128, .dim_v = 128, .kv_bytes = 2};

double seconds(KvTransfer transfer, BatchRow row, int32_t cp, const TransferFigures& figures) {
  const BatchRow rows[] = {row};
  return transfer_seconds(transfer, rows, plan_context_parallel(rows, cp, {}), kShape, figures);
}

KvTransfer choice(BatchRow row, int32_t cp, const TransferFigures& figures) {
  const BatchRow rows[] = {row};
  return choose_transfer(rows, plan_context_parallel(rows, cp, {}), kShape, figures);
}

// A ring's transfer is hidden from T = N * C * Nkv * e / (2 * Nh * BW) new tokens on, whatever the prefix.
TEST(TransferCost, ARingIsHiddenFromTheFormulasLengthOn) {
  constexpr int32_t cp = 4;
  const TransferFigures figures{.attention_flops = 1e12, .bytes_per_second = 1e9};
  const TransferFigures at_once{.attention_flops = 1e12, .bytes_per_second = 1e30};
  const int32_t hidden_from = 4 * 1000 * 4 * 2 / (2 * 32);
  for (const int32_t prefix : {1000, 100'000}) {
    const BatchRow enough{.new_tokens = hidden_from, .prefix_len = prefix};
    EXPECT_NEAR(seconds(KvTransfer::kRing, enough, cp, figures),
                seconds(KvTransfer::kRing, enough, cp, at_once), 1e-12);
    const BatchRow fewer{.new_tokens = hidden_from * 9 / 10, .prefix_len = prefix};
    EXPECT_GT(seconds(KvTransfer::kRing, fewer, cp, figures),
              1.01 * seconds(KvTransfer::kRing, fewer, cp, at_once));
  }
}

// Where the link alone counts, keys travel while their message is smaller than the queries' and results'.
TEST(TransferCost, ASlowLinkMovesWhatIsSmaller) {
  const TransferFigures slow{.attention_flops = 1e30, .bytes_per_second = 1, .latency_s = 1};
  // Queries and results in f32: 32 * (128 + 129) * 4 bytes a token against 4 * 256 * 2 a key.
  const double ratio = 32.0 * (128 + 129) * 4 / (4 * 256 * 2);
  EXPECT_DOUBLE_EQ(share_from_which_keys_travel(kShape), 1 / (1 + ratio));
  TransferShape half = kShape;  // queries in bf16
  half.query_bytes = 2;
  EXPECT_DOUBLE_EQ(share_from_which_keys_travel(half), 1 / (1 + ratio - 32.0 * 128 * 2 / (4 * 256 * 2)));
  for (const int32_t cp : {2, 3, 8}) {
    const BatchRow row{.new_tokens = 1000, .prefix_len = static_cast<int32_t>(1000 * ratio * 0.99)};
    EXPECT_EQ(choice(row, cp, slow), KvTransfer::kGatherKv) << "the ring moves as much";
    const BatchRow more{.new_tokens = 1000, .prefix_len = static_cast<int32_t>(1000 * ratio * 1.01)};
    EXPECT_EQ(choice(more, cp, slow), KvTransfer::kGatherQ);
  }
}

TEST(TransferCost, TheRingHidesWhatTheGatherShows) {
  // A block travels while one is attended to; the gather has only the first block to hide behind.
  const TransferFigures figures{.attention_flops = 1e12, .bytes_per_second = 5e8, .latency_s = 1e-5};
  EXPECT_EQ(choice({.new_tokens = 8192, .prefix_len = 1'000'000}, 8, figures), KvTransfer::kRing);
  // Latency is paid once by the gather and once a rank by the ring.
  const TransferFigures far{.attention_flops = 1e12, .bytes_per_second = 1e12, .latency_s = 10};
  EXPECT_EQ(choice({.new_tokens = 8192, .prefix_len = 1'000'000}, 8, far), KvTransfer::kGatherKv);
  // Two ranks: one transfer in both.
  EXPECT_EQ(choice({.new_tokens = 8192, .prefix_len = 1'000'000}, 2, figures), KvTransfer::kGatherKv);
}

TEST(TransferCost, WhatDoesNotOverlapAddsUp) {
  const TransferFigures figures{.attention_flops = 1e12, .bytes_per_second = 1e9, .overlaps = false};
  const TransferFigures compute{.attention_flops = 1e12, .bytes_per_second = 1e30, .overlaps = false};
  const TransferFigures link{.attention_flops = 1e30, .bytes_per_second = 1e9, .overlaps = false};
  for (const KvTransfer transfer : {KvTransfer::kGatherKv, KvTransfer::kRing, KvTransfer::kGatherQ}) {
    const BatchRow row{.new_tokens = 4000, .prefix_len = 50'000};
    EXPECT_NEAR(seconds(transfer, row, 4, figures),
                seconds(transfer, row, 4, compute) + seconds(transfer, row, 4, link), 1e-9);
  }
}

TEST(TransferCost, OnlySequencesThatAreCutAndHaveEarlierKeysCount) {
  const TransferFigures figures{.attention_flops = 1e12, .bytes_per_second = 1e9};
  const BatchRow rows[] = {{.new_tokens = 1, .prefix_len = 100'000}, {.new_tokens = 5000}};
  const CpPlan plan = plan_context_parallel(rows, 2, {});
  for (const KvTransfer transfer : {KvTransfer::kGatherKv, KvTransfer::kRing, KvTransfer::kGatherQ})
    EXPECT_EQ(transfer_seconds(transfer, rows, plan, kShape, figures), 0);
  EXPECT_THROW(transfer_seconds(KvTransfer::kRing, rows, plan, kShape, {}), Error);
}

}  // namespace
}  // namespace longspan
