#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace longspan::cli {

/// A kind of prompt in a load run.
struct LoadKind {
  int64_t tokens = 0;  // of a document; 0: a question of GSM8K
  int64_t weight = 1;  // its share, over the sum of all weights
  bool operator==(const LoadKind&) const = default;

  std::string name() const { return tokens == 0 ? "gsm8k" : std::to_string(tokens) + " tokens"; }
};

/// "gsm8k=3,4096=1": kinds with their weights; "=1" may be left out. Throws Error(kUsage) naming `flag`.
std::vector<LoadKind> parse_mix(const std::string& flag, const std::string& text);

/// Arrivals of a Poisson process of `rate` (> 0) a second: seconds from the start, ascending, [count]. The
/// same for the same state of `random` on every platform; so are the kinds drawn below.
std::vector<double> poisson_arrivals(size_t count, double rate, std::mt19937_64& random);

/// Indices into `mix`, each as likely as its weight: [count].
std::vector<size_t> draw_kinds(size_t count, const std::vector<LoadKind>& mix, std::mt19937_64& random);

}  // namespace longspan::cli
