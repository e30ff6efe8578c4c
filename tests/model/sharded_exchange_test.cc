#include "model/sharded_exchange.h"

#include <gtest/gtest.h>

#include <map>
#include <mutex>
#include <random>
#include <thread>
#include <tuple>

#include "device/device.h"
#include "plan/shard_workspace.h"

namespace longspan {
namespace {

using namespace std::chrono_literals;

constexpr int32_t kLayers = 2, kPage = 4, kHeadsQ = 4, kHeadsKv = 2, kDim = 8, kPages = 60;
constexpr int64_t kQueryCols = kHeadsQ * kDim, kKvCols = 2 * kHeadsKv * kDim;
constexpr int32_t kMaxRows = 60, kMaxSequences = 4;  // of a step

KvShape pool_shape(int32_t layers, int32_t pages) {
  return {.layers = layers,
          .pages = pages,
          .page_size = kPage,
          .heads_k = kHeadsKv,
          .dim_k = kDim,
          .heads_v = kHeadsKv,
          .dim_v = kDim};
}

ShardWorkspaceShape workspace_shape(int32_t cp, std::optional<KvTransfer> transfer, DType dtype) {
  return {.cp = cp,
          .max_rows = kMaxRows,
          .max_sequences = kMaxSequences,
          .page_size = kPage,
          .heads_q = kHeadsQ,
          .heads_kv = kHeadsKv,
          .dim_k = kDim,
          .dim_v = kDim,
          .kv_bytes = size_of(dtype),
          .transfer = transfer};
}

/// Steps that several sequences take together, some of whose pages come from an earlier one (a shared start).
struct Step {
  std::vector<int32_t> sequence;  // [bs]
  Batch batch;                    // sharded
  Batch single;                   // the same in one pool
};

/// Random growth: prefill in chunks, decode rows beside them, sequences that begin late.
std::vector<Step> random_steps(std::mt19937& random, int32_t cp) {
  std::vector<Step> steps;
  std::vector<std::vector<std::pair<int32_t, int32_t>>> pages(kMaxSequences);  // owner, local
  std::vector<std::vector<int32_t>> single(kMaxSequences);
  std::vector<int32_t> length(kMaxSequences, 0), next(cp, 1);
  int32_t next_single = 1;
  for (int32_t i = 0; i < 6; ++i) {
    Step& step = steps.emplace_back();
    for (int32_t s = 0; s < kMaxSequences; ++s) {
      if (random() % 4 == 0) continue;
      const auto tokens =
          static_cast<int32_t>(random() % 3 == 0 ? 1 : 1 + random() % (kMaxRows / kMaxSequences));
      step.sequence.push_back(s);
      step.batch.rows.push_back({.new_tokens = tokens, .prefix_len = length[s]});
      step.batch.token_ids.resize(step.batch.token_ids.size() + tokens);
      length[s] += tokens;
      while (std::ssize(pages[s]) * kPage < length[s]) {
        const auto owner = static_cast<int32_t>(random() % cp);
        pages[s].emplace_back(owner, next[owner]++);
        single[s].push_back(next_single++);
      }
      step.batch.max_pages = std::max(step.batch.max_pages, static_cast<int32_t>(pages[s].size()));
    }
    step.batch.page_size = kPage;
    step.single = step.batch;
    for (const int32_t s : step.sequence) {
      for (int32_t p = 0; p < step.batch.max_pages; ++p) {
        const bool used = p < std::ssize(pages[s]);
        step.batch.page_owner.push_back(used ? pages[s][p].first : 0);
        step.batch.block_table.push_back(used ? pages[s][p].second : 0);
        step.single.block_table.push_back(used ? single[s][p] : 0);
      }
    }
    if (step.batch.rows.empty()) steps.pop_back();
  }
  return steps;
}

/// Values that any rank can make: of a layer, sequence, position and column.
float value_of(int32_t kind, int32_t layer, int32_t sequence, int32_t position, int64_t col) {
  uint32_t hash = 2166136261u;
  for (const auto part :
       {static_cast<uint32_t>(kind), static_cast<uint32_t>(layer), static_cast<uint32_t>(sequence),
        static_cast<uint32_t>(position), static_cast<uint32_t>(col)})
    hash = ((hash ^ part) * 0x9e3779b1u) ^ (hash >> 15);
  return static_cast<float>(hash >> 8) / static_cast<float>(1 << 23) - 1.0f;
}

using Outputs =
    std::map<std::tuple<int32_t, int32_t, int32_t>, std::vector<float>>;  // layer, sequence, position

/// One rank through all steps.
void run_rank(Device& device, KvExchange& exchange, const std::vector<Step>& steps, int32_t cp, int32_t rank,
              bool sharded, int64_t arena_limit, Outputs& outputs, std::mutex& mutex) {
  for (const Step& step : steps) {
    const Batch& batch = sharded ? step.batch : step.single;
    const CpPlan plan = plan_context_parallel(batch.rows, cp, {});
    const RankPlan& mine = plan.ranks[rank];
    Arena arena(device.memory()), io(device.memory());
    OpContext ctx{.arena = arena, .threads = 1};
    const auto prepared = exchange.prepare(batch, plan, rank);
    exchange.begin_step(ctx, *prepared);
    const int64_t before = arena.peak_bytes();
    const auto fill = [&](Matrix m, int32_t kind, int32_t layer) {
      for (int64_t i = 0; i < m.rows; ++i)
        for (int64_t c = 0; c < m.cols; ++c)
          m.f32(i)[c] = value_of(kind, layer, step.sequence[mine.sequence[i]], mine.position[i], c);
    };
    for (int32_t layer = 0; layer < kLayers; ++layer) {
      const Arena::Scope scope(arena);
      const Matrix kv = io.matrix(std::ssize(mine.position), kKvCols);
      const Matrix q = io.matrix(std::ssize(mine.position), kQueryCols);
      fill(kv, 0, layer);
      fill(q, 1, layer);
      {
        const Arena::Scope travel(arena);
        exchange.start(ctx, layer, kv);
        exchange.finish(ctx);
      }
      exchange.attend(ctx, {.q = q, .heads_q = kHeadsQ, .scale = 0.5f, .out = q});
      const std::lock_guard lock(mutex);
      for (int64_t i = 0; i < q.rows; ++i)
        outputs[{layer, step.sequence[mine.sequence[i]], mine.position[i]}] = {q.f32(i), q.f32(i) + q.cols};
    }
    // An arena gives whole lines of 64 bytes.
    if (arena_limit > 0) {
      EXPECT_LE(arena.peak_bytes() - before, arena_limit + 64 * 32);
    }
  }
}

Outputs run_single(const DeviceOptions& options, const std::vector<Step>& steps) {
  const auto device = make_device(options);
  const auto pool = device->ops().make_kv_pool(pool_shape(kLayers, 4 * kPages));
  const auto exchange = make_shared_pool_exchange(device->ops(), *pool, nullptr);
  Outputs outputs;
  std::mutex mutex;
  run_rank(*device, *exchange, steps, 1, 0, false, 0, outputs, mutex);
  return outputs;
}

Outputs run_sharded(const DeviceOptions& options, const std::vector<Step>& steps, int32_t cp,
                    std::optional<KvTransfer> transfer, int32_t round_pages) {
  const auto device = make_device(options);
  Ops& ops = device->ops();
  auto group = make_threads_group(cp, 60s);
  Outputs outputs;
  std::mutex mutex;
  std::vector<std::thread> threads;
  const ShardWorkspaceShape shape = workspace_shape(cp, transfer, options.compute);
  for (int32_t rank = 0; rank < cp; ++rank) {
    threads.emplace_back([&, rank] {
      const auto pool = ops.make_kv_pool(pool_shape(kLayers, 4 * kPages));
      const auto scratch_pages = static_cast<int32_t>(shard_scratch_pages(shape));
      const auto scratch =
          ops.make_kv_pool(pool_shape(1, round_pages > shard_round_pages(shape) ? 1000 : scratch_pages));
      const auto exchange =
          make_sharded_exchange(ops, *pool, *scratch, *group[rank],
                                {.transfer = transfer,
                                 .figures = {.attention_flops = 1e9, .bytes_per_second = 1e6},
                                 .heads_q = kHeadsQ,
                                 .round_pages = round_pages});
      // The reference's ops take nothing from the arena themselves.
      const bool limited = options.backend == "reference" && round_pages <= shard_round_pages(shape);
      const int64_t limit = limited ? shard_arena_bytes(shape) : 0;
      run_rank(*device, *exchange, steps, cp, rank, true, limit, outputs, mutex);
    });
  }
  for (std::thread& thread : threads) thread.join();
  return outputs;
}

double distance(const Outputs& a, const Outputs& b) {
  EXPECT_EQ(a.size(), b.size());
  double worst = 0;
  for (const auto& [key, row] : a) {
    const auto found = b.find(key);
    if (found == b.end()) return INFINITY;
    for (size_t i = 0; i < row.size(); ++i)
      worst = std::max(worst, std::abs(double{row[i]} - found->second[i]));
  }
  return worst;
}

constexpr KvTransfer kTransfers[] = {KvTransfer::kGatherKv, KvTransfer::kRing, KvTransfer::kGatherQ};

// |v| < 1; attention of at most some hundred keys, in one sum or in several.
constexpr double kF32Bound = 300 * 0x1p-24 * 8;

TEST(ShardedExchange, IsAttentionOverOnePool) {
  std::mt19937 random(5);
  for (const char* backend : {"reference", "cpu"}) {
    for (const int32_t cp : {2, 3, 4}) {
      const std::vector<Step> steps = random_steps(random, cp);
      const DeviceOptions options{.backend = backend, .compute = DType::kF32};
      const Outputs single = run_single(options, steps);
      for (const KvTransfer transfer : kTransfers)
        for (const int32_t round_pages :
             {1, 2, shard_round_pages(workspace_shape(cp, transfer, DType::kF32)), 1000})
          EXPECT_LE(distance(single, run_sharded(options, steps, cp, transfer, round_pages)), kF32Bound)
              << backend << ", cp " << cp << ", transfer " << static_cast<int>(transfer) << ", round of "
              << round_pages;
      EXPECT_LE(distance(single, run_sharded(options, steps, cp, {}, 3)), kF32Bound) << "chosen step by step";
    }
  }
}

// Parts are the same ones whoever travels, and merged in one order.
TEST(ShardedExchange, EveryTransferGivesTheSameBits) {
  std::mt19937 random(6);
  for (const char* backend : {"reference", "cpu"}) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      const std::vector<Step> steps = random_steps(random, 3);
      const DeviceOptions options{.backend = backend, .compute = dtype};
      const Outputs first = run_sharded(options, steps, 3, kTransfers[0], 1000);
      EXPECT_EQ(distance(first, run_sharded(options, steps, 3, kTransfers[1], 1000)), 0) << backend;
      EXPECT_EQ(distance(first, run_sharded(options, steps, 3, kTransfers[2], 1000)), 0) << backend;
    }
  }
}

// bf16: each part's probabilities are rounded before they meet its values, and values are below 1.
TEST(ShardedExchange, StaysWithinBf16) {
  std::mt19937 random(7);
  const std::vector<Step> steps = random_steps(random, 2);
  const DeviceOptions options{.backend = "cpu", .compute = DType::kBF16};
  const Outputs single = run_single(options, steps);
  for (const KvTransfer transfer : kTransfers)
    EXPECT_LE(distance(single, run_sharded(options, steps, 2, transfer, 5)), 2 * 0x1p-8);
}

}  // namespace
}  // namespace longspan
