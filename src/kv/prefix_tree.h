#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kv/page_allocator.h"

namespace longspan {

/// Finished pages, kept for later sequences that start with the same tokens. A node is one full page; its
/// path from the root spells all tokens up to the page's end, which is what the page's KV depends on. The
/// tree owns one reference to each page it holds. A page without other owners may be evicted, leaves first,
/// the least recently used before the others. A sequence holds whole paths from the root, so an ancestor has
/// at least the owners of its descendants.
class PrefixTree {
 public:
  /// The allocator must outlive the tree.
  PrefixTree(PageAllocator* allocator, int32_t page_size);
  PrefixTree(const PrefixTree&) = delete;
  PrefixTree& operator=(const PrefixTree&) = delete;

  /// The longest run of full pages that holds the start of `tokens`, each with a reference for the caller.
  std::vector<int32_t> match(std::span<const int32_t> tokens);

  /// Takes up full pages: pages[i] holds tokens [i * page_size, (i+1) * page_size) and tokens has
  /// pages.size() * page_size entries. The first `known` pages come from match or an earlier insert and the
  /// caller still holds them. Returns the tree's pages for the logical pages from `known` on: pages[i] itself
  /// where it was taken up, else the page that was there before, with a reference for the caller, who frees
  /// its own or drops the new reference (on_release).
  std::vector<int32_t> insert(std::span<const int32_t> tokens, std::span<const int32_t> pages, size_t known);

  /// The caller has dropped one reference to each of these pages of the tree.
  void on_release(std::span<const int32_t> pages);

  /// Frees up to `count` pages that only the tree owns; returns how many.
  int64_t evict(int64_t count);

  int64_t pages() const { return pages_; }
  int64_t evictable_pages() const { return evictable_; }
  bool contains(int32_t page) const { return node_of_page_[page] != kNone; }

  /// Throws Error(kInternal) on the first contradiction.
  void check_integrity() const;

 private:
  static constexpr int32_t kNone = -1;

  struct Node {
    int32_t parent = kNone;  // kNone: a first page
    int32_t page = 0;        // 0: the node is unused
    int32_t children = 0;
    uint64_t last_release = 0;    // in clock_'s time; unused pages are evicted in this order
    std::vector<int32_t> tokens;  // [page_size]
  };

  uint64_t edge_hash(int32_t parent, std::span<const int32_t> page_tokens) const;
  int32_t find_child(int32_t parent, std::span<const int32_t> page_tokens) const;
  int32_t add_node(int32_t parent, std::span<const int32_t> page_tokens, int32_t page);
  void remove_leaf(int32_t node);
  void add_owner(int32_t node);
  void enter_candidates(int32_t node);
  std::span<const int32_t> page_of(std::span<const int32_t> tokens, size_t index) const {
    return tokens.subspan(index * page_size_, page_size_);
  }

  PageAllocator* allocator_;
  int32_t page_size_;
  std::vector<Node> nodes_;
  std::vector<int32_t> unused_;                       // free entries of nodes_
  std::vector<int32_t> node_of_page_;                 // [num_pages]
  std::unordered_multimap<uint64_t, int32_t> edges_;  // edge_hash(parent, tokens) -> child
  std::set<std::pair<uint64_t, int32_t>>
      candidates_;  // (last_release, node) of leaves that only the tree owns
  int64_t pages_ = 0;
  int64_t evictable_ = 0;  // pages that only the tree owns
  uint64_t clock_ = 0;     // ticks with each release
};

}  // namespace longspan
