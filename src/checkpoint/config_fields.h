#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace longspan {

/// Typed reading of one JSON object. Remembers which fields were asked for, so that the others can be refused
/// by name. A null field counts as absent, as in transformers. Every reader throws Error(kUnreadable) that
/// names the field, the rule and the value.
class ConfigFields {
 public:
  /// `object` must outlive this; `where` begins messages ("config.json", "config.json: rope_scaling").
  ConfigFields(const nlohmann::json& object, std::string where);

  bool has(std::string_view name);
  const nlohmann::json* find(std::string_view name);  // null: absent

  std::optional<int64_t> integer(std::string_view name, int64_t min, int64_t max);
  int64_t required_integer(std::string_view name, int64_t min, int64_t max);
  std::optional<double> number(std::string_view name);  // finite
  double required_number(std::string_view name);
  std::optional<bool> boolean(std::string_view name);
  std::optional<std::string> text(std::string_view name);
  std::optional<std::vector<int64_t>> integers(std::string_view name, int64_t min, int64_t max);
  std::optional<std::vector<std::string>> texts(std::string_view name);

  /// These are known to change nothing that is computed.
  void ignore(std::span<const std::string_view> names);
  /// Throws Error(kNotSupported) for the first field that nobody asked for.
  void refuse_others() const;

  const std::string& where() const { return where_; }
  /// Error(kUnreadable): "<where>: <rule>".
  [[noreturn]] void fail(const std::string& rule) const;
  /// Error(kNotSupported), the same form.
  [[noreturn]] void refuse(const std::string& rule) const;

 private:
  [[noreturn]] void mistyped(std::string_view name, const std::string& rule,
                             const nlohmann::json& value) const;

  const nlohmann::json& object_;
  std::string where_;
  std::vector<std::string> asked_;
};

}  // namespace longspan
