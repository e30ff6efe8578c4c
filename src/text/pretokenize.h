#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace longspan {

/// The splits of a pre-tokeniser: each pattern in turn cuts every piece that the one before left, into its
/// matches and what lies between them ("Isolated"). Immutable; safe to use from several threads.
class Pretokenizer {
 public:
  /// Patterns in Oniguruma's dialect, possibly none. Throws Error(kNotSupported) for one that can't be
  /// honoured.
  explicit Pretokenizer(const std::vector<std::string>& patterns);
  Pretokenizer(Pretokenizer&&) noexcept;
  Pretokenizer& operator=(Pretokenizer&&) noexcept;
  ~Pretokenizer();

  /// Calls `piece` for each piece of `text` (valid UTF-8), in order; together they are `text`, none is empty.
  /// Throws Error(kInvalidRequest) if a pattern needs more work on this text than it is allowed to.
  void split(std::string_view text, const std::function<void(std::string_view)>& piece) const;

 private:
  class Regex;
  std::vector<std::unique_ptr<Regex>> patterns_;
};

}  // namespace longspan
