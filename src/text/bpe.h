#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace longspan {

struct BpeMerge {
  int32_t left, right, merged;  // token ids; earlier merges come first
};

/// Buffers that encoding reuses from piece to piece.
struct BpeScratch {
  struct Symbol {
    int32_t id;          // token, or -1: swallowed by the symbol before it
    int32_t prev, next;  // indices, or -1
  };
  struct Candidate {
    uint32_t rank;  // index of the merge
    int32_t at;     // symbol on its left
    int32_t merged;
  };
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
  uint64_t steps = 0;  // pairs looked up and candidates taken so far: the work done
};

/// Byte-level byte-pair encoding of one piece of text. A heap orders the merges, so that a piece of n bytes
/// takes at most 3 n look-ups and 3 n heap operations, whatever it contains. Immutable.
class Bpe {
 public:
  /// `byte_ids`: the token of each byte. `merges`: in order of rank; a pair given twice has the later rank.
  Bpe(const std::array<int32_t, 256>& byte_ids, std::span<const BpeMerge> merges);

  /// Appends the tokens of `piece`.
  void encode(std::string_view piece, BpeScratch& scratch, std::vector<int32_t>& out) const;

 private:
  struct Rule {
    uint32_t rank;
    int32_t merged;
  };
  bool consider(int32_t left, BpeScratch& scratch) const;

  std::array<int32_t, 256> byte_ids_;
  std::unordered_map<uint64_t, Rule> rules_;  // by pair: left id << 32 | right id
};

}  // namespace longspan
