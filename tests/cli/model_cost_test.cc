#include "cli/model_cost.h"

#include <gtest/gtest.h>

#include "device/device.h"
#include "model/layout_model.h"
#include "model/weights.h"
#include "support/golden_model.h"
#include "support/temp_dir.h"

namespace longspan::cli {
namespace {

// What `longspan plan` says of a rank is what the rank packs, biases and padding included.
TEST(ModelCost, PredictedBytesAreThoseThatArePacked) {
  const LayoutOptions layouts[] = {{.tp = 1},
                                   {.cp = 2},
                                   {.tp = 2},
                                   {.tp = 2, .ep = 2},
                                   {.tp = 3},
                                   {.tp = 4, .cp = 2, .moe_dp = 2},
                                   {.tp = 4, .cp = 2, .moe_dp = 1, .ep = 2},
                                   {.tp = 4, .cp = 4, .moe_dp = 1, .ep = 4}};
  for (const std::string& name : testing_support::golden_model_names()) {
    testing_support::TempDir folder;
    testing_support::write_golden_model(name, folder.path());
    const ModelConfig config = load_model_config(folder.path());
    const Checkpoint checkpoint = Checkpoint::open(folder.path());
    const LayoutModel model = layout_model(config);
    for (const LayoutOptions& options : layouts) {
      Layout layout;
      try {
        layout = make_layout(options, model);
      } catch (const std::exception&) {
        continue;  // not legal for this model
      }
      for (const auto& [backend, share_kv] : {std::pair("cpu", true), {"cpu", false}, {"reference", true}}) {
        SCOPED_TRACE(name + " " + to_flags(options) + " " + backend + (share_kv ? "" : " gathered"));
        const auto device = make_device({.backend = backend, .compute = DType::kF32});
        const auto ranks = rank_bytes(config, layout, 16, share_kv, device->ops());
        PackedSlices packed;
        for (int32_t rank = 0; rank < layout.tp; ++rank) {
          const ModelWeights weights = load_weights(
              config, checkpoint, rank_slice(model, layout, rank, !share_kv), device->ops(), packed);
          EXPECT_EQ(ranks[rank].weights, weights.bytes) << "rank " << rank;
        }
        EXPECT_EQ(process_bytes(config, layout, 16, share_kv, device->ops()).weights, packed.bytes());
      }
    }
  }
}

}  // namespace
}  // namespace longspan::cli
