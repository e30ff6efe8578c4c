#include "model/moe_layer.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <thread>

#include "device/device.h"
#include "model/layout_model.h"

namespace longspan {
namespace {

using namespace std::chrono_literals;

constexpr int64_t kHidden = 40, kWidth = 24, kSharedWidth = 16;

std::vector<float> random_values(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, 0.3f);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

WeightView view(const std::vector<float>& values, int64_t rows, int64_t cols, int64_t first = 0) {
  return {values.data() + first, DType::kF32, rows, cols, cols};
}

/// A layer's experts as a checkpoint holds them.
struct Source {
  explicit Source(int32_t experts, int32_t chosen, bool has_shared) {
    config.hidden_size = kHidden;
    config.num_heads = config.num_kv_heads = 12;
    config.vocab_size = 100;
    config.num_layers = 1;
    config.layer_is_moe = {true};
    config.num_experts = experts;
    config.num_experts_per_tok = chosen;
    config.norm_topk_prob = true;
    config.moe_intermediate_size = kWidth;
    config.shared_expert_intermediate_size = has_shared ? kSharedWidth : 0;
  }

  MoeWeights pack(const RankSlice& slice, Ops& ops) const {
    MoeWeights weights;
    const auto linear = [&](const std::vector<WeightView>& stacked, LinearPrecision precision) {
      return std::shared_ptr<LinearWeight>(ops.pack_linear(stacked, {}, precision));
    };
    weights.router = linear({view(router, config.num_experts, kHidden)}, LinearPrecision::kF32);
    std::vector<ExpertSource> experts;
    const SliceRange cols = slice.expert_width;
    for (int64_t e = slice.experts.begin; e < slice.experts.end(); ++e) {
      const int64_t first = e * kWidth * kHidden;
      experts.push_back({view(gate, kWidth, kHidden, first).slice_rows(cols.begin, cols.count),
                         view(up, kWidth, kHidden, first).slice_rows(cols.begin, cols.count),
                         view(down, kHidden, kWidth, first).slice_cols(cols.begin, cols.count)});
    }
    weights.experts = ops.pack_experts(experts, static_cast<int32_t>(slice.experts.begin), nullptr);
    if (slice.shared_width.count == 0 || !slice.adds_shared) return weights;
    const SliceRange wide = slice.shared_width;
    weights.shared = std::make_unique<MlpWeights>();
    weights.shared->width = wide.count;
    weights.shared->gate_up = linear({view(gate, kSharedWidth, kHidden).slice_rows(wide.begin, wide.count),
                                      view(up, kSharedWidth, kHidden).slice_rows(wide.begin, wide.count)},
                                     LinearPrecision::kCompute);
    weights.shared->down = linear({view(down, kHidden, kSharedWidth).slice_cols(wide.begin, wide.count)},
                                  LinearPrecision::kCompute);
    weights.shared_gate = linear({view(router, 1, kHidden)}, LinearPrecision::kF32);
    return weights;
  }

  ModelConfig config;
  const std::vector<float> router = random_values(16 * kHidden, 1),
                           gate = random_values(16 * kWidth * kHidden, 2),
                           up = random_values(16 * kWidth * kHidden, 3),
                           down = random_values(16 * kWidth * kHidden, 4);
};

using Rows = std::vector<std::vector<float>>;  // [T]

/// x of every token, and what is there before the experts' products are added.
float value_of(int32_t token, int64_t col, int kind) {
  return std::sin(static_cast<float>(token * 37 + col * 11 + kind * 5));
}

/// Every rank's rows after the layer, by token.
std::vector<Rows> run(const std::string& backend, const Source& source, const Layout& layout,
                      ExpertExchange exchange, const std::vector<BatchRow>& batch) {
  const auto device = make_device({.backend = backend, .compute = DType::kF32});
  Ops& ops = device->ops();
  const LayoutModel model = layout_model(source.config);
  const CpPlan plan = plan_context_parallel(batch, layout.cp, {});
  int32_t tokens = 0;
  for (const BatchRow& row : batch) tokens += row.new_tokens;
  std::vector<std::unique_ptr<Communicator>> group;
  if (layout.tp > 1) group = make_threads_group(layout.tp, 60s);  // moe_dp is 1: all ranks
  std::vector<Rows> results(static_cast<size_t>(layout.tp), Rows(static_cast<size_t>(tokens)));
  std::vector<std::thread> threads;
  for (int32_t rank = 0; rank < layout.tp; ++rank)
    threads.emplace_back([&, rank] {
      Arena arena(device->memory());
      OpContext ctx{.arena = arena, .threads = 1};
      RankSlice slice = rank_slice(model, layout, rank);
      slice.adds_shared = exchange == ExpertExchange::kAllToAll || layout.coordinates(rank).ep_rank == 0;
      const MoeWeights weights = source.pack(slice, ops);
      const MoeLayer layer(source.config,
                           {.comm = layout.tp > 1 ? group[rank].get() : nullptr,
                            .exchange = exchange,
                            .place = expert_group(model, layout, rank)},
                           ops);
      const std::vector<int32_t>& mine = plan.ranks[layout.coordinates(rank).cp_rank].token_index;
      const Matrix x = arena.matrix(std::ssize(mine), kHidden), out = arena.matrix(x.rows, kHidden);
      for (int64_t i = 0; i < x.rows; ++i)
        for (int64_t c = 0; c < kHidden; ++c) {
          x.f32(i)[c] = value_of(mine[i], c, 0);
          out.f32(i)[c] = value_of(mine[i], c, 1);
        }
      for (int layer_index = 0; layer_index < 2; ++layer_index) {
        const Arena::Scope scope(arena);
        layer.forward(ctx, weights, plan, x, out);
      }
      for (int64_t i = 0; i < x.rows; ++i) results[rank][mine[i]] = {out.f32(i), out.f32(i) + kHidden};
    });
  for (std::thread& thread : threads) thread.join();
  return results;
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(double{a[i]} - b[i]));
  return worst;
}

struct Case {
  LayoutOptions layout;
  int32_t experts, chosen;
};

const Case kCases[] = {
    {{.cp = 2, .moe_dp = 1, .ep = 2}, 6, 2},            // a rank for each half of the experts
    {{.cp = 4, .moe_dp = 1, .ep = 4}, 7, 3},            // not evenly spread
    {{.cp = 3, .moe_dp = 1, .ep = 3}, 5, 1},            //
    {{.cp = 4, .moe_dp = 1, .ep = 2}, 6, 2},            // two ranks share an expert's width
    {{.tp = 4, .cp = 2, .moe_dp = 1, .ep = 4}, 8, 2},   // rows have copies on two ep ranks
    {{.tp = 4, .cp = 2, .moe_dp = 1, .ep = 2}, 8, 2},   // copies share an expert's width
    {{.tp = 12, .cp = 2, .moe_dp = 1, .ep = 3}, 7, 2},  // six copies, four to an ep rank
};

// Sums of at most k products and a shared one of numbers below 10, twice, each of width terms.
constexpr double kBound = 2 * 8 * 10 * 0x1p-24 * (kWidth + kHidden);

void compare(const Case& test, const std::string& backend, bool has_shared) {
  const Source source(test.experts, test.chosen, has_shared);
  const LayoutModel model = layout_model(source.config);
  const Layout layout = make_layout(test.layout, model);
  SCOPED_TRACE(fmt::format("{} {}{}", backend, to_flags(test.layout), has_shared ? " shared" : ""));
  // One that is cut and two that are not; then a step of which most ranks have nothing.
  for (const std::vector<BatchRow>& batch : {std::vector<BatchRow>{{.new_tokens = 37, .prefix_len = 0},
                                                                   {.new_tokens = 1, .prefix_len = 3},
                                                                   {.new_tokens = 1, .prefix_len = 0}},
                                             std::vector<BatchRow>{{.new_tokens = 1, .prefix_len = 9}}}) {
    const Rows alone = run(backend, source, make_layout({}, model), ExpertExchange::kReduce, batch)[0];
    const auto gathered = run(backend, source, layout, ExpertExchange::kGather, batch);
    const auto sent = run(backend, source, layout, ExpertExchange::kAllToAll, batch);
    for (size_t token = 0; token < alone.size(); ++token) {
      const std::vector<float>* copy = nullptr;
      for (int32_t rank = 0; rank < layout.tp; ++rank) {
        const std::vector<float>&by_gather = gathered[rank][token], &by_sending = sent[rank][token];
        ASSERT_EQ(by_gather.size(), by_sending.size());
        if (by_sending.empty()) continue;
        EXPECT_LE(distance(by_sending, alone[token]), kBound) << "token " << token;
        EXPECT_LE(distance(by_gather, alone[token]), kBound) << "token " << token;
        if (!has_shared) {
          EXPECT_EQ(by_gather, by_sending) << "the same products in the same order";
        }
        if (copy != nullptr) {
          EXPECT_EQ(*copy, by_sending) << "copies of a row have the same bits";
        }
        copy = &by_sending;
      }
      ASSERT_NE(copy, nullptr);
    }
  }
}

TEST(MoeLayer, RowsThatGoToTheirExpertsAreRowsThatAreGathered) {
  for (const std::string backend : {"reference", "cpu"})
    for (const Case& test : kCases) compare(test, backend, /*has_shared=*/false);
}

TEST(MoeLayer, TheSharedExpertIsAddedOnce) {
  for (const std::string backend : {"reference", "cpu"})
    for (const Case& test : kCases) compare(test, backend, /*has_shared=*/true);
}

}  // namespace
}  // namespace longspan
