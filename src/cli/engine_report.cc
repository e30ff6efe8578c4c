#include "cli/engine_report.h"

#include <fmt/format.h>

namespace longspan::cli {

std::string bytes_text(int64_t bytes) {
  if (bytes <= 0) return "unknown";
  const char* const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  for (; value >= 1024 && unit < 4; ++unit) value /= 1024;
  return fmt::format("{:.{}f} {}", value, unit == 0 ? 0 : 1, units[unit]);
}

double per_second(int64_t tokens, double milliseconds) {
  return milliseconds > 0 ? static_cast<double>(tokens) * 1000 / milliseconds : 0;
}

std::string rate_text(double tokens_per_second) {
  return fmt::format("{:.{}f} tokens/s", tokens_per_second, tokens_per_second < 100 ? 1 : 0);
}

std::string device_text(const EngineInfo& info, const LayoutOptions& layout) {
  return fmt::format("{}, {} rank{} (cp {}) x {} thread{}", info.device, info.ranks,
                     info.ranks == 1 ? "" : "s", layout.cp, info.threads_per_rank,
                     info.threads_per_rank == 1 ? "" : "s");
}

JsonObject engine_json(const EngineInfo& info, const LayoutOptions& layout) {
  JsonObject object;
  object.set("architecture", info.architecture)
      .set("device", info.device)
      .set("ranks", info.ranks)
      .set("cp", layout.cp)
      .set("threads_per_rank", info.threads_per_rank)
      .set("weight_bytes", info.weight_bytes)
      .set("kv_bytes", info.kv_bytes)
      .set("kv_tokens", info.kv_tokens)
      .set("message_bytes", info.message_bytes)
      .set("context_length", info.context_length)
      .set("page_size", info.page_size);
  return object;
}

}  // namespace longspan::cli
