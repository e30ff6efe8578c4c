#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "grammar/grammar.h"

namespace longspan {

/// The parts of JSON as rules of a grammar, each made when it is first asked for. White space is one blank,
/// or a line break with up to 20 blanks or tabs: after an opening bracket, a comma or a colon, and before a
/// closing bracket. Numbers have at most 15 digits before and after the point and 2 in the exponent. Strings
/// are valid UTF-8, and name no surrogates.
class JsonRules {
 public:
  explicit JsonRules(Grammar& grammar) : grammar_(grammar) {}

  int32_t any();  // an index of a rule, as all of these
  int32_t string();
  int32_t character();  // of a string
  int32_t number();
  int32_t integer();
  int32_t space();  // or none

  using Part = std::function<void(int32_t from, int32_t to)>;
  /// "[...]" with `least` to `most` times what `item` adds; no `most`: as many as there may be.
  void add_array(int32_t from, int32_t to, const Part& item, int64_t least, std::optional<int64_t> most);
  /// "{...}" with any names and what `value` adds.
  void add_map(int32_t from, int32_t to, const Part& value);
  /// `part` between `least` and `most` times in a row.
  void add_repeated(int32_t from, int32_t to, const Part& part, int64_t least, std::optional<int64_t> most);
  void add_byte(int32_t from, int32_t to, char byte);
  /// ":" and white space.
  int32_t add_colon(int32_t from);

 private:
  int32_t digits(int32_t from, int64_t most);

  Grammar& grammar_;
  int32_t any_ = -1, string_ = -1, character_ = -1, number_ = -1, integer_ = -1, space_ = -1;
};

}  // namespace longspan
