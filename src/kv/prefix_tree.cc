#include "kv/prefix_tree.h"

#include <algorithm>

#include "base/check.h"

namespace longspan {

PrefixTree::PrefixTree(PageAllocator* allocator, int32_t page_size)
    : allocator_(allocator), page_size_(page_size) {
  check(page_size >= 1, "a page holds at least one token");
  node_of_page_.assign(allocator->total_pages() + 1, kNone);
}

std::vector<int32_t> PrefixTree::match(std::span<const int32_t> tokens) {
  std::vector<int32_t> found;
  int32_t node = kNone;
  for (size_t i = 0; (i + 1) * page_size_ <= tokens.size(); ++i) {
    node = find_child(node, page_of(tokens, i));
    if (node == kNone) break;
    add_owner(node);
    found.push_back(nodes_[node].page);
  }
  return found;
}

std::vector<int32_t> PrefixTree::insert(std::span<const int32_t> tokens, std::span<const int32_t> pages,
                                        size_t known) {
  check(tokens.size() == pages.size() * page_size_, "only full pages enter the prefix tree");
  check(known <= pages.size(), "the known pages are among the pages");
  int32_t parent = known == 0 ? kNone : node_of_page_[pages[known - 1]];
  check(known == 0 || parent != kNone, "known pages are in the prefix tree");
  std::vector<int32_t> held;
  held.reserve(pages.size() - known);
  for (size_t i = known; i < pages.size(); ++i) {
    int32_t node = find_child(parent, page_of(tokens, i));
    if (node == kNone)
      node = add_node(parent, page_of(tokens, i), pages[i]);
    else
      add_owner(node);
    held.push_back(nodes_[node].page);
    parent = node;
  }
  return held;
}

void PrefixTree::on_release(std::span<const int32_t> pages) {
  ++clock_;
  for (const int32_t page : pages) {
    const int32_t node = node_of_page_[page];
    check(node != kNone, "a released page is in the prefix tree");
    nodes_[node].last_release = clock_;
    if (allocator_->refs(page) > 1) continue;
    ++evictable_;
    enter_candidates(node);
  }
}

int64_t PrefixTree::evict(int64_t count) {
  int64_t evicted = 0;
  for (; evicted < count && !candidates_.empty(); ++evicted) remove_leaf(candidates_.begin()->second);
  return evicted;
}

uint64_t PrefixTree::edge_hash(int32_t parent, std::span<const int32_t> page_tokens) const {
  uint64_t hash = static_cast<uint32_t>(parent) + 0x9e3779b97f4a7c15u;
  for (const int32_t token : page_tokens) {
    hash ^= static_cast<uint32_t>(token);
    hash *= 0xff51afd7ed558ccdu;  // the multiplier of MurmurHash3's finaliser
    hash ^= hash >> 32;
  }
  return hash;
}

int32_t PrefixTree::find_child(int32_t parent, std::span<const int32_t> page_tokens) const {
  const auto [first, last] = edges_.equal_range(edge_hash(parent, page_tokens));
  for (auto edge = first; edge != last; ++edge) {
    const Node& node = nodes_[edge->second];
    if (node.parent == parent && std::ranges::equal(node.tokens, page_tokens)) return edge->second;
  }
  return kNone;
}

int32_t PrefixTree::add_node(int32_t parent, std::span<const int32_t> page_tokens, int32_t page) {
  check(!contains(page), "a page is in the prefix tree once");
  allocator_->add_ref(page);  // the tree's own, beside the caller's
  int32_t node = static_cast<int32_t>(nodes_.size());
  if (unused_.empty()) {
    nodes_.emplace_back();
  } else {
    node = unused_.back();
    unused_.pop_back();
  }
  nodes_[node] = {parent, page, 0, 0, {page_tokens.begin(), page_tokens.end()}};
  edges_.emplace(edge_hash(parent, page_tokens), node);
  node_of_page_[page] = node;
  if (parent != kNone) ++nodes_[parent].children;
  ++pages_;
  return node;
}

void PrefixTree::remove_leaf(int32_t node) {
  Node& leaf = nodes_[node];
  check(leaf.children == 0 && allocator_->refs(leaf.page) == 1, "only an unused leaf is evicted");
  candidates_.erase({leaf.last_release, node});
  const auto [first, last] = edges_.equal_range(edge_hash(leaf.parent, leaf.tokens));
  edges_.erase(std::find_if(first, last, [node](const auto& edge) { return edge.second == node; }));
  node_of_page_[leaf.page] = kNone;
  allocator_->drop_ref(leaf.page);
  --pages_;
  --evictable_;
  const int32_t parent = leaf.parent;
  leaf = {};
  unused_.push_back(node);
  if (parent == kNone) return;
  --nodes_[parent].children;
  if (allocator_->refs(nodes_[parent].page) == 1) enter_candidates(parent);
}

void PrefixTree::add_owner(int32_t node) {
  const Node& owned = nodes_[node];
  if (allocator_->refs(owned.page) == 1) {
    --evictable_;
    candidates_.erase({owned.last_release, node});
  }
  allocator_->add_ref(owned.page);
}

void PrefixTree::enter_candidates(int32_t node) {
  if (nodes_[node].children == 0) candidates_.emplace(nodes_[node].last_release, node);
}

void PrefixTree::check_integrity() const {
  std::vector<int32_t> children(nodes_.size(), 0);
  int64_t used = 0, evictable = 0;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    const Node& node = nodes_[i];
    if (node.page == 0) continue;
    ++used;
    check(node_of_page_[node.page] == static_cast<int32_t>(i), "a page knows its node");
    check(find_child(node.parent, node.tokens) == static_cast<int32_t>(i), "a node is found by its tokens");
    const int32_t refs = allocator_->refs(node.page);
    check(refs >= 1, "the tree's pages are in use");
    evictable += refs == 1;
    const bool candidate = candidates_.contains({node.last_release, static_cast<int32_t>(i)});
    check(candidate == (refs == 1 && node.children == 0), "unused leaves are the candidates for eviction");
    if (node.parent == kNone) continue;
    ++children[node.parent];
    check(nodes_[node.parent].page != 0, "a parent is in the tree");
    check(allocator_->refs(nodes_[node.parent].page) >= refs, "who holds a page holds the pages before it");
  }
  for (size_t i = 0; i < nodes_.size(); ++i)
    check(nodes_[i].children == children[i], "a node counts its children");
  check(used == pages_ && edges_.size() == nodes_.size() - unused_.size(), "the tree counts its pages");
  check(pages_ == static_cast<int64_t>(edges_.size()), "a node has one edge");
  check(evictable == evictable_, "the tree counts its evictable pages");
  check(std::ranges::count_if(node_of_page_, [](int32_t node) { return node != kNone; }) == pages_,
        "only the tree's pages have nodes");
}

}  // namespace longspan
