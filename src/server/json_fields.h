#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace longspan::server {

constexpr int64_t kMax32 = std::numeric_limits<int32_t>::max();  // of fields that are held in 32 bits

/// A JSON object as a request's body. Throws ApiError (400): not JSON, not an object, a key twice in one
/// object, nested deeper than 64 levels.
nlohmann::json parse_body(std::string_view text);

/// A field of a request: reads it as what it must be, or throws ApiError (400) with its name.
class Field {
 public:
  Field(std::string name, const nlohmann::json& value) : name_(std::move(name)), value_(value) {}

  const std::string& name() const { return name_; }
  const nlohmann::json& value() const { return value_; }
  bool is_null() const { return value_.is_null(); }

  Field item(size_t i) const;
  Field member(const std::string& key) const;  // must be there
  /// An object with no other keys than these.
  const Field& object(const std::vector<std::string>& keys) const;
  /// A list with at least one item.
  size_t list(const std::string& of) const;

  std::string string() const;
  bool boolean() const;
  int64_t integer(int64_t min, int64_t max) const;
  uint64_t unsigned_integer() const;  // negative ones wrap: OpenAI's seeds may be
  double number(double min, double max) const;
  std::vector<int32_t> token_ids() const;

  [[noreturn]] void must_be(const std::string& rule) const;
  [[noreturn]] void fail(const std::string& why) const;

 private:
  std::string name_;
  const nlohmann::json& value_;
};

/// Throws ApiError (400) for a field that is none of `legal`.
[[noreturn]] void unknown_field(const std::string& name, const std::vector<std::string>& legal);

}  // namespace longspan::server
