// Golden models under configurations: whatever the layout, page size, chunk and batch, the same tokens and
// log-probabilities as transformers. FULL_TESTS=1 runs the whole matrix, else a part of it in which
// every two settings meet.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <longspan/engine.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "device/cpu/cpu_features.h"
#include "engine/golden_check.h"
#include "support/full_tests.h"
#include "support/golden_model.h"
#include "support/sanitizers.h"
#include "support/temp_dir.h"

namespace longspan {
namespace {

using testing_support::compare_to_golden;
using testing_support::golden_model_names;
using testing_support::GoldenBound;
using testing_support::GoldenFinding;
using testing_support::GoldenModel;
using testing_support::GoldenPrompt;
using testing_support::TempDir;

struct Arithmetic {
  const char* name;
  const char* backend;
  const char* isa;
  ComputeType dtype;
};

constexpr Arithmetic kArithmetics[] = {{"cpu_f32", "cpu", "auto", ComputeType::kF32},
                                       {"cpu_bf16", "cpu", "auto", ComputeType::kBF16},
                                       {"reference", "reference", "auto", ComputeType::kF32},
                                       {"avx2_bf16", "cpu", "avx2", ComputeType::kBF16},
                                       {"portable", "cpu", "portable", ComputeType::kF32}};
constexpr int32_t kCps[] = {1, 2, 3, 4, 8};
constexpr int32_t kPageSizes[] = {16, 7, 128};
constexpr int32_t kChunks[] = {64, 5, -1};
constexpr ShardExchange kShards[] = {ShardExchange::kGatherKv, ShardExchange::kRing, ShardExchange::kGatherQ,
                                     ShardExchange::kAuto};

// bf16: in units of the noise of transformers' own bf16, which rounds its residual stream too. The mean
// counts what happens after a router decision has flipped, which is chaotic.
constexpr double kBf16Factor = 1;
constexpr double kBf16MeanFactor = 1.5;

struct Configuration {
  std::string model;
  Arithmetic arithmetic;
  int32_t cp, page_size, chunk;
  bool share_kv;
  std::optional<ShardExchange> shard = {};  // each page on one rank, and what travels then

  std::string name() const {
    constexpr const char* kShards[] = {"sharded", "sharded_gather_kv", "sharded_gather_q", "sharded_ring"};
    return fmt::format("{}_{}_cp{}_page{}_chunk{}_{}", model, arithmetic.name, cp, page_size,
                       chunk < 0 ? "any" : std::to_string(chunk),
                       shard      ? kShards[static_cast<int>(*shard)]
                       : share_kv ? "shared"
                                  : "gathered");
  }
};

// What travels between shards depends on no instruction set, and steps of 5 tokens cost most of all.
bool shards_in_full_matrix(const Arithmetic& arithmetic, int32_t cp, int32_t chunk) {
  const std::string_view isa = arithmetic.isa;
  return isa == "auto" && (chunk != 5 || cp == 2);
}

std::vector<Configuration> full_matrix() {
  std::vector<Configuration> list;
  for (const std::string& model : golden_model_names()) {
    for (const Arithmetic& arithmetic : kArithmetics) {
      for (const int32_t cp : kCps) {
        for (const int32_t page_size : kPageSizes) {
          for (const int32_t chunk : kChunks) {
            list.push_back({model, arithmetic, cp, page_size, chunk, true});
            if (cp == 1) continue;
            list.push_back({model, arithmetic, cp, page_size, chunk, false});
            if (!shards_in_full_matrix(arithmetic, cp, chunk)) continue;
            list.push_back({model, arithmetic, cp, page_size, chunk, false, kShards[list.size() / 3 % 4]});
          }
        }
      }
    }
  }
  return list;
}

// Three configurations a model, dealt so that every two settings meet.
std::vector<Configuration> fast_part() {
  std::vector<Configuration> list;
  const std::vector<std::string> models = golden_model_names();
  for (size_t i = 0; i < 3 * models.size(); ++i) {
    list.push_back({models[i % models.size()], kArithmetics[i / 5 % std::size(kArithmetics)], kCps[i % 5],
                    kPageSizes[i % 3], kChunks[(i + i / 3) % 3], (i / 2 + i / 5) % 2 == 0});
  }
  return list;
}

// One configuration a model; chunks of 5 are cut at cp 2 alone.
std::vector<Configuration> fast_sharded_part() {
  std::vector<Configuration> list;
  const std::vector<std::string> models = golden_model_names();
  for (size_t i = 0; i < models.size(); ++i) {
    const int32_t cp = kCps[1 + (i + i / 3) % 3];
    list.push_back(
        {models[i], kArithmetics[i % 3], cp, kPageSizes[i / 3 % 2], cp == 2 ? 5 : 64, false, kShards[i % 4]});
  }
  return list;
}

std::vector<Configuration> configurations() {
  if (testing_support::full_tests()) return full_matrix();
  std::vector<Configuration> list = fast_part();
  for (Configuration& sharded : fast_sharded_part()) list.push_back(std::move(sharded));
  return list;
}

const GoldenModel& golden_model(const std::string& name) {
  static std::map<std::string, GoldenModel> models;
  const auto found = models.find(name);
  return found != models.end() ? found->second
                               : models.emplace(name, testing_support::load_golden_model(name)).first->second;
}

std::string model_folder(const std::string& name) {
  static std::map<std::string, std::unique_ptr<TempDir>> folders;
  std::unique_ptr<TempDir>& folder = folders[name];
  if (!folder) {
    folder = std::make_unique<TempDir>();
    testing_support::write_golden_model(name, folder->path());
  }
  return folder->path().string();
}

EngineOptions options_for(const Configuration& configuration) {
  EngineOptions options;
  options.model = model_folder(configuration.model);
  options.backend = configuration.arithmetic.backend;
  options.isa = configuration.arithmetic.isa;
  options.dtype = configuration.arithmetic.dtype;
  options.layout.cp = configuration.cp;
  options.min_tokens_per_rank = 0;
  options.page_size = configuration.page_size;
  options.chunked_prefill_size = configuration.chunk;
  options.share_kv = configuration.share_kv;
  options.shard_kv = configuration.shard.has_value();
  options.shard_exchange = configuration.shard.value_or(ShardExchange::kAuto);
  options.max_total_tokens = 2048;
  if (testing_support::kThreadSanitizer) options.threads = 1;  // it does not see libgomp's barriers
  return options;
}

class Golden : public testing::TestWithParam<Configuration> {
 protected:
  void SetUp() override {
    const char* isa = GetParam().arithmetic.isa;
    if (isa == std::string_view("avx2") && !has_isa(Isa::kAvx2)) GTEST_SKIP() << "needs AVX2";
    const GoldenModel& model = golden_model(GetParam().model);
    engine_ = Engine::open(options_for(GetParam()));
    if (GetParam().arithmetic.dtype == ComputeType::kBF16) {
      bound_ = {.logprob = kBf16Factor * model.bf16_noise.logprob,
                .router = kBf16Factor * model.bf16_noise.router};
      mean_bound_ = kBf16MeanFactor * model.bf16_noise.mean_logprob;
    } else {
      bound_ = testing_support::f32_golden_bound(model);
      mean_bound_ = bound_.logprob;
    }
  }

  const GoldenPrompt& prompt(size_t length, size_t nth = 0) const {
    for (const GoldenPrompt& candidate : golden_model(GetParam().model).prompts) {
      if (candidate.ids.size() == length && nth-- == 0) return candidate;
    }
    throw std::out_of_range("no such golden prompt");
  }

  void submit(const GoldenPrompt& golden, bool scored) {
    Request request = testing_support::greedy_request(golden, scored);
    request.on_finish = [this, &golden](const Result& result) {
      ++finished_;
      cached_tokens_ += result.cached_tokens;
      const GoldenFinding finding = compare_to_golden(golden, result, bound_);
      EXPECT_EQ(finding.problem, "") << batch_ << ", prompt of " << golden.ids.size() << " tokens";
      worst_ = std::max(worst_, finding.worst);
      sum_ += finding.sum;
      compared_ += finding.compared;
    };
    engine_->submit(std::move(request));
    ++submitted_;
  }

  void run_batch(const char* batch, const std::vector<const GoldenPrompt*>& prompts, bool scored) {
    batch_ = batch;
    for (const GoldenPrompt* golden : prompts) submit(*golden, scored);
    engine_->run();
  }

  std::unique_ptr<Engine> engine_;
  GoldenBound bound_;
  double mean_bound_ = 0;
  const char* batch_ = "";
  int submitted_ = 0, finished_ = 0;
  int64_t cached_tokens_ = 0;
  double worst_ = 0, sum_ = 0;
  int64_t compared_ = 0;
};

TEST_P(Golden, EveryBatchMatchesTheOracle) {
  run_batch("7 rows",
            {&prompt(300), &prompt(1), &prompt(33), &prompt(130), &prompt(2), &prompt(61), &prompt(7)}, true);
  run_batch("rows of 1 token", {&prompt(1, 0), &prompt(1, 1), &prompt(1, 2)}, true);
  run_batch("1 row", {&prompt(33)}, true);
  EXPECT_LE(sum_ / static_cast<double>(compared_), mean_bound_);

  batch_ = "arrivals during a prefill";
  submit(prompt(130), true);
  engine_->step();
  submit(prompt(7), false);
  submit(prompt(33), true);
  engine_->step();
  submit(prompt(2), true);
  engine_->run();

  cached_tokens_ = 0;
  run_batch("shared prefixes", {&prompt(300), &prompt(130), &prompt(61)}, false);
  const int32_t page_size = GetParam().page_size;
  const auto whole_pages = [&](int32_t tokens) { return tokens / page_size * page_size; };
  EXPECT_GE(cached_tokens_, whole_pages(299) + whole_pages(129) + whole_pages(60));

  EXPECT_EQ(finished_, submitted_);
  EXPECT_EQ(engine_->stats().running + engine_->stats().waiting, 0);
  engine_->check_integrity();
  RecordProperty("worst_logprob", fmt::format("{:.3g}", worst_));
  RecordProperty("mean_logprob", fmt::format("{:.3g}", sum_ / static_cast<double>(compared_)));
}

INSTANTIATE_TEST_SUITE_P(Models, Golden, testing::ValuesIn(configurations()),
                         [](const auto& test) { return test.param.name(); });

TEST(GoldenMatrix, EveryTwoSettingsMeetInTheFastPart) {
  const std::vector<Configuration> fast = fast_part();
  const std::vector<std::function<std::string(const Configuration&)>> settings = {
      [](const Configuration& c) { return std::string(c.arithmetic.name); },
      [](const Configuration& c) { return std::to_string(c.cp); },
      [](const Configuration& c) { return std::to_string(c.page_size); },
      [](const Configuration& c) { return std::to_string(c.chunk); },
      [](const Configuration& c) { return std::to_string(c.share_kv); }};
  const size_t counts[] = {std::size(kArithmetics), std::size(kCps), std::size(kPageSizes),
                           std::size(kChunks), 2};
  for (size_t a = 0; a < settings.size(); ++a) {
    for (size_t b = 0; b < a; ++b) {
      std::set<std::pair<std::string, std::string>> pairs;
      for (const Configuration& configuration : fast) {
        pairs.emplace(settings[a](configuration), settings[b](configuration));
      }
      EXPECT_EQ(pairs.size(), counts[a] * counts[b]) << a << ' ' << b;
    }
  }
}

}  // namespace
}  // namespace longspan
