#pragma once

#include <longspan/engine.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "plan/layout_rules.h"
#include "support/full_tests.h"
#include "support/golden_model.h"

namespace longspan::testing_support {

/// A golden model in a layout.
struct LayoutCase {
  std::string model;
  LayoutOptions layout;
  bool share_kv = true;
  std::optional<ShardExchange> shard = {};  // each page on one cp rank, and what travels then

  std::string name() const;
};

LayoutModel layout_model_of(const std::string& golden_model);
/// Every legal layout of `tp` ranks; to a dense model moe_dp means nothing.
std::vector<LayoutOptions> legal_layouts(const LayoutModel& model, int32_t tp);

/// All of them, in turn.
ShardExchange nth_shard_exchange(size_t n);

/// f32, small pages and chunks, one thread per rank. `folder` holds the model.
EngineOptions golden_options(const LayoutCase& test, const std::filesystem::path& folder);
/// Every prompt of the model gives what transformers gave.
void expect_goldens(Engine& engine, const GoldenModel& model);

}  // namespace longspan::testing_support
