#include "text/bpe.h"

#include <algorithm>
#include <limits>

#include "base/check.h"

namespace longspan {
namespace {

uint64_t pair_key(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

// Heap order: the lowest rank on top, of equal ranks the leftmost.
bool later(const BpeScratch::Candidate& a, const BpeScratch::Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.at > b.at;
}

}  // namespace

Bpe::Bpe(const std::array<int32_t, 256>& byte_ids, std::span<const BpeMerge> merges) : byte_ids_(byte_ids) {
  rules_.reserve(merges.size());
  for (uint32_t rank = 0; rank < merges.size(); ++rank) {
    const BpeMerge& m = merges[rank];
    rules_.insert_or_assign(pair_key(m.left, m.right), Rule{rank, m.merged});
  }
}

// Appends the pair that starts at symbol `left` to the candidates, if there is a merge for it; not yet in
// heap order.
bool Bpe::consider(int32_t left, BpeScratch& s) const {
  ++s.steps;
  const auto rule = rules_.find(pair_key(s.symbols[left].id, s.symbols[s.symbols[left].next].id));
  if (rule == rules_.end()) return false;
  s.heap.push_back({rule->second.rank, left, rule->second.merged});
  return true;
}

void Bpe::encode(std::string_view piece, BpeScratch& s, std::vector<int32_t>& out) const {
  check(piece.size() < static_cast<size_t>(std::numeric_limits<int32_t>::max()), "a piece is under 2 GiB");
  const auto count = static_cast<int32_t>(piece.size());
  s.symbols.clear();
  s.heap.clear();
  for (int32_t i = 0; i < count; ++i) {
    s.symbols.push_back({byte_ids_[static_cast<uint8_t>(piece[i])], i - 1, i + 1 < count ? i + 1 : -1});
  }
  for (int32_t i = 0; i + 1 < count; ++i) consider(i, s);
  std::ranges::make_heap(s.heap, later);

  while (!s.heap.empty()) {
    ++s.steps;
    const BpeScratch::Candidate top = s.heap.front();
    std::ranges::pop_heap(s.heap, later);
    s.heap.pop_back();
    BpeScratch::Symbol& left = s.symbols[top.at];
    if (left.id < 0 || left.next < 0) continue;
    BpeScratch::Symbol& right = s.symbols[left.next];
    // A candidate whose symbols have changed since is stale: the pair's text is longer now.
    const auto rule = rules_.find(pair_key(left.id, right.id));
    if (rule == rules_.end() || rule->second.merged != top.merged) continue;
    left.id = top.merged;
    left.next = right.next;
    right.id = -1;
    if (left.next >= 0) {
      s.symbols[left.next].prev = top.at;
      if (consider(top.at, s)) std::ranges::push_heap(s.heap, later);
    }
    if (left.prev >= 0 && consider(left.prev, s)) std::ranges::push_heap(s.heap, later);
  }
  for (int32_t i = 0; i >= 0 && i < count; i = s.symbols[i].next) out.push_back(s.symbols[i].id);
}

}  // namespace longspan
