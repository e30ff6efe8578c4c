#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kv/page_allocator.h"

namespace longspan {

/// A page of the tree that holds the tokens behind a match in its first rows.
struct PartialPage {
  int32_t page = 0;
  int32_t tokens = 0;  // >= 1
};

/// Finished pages, kept for later sequences that start with the same tokens. A node is one page; its path
/// from the root spells all tokens up to the page's end, which is what the page's KV depends on. Only full
/// pages are shared; the last page of a path may be partly filled, and is there to be copied from. Paths
/// under different salts are strangers to each other. The tree owns one reference to each page it holds. A
/// page without other owners may be evicted, leaves first, the least recently used before the others. A
/// sequence holds whole paths from the root, so an ancestor has at least the owners of its descendants.
class PrefixTree {
 public:
  /// The allocator must outlive the tree.
  PrefixTree(PageAllocator* allocator, int32_t page_size);
  PrefixTree(const PrefixTree&) = delete;
  PrefixTree& operator=(const PrefixTree&) = delete;

  struct Match {
    std::vector<int32_t> pages;          // full ones
    std::optional<PartialPage> partial;  // behind them: of all pages there the one with the most tokens alike
  };
  /// The longest start of `tokens` in the tree. No references are taken: adopt or copy before the next call
  /// that changes the tree.
  Match match(std::span<const int32_t> tokens, std::string_view salt = {}) const;
  /// The caller owns a reference to each of these pages of the tree from here on.
  void adopt(std::span<const int32_t> pages);
  /// The page is in use, as if it had been held and released just now.
  void touch(int32_t page);

  /// Takes up full pages: pages[i] holds tokens [i * page_size, (i+1) * page_size) and tokens has
  /// pages.size() * page_size entries. The first `known` pages come from match or an earlier insert and the
  /// caller still holds them. Returns the tree's pages for the logical pages from `known` on: pages[i] itself
  /// where it was taken up, else the page that was there before, with a reference for the caller, who frees
  /// its own or drops the new reference (on_release).
  std::vector<int32_t> insert(std::span<const int32_t> tokens, std::span<const int32_t> pages, size_t known,
                              std::string_view salt = {});
  /// Takes up a partly filled page that the caller holds: its first rows are `tokens` (1 to page_size - 1),
  /// behind the full pages `path`, which are in the tree. Its other rows may still be written; what is there
  /// already is not taken up twice.
  void insert_partial(std::span<const int32_t> tokens, int32_t page, std::span<const int32_t> path,
                      std::string_view salt = {});

  /// The caller has dropped one reference to each of these pages of the tree.
  void on_release(std::span<const int32_t> pages);

  /// Frees up to `count` pages that only the tree owns; returns how many.
  int64_t evict(int64_t count);
  /// Frees one of this owner's pool, if there is one that may go.
  bool evict_from(int32_t owner);

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
    std::vector<int32_t> tokens;  // [1 .. page_size]; fewer than page_size: partly filled
    std::string salt = {};        // of a first page
  };
  /// Where a node stands: children of one parent lie together, ordered by their tokens.
  struct Place {
    int32_t parent;
    std::string_view salt;
    std::span<const int32_t> tokens;
    std::strong_ordering operator<=>(const Place& other) const;
  };
  struct ByPlace {
    using is_transparent = void;
    const PrefixTree* tree;
    bool operator()(int32_t a, int32_t b) const { return tree->place(a) < tree->place(b); }
    bool operator()(int32_t a, const Place& b) const { return tree->place(a) < b; }
    bool operator()(const Place& a, int32_t b) const { return a < tree->place(b); }
  };

  Place place(int32_t node) const { return {nodes_[node].parent, nodes_[node].salt, nodes_[node].tokens}; }
  int32_t find(const Place& place) const;
  std::pair<int32_t, int32_t> most_alike(const Place& place) const;
  int32_t add_node(const Place& place, int32_t page);
  void extend(int32_t node, std::span<const int32_t> tokens);
  void remove_leaf(int32_t node);
  void add_owner(int32_t node);
  void enter_candidates(int32_t node);
  int32_t node_of(std::span<const int32_t> path) const;
  std::span<const int32_t> page_of(std::span<const int32_t> tokens, size_t index) const {
    return tokens.subspan(index * page_size_, page_size_);
  }
  static std::string_view salt_under(int32_t parent, std::string_view salt) {
    return parent == kNone ? salt : std::string_view();
  }

  PageAllocator* allocator_;
  int32_t page_size_;
  std::vector<Node> nodes_;
  std::vector<int32_t> unused_;        // free entries of nodes_
  std::vector<int32_t> node_of_page_;  // [num_pages]
  std::set<int32_t, ByPlace> places_;  // all nodes
  std::set<std::pair<uint64_t, int32_t>>
      candidates_;  // (last_release, node) of leaves that only the tree owns
  int64_t pages_ = 0;
  int64_t evictable_ = 0;  // pages that only the tree owns
  uint64_t clock_ = 0;     // ticks with each release
};

}  // namespace longspan
