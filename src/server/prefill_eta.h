#pragma once

#include <cstdint>
#include <mutex>

namespace longspan::server {

/// How long the rest of a prompt takes, from how long its start took. The work of tokens [from, to) is
/// (to - from) + pair_work * (token, key) pairs; pair_work is learned from the chunks seen so far, of all
/// prompts. From any thread.
class PrefillEta {
 public:
  /// `pair_work`: attention's work for a pair, in units of a token's other work, until enough is known.
  explicit PrefillEta(double pair_work) : prior_(pair_work) {}

  /// Tokens [from, to) of a prompt took `ms`.
  void observe(int32_t from, int32_t to, double ms);
  /// For tokens [at, total), if [from, at) took `ms`.
  double remaining_ms(int32_t from, int32_t at, int32_t total, double ms) const;
  double pair_work() const;

 private:
  const double prior_;
  mutable std::mutex mutex_;  // guards the sums of a least-squares fit ms = a * tokens + b * pairs
  double tokens2_ = 0, pairs2_ = 0, tokens_pairs_ = 0, tokens_ms_ = 0, pairs_ms_ = 0;
};

}  // namespace longspan::server
