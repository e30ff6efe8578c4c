#include "model/kv_exchange.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <random>
#include <thread>

#include "device/device.h"

namespace longspan {
namespace {

using namespace std::chrono_literals;

// Hk != Hv and Dk != Dv, so that a split at the wrong column shows.
constexpr KvShape kShape{
    .layers = 2, .pages = 12, .page_size = 4, .heads_k = 3, .dim_k = 8, .heads_v = 2, .dim_v = 4};
constexpr int64_t kKeyCols = 3 * 8, kValueCols = 2 * 4;

Batch make_batch(const std::vector<BatchRow>& rows) {
  Batch batch;
  batch.rows = rows;
  batch.max_pages = 4;
  batch.page_size = kShape.page_size;
  int32_t page = kShape.pages - 1;  // handed out downwards: logical and physical order differ
  for (const BatchRow& row : rows) {
    batch.token_ids.resize(batch.token_ids.size() + row.new_tokens);
    for (int32_t i = 0; i < batch.max_pages; ++i) {
      const bool used = i * batch.page_size < row.prefix_len + row.new_tokens;
      batch.block_table.push_back(used ? page-- : 0);
    }
  }
  return batch;
}

// The value that column `col` of global token `token` has in `layer`; exact in bf16.
float value_of(int32_t layer, int32_t token, int64_t col) {
  return static_cast<float>((layer * 7 + token * 3 + static_cast<int32_t>(col)) % 251);
}

// Every rank exchanges its rows of every layer; returns what each rank then reads back for every token, in
// global token order, [K | V] rows of both layers.
std::vector<std::vector<float>> exchange_on_ranks(const Batch& batch, int32_t cp, bool share) {
  const auto device = make_device({.backend = "reference", .compute = DType::kBF16});
  Ops& ops = device->ops();
  const CpPlan plan = plan_context_parallel(batch.rows, cp, {});
  auto group = make_threads_group(cp, 60s);
  std::vector<std::unique_ptr<KvPool>> pools;
  for (int32_t r = 0; r < (share ? 1 : cp); ++r) pools.push_back(ops.make_kv_pool(kShape));

  std::vector<int32_t> slots_in_order;
  for (size_t s = 0; s < batch.rows.size(); ++s) {
    for (int32_t i = 0; i < batch.rows[s].new_tokens; ++i) {
      slots_in_order.push_back(batch.slot(static_cast<int32_t>(s), batch.rows[s].prefix_len + i));
    }
  }
  std::vector<std::vector<float>> read(cp);
  std::vector<std::thread> threads;
  for (int32_t rank = 0; rank < cp; ++rank) {
    threads.emplace_back([&, rank] {
      Arena arena(device->memory());
      OpContext ctx{.arena = arena, .threads = 1};
      const auto exchange = share ? make_shared_pool_exchange(ops, *pools[0], group[rank].get())
                                  : make_merged_gather_exchange(ops, *pools[rank], *group[rank]);
      const auto step = exchange->prepare(batch, plan, rank);
      exchange->begin_step(ctx, *step);
      const std::vector<int32_t>& tokens = plan.ranks[rank].token_index;
      for (int32_t layer = 0; layer < kShape.layers; ++layer) {
        const Matrix kv = arena.matrix(std::ssize(tokens), kKeyCols + kValueCols);
        for (int64_t row = 0; row < kv.rows; ++row) {
          for (int64_t col = 0; col < kv.cols; ++col) kv.f32(row)[col] = value_of(layer, tokens[row], col);
        }
        exchange->start(ctx, layer, kv);
        exchange->finish(ctx);
        const Matrix all = arena.matrix(std::ssize(slots_in_order), kKeyCols + kValueCols);
        ops.kv_read(ctx, exchange->pool(), layer, ops.upload(ctx, slots_in_order),
                    all.slice_cols(0, kKeyCols), all.slice_cols(kKeyCols, kValueCols));
        const size_t before = read[rank].size();
        read[rank].resize(before + all.rows * all.cols);
        ops.download(ctx, all, std::span(read[rank]).subspan(before));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return read;
}

TEST(KvExchange, SharedPoolAndMergedGatherGiveEveryRankEveryRow) {
  const std::vector<std::vector<BatchRow>> batches = {
      {{.new_tokens = 13}},
      {{.new_tokens = 1, .prefix_len = 9}, {.new_tokens = 11, .prefix_len = 3}, {.new_tokens = 2}},
      {{.new_tokens = 1, .prefix_len = 5}},
  };
  for (const auto& rows : batches) {
    const Batch batch = make_batch(rows);
    std::vector<float> expected;
    for (int32_t layer = 0; layer < kShape.layers; ++layer) {
      for (int32_t token = 0; token < std::ssize(batch.token_ids); ++token) {
        for (int64_t col = 0; col < kKeyCols + kValueCols; ++col)
          expected.push_back(value_of(layer, token, col));
      }
    }
    for (const int32_t cp : {1, 2, 3, 4}) {
      EXPECT_THAT(exchange_on_ranks(batch, cp, true), testing::Each(expected)) << "shared, cp " << cp;
      EXPECT_THAT(exchange_on_ranks(batch, cp, false), testing::Each(expected)) << "gathered, cp " << cp;
    }
  }
}

/// Keeps what it was told.
class FakeStream final : public Stream {
 public:
  void wait() override { ++waits; }
  Mark mark() override { return &marks[next++ % marks.size()]; }
  void after(Mark mark) override { behind.push_back(mark); }

  int waits = 0;
  size_t next = 0;
  std::array<char, 2> marks = {};
  std::vector<Mark> behind;
};

// On a device that only enqueues, each rank's stream goes on behind the others' rows, and nobody waits.
TEST(KvExchange, StreamsGoOnBehindEachOther) {
  constexpr int32_t kRanks = 3;
  const auto device = make_device({.backend = "reference", .compute = DType::kBF16});
  const auto pool = device->ops().make_kv_pool(kShape);
  const auto group = make_threads_group(kRanks, 60s);
  std::vector<FakeStream> streams(kRanks);
  std::vector<std::thread> threads;
  for (int32_t rank = 0; rank < kRanks; ++rank) {
    threads.emplace_back([&, rank] {
      Arena arena(device->memory());
      OpContext ctx{.arena = arena, .stream = &streams[rank]};
      const auto exchange = make_shared_pool_exchange(device->ops(), *pool, group[rank].get());
      for (int32_t layer = 0; layer < kShape.layers; ++layer) {
        exchange->start(ctx, layer, {});
        exchange->finish(ctx);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int32_t rank = 0; rank < kRanks; ++rank) {
    std::vector<Stream::Mark> expected;
    for (int32_t layer = 0; layer < kShape.layers; ++layer)
      for (int32_t other = 0; other < kRanks; ++other)
        if (other != rank) expected.push_back(&streams[other].marks[layer]);
    EXPECT_EQ(streams[rank].behind, expected);
    EXPECT_EQ(streams[rank].waits, 0);
  }
}

}  // namespace
}  // namespace longspan
