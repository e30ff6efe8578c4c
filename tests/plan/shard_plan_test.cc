#include "plan/shard_plan.h"

#include <gtest/gtest.h>
#include <longspan/error.h>

#include <map>
#include <set>
#include <string>
#include <utility>

#include "plan/random_batch.h"

namespace longspan {
namespace {

using Token = std::pair<int32_t, int32_t>;  // sequence, position

/// Pages dealt out at random, so that a sequence's pages lie on owners unevenly and out of order.
Batch random_sharded_batch(std::mt19937& random, const std::vector<BatchRow>& rows, int32_t cp,
                           int32_t page_size) {
  Batch batch = batch_of_rows(rows, page_size);
  batch.token_ids.resize(token_count(rows));
  std::vector<int32_t> next(cp, 1);
  for (const BatchRow& row : rows) {
    for (int32_t i = 0; i < batch.max_pages; ++i) {
      const bool used = i * page_size < row.prefix_len + row.new_tokens;
      const auto owner = static_cast<int32_t>(random() % cp);
      batch.page_owner.push_back(used ? owner : 0);
      batch.block_table.push_back(used ? next[owner]++ : 0);
    }
  }
  return batch;
}

/// What the pools hold, slot by slot, while the ranks follow their plans.
struct World {
  World(const Batch& batch, const CpPlan& plan, const ShardPolicy& policy)
      : batch(batch), plan(plan), own(plan.cp), scratch(plan.cp) {
    for (int32_t r = 0; r < plan.cp; ++r) shards.push_back(plan_shards(batch, plan, r, policy));
    for (int32_t s = 0; s < std::ssize(batch.rows); ++s)
      for (int32_t t = 0; t < batch.rows[s].prefix_len; ++t)
        own[batch.owner(s, t)][batch.slot(s, t)] = {s, t};
  }

  /// Keys that a segment's row sees, in order.
  std::vector<Token> keys(const std::map<int32_t, Token>& pool, const PartLaunch& launch,
                          const Segment& segment, int32_t row) const {
    const int32_t count = segment.causal ? segment.kv_len - segment.q_len + row + 1 : segment.kv_len;
    std::vector<Token> result;
    for (int32_t i = 0; i < count; ++i) {
      const int32_t page =
          launch.block_table[static_cast<size_t>(segment.block_table_row) * launch.max_pages +
                             i / batch.page_size];
      result.push_back(pool.at(page * batch.page_size + i % batch.page_size));
    }
    return result;
  }

  void gather_chunk() {
    for (int32_t r = 0; r < plan.cp; ++r) {
      size_t at = 0;
      for (const RankPlan& from : plan.ranks) {
        for (size_t i = 0; i < from.position.size(); ++i, ++at) {
          const Token token{from.sequence[i], from.position[i]};
          if (const int32_t slot = shards[r].own_slots.at(at); slot >= 0) {
            EXPECT_GE(slot, batch.page_size) << "page 0 is nobody's";
            EXPECT_TRUE(own[r].emplace(slot, token).second) << "a row overwrites another";
          }
          if (const int32_t slot = shards[r].scratch_slots.at(at); slot >= 0) {
            EXPECT_LT(slot, shards[r].scratch_pages * batch.page_size);
            EXPECT_TRUE(scratch[r].emplace(slot, token).second) << "a row overwrites another";
          }
        }
      }
      EXPECT_EQ(at, shards[r].own_slots.size());
    }
  }

  const Batch& batch;
  const CpPlan& plan;
  std::vector<ShardPlan> shards;                  // [cp]
  std::vector<std::map<int32_t, Token>> own;      // [cp] slot -> what is there
  std::vector<std::map<int32_t, Token>> scratch;  // [cp]
};

/// Follows the plans of all ranks token by token: every row sees each of its keys in exactly one of the parts
/// that are merged for it, read from where it is; pages travel once, rounds are no larger than allowed.
void expect_every_key_once(const Batch& batch, const CpPlan& plan, const ShardPolicy& policy) {
  World world(batch, plan, policy);
  world.gather_chunk();
  const int32_t cp = plan.cp;
  for (int32_t r = 0; r < cp; ++r) {
    const ShardPlan& mine = world.shards[r];
    const auto rows = static_cast<int32_t>(plan.ranks[r].position.size());
    // [partials row] -> the keys it was made from
    std::map<int32_t, std::vector<Token>> partials;
    const auto attend = [&](const PartLaunch& launch, const std::map<int32_t, Token>& pool, int32_t base) {
      for (const Segment& segment : launch.segments)
        for (int32_t i = 0; i < segment.q_len; ++i)
          partials[base + segment.q_begin + i] = world.keys(pool, launch, segment, i);
    };
    std::vector<std::vector<Token>> seen(rows);
    const auto merge = [&](const std::vector<int32_t>& index) {
      ASSERT_EQ(std::ssize(index), int64_t{rows} * (1 + cp));
      for (int32_t row = 0; row < rows; ++row) {
        ASSERT_EQ(index[row], row);
        std::vector<Token> all;
        for (int32_t part = 0; part <= cp; ++part) {
          const int32_t from = index[static_cast<size_t>(part) * rows + row];
          if (from < 0) continue;
          ASSERT_LT(from, mine.partial_rows);
          ASSERT_TRUE(partials.contains(from)) << "merges what nobody computed";
          all.insert(all.end(), partials[from].begin(), partials[from].end());
        }
        partials[row] = all;
      }
    };

    attend(mine.chunk, world.scratch[r], 0);
    int32_t query = 0;  // of this rank's, in every owner's gathered queries
    for (int32_t before = 0; before < r; ++before) query += mine.query_counts[before];
    for (int32_t owner = 0; owner < cp; ++owner) {
      ASSERT_EQ(world.shards[owner].query_counts, mine.query_counts);
      const PartLaunch& launch = world.shards[owner].queries;
      for (const Segment& segment : launch.segments)
        for (int32_t i = 0; i < segment.q_len; ++i) {
          const int32_t index = segment.q_begin + i - query;
          if (index < 0 || index >= mine.query_counts[r]) continue;
          const auto count = static_cast<int32_t>(mine.query_rows.size());
          partials[static_cast<int32_t>(mine.query_base) + owner * count + index] =
              world.keys(world.own[owner], launch, segment, i);
          EXPECT_EQ(segment.block_table_row, plan.ranks[r].sequence[mine.query_rows[index]]);
        }
    }
    EXPECT_EQ(std::ssize(mine.query_rows), mine.query_counts[r]);
    if (mine.rounds.empty() && mine.any_queries) merge(mine.query_merge);
    for (const ShardRound& round : mine.rounds) {
      const auto chunk = world.scratch[r];
      for (int32_t owner = 0; owner < cp; ++owner) {
        const ShardRound& sender = world.shards[owner].rounds[&round - mine.rounds.data()];
        ASSERT_EQ(sender.counts, round.counts);
        ASSERT_EQ(std::ssize(sender.send_slots), round.counts[owner]);
        EXPECT_LE(round.counts[owner], policy.round_pages * batch.page_size);
        if (policy.transfer == KvTransfer::kRing) world.scratch[r] = chunk;  // the last one's pages again
        if (owner != r) {
          ASSERT_EQ(std::ssize(round.recv_slots[owner]), round.counts[owner]);
          for (size_t i = 0; i < sender.send_slots.size(); ++i) {
            const int32_t slot = round.recv_slots[owner][i];
            EXPECT_LT(slot, mine.scratch_pages * batch.page_size);
            EXPECT_TRUE(world.scratch[r].emplace(slot, world.own[owner].at(sender.send_slots[i])).second);
          }
        }
        attend(round.parts[owner], owner == r ? world.own[r] : world.scratch[r], (1 + owner) * rows);
      }
      merge(round.merge);
      world.scratch[r] = chunk;
    }

    for (int32_t row = 0; row < rows; ++row) {
      std::set<Token> keys(partials[row].begin(), partials[row].end());
      EXPECT_EQ(keys.size(), partials[row].size()) << "a key counts twice";
      std::set<Token> expected;
      for (int32_t t = 0; t <= plan.ranks[r].position[row]; ++t)
        expected.emplace(plan.ranks[r].sequence[row], t);
      ASSERT_EQ(keys, expected) << "rank " << r << ", row " << row;
    }
  }
  // Every new row is in its page now.
  for (int32_t s = 0; s < std::ssize(batch.rows); ++s)
    for (int32_t t = 0; t < batch.rows[s].prefix_len + batch.rows[s].new_tokens; ++t)
      ASSERT_EQ(world.own[batch.owner(s, t)].at(batch.slot(s, t)), (Token{s, t}));
}

std::string transfer_name(const testing::TestParamInfo<KvTransfer>& info) {
  constexpr const char* kNames[] = {"GatherKv", "Ring", "GatherQ"};
  return kNames[static_cast<int>(info.param)];
}

class ShardPlanTransfers : public testing::TestWithParam<KvTransfer> {};
INSTANTIATE_TEST_SUITE_P(Transfers, ShardPlanTransfers,
                         testing::Values(KvTransfer::kGatherKv, KvTransfer::kRing, KvTransfer::kGatherQ),
                         transfer_name);

TEST_P(ShardPlanTransfers, EveryRowSeesEveryKeyOnce) {
  std::mt19937 random(17);
  for (int trial = 0; trial < 150; ++trial) {
    const auto cp = static_cast<int32_t>(1 + random() % 5);
    const auto page_size = static_cast<int32_t>(1 + random() % 9);
    const auto round_pages = static_cast<int32_t>(random() % 2 == 0 ? 1 + random() % 4 : 1000);
    const auto rows = random_rows(random, 5, 60);
    const Batch batch = random_sharded_batch(random, rows, cp, page_size);
    const CpPlan plan =
        plan_context_parallel(rows, cp, {.min_tokens_to_cut = static_cast<int32_t>(random() % 30)});
    SCOPED_TRACE(testing::Message() << "trial " << trial);
    expect_every_key_once(batch, plan, {.transfer = GetParam(), .round_pages = round_pages});
    if (HasFatalFailure()) return;
  }
}

// Keys of a sequence placed whole stay where they are; without earlier keys nothing is merged.
TEST(ShardPlan, OnlySequencesThatAreCutSendKeys) {
  std::mt19937 random(1);
  const std::vector<BatchRow> rows = {{.new_tokens = 1, .prefix_len = 50},
                                      {.new_tokens = 40, .prefix_len = 30}};
  const Batch batch = random_sharded_batch(random, rows, 2, 4);
  const CpPlan plan = plan_context_parallel(rows, 2, {});
  const ShardPlan first = plan_shards(batch, plan, 0, {.transfer = KvTransfer::kRing, .round_pages = 100});
  ASSERT_EQ(first.rounds.size(), 1u);
  EXPECT_EQ(first.rounds[0].counts[0] + first.rounds[0].counts[1], 30);
  EXPECT_EQ(first.query_counts[0] + first.query_counts[1], 1);
  const ShardPlan queries =
      plan_shards(batch, plan, 0, {.transfer = KvTransfer::kGatherQ, .round_pages = 100});
  EXPECT_TRUE(queries.rounds.empty());
  EXPECT_EQ(queries.query_counts[0] + queries.query_counts[1], 41);

  const std::vector<BatchRow> fresh = {{.new_tokens = 9}, {.new_tokens = 2}};
  const ShardPlan plain = plan_shards(random_sharded_batch(random, fresh, 2, 4),
                                      plan_context_parallel(fresh, 2, {}), 1, {.round_pages = 100});
  EXPECT_FALSE(plain.needs_merge());
}

// The page that ends within a chunk holds earlier rows and new ones: each in its own part.
TEST(ShardPlan, ABoundaryPageCountsInOnePartOnly) {
  std::mt19937 random(2);
  const std::vector<BatchRow> rows = {{.new_tokens = 8, .prefix_len = 6}};
  const Batch batch = random_sharded_batch(random, rows, 2, 4);
  const CpPlan plan = plan_context_parallel(rows, 2, {});
  const ShardPlan shard = plan_shards(batch, plan, 0, {.round_pages = 100});
  int32_t earlier = 0;
  for (const PartLaunch& part : shard.rounds.at(0).parts)
    if (!part.segments.empty()) earlier += part.segments[0].kv_len;
  EXPECT_EQ(earlier, 6);
  EXPECT_EQ(shard.chunk.segments[0], (Segment{0, 2, 0, 2, true}));
}

TEST(ShardPlan, ContradictionsAreFound) {
  const std::vector<BatchRow> rows = {{.new_tokens = 8}};
  std::mt19937 random(3);
  Batch batch = random_sharded_batch(random, rows, 2, 4);
  const CpPlan plan = plan_context_parallel(rows, 2, {});
  EXPECT_THROW(plan_shards(batch, plan, 2, {}), Error);
  EXPECT_THROW(plan_shards(batch, plan, 0, {.round_pages = 0}), Error);
  batch.page_owner.clear();
  EXPECT_THROW(plan_shards(batch, plan, 0, {}), Error);
}

}  // namespace
}  // namespace longspan
