#include "server/secret.h"

#include <cstddef>

#include "server/header_text.h"

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

}  // namespace

bool is_authorized(std::string_view header, const std::vector<std::string>& keys) {
  if (keys.empty()) return true;
  constexpr std::string_view kScheme = "bearer ";
  if (!starts_with_any_case(header, kScheme)) return false;
  const std::string_view given = header.substr(kScheme.size());
  bool found = false;
  for (const std::string& key : keys) found |= same(given, key);  // all of them, always
  return found;
}

}  // namespace longspan::server
