#include "cli/bench.h"
#include "cli/cli_test_base.h"
#include "cli/model_cost.h"

namespace longspan::cli {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

const std::string kModel = LONGSPAN_SOURCE_DIR "/models/recall-moe";

class PlanTest : public CliTest {
 protected:
  // A folder with a config and nothing else.
  std::string config_only() {
    std::filesystem::copy_file(kModel + "/config.json", path("config.json"));
    return folder_.string();
  }
};

TEST_F(PlanTest, NeedsNoWeights) {
  const CliResult r = run({"plan", "-m", config_only(), "--cp", "2", "--lengths", "2000,3"});
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_THAT(r.out, HasSubstr("layout: legal: tp 2 = cp 2 x attn_tp 1 = moe_dp 2 x ep 1 x moe_tp 1"));
  EXPECT_THAT(r.out, HasSubstr("predicted, all ranks in one process"));
  EXPECT_THAT(r.out, HasSubstr("KV tokens fit"));
  EXPECT_THAT(r.out, HasSubstr("sequence 0: 2000 new"));
  EXPECT_THAT(r.out, HasSubstr("sequence 1: 3 new + 0 cached, whole on rank"));
  EXPECT_THAT(r.out, HasSubstr("imbalance"));
  EXPECT_TRUE(script_.opened.empty());
}

TEST_F(PlanTest, Json) {
  const CliResult r =
      run({"plan", "-m", kModel, "--cp", "2", "--lengths", "10", "--dtype", "f32", "--backend", "reference",
           "--page-size", "16", "--min-tokens-per-rank", "0", "--json"});
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(json_at(r.out, "/layout/tp"), "2");
  EXPECT_EQ(json_at(r.out, "/runs_in_this_build"), "true");
  // 2 kv heads x 128 x (K and V) x 4 layers x 4 bytes, in one pool.
  EXPECT_EQ(json_at(r.out, "/kv_bytes_per_token"), std::to_string(2 * 128 * 2 * 4 * 4));
  EXPECT_EQ(json_at(r.out, "/kv_pools"), "1");
  // f32: 4 layers of q, k, v (12 heads), o (8 heads), router, 8 experts of 3 x 128; lm_head.
  const int64_t hidden = load_model_config(kModel).hidden_size;
  const int64_t layer = hidden * (12 * 128 + 8 * 128 + 8 + 8 * 3 * 128);
  EXPECT_EQ(json_at(r.out, "/weight_bytes"), std::to_string(4 * (4 * layer + 4096 * hidden)));
  // 10 tokens in blocks of 3, 3, 2, 2: rank 0 owns the first and the last.
  EXPECT_EQ(json_at(r.out, "/ranks/0/owns"),
            R"([{"begin":0,"end":3,"sequence":0},{"begin":8,"end":10,"sequence":0}])");
  EXPECT_EQ(json_at(r.out, "/ranks/1/tokens"), "5");
}

TEST_F(PlanTest, StepsOfFewTokensAreNotCutWhereOneRankCanTakeThem) {
  const auto plan = [&](std::vector<std::string> more) {
    std::vector<std::string> args = {
        "plan", "-m", kModel, "--cp", "2", "--lengths", "100,99", "--min-tokens-per-rank", "100"};
    args.insert(args.end(), more.begin(), more.end());
    return run(args).out;
  };
  constexpr const char* kNote =
      "(fewer than 100 new tokens for each rank, --min-tokens-per-rank: all cores take it as one)";
  EXPECT_THAT(plan({}), AllOf(HasSubstr(kNote), HasSubstr("100 new + 0 cached, whole on rank")));
  EXPECT_THAT(plan({"--lengths", "100,100"}), Not(HasSubstr("whole on rank")));
  EXPECT_THAT(plan({"--kv-exchange", "gather"}), Not(HasSubstr("whole on rank")));
}

TEST_F(PlanTest, EachRankItsOwnPool) {
  const CliResult r =
      run({"plan", "-m", kModel, "--cp", "4", "--lengths", "64", "--kv-exchange", "gather", "--json"});
  EXPECT_EQ(json_at(r.out, "/kv_pools"), "4");
}

// Sharded pools hold cp times the tokens of whole ones, but for what travels; KV of a token takes a cp-th.
TEST_F(PlanTest, ShardedKvHoldsMoreTokens) {
  const auto plan = [&](const std::string& cp, std::vector<std::string> more) {
    std::vector<std::string> args = {"plan",      "-m", kModel,   "--cp", cp,
                                     "--lengths", "64", "--comm", "mpi",  "--json"};
    args.insert(args.end(), more.begin(), more.end());
    return run(args).out;
  };
  for (const std::string cp : {"2", "4"}) {
    const std::string whole = plan(cp, {}), sharded = plan(cp, {"--kv", "shard"});
    const double ranks = std::stod(cp);
    EXPECT_EQ(json_at(whole, "/kv"), "\"replicate\"");
    EXPECT_EQ(json_at(sharded, "/kv"), "\"shard\"");
    EXPECT_EQ(json_at(sharded, "/kv_owners"), cp);
    EXPECT_GE(std::stod(json_at(sharded, "/kv_tokens")),
              0.95 * ranks * std::stod(json_at(whole, "/kv_tokens")));
    EXPECT_EQ(std::stod(json_at(sharded, "/kv_bytes_per_token")) * ranks,
              std::stod(json_at(whole, "/kv_bytes_per_token")));
    EXPECT_GT(std::stod(json_at(sharded, "/workspace_bytes")), 0);
  }
  const CliResult r = run({"plan", "-m", kModel, "--cp", "2", "--kv", "shard", "--kv-exchange", "ring"});
  EXPECT_THAT(r.out, HasSubstr("each page on one of 2 cp ranks"));
  EXPECT_THAT(r.out, HasSubstr("earlier tokens meet by ring"));
  EXPECT_EQ(json_at(plan("1", {"--kv", "shard"}), "/kv"), "\"replicate\"") << "one rank has all pages anyway";
}

// Over MPI a process holds what its rank holds, and shares the machine's memory with the others.
TEST_F(PlanTest, EachRankItsOwnProcess) {
  const std::vector<std::string> args = {"plan", "-m",        kModel, "--tp",    "4",  "--cp",
                                         "2",    "--lengths", "64",   "--dtype", "f32"};
  auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), args.begin(), args.end());
    return run(more);
  };
  const std::string threads = with({"--json"}).out, mpi = with({"--comm", "mpi", "--json"}).out;
  EXPECT_EQ(json_at(mpi, "/comm"), "\"mpi\"");
  EXPECT_EQ(json_at(mpi, "/kv_pools"), "1");
  EXPECT_EQ(json_at(mpi, "/weight_bytes"), json_at(mpi, "/ranks/0/weight_bytes"));
  EXPECT_EQ(json_at(mpi, "/kv_bytes_per_token"), json_at(mpi, "/ranks/0/kv_bytes_per_token"));
  EXPECT_NEAR(std::stod(json_at(mpi, "/memory_bytes")), std::stod(json_at(threads, "/memory_bytes")) / 4, 4);
  EXPECT_THAT(with({"--comm", "mpi"}).out, HasSubstr("predicted, each of the processes"));
}

// What travels between processes is copied: those copies' memory is not there for KV.
TEST_F(PlanTest, MessagesBetweenProcessesTakeMemory) {
  const auto plan = [&](std::vector<std::string> more) {
    std::vector<std::string> args = {"plan", "-m", kModel, "--cp", "2", "--lengths", "64", "--json"};
    args.insert(args.end(), more.begin(), more.end());
    return run(args).out;
  };
  EXPECT_EQ(json_at(plan({}), "/message_bytes"), "0");
  const std::string large = plan({"--comm", "mpi"});
  const std::string small = plan({"--comm", "mpi", "--chunked-prefill-size", "512"});
  const auto number = [](const std::string& json, const char* field) {
    return std::stoll(json_at(json, field));
  };
  // A step's rows [K | V] of 2 kv heads x 128 in bf16 come from all, and half of them go out.
  EXPECT_GE(number(large, "/message_bytes"), 8192 * 1024 * 3 / 2);
  EXPECT_EQ(json_at(large, "/ranks/1/message_bytes"), json_at(large, "/message_bytes"));
  const int64_t saved = number(large, "/message_bytes") - number(small, "/message_bytes");
  const int64_t tokens = number(small, "/kv_tokens") - number(large, "/kv_tokens");
  EXPECT_NEAR(static_cast<double>(tokens * number(large, "/kv_bytes_per_token")), static_cast<double>(saved),
              static_cast<double>(128 * number(large, "/kv_bytes_per_token")));
  EXPECT_THAT(run({"plan", "-m", kModel, "--cp", "2", "--comm", "mpi"}).out,
              HasSubstr("at most for messages to and from the others"));
}

TEST_F(PlanTest, SlicesOfASplitModel) {
  const CliResult r = run({"plan", "-m", kModel, "--tp", "4", "--cp", "2", "--moe-dp", "2", "--ep", "2",
                           "--lengths", "64", "--json"});
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(json_at(r.out, "/layout/attn_tp"), "2");
  EXPECT_EQ(json_at(r.out, "/runs_in_this_build"), "true");
  EXPECT_EQ(json_at(r.out, "/ranks/3/heads_q"), "4");
  EXPECT_EQ(json_at(r.out, "/ranks/3/heads_kv"), "1");
  EXPECT_EQ(json_at(r.out, "/ranks/3/experts"), "4");
}

TEST_F(PlanTest, Refusals) {
  EXPECT_EQ(run({"plan", "-m", path("none")}).code, 3);
  const CliResult illegal = run({"plan", "-m", kModel, "--tp", "3", "--cp", "2"});
  EXPECT_EQ(illegal.code, 2);
  const CliResult longer = run({"plan", "-m", kModel, "--lengths", "99999999"});
  EXPECT_EQ(longer.code, 2);
  EXPECT_THAT(longer.err, HasSubstr("nearest: 32768"));
}

TEST(Spread, Median) {
  EXPECT_EQ(spread_of({3, 1, 2}).median, 2);
  EXPECT_EQ(spread_of({4, 1, 2, 3}).median, 2.5);
  EXPECT_EQ(spread_of({5}).median, 5);
  EXPECT_EQ(spread_of({3, 1, 2}).least, 1);
  EXPECT_EQ(spread_of({3, 1, 2}).most, 3);
}

class BenchTest : public CliTest {
 protected:
  BenchTest() {
    script_.reply = [](const std::string&) { return std::string(10000, 'x'); };
  }
};

TEST_F(BenchTest, EveryCombination) {
  const CliResult r =
      run({"bench", "-m", kModel, "-p", "8,16", "--cp", "1,2", "-b", "1,3", "-r", "2", "-n", "4", "--json"});
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(json_at(r.out, "/results/7/cp"), "2");
  EXPECT_EQ(json_at(r.out, "/results/7/prompt_tokens"), "16");
  EXPECT_EQ(json_at(r.out, "/results/7/batch"), "3");
  EXPECT_EQ(json_at(r.out, "/results/8"), "");
  // The test's clock moves one second per reading: every measured span is one second.
  EXPECT_EQ(json_at(r.out, "/results/7/prefill_ms/median"), "1000");
  EXPECT_EQ(json_at(r.out, "/results/7/prefill_tokens_per_s"), "48");
  EXPECT_EQ(json_at(r.out, "/results/7/decode_tokens_per_s"), "3");
  EXPECT_EQ(json_at(r.out, "/results/7/prefill_of_limit"), "null");
  ASSERT_EQ(script_.opened.size(), 2u);
  EXPECT_FALSE(script_.opened[0].prefix_cache);
  EXPECT_EQ(script_.opened[1].layout.cp, 2);
  for (const Prompt& prompt : script_.prompts) {
    for (const int32_t id : std::get<std::vector<int32_t>>(prompt)) {
      ASSERT_GE(id, 0);
      ASSERT_LT(id, 4096);
    }
  }
}

TEST_F(BenchTest, Table) {
  const CliResult r = run({"bench", "-m", kModel, "-p", "8", "-r", "1", "-n", "0"});
  EXPECT_EQ(r.code, 0) << r.err;
  ASSERT_EQ(lines_of(r.out).size(), 2u);
  EXPECT_THAT(lines_of(r.out)[0], HasSubstr("tokens/s"));
  EXPECT_THAT(r.err, HasSubstr("peak memory 3.0 MiB"));
}

TEST_F(BenchTest, SharesOfTheLimit) {
  script_.limits = {.flops_per_s = 1e9, .bytes_per_s = 1e9};
  const CliResult r = run({"bench", "-m", kModel, "-p", "64", "-r", "1", "-n", "2", "--json"});
  EXPECT_EQ(r.code, 0) << r.err;
  // A second per prefill and per step: the share of 1 GFLOP/s and of 1 GB/s is the work itself.
  const double gflops = std::stod(json_at(r.out, "/results/0/prefill_gflop_per_s"));
  EXPECT_GT(gflops, 0.1);
  EXPECT_DOUBLE_EQ(std::stod(json_at(r.out, "/results/0/prefill_of_limit")), gflops);
  EXPECT_EQ(json_at(r.out, "/results/0/decode_of_limit"), json_at(r.out, "/results/0/decode_gb_per_s"));
}

// Rank 0 of a job knows neither the limits nor the bytes of all.
TEST_F(BenchTest, WhatAJobDoesNotKnowIsLeftOut) {
  const std::vector<std::string> bench = {"bench", "-m", kModel, "-p",     "64", "-r",
                                          "1",     "-n", "2",    "--comm", "mpi"};
  std::vector<std::string> json = bench;
  json.push_back("--json");
  CliResult r = run(json);
  EXPECT_EQ(r.code, 0) << r.err;
  for (const char* field : {"/limit_gflop_per_s", "/limit_gb_per_s", "/results/0/prefill_of_limit",
                            "/results/0/decode_gb_per_s", "/results/0/decode_of_limit"})
    EXPECT_EQ(json_at(r.out, field), "null") << field;
  EXPECT_GT(std::stod(json_at(r.out, "/results/0/prefill_gflop_per_s")), 0.1);
  r = run(bench);
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_THAT(r.err, testing::Not(HasSubstr("limit")));
  EXPECT_THAT(lines_of(r.out).at(1), testing::EndsWith("     -        -"));
}

TEST(WeightsRead, ShareOfTheExperts) {
  ModelConfig config = load_model_config(kModel);
  const double one = weights_read_share(config, 1), many = weights_read_share(config, 1000);
  EXPECT_GT(one, 0.25);  // 2 of 8 experts, and all that is not an expert
  EXPECT_LT(one, 0.75);
  EXPECT_NEAR(many, 1, 1e-6);
  config.num_experts = 0;
  EXPECT_EQ(weights_read_share(config, 1), 1);
}

TEST_F(BenchTest, Refusals) {
  EXPECT_EQ(run({"bench", "-m", kModel, "-p", "40000"}).code, 2);
  EXPECT_THAT(run({"bench", "-m", kModel, "-p", "8", "-b", "64"}).err, HasSubstr("nearest: 32"));
  EXPECT_EQ(run({"bench", "-m", path("none"), "-p", "8"}).code, 3);
  script_.pool_tokens = 4;
  const CliResult r = run({"bench", "-m", kModel, "-p", "8"});
  EXPECT_EQ(r.code, 4);
  EXPECT_THAT(r.err, HasSubstr("over the pool"));
}

TEST_F(BenchTest, Interrupt) {
  script_.on_step = [&](int step) { interrupted_ = step == 2; };
  EXPECT_EQ(run({"bench", "-m", kModel, "-p", "8"}).code, 130);
}

}  // namespace
}  // namespace longspan::cli
