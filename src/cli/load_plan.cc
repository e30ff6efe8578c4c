#include "cli/load_plan.h"

#include <fmt/format.h>
#include <longspan/error.h>

#include <algorithm>
#include <cmath>

#include "cli/flags.h"

namespace longspan::cli {
namespace {

constexpr int64_t kMost = 1 << 30;

// In [0, 1), with the 53 bits that a double has.
double uniform(std::mt19937_64& random) {
  return std::ldexp(static_cast<double>(random() >> 11), -53);
}

}  // namespace

std::vector<LoadKind> parse_mix(const std::string& flag, const std::string& text) {
  std::vector<LoadKind> mix;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    const size_t equals = std::min(part.find('='), part.size());
    const std::string what = part.substr(0, equals);
    LoadKind kind;
    if (what != "gsm8k") {
      if (what.empty() || what.find_first_not_of("0123456789") != std::string::npos)
        throw Error(ErrorCode::kUsage,
                    fmt::format("{} {}: must be gsm8k or a number of tokens, with weights: gsm8k=3,4096=1",
                                flag, text));
      kind.tokens = parse_integer(flag, what, 1, kMost);
    }
    if (equals < part.size()) kind.weight = parse_integer(flag, part.substr(equals + 1), 1, kMost);
    mix.push_back(kind);
    begin = end + 1;
  }
  return mix;
}

std::vector<double> poisson_arrivals(size_t count, double rate, std::mt19937_64& random) {
  std::vector<double> arrivals(count);
  double now = 0;
  for (double& arrival : arrivals) {
    now -= std::log1p(-uniform(random)) / rate;
    arrival = now;
  }
  return arrivals;
}

std::vector<size_t> draw_kinds(size_t count, const std::vector<LoadKind>& mix, std::mt19937_64& random) {
  int64_t sum = 0;
  for (const LoadKind& kind : mix) sum += kind.weight;
  std::vector<size_t> kinds(count);
  for (size_t& kind : kinds) {
    auto place = static_cast<int64_t>(random() % static_cast<uint64_t>(sum));
    while (place >= mix[kind].weight) place -= mix[kind++].weight;
  }
  return kinds;
}

}  // namespace longspan::cli
