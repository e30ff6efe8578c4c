#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace longspan {

/// Hands out page numbers and counts their owners; knows no memory. Pages are 0..num_pages-1, page 0 is never
/// handed out (block tables are padded with it). Not thread-safe.
class PageAllocator {
 public:
  /// num_pages: pages of the pool, page 0 included, >= 1.
  explicit PageAllocator(int32_t num_pages);

  /// `count` pages with one reference each, or nothing if fewer are free. Pages freed last come first: they
  /// are the likeliest to be in a cache.
  std::optional<std::vector<int32_t>> allocate(int64_t count);
  void add_ref(int32_t page);
  /// Takes one reference away; a page without references is free again. True if it became free.
  bool drop_ref(int32_t page);

  int32_t refs(int32_t page) const { return refs_[page]; }
  int64_t free_pages() const { return static_cast<int64_t>(free_.size()); }
  int64_t total_pages() const { return static_cast<int64_t>(refs_.size()) - 1; }  // page 0 left out

  /// Every page but 0 is either on the free list once or referenced. Throws Error(kInternal).
  void check_integrity() const;

 private:
  bool valid(int32_t page) const { return page > 0 && page < static_cast<int64_t>(refs_.size()); }

  std::vector<int32_t> refs_;  // [num_pages] owners of each page
  std::vector<int32_t> free_;  // stack, the next page to hand out last
};

}  // namespace longspan
