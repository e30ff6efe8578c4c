#pragma once

#include <string>
#include <string_view>

namespace longspan {

/// A regular expression of a tokenizer.json, which is in Oniguruma's dialect, as a PCRE2 pattern (UTF, UCP)
/// that matches the same texts. Covers what pre-tokenisers are written in: literals, classes, \s \d
/// \p{general category}, groups, (?i: ) around ASCII, look-ahead, greedy and lazy quantifiers. Throws
/// Error(kNotSupported), naming the construct, for anything that the two engines may read differently.
std::string to_pcre2_pattern(std::string_view oniguruma);

}  // namespace longspan
