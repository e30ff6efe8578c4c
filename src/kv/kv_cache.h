#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kv/page_allocator.h"
#include "kv/page_table.h"
#include "kv/prefix_tree.h"

namespace longspan {

struct KvCacheOptions {
  int32_t num_pages = 1;     // pages of a pool, page 0 (never handed out) included
  int32_t owners = 1;        // pools: ranks that keep some of the pages each
  int32_t page_size = 128;   // tokens per page
  bool prefix_cache = true;  // keep pages for later sequences with the same start
};

/// Rows to copy before a sequence's first step: the first `tokens` of page `from`, which others use, to its
/// own page `to` in the same pool. Copies are made in the order of admission, before anything is computed: a
/// later admission may have been given `from`.
struct TailCopy {
  int32_t from = 0, to = 0;
  int32_t tokens = 0;
};

/// A sequence's claim on the pool. Made by KvCache::admit, given back by KvCache::release, else its pages
/// stay taken. Moves, but does not copy.
class KvSequence {
 public:
  /// Page numbers (PageAllocator), enough for all tokens that were asked for. The pages from cached_tokens /
  /// page_size on were fresh at admission: their memory holds an earlier owner's rows, up to the tail copy.
  const std::vector<int32_t>& pages() const { return table_.pages(); }
  /// Tokens found in the prefix tree at admission, copied ones included: fewer than the prompt.
  int64_t cached_tokens() const { return cached_tokens_; }
  /// Where they end within a page.
  const std::optional<TailCopy>& tail_copy() const { return tail_copy_; }
  /// Tokens whose KV is in the pages: cached_tokens at first, then what commit was told.
  int64_t length() const { return table_.length(); }

 private:
  friend class KvCache;
  PageTable table_;
  int64_t prompt_tokens_ = 0;
  int64_t cached_tokens_ = 0;
  int64_t tree_pages_ = 0;  // the first pages of the table that are in the prefix tree, full
  std::string salt_;
  std::optional<TailCopy> tail_copy_;
};

/// Accounts for every page of one KV pool, or of one pool on each of several ranks: free, used by sequences,
/// or cached for later ones. A page's owner is settled when it is handed out, and whoever shares it later
/// finds it there. Pure accounting; knows no memory. Not thread-safe. Only full pages are ever shared, so
/// shared pages are never written; from a partly filled one, later sequences copy.
class KvCache {
 public:
  /// Throws Error(kInternal) unless num_pages, owners and page_size are at least 1.
  explicit KvCache(const KvCacheOptions& options);

  int64_t pages_needed(int64_t tokens) const { return pages_for(tokens, options_.page_size); }
  /// Whether so many tokens fit into an otherwise empty pool.
  bool can_ever_fit(int64_t max_tokens_total) const {
    return pages_needed(max_tokens_total) <= total_pages();
  }

  /// Takes pages for the first `tokens` tokens of a sequence (>= prompt.size() >= 1), the longest cached
  /// start of the prompt among them; at least the prompt's last token is left to compute. With reuse_prefix
  /// off nothing is looked up (for prompts of which every position is to be scored). Only what came with the
  /// same salt is found. Evicts cached pages where free ones run short, but leaves `spare` pages free or
  /// cached. nullopt, and nothing changed, if there are not enough right now. A tail that lies in a pool with
  /// all pages in use is not copied, but left to compute.
  std::optional<KvSequence> admit(std::span<const int32_t> prompt, int64_t tokens, bool reuse_prefix = true,
                                  int64_t spare = 0, std::string_view salt = {});
  /// Tokens of the prompt that admit would find now.
  int64_t cached_tokens(std::span<const int32_t> prompt, std::string_view salt = {}) const;
  /// Takes further pages until `tokens` tokens fit, as admit does. False, and nothing changed, if there are
  /// not enough right now.
  bool grow(KvSequence& sequence, int64_t tokens);

  /// The KV of the first `computed` tokens is in the pages; `tokens` are the sequence's tokens, at least
  /// these. Never goes back: computed >= length. Full pages become available to later prompts, and the last
  /// page of the prompt once that is done. Where the tree has a page with the same tokens already, the
  /// sequence changes over to it and its own is freed: call between steps, and take the block table from
  /// pages() for each step.
  void commit(KvSequence& sequence, std::span<const int32_t> tokens, int64_t computed);

  /// Gives the sequence's pages back; those in the prefix tree stay cached, and of `tokens` (as in commit;
  /// may be left out) the last, partly filled page, too. The sequence is empty afterwards.
  void release(KvSequence& sequence, std::span<const int32_t> tokens = {});

  /// Block-table row [>= pages().size()] of the sequence: places in their owners' pools, padded with page 0;
  /// `owners` is empty or as long.
  void export_row(const KvSequence& sequence, std::span<int32_t> row, std::span<int32_t> owners = {}) const {
    sequence.table_.export_row(allocator_, row, owners);
  }

  /// Pages that can be handed out now: free ones, and cached ones that nobody uses.
  int64_t available_pages() const { return free_pages() + cached_pages(); }
  /// Of a page number.
  PagePlace place(int32_t page) const { return allocator_.place(page); }
  bool has_prefix_cache() const { return options_.prefix_cache; }

  /// total = free + cached + used, in pages, over all owners.
  int64_t total_pages() const { return allocator_.total_pages(); }
  int64_t free_pages() const { return allocator_.free_pages(); }
  int64_t cached_pages() const { return tree_.evictable_pages(); }  // only the prefix tree owns them
  int64_t used_pages() const { return total_pages() - free_pages() - cached_pages(); }
  int32_t page_size() const { return options_.page_size; }
  int32_t owners() const { return allocator_.owners(); }

  /// `live`: every sequence admitted and not yet released. Accounts for each page's every owner; throws
  /// Error(kInternal) on the first contradiction.
  void check_integrity(std::span<const KvSequence* const> live) const;

 private:
  void copy_tail(KvSequence& sequence, const PartialPage& partial);
  void keep_tail(const KvSequence& sequence, std::span<const int32_t> tokens);

  KvCacheOptions options_;
  PageAllocator allocator_;
  PrefixTree tree_;
};

}  // namespace longspan
