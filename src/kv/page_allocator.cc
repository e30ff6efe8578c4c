#include "kv/page_allocator.h"

#include "base/check.h"

namespace longspan {

PageAllocator::PageAllocator(int32_t num_pages) {
  check(num_pages >= 1, "a pool has at least page 0");
  refs_.assign(num_pages, 0);
  free_.reserve(num_pages - 1);
  for (int32_t page = num_pages - 1; page > 0; --page) free_.push_back(page);
}

std::optional<std::vector<int32_t>> PageAllocator::allocate(int64_t count) {
  check(count >= 0, "a page count is not negative");
  if (count > free_pages()) return std::nullopt;
  std::vector<int32_t> pages(free_.rbegin(), free_.rbegin() + count);
  free_.resize(free_.size() - count);
  for (const int32_t page : pages) refs_[page] = 1;
  return pages;
}

void PageAllocator::add_ref(int32_t page) {
  check(valid(page) && refs_[page] > 0, "only a page in use gains an owner");
  ++refs_[page];
}

bool PageAllocator::drop_ref(int32_t page) {
  check(valid(page) && refs_[page] > 0, "only a page in use loses an owner");
  if (--refs_[page] > 0) return false;
  free_.push_back(page);
  return true;
}

void PageAllocator::check_integrity() const {
  check(refs_[0] == 0, "page 0 has no owner");
  std::vector<bool> is_free(refs_.size(), false);
  for (const int32_t page : free_) {
    check(valid(page), "the free list holds pages of the pool");
    check(!is_free[page], "a page is on the free list once");
    is_free[page] = true;
  }
  for (size_t page = 1; page < refs_.size(); ++page)
    check(is_free[page] == (refs_[page] == 0), "a page is free or has owners");
}

}  // namespace longspan
