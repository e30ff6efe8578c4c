#include "server/secret.h"

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

std::optional<size_t> authorized_key(std::string_view header, const std::vector<std::string>& keys) {
  if (keys.empty()) return 0;
  constexpr std::string_view kScheme = "bearer ";
  if (!starts_with_any_case(header, kScheme)) return std::nullopt;
  const std::string_view given = header.substr(kScheme.size());
  std::optional<size_t> found;
  for (size_t i = 0; i < keys.size(); ++i) {  // all of them, always
    if (same(given, keys[i])) found = i;
  }
  return found;
}

}  // namespace longspan::server
