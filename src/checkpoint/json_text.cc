#include "checkpoint/json_text.h"

#include <fmt/format.h>
#include <longspan/error.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_set>
#include <vector>

#include "base/json_reason.h"

namespace longspan {
namespace {

using nlohmann::json;

constexpr size_t kMaxDepth = 64;
constexpr size_t kShownBytes = 80;

// Cut at a character's start, so that valid UTF-8 stays valid.
std::string one_line(std::string_view text) {
  size_t length = std::min(text.size(), kShownBytes);
  while (length < text.size() && length > 0 && (text[length] & 0xc0) == 0x80) --length;
  std::string line(text.substr(0, length));
  std::replace_if(
      line.begin(), line.end(),
      [&](char c) {
        const auto byte = static_cast<unsigned char>(c);
        return byte < 0x20 || byte == 0x7f;
      },
      '?');
  return length < text.size() ? line + "..." : line;
}

// Follows the parser to refuse what the JSON grammar allows and a reader can't mean.
class StructureRules {
 public:
  explicit StructureRules(std::string_view what) : what_(what) {}

  bool operator()(json::parse_event_t event, const json& parsed) {
    switch (event) {
      case json::parse_event_t::object_start:
      case json::parse_event_t::array_start:
        if (keys_.size() == kMaxDepth) {
          throw Error(ErrorCode::kUnreadable,
                      fmt::format("{}: JSON nests deeper than {} levels", what_, kMaxDepth));
        }
        keys_.emplace_back();
        break;
      case json::parse_event_t::object_end:
      case json::parse_event_t::array_end:
        keys_.pop_back();
        break;
      case json::parse_event_t::key:
        if (!keys_.back().insert(parsed.get_ref<const std::string&>()).second) {
          throw Error(ErrorCode::kUnreadable, fmt::format("{}: {} appears twice in one JSON object", what_,
                                                          in_quotes(parsed.get_ref<const std::string&>())));
        }
        break;
      case json::parse_event_t::value:
        break;
    }
    return true;
  }

 private:
  std::string_view what_;
  std::vector<std::unordered_set<std::string>> keys_;  // of each open object; empty for arrays
};

}  // namespace

json parse_json(std::string_view text, std::string_view what) {
  StructureRules rules(what);
  const auto callback = [&](int, json::parse_event_t event, json& parsed) { return rules(event, parsed); };
  try {
    return json::parse(text, callback);
  } catch (const json::parse_error& error) {
    throw Error(ErrorCode::kUnreadable, fmt::format("{}: not valid JSON: {}", what,
                                                    json_reason(error.what(), error.byte, text.size())));
  } catch (const json::exception&) {
    throw Error(ErrorCode::kUnreadable, fmt::format("{}: not valid JSON: a number is out of range", what));
  }
}

std::string in_quotes(std::string_view text) {
  return fmt::format("'{}'", one_line(text));
}

std::string shown(const json& value) {
  return one_line(value.dump());
}

}  // namespace longspan
