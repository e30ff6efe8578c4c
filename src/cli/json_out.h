#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace longspan::cli {

/// A JSON string literal; bytes that are not UTF-8 become U+FFFD.
std::string json_string(std::string_view text);
/// The shortest text that reads back as the same value; "null" for infinities and NaN.
std::string json_number(double value);
std::string json_number(float value);
/// "[a,b,...]" of JSON texts.
std::string json_array(const std::vector<std::string>& items);

/// One JSON object, its keys in the order they were set.
class JsonObject {
 public:
  JsonObject& set(std::string_view key, std::string_view text) { return set_json(key, json_string(text)); }
  JsonObject& set(std::string_view key, const char* text) { return set(key, std::string_view(text)); }
  JsonObject& set(std::string_view key, bool value) { return set_json(key, value ? "true" : "false"); }
  JsonObject& set(std::string_view key, double value) { return set_json(key, json_number(value)); }
  template <std::integral T>
  JsonObject& set(std::string_view key, T value) {
    return set_json(key, std::to_string(value));
  }
  JsonObject& set(std::string_view key, const JsonObject& value) { return set_json(key, value.str()); }
  JsonObject& set_json(std::string_view key, std::string_view json);

  std::string str() const { return body_ + "}"; }

 private:
  std::string body_ = "{";
};

}  // namespace longspan::cli
