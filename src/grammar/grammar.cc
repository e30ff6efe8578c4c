#include "grammar/grammar.h"

#include <algorithm>
#include <utility>

namespace longspan {

int32_t Grammar::add_node() {
  edges_.emplace_back();
  ends_.push_back(0);
  ++size_;
  return static_cast<int32_t>(edges_.size()) - 1;
}

int32_t Grammar::add_rule() {
  const int32_t begin = add_node(), end = add_node();
  ends_[static_cast<size_t>(end)] = 1;
  rules_.push_back({begin, end});
  return static_cast<int32_t>(rules_.size()) - 1;
}

void Grammar::add_edge(int32_t from, const Edge& edge) {
  edges_[static_cast<size_t>(from)].push_back(edge);
  ++size_;
}

void Grammar::add_bytes(int32_t from, int32_t to, uint8_t low, uint8_t high) {
  add_edge(from, {Edge::kBytes, low, high, -1, to});
}

void Grammar::add_nothing(int32_t from, int32_t to) {
  add_edge(from, {Edge::kNothing, 0, 0, -1, to});
}

void Grammar::add_call(int32_t from, int32_t to, int32_t rule) {
  add_edge(from, {Edge::kRule, 0, 0, rule, to});
}

void Grammar::add_text(int32_t from, int32_t to, std::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    const int32_t next = i + 1 == text.size() ? to : add_node();
    const auto byte = static_cast<uint8_t>(text[i]);
    add_bytes(from, next, byte, byte);
    from = next;
  }
  if (text.empty()) add_nothing(from, to);
}

bool Grammar::prune() {
  // By node: some way leads to the end of its rule. Found from the ends backwards.
  std::vector<char> completes(edges_.size());
  const auto leads_on = [&](const Edge& edge) {
    const bool passable = edge.kind != Edge::kRule || completes[static_cast<size_t>(rule(edge.rule).begin)];
    return passable && completes[static_cast<size_t>(edge.to)];
  };
  struct Use {
    size_t node, edge;
  };
  std::vector<std::vector<Use>> uses(edges_.size());  // by node: edges to it, and calls of the rule it begins
  std::vector<size_t> found;
  for (size_t node = 0; node < edges_.size(); ++node) {
    if (ends_[node]) found.push_back(node);
    for (size_t i = 0; i < edges_[node].size(); ++i) {
      const Edge& edge = edges_[node][i];
      uses[static_cast<size_t>(edge.to)].push_back({node, i});
      if (edge.kind == Edge::kRule) uses[static_cast<size_t>(rule(edge.rule).begin)].push_back({node, i});
    }
  }
  while (!found.empty()) {
    const size_t node = found.back();
    found.pop_back();
    if (std::exchange(completes[node], 1)) continue;
    for (const Use& use : uses[node]) {
      if (!completes[use.node] && leads_on(edges_[use.node][use.edge])) found.push_back(use.node);
    }
  }
  for (auto& edges : edges_) std::erase_if(edges, [&](const Edge& edge) { return !leads_on(edge); });
  return completes[static_cast<size_t>(rule(0).begin)];
}

bool Grammar::is_left_recursive() const {
  // Rules that a rule can begin with. What follows a rule that takes nothing is left out: none that is here
  // does so at a begin.
  std::vector<std::vector<int32_t>> first(rules_.size());
  std::vector<int32_t> seen_by(edges_.size(), -1);  // the last rule whose search met the node
  for (size_t i = 0; i < rules_.size(); ++i) {
    std::vector<int32_t> nodes = {rules_[i].begin};
    while (!nodes.empty()) {
      const int32_t node = nodes.back();
      nodes.pop_back();
      if (std::exchange(seen_by[static_cast<size_t>(node)], static_cast<int32_t>(i)) ==
          static_cast<int32_t>(i))
        continue;
      for (const Edge& edge : edges(node)) {
        if (edge.kind == Edge::kNothing) nodes.push_back(edge.to);
        if (edge.kind == Edge::kRule) first[i].push_back(edge.rule);
      }
    }
  }
  // A rule without such rules left goes, until none does: what stays is a circle, or leads to one.
  std::vector<char> gone(rules_.size());
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t i = 0; i < rules_.size(); ++i) {
      const bool free = std::all_of(first[i].begin(), first[i].end(),
                                    [&](int32_t rule) { return gone[static_cast<size_t>(rule)]; });
      if (gone[i] || !free) continue;
      gone[i] = 1;
      changed = true;
    }
  }
  return std::find(gone.begin(), gone.end(), 0) != gone.end();
}

}  // namespace longspan
