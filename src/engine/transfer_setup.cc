#include "engine/transfer_setup.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include "base/version.h"
#include "engine/host_share.h"
#include "engine/probe_cache.h"
#include "engine/rank_team.h"
#include "engine/together.h"
#include "plan/layout_rules.h"

namespace longspan {

std::string transfer_key(Job* job, const EngineOptions& options, const KvShape& kv, int threads_per_rank,
                         std::string_view device, int32_t probe_pages) {
  const std::string machine = machine_text(usable_cores().size());
  const std::vector<std::string> machines =
      job ? exchange_texts(*job, machine, "machines") : std::vector<std::string>{machine};
  return fmt::format(
      "longspan {}; {} over {}, {} threads a rank; {}; {} query and {} kv heads of {}, pages of {}, {} of "
      "them; {}",
      kVersion, to_flags(options.layout),
      options.hccl ? "hccl"
      : job        ? "mpi"
                   : "threads",
      threads_per_rank, device, kv.heads_q, kv.heads_k, kv.dim_k, kv.page_size, probe_pages,
      fmt::join(machines, "; "));
}

TransferFigures kept_or_measured(Job* job, const std::string& cache_folder, const std::string& key,
                                 const std::function<TransferFigures()>& measure) {
  static_assert(std::is_trivially_copyable_v<TransferFigures>);
  const bool decides = !job || job->rank() == 0;
  const std::optional<TransferFigures> kept = decides ? read_probe(cache_folder, key) : std::nullopt;
  TransferFigures figures = kept.value_or(TransferFigures{});  // all zeros: nothing is kept
  const auto share = [&] {
    if (job)
      everyone(*job, kOrders)
          ->broadcast(std::as_writable_bytes(std::span(&figures, 1)), 0, "measuring the exchange");
  };
  share();
  const bool measures = figures.attention_flops == 0;
  if (measures) {
    figures = measure();
    share();
    if (decides) keep_probe(cache_folder, key, figures);
  }
  spdlog::info("each rank attends with {:.3g} GFLOP/s and receives {:.3g} GB/s, {:.3g} ms a collective{}",
               figures.attention_flops / 1e9, figures.bytes_per_second / 1e9, figures.latency_s * 1e3,
               measures ? "" : " (as an earlier start found)");
  return figures;
}

}  // namespace longspan
