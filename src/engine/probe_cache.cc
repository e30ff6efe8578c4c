#include "engine/probe_cache.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <locale>
#include <sstream>
#include <system_error>

#include "base/hash.h"

namespace longspan {
namespace {

constexpr size_t kMostNumbers = 256;  // bytes of a file behind its key

std::filesystem::path file_of(const std::filesystem::path& folder, const std::string& key) {
  return folder / fmt::format("transfer-{:016x}.txt", fnv1a64(key));
}

// The key, then a name and a number a line.
std::string to_text(const std::string& key, const TransferFigures& figures) {
  return fmt::format("{}\nattention_flops {:.17g}\nbytes_per_second {:.17g}\nlatency_s {:.17g}\n", key,
                     figures.attention_flops, figures.bytes_per_second, figures.latency_s);
}

std::optional<TransferFigures> from_text(const std::string& text, const std::string& key) {
  std::istringstream in(text);
  in.imbue(std::locale::classic());
  TransferFigures figures;
  std::string line, flops, bytes, latency, rest;
  if (!std::getline(in, line) || line != key) return std::nullopt;
  in >> flops >> figures.attention_flops >> bytes >> figures.bytes_per_second >> latency >> figures.latency_s;
  const bool whole = in && !(in >> rest) && text.ends_with('\n') && flops == "attention_flops" &&
                     bytes == "bytes_per_second" && latency == "latency_s";
  const auto positive = [](double x) { return std::isfinite(x) && x > 0; };
  if (!whole || !positive(figures.attention_flops) || !positive(figures.bytes_per_second) ||
      !positive(figures.latency_s))
    return std::nullopt;
  return figures;
}

}  // namespace

std::optional<TransferFigures> read_probe(const std::filesystem::path& folder, const std::string& key) {
  if (folder.empty()) return std::nullopt;
  const std::filesystem::path path = file_of(folder, key);
  std::ifstream in(path, std::ios::binary);
  if (!in) return std::nullopt;
  std::string text(key.size() + kMostNumbers, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(in.gcount()));
  const std::optional<TransferFigures> figures = from_text(text, key);
  if (!figures) spdlog::debug("{} holds no figures for this start; measuring", path.string());
  return figures;
}

// Another process may read or write the file at the same time: it is there whole, or not at all.
void keep_probe(const std::filesystem::path& folder, const std::string& key, const TransferFigures& figures) {
  if (folder.empty()) return;
  const std::filesystem::path path = file_of(folder, key);
  const std::filesystem::path unfinished = fmt::format("{}.{}", path.string(), getpid());
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  const std::string text = to_text(key, figures);
  std::ofstream out(unfinished, std::ios::binary);
  out << text;
  out.close();
  const bool written = out.good();
  if (written) std::filesystem::rename(unfinished, path, error);
  if (written && !error) return;
  spdlog::debug("the probe's figures can't be kept in {}", path.string());
  std::filesystem::remove(unfinished, error);
}

}  // namespace longspan
