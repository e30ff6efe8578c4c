#pragma once

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "plan/batch.h"

namespace longspan {

/// Batches as a server meets them: decode rows, rows too short to cut, long rows, with and without prefixes.
inline std::vector<BatchRow> random_rows(std::mt19937& random, int32_t max_rows, int32_t longest) {
  const auto below = [&](int32_t n) { return std::uniform_int_distribution<int32_t>(0, n - 1)(random); };
  std::vector<BatchRow> rows(1 + below(max_rows));
  for (BatchRow& row : rows) {
    const int32_t kind = below(4);
    row.new_tokens = kind == 0 ? 1 : 1 + below(kind == 1 ? 20 : longest);
    row.prefix_len = below(2) == 0 ? 0 : below(longest);
  }
  return rows;
}

/// Without a block table, with room for the longest row's pages.
inline Batch batch_of_rows(const std::vector<BatchRow>& rows, int32_t page_size) {
  Batch batch;
  batch.rows = rows;
  batch.page_size = page_size;
  for (const BatchRow& row : rows)
    batch.max_pages =
        std::max(batch.max_pages, (row.prefix_len + row.new_tokens + page_size - 1) / page_size);
  return batch;
}

inline int64_t token_count(const std::vector<BatchRow>& rows) {
  int64_t total = 0;
  for (const BatchRow& row : rows) total += row.new_tokens;
  return total;
}

}  // namespace longspan
