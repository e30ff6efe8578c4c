#include "kv/page_allocator.h"

#include <algorithm>
#include <limits>

#include "base/check.h"

namespace longspan {

PageAllocator::PageAllocator(int32_t num_pages, int32_t owners) {
  check(num_pages >= 1, "a pool has at least page 0");
  check(owners >= 1, "pages lie in a pool");
  const int64_t total = int64_t{owners} * (num_pages - 1);
  check(total < std::numeric_limits<int32_t>::max(), "page numbers fit in int32");
  refs_.assign(total + 1, 0);
  places_.resize(total + 1);
  free_.resize(owners);
  free_pages_ = total;
  int32_t page = static_cast<int32_t>(total);
  for (int32_t owner = owners - 1; owner >= 0; --owner) {
    free_[owner].reserve(num_pages - 1);
    for (int32_t local = num_pages - 1; local > 0; --local, --page) {
      places_[page] = {owner, local};
      free_[owner].push_back(page);
    }
  }
}

std::optional<std::vector<int32_t>> PageAllocator::allocate(int64_t count) {
  check(count >= 0, "a page count is not negative");
  if (count > free_pages_) return std::nullopt;
  std::vector<int32_t> pages;
  pages.reserve(count);
  for (int64_t i = 0; i < count; ++i) {
    pages.push_back(take(*std::max_element(
        free_.begin(), free_.end(), [](const auto& a, const auto& b) { return a.size() < b.size(); })));
  }
  return pages;
}

std::optional<int32_t> PageAllocator::allocate_from(int32_t owner) {
  if (free_.at(owner).empty()) return std::nullopt;
  return take(free_[owner]);
}

int32_t PageAllocator::take(std::vector<int32_t>& pool) {
  const int32_t page = pool.back();
  pool.pop_back();
  check(refs_[page] == 0, "a free page has no owner");
  refs_[page] = 1;
  --free_pages_;
  return page;
}

void PageAllocator::add_ref(int32_t page) {
  check(valid(page) && refs_[page] > 0, "only a page in use gains an owner");
  ++refs_[page];
}

bool PageAllocator::drop_ref(int32_t page) {
  check(valid(page) && refs_[page] > 0, "only a page in use loses an owner");
  if (--refs_[page] > 0) return false;
  free_[places_[page].owner].push_back(page);
  ++free_pages_;
  return true;
}

void PageAllocator::check_integrity() const {
  check(refs_[0] == 0, "page 0 has no owner");
  std::vector<bool> is_free(refs_.size(), false);
  int64_t free = 0;
  for (int32_t owner = 0; owner < owners(); ++owner) {
    for (const int32_t page : free_[owner]) {
      check(valid(page), "the free list holds pages of the pool");
      check(places_[page].owner == owner, "a free page is on its pool's list");
      check(!is_free[page], "a page is on the free list once");
      is_free[page] = true;
      ++free;
    }
  }
  check(free == free_pages_, "free pages are counted");
  for (size_t page = 1; page < refs_.size(); ++page)
    check(is_free[page] == (refs_[page] == 0), "a page is free or has owners");
}

}  // namespace longspan
