#include "kv/prefix_tree.h"

#include <algorithm>

#include "base/check.h"

namespace longspan {
namespace {

int32_t alike(std::span<const int32_t> a, std::span<const int32_t> b) {
  const auto end = std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first;
  return static_cast<int32_t>(end - a.begin());
}

}  // namespace

std::strong_ordering PrefixTree::Place::operator<=>(const Place& other) const {
  if (const auto order = parent <=> other.parent; order != 0) return order;
  if (const int order = salt.compare(other.salt); order != 0) return order <=> 0;
  return std::lexicographical_compare_three_way(tokens.begin(), tokens.end(), other.tokens.begin(),
                                                other.tokens.end());
}

PrefixTree::PrefixTree(PageAllocator* allocator, int32_t page_size)
    : allocator_(allocator), page_size_(page_size), places_(ByPlace{this}) {
  check(page_size >= 1, "a page holds at least one token");
  node_of_page_.assign(allocator->total_pages() + 1, kNone);
}

PrefixTree::Match PrefixTree::match(std::span<const int32_t> tokens, std::string_view salt) const {
  Match match;
  int32_t parent = kNone;
  for (size_t i = 0; (i + 1) * page_size_ <= tokens.size(); ++i) {
    const int32_t node = find({parent, salt_under(parent, salt), page_of(tokens, i)});
    if (node == kNone) break;
    match.pages.push_back(nodes_[node].page);
    parent = node;
  }
  std::span<const int32_t> rest = tokens.subspan(match.pages.size() * page_size_);
  rest = rest.first(std::min(rest.size(), static_cast<size_t>(page_size_)));
  const auto [node, count] = most_alike({parent, salt_under(parent, salt), rest});
  if (count > 0) match.partial = {nodes_[node].page, count};
  return match;
}

void PrefixTree::adopt(std::span<const int32_t> pages) {
  for (const int32_t page : pages) add_owner(node_of_page_[page]);
}

void PrefixTree::touch(int32_t page) {
  const int32_t node = node_of_page_[page];
  check(node != kNone, "a page in use is in the prefix tree");
  if (allocator_->refs(page) > 1) return;
  candidates_.erase({nodes_[node].last_release, node});
  nodes_[node].last_release = ++clock_;
  enter_candidates(node);
}

std::vector<int32_t> PrefixTree::insert(std::span<const int32_t> tokens, std::span<const int32_t> pages,
                                        size_t known, std::string_view salt) {
  check(tokens.size() == pages.size() * page_size_, "only full pages are shared");
  check(known <= pages.size(), "the known pages are among the pages");
  int32_t parent = node_of(pages.first(known));
  std::vector<int32_t> held;
  held.reserve(pages.size() - known);
  for (size_t i = known; i < pages.size(); ++i) {
    const Place at{parent, salt_under(parent, salt), page_of(tokens, i)};
    const int32_t own = node_of_page_[pages[i]];
    int32_t node = find(at);
    if (node != kNone) {
      check(node != own, "a page is in the prefix tree once");
      add_owner(node);
    } else if (own != kNone) {  // taken up when it was partly filled
      check(nodes_[own].parent == parent, "a page is in the prefix tree once");
      extend(own, at.tokens);
      node = own;
    } else {
      node = add_node(at, pages[i]);
    }
    held.push_back(nodes_[node].page);
    parent = node;
  }
  return held;
}

void PrefixTree::insert_partial(std::span<const int32_t> tokens, int32_t page, std::span<const int32_t> path,
                                std::string_view salt) {
  check(!tokens.empty() && std::ssize(tokens) < page_size_, "a partly filled page has a token and room");
  const int32_t parent = node_of(path), own = node_of_page_[page];
  const Place at{parent, salt_under(parent, salt), tokens};
  if (own != kNone && tokens.size() <= nodes_[own].tokens.size()) return;
  if (most_alike(at).second == std::ssize(tokens)) return;
  if (own != kNone)
    extend(own, tokens);
  else
    add_node(at, page);
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

bool PrefixTree::evict_from(int32_t owner) {
  for (const auto& [released, node] : candidates_) {
    if (allocator_->place(nodes_[node].page).owner != owner) continue;
    remove_leaf(node);
    return true;
  }
  return false;
}

int32_t PrefixTree::find(const Place& place) const {
  const auto found = places_.find(place);
  return found == places_.end() ? kNone : *found;
}

// The child of the same parent with the longest start in common, and how long that is: in their order, one of
// the two between which the tokens would stand.
std::pair<int32_t, int32_t> PrefixTree::most_alike(const Place& place) const {
  std::pair<int32_t, int32_t> best{kNone, 0};
  const auto consider = [&](int32_t node) {
    if (nodes_[node].parent != place.parent || nodes_[node].salt != place.salt) return;
    const int32_t count = alike(place.tokens, nodes_[node].tokens);
    if (count > best.second) best = {node, count};
  };
  const auto behind = places_.lower_bound(place);
  if (behind != places_.end()) consider(*behind);
  if (behind != places_.begin()) consider(*std::prev(behind));
  return best;
}

int32_t PrefixTree::add_node(const Place& place, int32_t page) {
  check(!contains(page), "a page is in the prefix tree once");
  allocator_->add_ref(page);  // the tree's own, beside the caller's
  int32_t node = static_cast<int32_t>(nodes_.size());
  if (unused_.empty()) {
    nodes_.emplace_back();
  } else {
    node = unused_.back();
    unused_.pop_back();
  }
  nodes_[node] = {.parent = place.parent,
                  .page = page,
                  .tokens = {place.tokens.begin(), place.tokens.end()},
                  .salt = std::string(place.salt)};
  places_.insert(node);
  node_of_page_[page] = node;
  if (place.parent != kNone) ++nodes_[place.parent].children;
  ++pages_;
  return node;
}

void PrefixTree::extend(int32_t node, std::span<const int32_t> tokens) {
  check(alike(nodes_[node].tokens, tokens) == std::ssize(nodes_[node].tokens), "rows of a page stay");
  places_.erase(node);
  nodes_[node].tokens.assign(tokens.begin(), tokens.end());
  places_.insert(node);
}

void PrefixTree::remove_leaf(int32_t node) {
  Node& leaf = nodes_[node];
  check(leaf.children == 0 && allocator_->refs(leaf.page) == 1, "only an unused leaf is evicted");
  candidates_.erase({leaf.last_release, node});
  places_.erase(node);
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

// Of the last page of a path of full pages.
int32_t PrefixTree::node_of(std::span<const int32_t> path) const {
  if (path.empty()) return kNone;
  const int32_t node = node_of_page_[path.back()];
  check(node != kNone && std::ssize(nodes_[node].tokens) == page_size_, "known pages are in the prefix tree");
  return node;
}

void PrefixTree::check_integrity() const {
  std::vector<int32_t> children(nodes_.size(), 0);
  int64_t used = 0, evictable = 0;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    const Node& node = nodes_[i];
    if (node.page == 0) continue;
    ++used;
    const auto id = static_cast<int32_t>(i);
    check(node_of_page_[node.page] == id, "a page knows its node");
    check(find(place(id)) == id, "a node is found by its tokens");
    const auto tokens = std::ssize(node.tokens);
    check(tokens >= 1 && tokens <= page_size_, "a page holds its tokens");
    check(tokens == page_size_ || node.children == 0, "nothing follows a partly filled page");
    check(node.parent == kNone || node.salt.empty(), "first pages alone have a salt");
    const int32_t refs = allocator_->refs(node.page);
    check(refs >= 1, "the tree's pages are in use");
    evictable += refs == 1;
    const bool candidate = candidates_.contains({node.last_release, id});
    check(candidate == (refs == 1 && node.children == 0), "unused leaves are the candidates for eviction");
    if (node.parent == kNone) continue;
    ++children[node.parent];
    check(nodes_[node.parent].page != 0, "a parent is in the tree");
    check(allocator_->refs(nodes_[node.parent].page) >= refs, "who holds a page holds the pages before it");
  }
  for (size_t i = 0; i < nodes_.size(); ++i)
    check(nodes_[i].children == children[i], "a node counts its children");
  check(used == pages_ && std::ssize(places_) == pages_, "the tree counts its pages");
  check(used == std::ssize(nodes_) - std::ssize(unused_), "nodes are used or free");
  check(evictable == evictable_, "the tree counts its evictable pages");
  check(std::ranges::count_if(node_of_page_, [](int32_t node) { return node != kNone; }) == pages_,
        "only the tree's pages have nodes");
}

}  // namespace longspan
