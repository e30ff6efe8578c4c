#include "kv/kv_cache.h"

#include "base/check.h"

namespace longspan {

KvCache::KvCache(const KvCacheOptions& options)
    : options_(options),
      allocator_(options.num_pages, options.owners),
      tree_(&allocator_, options.page_size) {}

std::optional<KvSequence> KvCache::admit(std::span<const int32_t> prompt, int64_t tokens, bool reuse_prefix,
                                         int64_t spare) {
  check(!prompt.empty(), "a sequence starts with a prompt");
  check(tokens >= static_cast<int64_t>(prompt.size()), "a sequence has room for its prompt");
  KvSequence sequence;
  if (options_.prefix_cache && reuse_prefix) {
    const std::vector<int32_t> cached = tree_.match(prompt.first(prompt.size() - 1));
    sequence.table_.adopt(cached);
    sequence.tree_pages_ = static_cast<int64_t>(cached.size());
    sequence.cached_tokens_ = sequence.tree_pages_ * options_.page_size;
    sequence.table_.set_length(sequence.cached_tokens_, options_.page_size);
  }
  const int64_t missing = pages_needed(tokens) - sequence.tree_pages_;
  if (missing + spare > available_pages() || !grow(sequence, tokens)) {
    release(sequence);
    return std::nullopt;
  }
  return sequence;
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
  check(static_cast<int64_t>(tokens.size()) >= computed, "computed tokens are known");
  PageTable& table = sequence.table_;
  table.set_length(computed, options_.page_size);
  const int64_t full = computed / options_.page_size;
  if (!options_.prefix_cache || full <= sequence.tree_pages_) return;

  const int64_t known = sequence.tree_pages_;
  const std::vector<int32_t> held =
      tree_.insert(tokens.first(full * options_.page_size), std::span(table.pages()).first(full), known);
  for (int64_t i = known; i < full; ++i)
    if (held[i - known] != table.pages()[i]) table.replace(allocator_, i, held[i - known]);
  sequence.tree_pages_ = full;
}

void KvCache::release(KvSequence& sequence) {
  const auto& pages = sequence.pages();
  const std::vector<int32_t> shared(pages.begin(), pages.begin() + sequence.tree_pages_);
  sequence.table_.release(allocator_);
  tree_.on_release(shared);
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
      check(tree_.contains(pages[i]) == (static_cast<int64_t>(i) < sequence->tree_pages_),
            "a sequence knows which of its pages are shared");
      ++owners[pages[i]];
    }
  }
  for (int32_t page = 1; page <= total_pages(); ++page)
    check(allocator_.refs(page) == owners[page], "a page has as many references as owners");
  check(used_pages() >= 0, "used, cached and free pages make the total");
}

}  // namespace longspan
