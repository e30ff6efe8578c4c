#include "base/json_reason.h"

#include <fmt/format.h>

#include <algorithm>

namespace longspan {

// nlohmann says "[...] syntax error while parsing value - invalid literal; last read: '...'", or
// "[...] ... - unexpected end of input; expected ...".
std::string json_reason(std::string_view what, size_t byte, size_t size) {
  const size_t begin = what.find(" - ");
  std::string_view reason = begin == what.npos ? "syntax error" : what.substr(begin + 3);
  reason = reason.substr(0, reason.find(';'));
  return fmt::format("{} at byte {} of {}", reason, std::min(byte, size), size);
}

}  // namespace longspan
