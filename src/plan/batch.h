#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace longspan {

/// One sequence's part in a step.
struct BatchRow {
  int32_t new_tokens = 0;  // L_s: tokens computed in this step, >= 1
  int32_t prefix_len = 0;  // P_s: tokens whose KV is in the pool already

  bool operator==(const BatchRow&) const = default;
};

/// KV rows to copy within a pool: slots [from, from + tokens) of all layers to [to, to + tokens).
struct RowCopy {
  int32_t owner = 0;  // cp rank in whose pool they are, where pages have owners
  int32_t from = 0, to = 0;
  int32_t tokens = 0;

  bool operator==(const RowCopy&) const = default;
};

/// The rows of a step and the pages of their KV: all of it but the tokens. bs = rows.size().
struct BatchLayout {
  std::vector<BatchRow> rows;        // [bs]
  std::vector<int32_t> block_table;  // [bs, max_pages], physical pages; entries past a sequence's end are 0
  std::vector<int32_t> page_owner;  // [bs, max_pages] cp rank in whose pool the page is; empty: in everyone's
  int32_t max_pages = 0;            // columns of block_table
  int32_t page_size = 0;            // tokens per page

  bool operator==(const BatchLayout&) const = default;

  /// Slot (page * page_size + offset) of position `position` of sequence `seq`, in its owner's pool.
  int32_t slot(int32_t seq, int32_t position) const {
    const int32_t page = block_table[static_cast<size_t>(seq) * max_pages + position / page_size];
    return page * page_size + position % page_size;
  }
  /// cp rank that has position `position` of sequence `seq`; where pages have owners.
  int32_t owner(int32_t seq, int32_t position) const {
    return page_owner[static_cast<size_t>(seq) * max_pages + position / page_size];
  }
};

/// One forward step, integers only. T = sum of L_s.
struct Batch : BatchLayout {
  std::vector<int32_t> token_ids;  // [T], sequence-major
  std::vector<RowCopy> copies;     // made in this order before anything is computed
  BatchLayout next;  // of the step after this one, as far as it can be foreseen: a hint; without rows: none
};

}  // namespace longspan
