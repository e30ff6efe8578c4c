// Golden models in layouts whose ranks are the processes of the job: rank 0 opens the engines and compares,
// the others follow. Every legal layout of as many ranks as processes; of more than 4 with FULL_TESTS=1.

#include <gtest/gtest.h>
#include <longspan/job.h>

#include "checkpoint/model_config.h"
#include "device/device.h"
#include "engine/golden_layouts.h"
#include "model/layout_model.h"
#include "model/message_memory.h"
#include "support/temp_dir.h"

namespace longspan {
namespace {

using namespace testing_support;

std::shared_ptr<Job> g_job;

/// Each layout as it is, and with KV sharded: every exchange in turn; by default the widest cp of a model
/// alone.
std::vector<LayoutCase> cases_of(const std::string& model, int32_t size, size_t& exchange) {
  std::vector<LayoutCase> cases;
  const std::vector<LayoutOptions> layouts = legal_layouts(layout_model_of(model), size);
  for (size_t i = 0; i < layouts.size(); ++i) {
    cases.push_back({model, layouts[i]});
    if (layouts[i].cp > 1 && (full_tests() || i + 1 == layouts.size()))
      cases.push_back({model, layouts[i], false, nth_shard_exchange(exchange++)});
  }
  return cases;
}

TEST(GoldenMpi, MatchesTheOracle) {
  const auto [rank, size] = place_in(*g_job);
  if (size > 4 && !full_tests()) GTEST_SKIP() << "set FULL_TESTS=1";
  size_t exchange = 0;
  for (const std::string& name : golden_model_names()) {
    TempDir folder;
    write_golden_model(name, folder.path());
    for (const LayoutCase& test : cases_of(name, size, exchange)) {
      SCOPED_TRACE(test.name());
      EngineOptions options = golden_options(test, folder.path());
      options.job = g_job;
      if (rank != 0) {
        Engine::follow(options);
      } else {
        const auto engine = Engine::open(options);
        expect_goldens(*engine, load_golden_model(name));
        const auto device = make_device({.backend = "cpu", .compute = DType::kF32});
        const ModelConfig config = load_model_config(folder.path());
        const Layout layout = make_layout(options.layout, layout_model(config));
        EXPECT_LE(engine->info().message_bytes, message_bytes(options, config, layout, device->ops()));
        EXPECT_GT(engine->info().message_bytes, 0);
      }
    }
  }
}

}  // namespace
}  // namespace longspan

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  longspan::g_job = longspan::join_mpi(60);
  const int result = RUN_ALL_TESTS();
  longspan::leave(*longspan::g_job);
  return result;
}
