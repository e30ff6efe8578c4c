#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace longspan {

/// The candidate with the fewest single-character edits from `word`; "" if none is near (more edits than a
/// third of the longer word, rounded up, and more than two).
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace longspan
