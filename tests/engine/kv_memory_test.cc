#include "engine/kv_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <longspan/error.h>

#include "device/device.h"
#include "model/shard_shape.h"

namespace longspan {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;

// Qwen3-30B-A3B, as far as KV goes.
ModelConfig large_model(int32_t layers) {
  ModelConfig config;
  config.num_layers = layers;
  config.hidden_size = 2048;
  config.num_heads = 32;
  config.num_kv_heads = 4;
  config.head_dim = 128;
  config.vocab_size = 151936;
  config.context_length = 10'000'000;
  return config;
}

// However few layers share the scratch memory, and however long the context: what travels is bounded by a
// step.
TEST(KvMemory, SharedOutPagesHoldNearlyCpTimesTheTokens) {
  const auto device = make_device({.backend = "cpu", .compute = DType::kBF16, .isa = "portable"});
  const Ops& ops = device->ops();
  for (const int32_t layers : {24, 48}) {
    const ModelConfig config = large_model(layers);
    for (const int32_t cp : {2, 4, 8}) {
      EngineOptions options;
      options.layout.cp = cp;
      options.mem_fraction = 1;
      const Layout layout = make_layout(options.layout, {.heads_q = 32, .heads_kv = 4});
      const KvShape pool = kv_pool_shape(config, layout, options.page_size);
      KvMemory memory{.memory_bytes = 64 * kGiB,
                      .weight_bytes = 32 * kGiB,
                      .workspace_bytes = 0,
                      .page_bytes = ops.kv_page_bytes(pool),
                      .owners = 1};
      const int64_t whole = count_pages(options, config, memory) - 1;
      options.shard_kv = true;
      const ShardWorkspaceShape shape = shard_workspace_shape(options, config, layout, ops);
      EXPECT_EQ(shape.kv_bytes, 2);
      memory.workspace_bytes = shard_workspace_bytes(shape, pool, ops);
      memory.owners = cp;
      const int64_t sharded = int64_t{cp} * (count_pages(options, config, memory) - 1);
      EXPECT_GE(static_cast<double>(sharded), 0.95 * cp * static_cast<double>(whole))
          << layers << " layers, cp " << cp << ", workspace " << memory.workspace_bytes;
      EXPECT_LE(sharded, cp * whole);
    }
  }
}

TEST(KvMemory, NoMorePagesThanAskedForAndAReasonWhereTheyDontFit) {
  EngineOptions options;
  options.page_size = 16;
  options.max_total_tokens = 1000;
  options.mem_fraction = 1;
  ModelConfig config = large_model(1);
  KvMemory memory{
      .memory_bytes = kGiB, .weight_bytes = 0, .workspace_bytes = 0, .page_bytes = 1024, .owners = 1};
  EXPECT_EQ(count_pages(options, config, memory), 1 + 63);
  memory.owners = 4;
  EXPECT_EQ(count_pages(options, config, memory), 1 + 16);
  memory.workspace_bytes = kGiB - 10 * 1024;
  try {
    count_pages(options, config, memory);
    ADD_FAILURE() << "expected Error(kCapacity)";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCapacity);
    EXPECT_THAT(error.what(), testing::HasSubstr("for what travels (--chunked-prefill-size lowers it)"));
  }
}

}  // namespace
}  // namespace longspan
