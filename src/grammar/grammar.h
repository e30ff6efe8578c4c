#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace longspan {

/// Rules over bytes as a recursive transition network: each rule is a small automaton whose edges take a
/// byte, take nothing, or take what another rule takes. Nodes and rules are numbered from 0; rule 0 is the
/// whole text.
class Grammar {
 public:
  struct Edge {
    enum Kind : uint8_t { kBytes, kNothing, kRule } kind;
    uint8_t low, high;  // kBytes: inclusive
    int32_t rule;       // kRule
    int32_t to;
  };
  struct Rule {
    int32_t begin, end;  // nodes
  };

  int32_t add_node();
  /// With a begin and an end of its own.
  int32_t add_rule();
  void add_bytes(int32_t from, int32_t to, uint8_t low, uint8_t high);
  void add_nothing(int32_t from, int32_t to);
  void add_call(int32_t from, int32_t to, int32_t rule);
  /// One byte after the other.
  void add_text(int32_t from, int32_t to, std::string_view text);

  /// Removes what can't be completed any more once it is begun. False if that is rule 0.
  bool prune();
  /// Whether a rule can begin with itself, without a byte before: it could never be followed.
  bool is_left_recursive() const;

  const Rule& rule(int32_t i) const { return rules_[static_cast<size_t>(i)]; }
  const std::vector<Edge>& edges(int32_t node) const { return edges_[static_cast<size_t>(node)]; }
  bool is_end(int32_t node) const { return ends_[static_cast<size_t>(node)]; }
  int64_t size() const { return size_; }  // nodes and edges, those that prune() removed included

 private:
  void add_edge(int32_t from, const Edge& edge);

  std::vector<std::vector<Edge>> edges_;  // by node
  std::vector<char> ends_;                // by node: the end of a rule?
  std::vector<Rule> rules_;
  int64_t size_ = 0;
};

}  // namespace longspan
