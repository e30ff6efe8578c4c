#include "plan/shard_workspace.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "plan/random_batch.h"

namespace longspan {
namespace {

/// Every page on the next owner.
Batch dealt_batch(const std::vector<BatchRow>& rows, int32_t cp, int32_t page_size) {
  Batch batch = batch_of_rows(rows, page_size);
  for (int32_t page = 0; page < batch.max_pages * std::ssize(rows); ++page) {
    batch.page_owner.push_back(page % cp);
    batch.block_table.push_back(1 + page / cp);
  }
  return batch;
}

/// Of merging lists [1 + cp, local]: partials as rows lie, and the sum of each turn.
int64_t merged_rows(const std::vector<int32_t>& merge, const ShardWorkspaceShape& s, int64_t local) {
  if (s.merged_at_once == 0 || merge.empty()) return 0;
  int64_t parts = 0, sums = 0;
  for (auto part = merge.begin(); part != merge.end(); part += local)
    parts += std::any_of(part, part + local, [](int32_t row) { return row >= 0; });
  for (int64_t done = 1; done < parts; done += s.merged_at_once - 1) ++sums;
  return (parts + sums) * local;
}

/// What a rank's step takes from its arena in `transfer`, counted from its plan.
int64_t arena_bytes(const ShardPlan& plan, const ShardWorkspaceShape& s, int64_t local, int64_t all) {
  const int64_t kv_cols = int64_t{s.heads_kv} * (s.dim_k + s.dim_v);
  const int64_t partial = int64_t{s.heads_q} * (s.dim_v + 1) * 4,
                query = int64_t{s.heads_q} * s.dim_k * s.query_bytes;
  const int64_t queries = std::accumulate(plan.query_counts.begin(), plan.query_counts.end(), int64_t{0});
  const bool copies = s.merged_at_once > 0;
  const int64_t made = copies ? int64_t{s.heads_q} * (s.dim_v * s.query_bytes + 4) : 0;
  int64_t travels = std::ssize(plan.query_rows) * query + queries * (query + made + partial);
  travels = std::max(travels, merged_rows(plan.query_merge, s, local) * partial);
  for (const ShardRound& round : plan.rounds) {
    const int64_t rows = std::accumulate(round.counts.begin(), round.counts.end(), int64_t{0});
    const int64_t most = *std::max_element(round.counts.begin(), round.counts.end());
    const int64_t own = std::ssize(round.send_slots);
    const int64_t gathered = own * kv_cols * (4 + s.kv_bytes) + rows * kv_cols * s.kv_bytes;
    const int64_t passed = own * kv_cols * 4 + 2 * most * kv_cols * s.kv_bytes;
    travels = std::max(travels, (s.transfer == KvTransfer::kRing ? passed : gathered) +
                                    merged_rows(round.merge, s, local) * partial);
  }
  const int64_t here = std::ranges::count_if(plan.own_slots, [](int32_t slot) { return slot >= 0; });
  const int64_t kept = copies && here < all ? here : 0;
  return std::max((local + all + kept) * kv_cols * s.kv_bytes, plan.partial_rows * partial + travels);
}

/// What the collectives of a step bring from a rank and to it, counted from its plan.
void expect_messages_within(const ShardMessages& most, const ShardPlan& plan, const ShardWorkspaceShape& s,
                            int64_t local, int64_t all) {
  const int64_t key = int64_t{s.heads_kv} * (s.dim_k + s.dim_v) * s.kv_bytes;
  const int64_t query = int64_t{s.heads_q} * s.dim_k * s.query_bytes,
                partial = int64_t{s.heads_q} * (s.dim_v + 1) * 4;
  const int64_t queries = std::accumulate(plan.query_counts.begin(), plan.query_counts.end(), int64_t{0});
  const int64_t mine = std::ssize(plan.query_rows);
  EXPECT_LE(std::max({local * key, mine * query, queries * partial}), most.sent);
  EXPECT_LE(std::max({all * key, queries * query, mine * s.cp * partial}), most.received);
  for (const ShardRound& round : plan.rounds) {
    const int64_t rows = std::accumulate(round.counts.begin(), round.counts.end(), int64_t{0});
    const int64_t longest = *std::max_element(round.counts.begin(), round.counts.end());
    const bool ring = s.transfer == KvTransfer::kRing;
    EXPECT_LE((ring ? longest : std::ssize(round.send_slots)) * key, most.sent);
    EXPECT_LE((ring ? longest : rows) * key, most.received);
  }
}

TEST(ShardWorkspace, HoldsEveryStep) {
  std::mt19937 random(23);
  for (int trial = 0; trial < 300; ++trial) {
    ShardWorkspaceShape shape{.cp = static_cast<int32_t>(2 + random() % 4),
                              .max_rows = 0,
                              .max_sequences = 5,
                              .min_tokens_to_cut = static_cast<int32_t>(random() % 40),
                              .page_size = static_cast<int32_t>(1 + random() % 20),
                              .heads_q = 4,
                              .heads_kv = 2,
                              .dim_k = 8,
                              .dim_v = 4,
                              .kv_bytes = 2,
                              .query_bytes = trial % 2 ? 2 : 4,
                              .merged_at_once = trial % 3 == 0 ? 2 + trial % 4 : 0};
    const auto rows = random_rows(random, 5, 80);
    for (const BatchRow& row : rows) shape.max_rows += row.new_tokens;
    const CpPlan plan = plan_context_parallel(rows, shape.cp, {.min_tokens_to_cut = shape.min_tokens_to_cut});
    const Batch batch = dealt_batch(rows, shape.cp, shape.page_size);
    const ShardWorkspaceShape any = shape;
    for (const KvTransfer transfer : {KvTransfer::kGatherKv, KvTransfer::kRing, KvTransfer::kGatherQ}) {
      shape.transfer = transfer;
      EXPECT_LE(shard_scratch_pages(shape), shard_scratch_pages(any));
      EXPECT_LE(shard_arena_bytes(shape), shard_arena_bytes(any));
      for (int32_t rank = 0; rank < shape.cp; ++rank) {
        const ShardPlan shards =
            plan_shards(batch, plan, rank, {.transfer = transfer, .round_pages = shard_round_pages(shape)});
        EXPECT_LE(shards.scratch_pages, shard_scratch_pages(shape));
        EXPECT_LE(arena_bytes(shards, shape, std::ssize(plan.ranks[rank].position), shape.max_rows),
                  shard_arena_bytes(shape))
            << "trial " << trial << ", transfer " << static_cast<int>(transfer);
        expect_messages_within(largest_shard_messages(shape), shards, shape,
                               std::ssize(plan.ranks[rank].position), shape.max_rows);
        EXPECT_LE(std::ssize(plan.ranks[rank].position), most_local_rows(shape));
      }
    }
  }
}

// A step's memory, whatever came before it: the context is not among what decides it.
TEST(ShardWorkspace, IsAFewTimesAStepsRows) {
  const ShardWorkspaceShape shape{.cp = 4,
                                  .max_rows = 8192,
                                  .max_sequences = 32,
                                  .page_size = 128,
                                  .heads_q = 32,
                                  .heads_kv = 4,
                                  .dim_k = 128,
                                  .dim_v = 128,
                                  .kv_bytes = 2};
  EXPECT_EQ(shard_round_pages(shape), 8192 / 128 / 4);
  EXPECT_EQ(shard_scratch_pages(shape), 1 + 64 + 32 + 3 * 16);
  const int64_t one_row = 32 * (128 + 129) * 4;  // a query and a result
  EXPECT_LT(shard_arena_bytes(shape), 3 * 8192 * one_row);
}

}  // namespace
}  // namespace longspan
