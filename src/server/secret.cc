#include "server/secret.h"

#include <cstddef>

namespace longspan::server {
namespace {

// As long as `given`, whatever `secret` is.
bool same(std::string_view given, std::string_view secret) {
  unsigned difference = given.size() == secret.size() ? 0 : 1;
  for (size_t i = 0; i < given.size(); ++i) {
    const char expected = secret.empty() ? '\0' : secret[i % secret.size()];
    difference |= static_cast<unsigned char>(given[i] ^ expected);
  }
  return difference == 0;
}

bool starts_with_bearer(std::string_view header) {
  constexpr std::string_view kScheme = "bearer ";
  if (header.size() < kScheme.size()) return false;
  for (size_t i = 0; i < kScheme.size(); ++i) {
    const char c = header[i];
    if ((c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c) != kScheme[i]) return false;
  }
  return true;
}

}  // namespace

bool is_authorized(std::string_view header, const std::vector<std::string>& keys) {
  if (keys.empty()) return true;
  if (!starts_with_bearer(header)) return false;
  const std::string_view given = header.substr(7);
  bool found = false;
  for (const std::string& key : keys) found |= same(given, key);  // all of them, always
  return found;
}

}  // namespace longspan::server
