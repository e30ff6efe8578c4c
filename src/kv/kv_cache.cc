#include "kv/kv_cache.h"

#include "base/check.h"

namespace longspan {

KvCache::KvCache(const KvCacheOptions& options)
    : options_(options),
      allocator_(options.num_pages, options.owners),
      tree_(&allocator_, options.page_size) {}

std::optional<KvSequence> KvCache::admit(std::span<const int32_t> prompt, int64_t tokens, bool reuse_prefix,
                                         int64_t spare, std::string_view salt) {
  check(!prompt.empty(), "a sequence starts with a prompt");
  check(tokens >= std::ssize(prompt), "a sequence has room for its prompt");
  KvSequence sequence;
  sequence.prompt_tokens_ = std::ssize(prompt);
  sequence.salt_ = salt;
  PrefixTree::Match cached;
  if (options_.prefix_cache && reuse_prefix) {
    cached = tree_.match(prompt.first(prompt.size() - 1), salt);
    tree_.adopt(cached.pages);
    sequence.table_.adopt(cached.pages);
    sequence.tree_pages_ = std::ssize(cached.pages);
    sequence.cached_tokens_ = sequence.tree_pages_ * options_.page_size;
  }
  const int64_t missing = pages_needed(tokens) - sequence.tree_pages_;
  if (missing + spare > available_pages()) {
    release(sequence);
    return std::nullopt;
  }
  if (cached.partial) tree_.touch(cached.partial->page);
  if (missing > free_pages()) tree_.evict(missing - free_pages());
  if (cached.partial) copy_tail(sequence, *cached.partial);
  check(grow(sequence, tokens), "cached pages can be evicted");
  sequence.table_.set_length(sequence.cached_tokens_, options_.page_size);
  return sequence;
}

// The page may have been evicted for this very sequence: its rows stay until something is computed.
void KvCache::copy_tail(KvSequence& sequence, const PartialPage& partial) {
  const int32_t owner = allocator_.place(partial.page).owner;
  std::optional<int32_t> page = allocator_.allocate_from(owner);
  if (!page && tree_.evict_from(owner)) page = allocator_.allocate_from(owner);
  if (!page) return;
  sequence.table_.adopt(std::span(&*page, 1));
  sequence.cached_tokens_ += partial.tokens;
  if (*page != partial.page) sequence.tail_copy_ = {partial.page, *page, partial.tokens};
}

int64_t KvCache::cached_tokens(std::span<const int32_t> prompt, std::string_view salt) const {
  if (!options_.prefix_cache) return 0;
  const PrefixTree::Match match = tree_.match(prompt.first(prompt.size() - 1), salt);
  return std::ssize(match.pages) * options_.page_size + (match.partial ? match.partial->tokens : 0);
}

bool KvCache::grow(KvSequence& sequence, int64_t tokens) {
  const int64_t missing = pages_needed(tokens) - std::ssize(sequence.pages());
  if (missing > available_pages()) return false;
  if (missing > free_pages()) tree_.evict(missing - free_pages());
  check(sequence.table_.grow(allocator_, tokens, options_.page_size), "cached pages can be evicted");
  return true;
}

void KvCache::commit(KvSequence& sequence, std::span<const int32_t> tokens, int64_t computed) {
  check(computed >= sequence.length(), "computed tokens stay computed");
  check(std::ssize(tokens) >= computed, "computed tokens are known");
  PageTable& table = sequence.table_;
  const bool ends_prompt = sequence.length() < sequence.prompt_tokens_ && computed >= sequence.prompt_tokens_;
  table.set_length(computed, options_.page_size);
  if (!options_.prefix_cache) return;
  const int64_t full = computed / options_.page_size, known = sequence.tree_pages_;
  if (full > known) {
    const std::vector<int32_t> held = tree_.insert(
        tokens.first(full * options_.page_size), std::span(table.pages()).first(full), known, sequence.salt_);
    for (int64_t i = known; i < full; ++i) {
      const int32_t own = table.pages()[i];
      if (held[i - known] == own) continue;
      table.replace(allocator_, i, held[i - known]);
      if (tree_.contains(own)) tree_.on_release(std::span(&own, 1));  // from when it was partly filled
    }
    sequence.tree_pages_ = full;
  }
  if (ends_prompt) keep_tail(sequence, tokens);
}

void KvCache::keep_tail(const KvSequence& sequence, std::span<const int32_t> tokens) {
  const int64_t full = sequence.tree_pages_ * options_.page_size, rest = sequence.length() - full;
  if (rest == 0) return;
  tree_.insert_partial(tokens.subspan(full, rest), sequence.pages()[sequence.tree_pages_],
                       std::span(sequence.pages()).first(sequence.tree_pages_), sequence.salt_);
}

void KvCache::release(KvSequence& sequence, std::span<const int32_t> tokens) {
  if (options_.prefix_cache && !tokens.empty()) keep_tail(sequence, tokens);
  const auto& pages = sequence.pages();
  int64_t in_tree = sequence.tree_pages_;
  if (in_tree < std::ssize(pages) && tree_.contains(pages[in_tree])) ++in_tree;
  const std::vector<int32_t> cached(pages.begin(), pages.begin() + in_tree);
  sequence.table_.release(allocator_);
  tree_.on_release(cached);
  sequence = {};
}

void KvCache::check_integrity(std::span<const KvSequence* const> live) const {
  allocator_.check_integrity();
  tree_.check_integrity();
  std::vector<int32_t> owners(total_pages() + 1, 0);
  for (int32_t page = 1; page <= total_pages(); ++page) owners[page] += tree_.contains(page);
  for (const KvSequence* sequence : live) {
    const auto& pages = sequence->pages();
    check(sequence->length() <= static_cast<int64_t>(pages.size()) * options_.page_size,
          "a sequence's tokens lie in its pages");
    check(sequence->tree_pages_ * options_.page_size <= sequence->length(), "only full pages are shared");
    for (size_t i = 0; i < pages.size(); ++i) {
      check(pages[i] > 0 && pages[i] <= total_pages(), "sequences hold pages of the pool");
      const auto behind = static_cast<int64_t>(i) - sequence->tree_pages_;  // 0: may be there, partly filled
      check(behind == 0 || tree_.contains(pages[i]) == (behind < 0),
            "a sequence knows which of its pages are shared");
      ++owners[pages[i]];
    }
  }
  for (int32_t page = 1; page <= total_pages(); ++page)
    check(allocator_.refs(page) == owners[page], "a page has as many references as owners");
  check(used_pages() >= 0, "used, cached and free pages make the total");
}

}  // namespace longspan
