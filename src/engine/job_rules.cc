#include "engine/job_rules.h"

#include <fmt/format.h>

#include "base/hash.h"
#include "checkpoint/mapped_file.h"
#include "engine/request_rules.h"
#include "engine/together.h"
#include "model/layout_model.h"
#include "plan/layout_rules.h"

namespace longspan {
namespace {

constexpr size_t kMostConfigBytes = 100'000'000;

void check_size(const Job& job, const Layout& layout, bool hccl) {
  if (job.size() == layout.tp) return;
  throw Error(
      ErrorCode::kUsage,
      fmt::format("--comm {}: a layout of {} rank{} needs as many processes, and the job has {}; start it "
                  "with mpirun -n {}, or choose a layout with --tp {}",
                  hccl ? "hccl" : "mpi", layout.tp, layout.tp == 1 ? "" : "s", job.size(), layout.tp,
                  job.size()));
}

// What processes must agree on to compute one model. Ranks with copies of a row must have the same bits of
// it, so there the device is told too.
std::string description(const EngineOptions& options, const ModelConfig& config, std::string_view device) {
  const char* const dtypes[] = {"auto", "bf16", "f32", "int8"};
  const Layout layout = make_layout(options.layout, layout_model(config));
  std::string text = fmt::format(
      "{} --page-size {} --min-tokens-to-cut {} --dtype {} --backend {} --comm {} --comm-timeout {} --kv {}",
      to_flags(options.layout), options.page_size, options.min_tokens_to_cut,
      dtypes[static_cast<int>(options.dtype)], options.backend == "npu" ? "ascend" : options.backend,
      options.hccl ? "hccl" : "mpi", options.comm_timeout_s, options.shard_kv ? "shard" : "replicate");
  if (options.shard_kv) text += fmt::format(" --kv-exchange {}", to_string(options.shard_exchange));
  if (layout.attn_tp > 1 || layout.moe_group(0).size() > 1) text += fmt::format(" on {}", device);
  return text;
}

std::string description(const ModelConfig& config, uint64_t config_hash, const Checkpoint& checkpoint) {
  return fmt::format("{}, {} layers of {}, {} weight bytes, hash of config.json {:016x}, of weights {:016x}",
                     config.architecture_name, config.num_layers, config.hidden_size, checkpoint.bytes(),
                     config_hash, checkpoint.fingerprint());
}

void check_alike(Job& job, const std::string& mine, std::string_view tag, std::string_view rule) {
  const std::vector<std::string> all = exchange_texts(job, mine, tag);
  for (size_t rank = 1; rank < all.size(); ++rank) {
    if (all[rank] == all[0]) continue;
    throw AgreedError(
        ErrorCode::kUsage,
        fmt::format("the processes of the job disagree: rank 0 has \"{}\", rank {} has \"{}\"; {}", all[0],
                    rank, all[rank], rule));
  }
}

}  // namespace

ModelConfig read_config(const EngineOptions& options, std::string_view device) {
  Job* const job = options.job.get();
  ModelConfig config = together(job, "reading the config", [&] {
    ModelConfig read = load_model_config(options.model);
    check_options(options, read);
    if (job) check_size(*job, make_layout(options.layout, layout_model(read)), options.hccl);
    return read;
  });
  if (job)
    check_alike(*job, description(options, config, device), "options",
                "give all the same flags and variables");
  return config;
}

Checkpoint open_checkpoint(const EngineOptions& options, const ModelConfig& config) {
  Job* const job = options.job.get();
  std::string model;
  Checkpoint checkpoint = together(job, "opening the model", [&] {
    Checkpoint opened = Checkpoint::open(options.model);
    if (job)
      model = description(
          config,
          fnv1a64(read_text_file(std::filesystem::path(options.model) / "config.json", kMostConfigBytes)),
          opened);
    return opened;
  });
  if (job)
    check_alike(*job, model, "model", "give all the same model: its folder is not the same everywhere");
  return checkpoint;
}

}  // namespace longspan
