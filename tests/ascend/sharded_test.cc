// Sharded KV on cards: golden models within the bounds that hold for bf16 on a CPU, what is refused, and what
// a layer and a step cost. FULL_TESTS=1 runs every model with every exchange.

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>

#include "ascend/golden_fixture.h"
#include "ascend/journal.h"
#include "ascend/small_engine.h"
#include "support/full_tests.h"

namespace longspan {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing_support::attempt;
using testing_support::count_of;
using testing_support::Entry;
using testing_support::GoldenPrompt;
using testing_support::journal_of;
using testing_support::layers_of;
using testing_support::prompt_of;
using testing_support::Simulator;
using testing_support::SmallModel;

constexpr int32_t kPage = 128;

EngineOptions sharded(const SmallModel& model, const Simulator& simulator, int32_t cp,
                      ShardExchange exchange = ShardExchange::kAuto) {
  EngineOptions options = model.options(simulator, cp, /*hccl=*/true);
  options.shard_kv = true;
  options.shard_exchange = exchange;
  return options;
}

struct Case {
  const char *model, *release;
  int32_t cp;
  ShardExchange exchange;
  int32_t chunk = 64;  // -1: whole prompts
  int32_t attn_tp = 1;
  std::string name() const {
    return fmt::format("{}_cann{}{}_cp{}_tp{}_{}_{}", model, release[0], release[2], cp, cp * attn_tp,
                       exchange == ShardExchange::kAuto       ? "auto"
                       : exchange == ShardExchange::kGatherKv ? "keys"
                       : exchange == ShardExchange::kRing     ? "ring"
                                                              : "queries",
                       chunk < 0 ? "whole" : fmt::format("chunks{}", chunk));
  }
  friend void PrintTo(const Case& c, std::ostream* out) { *out << c.name(); }
};

constexpr ShardExchange kExchanges[] = {ShardExchange::kGatherKv, ShardExchange::kRing,
                                        ShardExchange::kGatherQ, ShardExchange::kAuto};

std::vector<Case> cases() {
  std::vector<Case> list;
  if (testing_support::full_tests()) {
    for (const char* model : {"qwen3_moe_wide_heads", "llama_llama3", "qwen3_moe_all_experts", "qwen3_linear",
                              "llama_biases", "qwen2_yarn", "qwen3_mha_tied"})
      for (const int32_t cp : {2, 3, 4})
        for (const ShardExchange exchange : kExchanges)
          list.push_back({model, list.size() % 2 ? "8.5" : "9.0", cp, exchange, list.size() % 3 ? 64 : -1});
    return list;
  }
  for (const int32_t cp : {2, 3, 4})
    for (const ShardExchange exchange : kExchanges)
      list.push_back({"qwen3_moe_wide_heads", list.size() % 2 ? "8.5" : "9.0", cp, exchange});
  // 300 tokens: the last chunk has two pages of earlier ones on a card, which come in rounds of one.
  list.push_back({"qwen3_moe_wide_heads", "8.5", 2, ShardExchange::kRing, 40});
  list.push_back({"qwen3_moe_wide_heads", "9.0", 2, ShardExchange::kGatherKv, 40});
  list.push_back({"llama_llama3", "8.5", 2, ShardExchange::kRing, -1});
  list.push_back({"qwen3_linear", "9.0", 3, ShardExchange::kGatherQ});
  list.push_back({"qwen3_moe_wide_heads", "8.5", 2, ShardExchange::kGatherKv, 64, 2});
  return list;
}

class ShardedGolden : public testing_support::GoldenOnSimulator<Case> {
 protected:
  void open(EngineOptions options) {
    const Case& c = GetParam();
    simulator_.seed(std::hash<std::string>()(c.name()));
    options.chunked_prefill_size = c.chunk;
    options.layout = {.tp = c.cp * c.attn_tp, .cp = c.cp};
    engine_ = Engine::open(options);
  }
};

INSTANTIATE_TEST_SUITE_P(Models, ShardedGolden, testing::ValuesIn(cases()),
                         [](const auto& test) { return test.param.name(); });

// All prompts at once, so that some decode while others are in the middle; then a start that is cached.
TEST_P(ShardedGolden, MatchesTheOracle) {
  open(sharded(model_, simulator_, GetParam().cp, GetParam().exchange));
  for (const GoldenPrompt& prompt : golden_.prompts) submit(prompt, true);
  engine_->run();
  const auto longest = std::ranges::max_element(golden_.prompts, {},
                                                [](const GoldenPrompt& prompt) { return prompt.ids.size(); });
  submit(*longest, false);
  engine_->run();
  engine_->check_integrity();
  EXPECT_EQ(finished_, golden_.prompts.size() + 1);
  EXPECT_GE(cached_, kPage);
  EXPECT_GT(engine_->stats().prepared_steps, 0);
  expect_small_mean();
  engine_.reset();
  EXPECT_EQ(simulator_.leaks(), "");
}

constexpr const char* kAttention = "aclnnFusedInferAttentionScoreV3";
constexpr uint64_t kLayers = 3;
constexpr uint64_t kKeyBytes = 2 * 2 * 128 * 2, kQueryBytes = 8 * 128 * 2,  // of a row, bf16
    kPartialBytes = 8 * (128 + 1) * 4;                                      // f32

class ShardedCost : public testing::TestWithParam<const char*> {
 protected:
  ~ShardedCost() override { simulator_.record(false); }

  /// The engine's next step, of each card its layers but one. `attention`: its launches in a layer.
  std::vector<std::vector<std::vector<Entry>>> layers_of_step(Engine& engine, int32_t cards, int attention) {
    simulator_.record(true);
    EXPECT_TRUE(engine.step());
    std::vector<std::vector<std::vector<Entry>>> layers;
    for (int32_t card = 0; card < cards; ++card) {
      const std::vector<Entry> journal = journal_of(simulator_, card);
      EXPECT_EQ(count_of(journal, "wait"), 1u) << "card " << card;
      layers.push_back(layers_of(journal, attention));
      EXPECT_EQ(layers.back().size(), kLayers - 1);
    }
    simulator_.record(false);
    return layers;
  }

  const Simulator simulator_{GetParam()};
  const SmallModel model_{"qwen3_moe_wide_heads"};
};

INSTANTIATE_TEST_SUITE_P(Releases, ShardedCost, testing::Values("8.5", "9.0"), [](const auto& info) {
  std::string name = info.param;
  name[1] = '_';
  return name;
});

std::vector<uint64_t> bytes_of_collectives(const std::vector<Entry>& layer) {
  std::vector<uint64_t> bytes;
  for (const Entry& e : layer)
    if (e.kind == "collective") bytes.push_back(e.bytes);
  return bytes;
}

// As docs/ascend.md lists it: a chunk of 96 new tokens behind a page of earlier ones on each card.
TEST_P(ShardedCost, OfALayer) {
  for (const int32_t cp : {2, 3}) {
    const auto ranks = static_cast<uint64_t>(cp);
    const uint64_t mine = 96 / ranks, others = 96 - mine;
    for (const ShardExchange exchange :
         {ShardExchange::kGatherKv, ShardExchange::kRing, ShardExchange::kGatherQ}) {
      EngineOptions options = sharded(model_, simulator_, cp, exchange);
      options.chunked_prefill_size = cp * kPage;
      const auto engine = Engine::open(options);
      engine->submit(prompt_of(static_cast<size_t>(cp * kPage + 96)));
      for (const auto& card : layers_of_step(*engine, cp, 1))  // nothing is earlier yet
        for (const std::vector<Entry>& layer : card) {
          EXPECT_EQ(count_of(layer, "launch"), 28u);
          EXPECT_EQ(bytes_of_collectives(layer), std::vector<uint64_t>{(ranks - 1) * kPage * kKeyBytes});
          EXPECT_EQ(count_of(layer, "wait") + count_of(layer, "h2d") + count_of(layer, "d2h"), 0u);
        }
      const bool queries = exchange == ShardExchange::kGatherQ, ring = exchange == ShardExchange::kRing;
      const int attention = queries ? 2 : 1 + cp;
      uint64_t owners = 0;  // of the new tokens' page
      for (const auto& card : layers_of_step(*engine, cp, attention))
        for (const std::vector<Entry>& layer : card) {
          EXPECT_EQ(count_of(layer, "launch", kAttention), static_cast<uint64_t>(attention));
          EXPECT_EQ(count_of(layer, "launch", "aclnnAttentionUpdate"), 1u);
          const uint64_t writes = count_of(layer, "launch", "aclnnScatterNdUpdate") - (queries ? 1 : ranks);
          owners += writes;  // of all its rows, so that none are selected
          EXPECT_EQ(count_of(layer, "launch"), (queries ? 36 : 32 + 4 * ranks) + writes);
          EXPECT_EQ(count_of(layer, "wait") + count_of(layer, "h2d") + count_of(layer, "d2h"), 0u)
              << "once a step";
          const std::vector<uint64_t> bytes = bytes_of_collectives(layer);
          const uint64_t page = kPage * kKeyBytes;
          // A layer here ends where the next one's rows have come.
          std::vector<uint64_t> expected{others * kKeyBytes};
          if (queries)
            expected = {others * kQueryBytes, others * kPartialBytes, others * kKeyBytes};
          else if (ring)
            expected.insert(expected.begin(), ranks - 1, page);
          else
            expected.insert(expected.begin(), (ranks - 1) * page);
          std::vector<uint64_t> sorted = bytes;
          std::ranges::sort(sorted), std::ranges::sort(expected);
          EXPECT_EQ(sorted, expected) << "cp " << cp;
        }
      EXPECT_EQ(owners, kLayers - 1);
    }
  }
}

// Earlier keys that are more than a step's rows come in rounds, each merged with what was before.
TEST_P(ShardedCost, OfRounds) {
  for (const ShardExchange exchange : {ShardExchange::kGatherKv, ShardExchange::kRing}) {
    EngineOptions options = sharded(model_, simulator_, 2, exchange);
    options.chunked_prefill_size = kPage;  // a page of each owner at a time
    const auto engine = Engine::open(options);
    engine->submit(prompt_of(3 * kPage + 96));
    for (int chunk = 0; chunk < 3; ++chunk) engine->step();
    // One card has two pages: this step's keys, one page of each, the other page.
    for (const auto& card : layers_of_step(*engine, 2, 4))
      for (const std::vector<Entry>& layer : card) {
        EXPECT_EQ(count_of(layer, "launch", "aclnnAttentionUpdate"), 2u);
        EXPECT_EQ(count_of(layer, "launch", kAttention), 4u);
        EXPECT_EQ(count_of(layer, "collective"), 3u) << "new rows, two rounds";
        EXPECT_EQ(count_of(layer, "wait") + count_of(layer, "h2d") + count_of(layer, "d2h"), 0u);
      }
  }
}

// A token behind a page on each card: all cards attend to its query, one has the row.
TEST_P(ShardedCost, OfADecodingRow) {
  const auto engine = Engine::open(sharded(model_, simulator_, 2, ShardExchange::kGatherKv));
  engine->submit(prompt_of(2 * kPage, 7, 3));
  engine->step();
  simulator_.record(true);
  engine->step();
  uint64_t rows = 0;
  for (const int card : {0, 1}) {
    const std::vector<Entry> journal = journal_of(simulator_, card);
    const uint64_t attention = count_of(journal, "launch", kAttention) / kLayers;
    rows += attention - 1;
    for (const std::vector<Entry>& layer : layers_of(journal, static_cast<int>(attention))) {
      const uint64_t writes = count_of(layer, "launch", "aclnnScatterNdUpdate") - (attention - 1);
      EXPECT_EQ(count_of(layer, "launch"), (attention == 2 ? 36 : 3) + writes);
      EXPECT_EQ(count_of(layer, "collective"), 3u);
      EXPECT_EQ(count_of(layer, "wait") + count_of(layer, "h2d") + count_of(layer, "d2h"), 0u);
    }
    EXPECT_EQ(count_of(journal, "wait"), 1u);
  }
  simulator_.record(false);
  EXPECT_EQ(rows, 1u);
}

// Rows of others between a sequence's own, and cards without its pages, take no launches of their own.
TEST_P(ShardedCost, DoesNotGrowWithSequences) {
  std::vector<uint64_t> launches;
  for (const int decoding : {3, 9}) {
    EngineOptions options = sharded(model_, simulator_, 2, ShardExchange::kGatherKv);
    options.chunked_prefill_size = 2 * kPage;
    const auto engine = Engine::open(options);
    engine->submit(prompt_of(2 * kPage + 96, 9, 8));  // it goes on beside the others
    for (int32_t i = 0; i < decoding; ++i) engine->submit(prompt_of(4, 7 + i, 30));
    for (int step = 0; engine->stats().running < decoding + 1; ++step) {
      ASSERT_LT(step, 8);
      engine->step();
    }
    uint64_t most = 0;
    for (int step = 0; step < 3; ++step) {
      simulator_.reset_counts();
      engine->step();
      most = std::max(most, simulator_.count((std::string("launch:") + kAttention).c_str()));
    }
    launches.push_back(most);
  }
  EXPECT_EQ(launches[0], launches[1]);
  EXPECT_GT(launches[0], 0u);
}

TEST(ShardedKv, IsRefusedWhereItCantBeMerged) {
  const SmallModel model("llama_llama3");
  const Simulator old("8.3");
  const auto refused = attempt(sharded(model, old, 2), 40);
  EXPECT_EQ(refused.code, ErrorCode::kNotSupported);
  EXPECT_THAT(refused.text, AllOf(HasSubstr("aclnnAttentionUpdate"), HasSubstr("(8.3) lacks"),
                                  HasSubstr("use --kv replicate")));
  const Simulator simulator("8.5");
  EngineOptions one_card = sharded(model, simulator, 2);
  one_card.hccl = false;
  EXPECT_THAT(attempt(one_card, 40).text,
              AllOf(HasSubstr("only --comm hccl gives each rank one"), HasSubstr("--kv replicate")));
  simulator.fault("aclnnFusedInferAttentionScoreV3 device 1 nth 1 garbage");
  const auto wrong = attempt(sharded(model, simulator, 2), 40);
  simulator.clear_faults();
  EXPECT_EQ(wrong.code, ErrorCode::kNotSupported);
  EXPECT_FALSE(wrong.opened);
  EXPECT_THAT(wrong.text, HasSubstr("--kv shard needs attention that is not causal, which gives"));
  EXPECT_EQ(attempt(sharded(model, simulator, 2), 40).code, std::nullopt);
  EXPECT_EQ(simulator.leaks(), "");
}

// Pages of every card hold tokens: a prompt that one card's pool can't hold is answered.
TEST(ShardedKv, HoldsWhatOneCardCannot) {
  const Simulator simulator("8.5");
  const SmallModel model("qwen3_moe_wide_heads");
  EngineOptions options = sharded(model, simulator, 4, ShardExchange::kRing);
  options.max_total_tokens = 4 * kPage;  // a page on each
  options.chunked_prefill_size = 100;
  const auto engine = Engine::open(options);
  EXPECT_EQ(engine->info().kv_tokens, 4 * kPage);
  const Result result = engine->generate(prompt_of(3 * kPage + 50, 7, 4));
  EXPECT_EQ(result.token_ids.size(), 4u) << result.error_message;
}

// A card that fails where parts are merged is named, and the others are released.
TEST(ShardedKv, AFailedMergeEndsTheEngineByName) {
  setenv("HCCL_EXEC_TIMEOUT", "1", 1);
  const Simulator simulator("8.5");
  const SmallModel model("qwen3_moe_wide_heads");
  for (const ShardExchange exchange : {ShardExchange::kRing, ShardExchange::kGatherQ}) {
    EngineOptions options = sharded(model, simulator, 2, exchange);
    options.chunked_prefill_size = kPage;
    const auto engine = Engine::open(options);
    engine->submit(prompt_of(200));
    EXPECT_TRUE(engine->step());
    simulator.fault("aclnnAttentionUpdate device 1 nth 2 fail 507899");
    try {
      engine->step();
      ADD_FAILURE() << "not noticed";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kRankLost);
      EXPECT_THAT(error.what(), HasSubstr("aclnnAttentionUpdate: fails because"));
    }
    simulator.clear_faults();
  }
  unsetenv("HCCL_EXEC_TIMEOUT");
  EXPECT_EQ(simulator.leaks(), "");
}

}  // namespace
}  // namespace longspan
