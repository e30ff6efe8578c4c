#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kv/page_allocator.h"

namespace longspan {

/// Pages that hold `tokens` tokens.
inline int64_t pages_for(int64_t tokens, int32_t page_size) {
  return tokens / page_size + (tokens % page_size != 0);
}

/// The pages of one sequence: logical page i holds its positions [i * page_size, (i+1) * page_size). Owns one
/// reference to each page; release before destruction. Moves, but does not copy.
class PageTable {
 public:
  PageTable() = default;
  PageTable(PageTable&&) = default;
  PageTable& operator=(PageTable&&) = default;

  const std::vector<int32_t>& pages() const { return pages_; }
  /// Tokens whose KV is in the pages; <= capacity.
  int64_t length() const { return length_; }
  void set_length(int64_t tokens, int32_t page_size);

  /// Appends pages that the caller has referenced already; the table owns those references from here on.
  void adopt(std::span<const int32_t> pages);
  /// Allocates pages until `tokens` tokens fit. All or nothing: false leaves the table as it was.
  bool grow(PageAllocator& allocator, int64_t tokens, int32_t page_size);
  /// Puts `page` in the place of logical page `index` and gives the old one's reference back. The caller has
  /// referenced `page` for the table.
  void replace(PageAllocator& allocator, int64_t index, int32_t page);
  /// Gives every reference back and is empty afterwards.
  void release(PageAllocator& allocator);

  /// Writes the block-table row [max_pages >= pages().size()]: each page's place in its pool, 0 past the end.
  /// `owners` is empty or as long: whose pools those are.
  void export_row(const PageAllocator& allocator, std::span<int32_t> row,
                  std::span<int32_t> owners = {}) const;

 private:
  std::vector<int32_t> pages_;
  int64_t length_ = 0;
};

}  // namespace longspan
