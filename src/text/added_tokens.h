#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace longspan {

/// A token that is found in the text itself, before it is pre-tokenised.
struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool lstrip = false;      // takes the white space before it along
  bool rstrip = false;      // and after it
  bool normalized = false;  // looked for in the normalised text, not in the text as given
  bool special = false;     // left out of decoded text
};

/// Finds added tokens: at each place the longest one, leftmost first. Immutable.
class AddedTokenFinder {
 public:
  /// Contents must not be empty. Of equal ones the first is found.
  explicit AddedTokenFinder(std::vector<AddedToken> tokens);

  /// Calls `piece(id, part)` for the parts of `text` in order: id >= 0 for an added token, -1 for the text
  /// between them, which is never empty.
  void split(std::string_view text, const std::function<void(int32_t, std::string_view)>& piece) const;

 private:
  const AddedToken* longest_at(std::string_view text) const;

  std::vector<AddedToken> tokens_;      // sorted by content
  std::array<bool, 256> first_byte_{};  // bytes that some content starts with
};

}  // namespace longspan
