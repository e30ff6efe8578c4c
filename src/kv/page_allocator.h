#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace longspan {

/// Where a page's memory is: page `local` of the pool of `owner`.
struct PagePlace {
  int32_t owner = 0;
  int32_t local = 0;  // 1..num_pages-1; page 0 of a pool is never handed out

  bool operator==(const PagePlace&) const = default;
};

/// Hands out page numbers and counts who refers to them; knows no memory. The pages lie in one pool or in
/// several of the same size, one an owner (a rank); numbers run over all of them, 1..total_pages(), and 0 is
/// no page (block tables are padded with it). In a single pool a page's number is its place. Not thread-safe.
class PageAllocator {
 public:
  /// num_pages: pages of each pool, page 0 included, >= 1; owners: pools, >= 1.
  explicit PageAllocator(int32_t num_pages, int32_t owners = 1);

  /// `count` pages with one reference each, or nothing if fewer are free. Each comes from the pool that has
  /// the fewest pages in use, the lowest owner of several; of its pages the one freed last comes first: it
  /// is the likeliest to be in a cache.
  std::optional<std::vector<int32_t>> allocate(int64_t count);
  /// A page of this owner's pool with one reference, or nothing if none is free.
  std::optional<int32_t> allocate_from(int32_t owner);
  void add_ref(int32_t page);
  /// Takes one reference away; a page without references is free again. True if it became free.
  bool drop_ref(int32_t page);

  PagePlace place(int32_t page) const { return places_[page]; }
  int32_t refs(int32_t page) const { return refs_[page]; }
  int32_t owners() const { return static_cast<int32_t>(free_.size()); }
  int64_t free_pages() const { return free_pages_; }
  int64_t free_pages(int32_t owner) const { return static_cast<int64_t>(free_[owner].size()); }
  int64_t total_pages() const { return static_cast<int64_t>(refs_.size()) - 1; }

  /// Every page is either on its pool's free list once or referenced. Throws Error(kInternal).
  void check_integrity() const;

 private:
  int32_t take(std::vector<int32_t>& pool);
  bool valid(int32_t page) const { return page > 0 && page < static_cast<int64_t>(refs_.size()); }

  std::vector<PagePlace> places_;           // [1 + total_pages]
  std::vector<int32_t> refs_;               // [1 + total_pages] references to each page
  std::vector<std::vector<int32_t>> free_;  // [owners] stacks, the next page to hand out last
  int64_t free_pages_ = 0;                  // in all
};

}  // namespace longspan
