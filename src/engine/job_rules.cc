#include "engine/job_rules.h"

#include <fmt/format.h>

#include "engine/request_rules.h"
#include "engine/together.h"
#include "model/layout_model.h"
#include "plan/layout_rules.h"

namespace longspan {
namespace {

void check_size(const Job& job, const Layout& layout) {
  if (job.size() == layout.tp) return;
  throw Error(
      ErrorCode::kUsage,
      fmt::format("--comm mpi: a layout of {} rank{} needs as many processes, and the job has {}; start it "
                  "with mpirun -n {}, or choose a layout with --tp {}",
                  layout.tp, layout.tp == 1 ? "" : "s", job.size(), layout.tp, job.size()));
}

// What processes must agree on to compute one model.
std::string description(const EngineOptions& options, const ModelConfig& config) {
  const char* const dtypes[] = {"auto", "bf16", "f32", "int8"};
  const char* const exchanges[] = {"auto", "gather-kv", "gather-q", "ring"};
  return fmt::format(
      "{}, {} layers of {}, vocabulary {}, {} experts, {} --page-size {} --min-tokens-to-cut {} --dtype {} "
      "--kv {}{}",
      config.architecture_name, config.num_layers, config.hidden_size, config.vocab_size, config.num_experts,
      to_flags(options.layout), options.page_size, options.min_tokens_to_cut,
      dtypes[static_cast<int>(options.dtype)], options.shard_kv ? "shard" : "replicate",
      options.shard_kv ? fmt::format(" --kv-exchange {}", exchanges[static_cast<int>(options.shard_exchange)])
                       : "");
}

void check_alike(Job& job, const std::string& mine) {
  const std::vector<std::string> all = exchange_texts(job, mine, "options");
  for (size_t rank = 1; rank < all.size(); ++rank) {
    if (all[rank] == all[0]) continue;
    throw Error(
        ErrorCode::kUsage,
        fmt::format("the processes of the job disagree: rank 0 has \"{}\", rank {} has \"{}\"; give all the "
                    "same flags, variables and model",
                    all[0], rank, all[rank]));
  }
}

}  // namespace

ModelConfig read_config(const EngineOptions& options) {
  Job* const job = options.job.get();
  ModelConfig config = together(job, "reading the config", [&] {
    ModelConfig read = load_model_config(options.model);
    check_options(options, read);
    if (job) check_size(*job, make_layout(options.layout, layout_model(read)));
    return read;
  });
  if (job) check_alike(*job, description(options, config));
  return config;
}

}  // namespace longspan
