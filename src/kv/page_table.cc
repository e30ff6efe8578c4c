#include "kv/page_table.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace longspan {

void PageTable::set_length(int64_t tokens, int32_t page_size) {
  check(tokens >= 0 && pages_for(tokens, page_size) <= static_cast<int64_t>(pages_.size()),
        "a sequence's tokens lie in its pages");
  length_ = tokens;
}

void PageTable::adopt(std::span<const int32_t> pages) {
  pages_.insert(pages_.end(), pages.begin(), pages.end());
}

bool PageTable::grow(PageAllocator& allocator, int64_t tokens, int32_t page_size) {
  const int64_t missing = pages_for(tokens, page_size) - static_cast<int64_t>(pages_.size());
  if (missing <= 0) return true;
  const auto pages = allocator.allocate(missing);
  if (!pages) return false;
  adopt(*pages);
  return true;
}

void PageTable::replace(PageAllocator& allocator, int64_t index, int32_t page) {
  allocator.drop_ref(std::exchange(pages_.at(index), page));
}

void PageTable::release(PageAllocator& allocator) {
  // Last page first: the free list is a stack, so the pages come out again in this order.
  for (auto page = pages_.rbegin(); page != pages_.rend(); ++page) allocator.drop_ref(*page);
  pages_.clear();
  length_ = 0;
}

void PageTable::export_row(const PageAllocator& allocator, std::span<int32_t> row,
                           std::span<int32_t> owners) const {
  check(row.size() >= pages_.size(), "a block-table row holds all pages of its sequence");
  check(owners.empty() || owners.size() == row.size(), "a block-table row has an owner for every page");
  std::fill(row.begin(), row.end(), 0);
  std::fill(owners.begin(), owners.end(), 0);
  for (size_t i = 0; i < pages_.size(); ++i) {
    const PagePlace place = allocator.place(pages_[i]);
    row[i] = place.local;
    if (!owners.empty()) owners[i] = place.owner;
  }
}

}  // namespace longspan
