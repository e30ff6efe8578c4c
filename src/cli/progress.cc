#include "cli/progress.h"

#include <fmt/format.h>

#include "cli/engine_report.h"

namespace longspan::cli {
namespace {

constexpr int kBarCells = 24;
constexpr double kRedrawSeconds = 0.1;
constexpr double kLineSeconds = 5;
constexpr double kLineFraction = 0.1;

double fraction(const Progress& progress) {
  return progress.total > 0 ? static_cast<double>(progress.processed) / progress.total : 1;
}

}  // namespace

bool ProgressPace::due(double now) {
  if (now - last_ < kLineSeconds) return false;
  last_ = now;
  return true;
}

std::string progress_text(const Progress& progress) {
  std::string text = fmt::format("prefill {}/{} tokens", progress.processed, progress.total);
  if (progress.cached > 0) text += fmt::format(" ({} cached)", progress.cached);
  const double rate = per_second(progress.processed - progress.cached, progress.elapsed_ms);
  if (rate > 0) {
    text += ", " + rate_text(rate);
    if (progress.processed < progress.total) {
      text += fmt::format(", ETA {:.1f} s", (progress.total - progress.processed) / rate);
    }
  }
  return text;
}

void PrefillProgress::update(const Progress& progress) {
  const double now = now_();
  const double done = fraction(progress);
  const bool last = progress.processed >= progress.total;
  if (terminal_) {
    if (!last && now - last_time_ < kRedrawSeconds) return;
    const int filled = static_cast<int>(done * kBarCells);
    err_ << fmt::format("\r\033[K[{}{}] {}", std::string(filled, '#'), std::string(kBarCells - filled, '.'),
                        progress_text(progress))
         << std::flush;
    drawn_ = true;
  } else {
    if (!last && done - last_fraction_ < kLineFraction && now - last_time_ < kLineSeconds) return;
    err_ << progress_text(progress) << std::endl;
  }
  last_fraction_ = done;
  last_time_ = now;
}

void PrefillProgress::clear() {
  if (drawn_) err_ << "\r\033[K" << std::flush;
  drawn_ = false;
}

}  // namespace longspan::cli
