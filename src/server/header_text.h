#pragma once

#include <cstddef>
#include <string_view>

namespace longspan::server {

/// Whether `text` starts with `lower`, whose ASCII letters are small ones, in whatever case.
inline bool starts_with_any_case(std::string_view text, std::string_view lower) {
  if (text.size() < lower.size()) return false;
  for (size_t i = 0; i < lower.size(); ++i) {
    const char c = text[i];
    if ((c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c) != lower[i]) return false;
  }
  return true;
}

}  // namespace longspan::server
