// What each layer and each step costs, release by release, as docs/ascend.md lists it.

#include <gmock/gmock.h>

#include "ascend/journal.h"
#include "ascend/small_engine.h"

namespace longspan {
namespace {

using testing_support::count_of;
using testing_support::Entry;
using testing_support::journal_of;
using testing_support::layers_of;
using testing_support::prompt_of;
using testing_support::Simulator;
using testing_support::SmallModel;

constexpr const char* kAttention = "aclnnFusedInferAttentionScoreV3";
constexpr uint64_t kLayers = 3, kEmbedding = 2, kLogits = 6;
constexpr uint64_t kRowBytes = 2 * 2 * 128 * 2;  // K and V, 2 heads of 128, bf16

uint64_t collective_bytes(const std::vector<Entry>& entries) {
  uint64_t sum = 0;
  for (const Entry& e : entries)
    if (e.kind == "collective") sum += e.bytes;
  return sum;
}

struct Profile {
  const char* release;
  bool exact_gathers;
  int attention_launches;  // where sequences are cut, unless told otherwise
};
constexpr Profile kProfiles[] = {{"8.3", false, 2}, {"8.5", true, 1}, {"9.0", true, 1}};

class Accounting : public testing::TestWithParam<Profile> {
 protected:
  ~Accounting() override { simulator_.record(false); }

  /// One step with a prompt; the journals of the first `devices`.
  std::vector<std::vector<Entry>> step(const EngineOptions& options, size_t tokens, int devices) {
    const auto engine = Engine::open(options);
    engine->submit(prompt_of(tokens));
    simulator_.reset_counts();
    simulator_.record(true);
    EXPECT_TRUE(engine->step());
    std::vector<std::vector<Entry>> journals;
    for (int device = 0; device < devices; ++device) journals.push_back(journal_of(simulator_, device));
    simulator_.record(false);
    return journals;
  }

  const Profile& profile() const { return GetParam(); }
  const Simulator simulator_{GetParam().release};
  const SmallModel model_{"qwen3_moe_wide_heads"};
};

INSTANTIATE_TEST_SUITE_P(Releases, Accounting, testing::ValuesIn(kProfiles), [](const auto& info) {
  std::string name = info.param.release;
  name[1] = '_';
  return name;
});

TEST_P(Accounting, ALayerOfCardsHasOneCollectiveOneAttentionAndNoWait) {
  for (const int launches : {0, 1}) {  // the release's own choice; one
    const int attention = launches ? launches : profile().attention_launches;
    EngineOptions options = model_.options(simulator_, 2, true);
    options.ascend.cp_launches = launches;
    for (const std::vector<Entry>& journal : step(options, 300, 2)) {
      const auto layers = layers_of(journal, attention);
      ASSERT_EQ(layers.size(), kLayers - 1);
      for (const std::vector<Entry>& layer : layers) {
        EXPECT_EQ(count_of(layer, "launch", kAttention), static_cast<uint64_t>(attention));
        EXPECT_EQ(count_of(layer, "launch"), 25u + static_cast<uint64_t>(attention));
        EXPECT_EQ(count_of(layer, "collective"), 1u);
        EXPECT_EQ(count_of(layer, "collective", "HcclAllGather"), 1u) << "equal shares";
        EXPECT_EQ(count_of(layer, "wait"), 0u);
        EXPECT_EQ(count_of(layer, "h2d") + count_of(layer, "d2h"), 0u) << "once a step";
        EXPECT_EQ(collective_bytes(layer), 150 * kRowBytes) << "the other rank's rows";
      }
      EXPECT_EQ(count_of(journal, "wait"), 1u);
      EXPECT_EQ(count_of(journal, "collective"), kLayers);
    }
    EXPECT_EQ(simulator_.count("collective:bytes"), 2 * kLayers * 150 * kRowBytes);
    EXPECT_EQ(simulator_.count("launch"), 2 * (kLayers * (25 + attention) + kEmbedding) + kLogits);
  }
}

// 303 rows on two cards: 151 and 152. A release without HcclAllGatherV pads the short share by a copy, and
// each card's rows are written apart.
TEST_P(Accounting, SharesThatDifferTravelInOneCollectiveToo) {
  EngineOptions options = model_.options(simulator_, 2, true);
  options.ascend.cp_launches = 1;
  uint64_t sum = 0;
  const auto journals = step(options, 303, 2);
  for (const size_t device : {0, 1}) {
    const uint64_t padding = profile().exact_gathers ? 0 : device == 0 ? 2 : 1;
    for (const std::vector<Entry>& layer : layers_of(journals[device], 1)) {
      EXPECT_EQ(count_of(layer, "collective"), 1u);
      EXPECT_EQ(count_of(layer, "collective", "HcclAllGatherV"), profile().exact_gathers ? 1u : 0u);
      EXPECT_EQ(count_of(layer, "launch"), 26u + padding);
      sum += collective_bytes(layer);
    }
  }
  // Exact: what a card gets or gives, whichever is more. Padded: 152 rows either way.
  EXPECT_EQ(sum, (kLayers - 1) * 2 * 152 * kRowBytes);
}

TEST_P(Accounting, RanksOnOneCardAndTheServingLayout) {
  EngineOptions shared = model_.options(simulator_, 1);
  const std::vector<Entry> alone = step(shared, 300, 1)[0];
  ASSERT_EQ(layers_of(alone, 1).size(), kLayers - 1);
  for (const std::vector<Entry>& layer : layers_of(alone, 1)) {
    EXPECT_EQ(count_of(layer, "launch"), 24u);
    EXPECT_EQ(count_of(layer, "collective") + count_of(layer, "wait"), 0u);
  }
  EXPECT_EQ(count_of(alone, "wait"), 1u);
  EXPECT_EQ(simulator_.count("memcpy:d2h"), 1u) << "the logits";
  EXPECT_EQ(simulator_.count("memcpy:d2h:bytes"), 300u * 4) << "of one row, f32";

  step(model_.options(simulator_, 2), 300, 1);  // two streams of one card
  EXPECT_EQ(simulator_.count("launch"),
            2 * (kLayers * static_cast<uint64_t>(23 + profile().attention_launches) + kEmbedding) + kLogits);
  EXPECT_EQ(simulator_.count("collective"), 0u);

  EngineOptions serving = model_.options(simulator_, 2, true);
  serving.layout = {.tp = 4, .cp = 2, .moe_dp = 2, .ep = 1};
  const int attention = profile().attention_launches;
  for (const std::vector<Entry>& journal : step(serving, 300, 4)) {
    ASSERT_EQ(layers_of(journal, attention).size(), kLayers - 1);
    for (const std::vector<Entry>& layer : layers_of(journal, attention)) {
      EXPECT_EQ(count_of(layer, "launch"), 27u + static_cast<uint64_t>(attention));
      EXPECT_EQ(count_of(layer, "launch", kAttention), static_cast<uint64_t>(attention));
      EXPECT_EQ(count_of(layer, "collective", "HcclAllGather"), 1u) << "[K | V], for cp";
      EXPECT_EQ(count_of(layer, "collective", "HcclAllReduce"), 2u) << "o_proj, experts";
      EXPECT_EQ(count_of(layer, "collective"), 3u);
      EXPECT_EQ(count_of(layer, "wait"), 0u);
    }
    EXPECT_EQ(count_of(journal, "wait"), 1u);
  }
}

}  // namespace
}  // namespace longspan
