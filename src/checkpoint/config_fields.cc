#include "checkpoint/config_fields.h"

#include <fmt/format.h>
#include <longspan/error.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/nearest.h"
#include "checkpoint/json_text.h"

namespace longspan {
namespace {

using nlohmann::json;

bool in_range(const json& value, int64_t min, int64_t max) {
  if (value.is_number_unsigned()) {
    return value.get<uint64_t>() <= static_cast<uint64_t>(std::max<int64_t>(max, 0)) &&
           value.get<int64_t>() >= min && max >= 0;
  }
  return value.is_number_integer() && value.get<int64_t>() >= min && value.get<int64_t>() <= max;
}

std::string integer_rule(int64_t min, int64_t max) {
  return fmt::format("a whole number from {} to {}", min, max);
}

}  // namespace

ConfigFields::ConfigFields(const json& object, std::string where)
    : object_(object), where_(std::move(where)) {
  if (!object.is_object()) fail(fmt::format("must be a JSON object, it is {}", shown(object)));
}

const json* ConfigFields::find(std::string_view name) {
  asked_.emplace_back(name);
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

bool ConfigFields::has(std::string_view name) {
  return find(name) != nullptr;
}

std::optional<int64_t> ConfigFields::integer(std::string_view name, int64_t min, int64_t max) {
  const json* value = find(name);
  if (!value) return std::nullopt;
  if (!in_range(*value, min, max)) mistyped(name, integer_rule(min, max), *value);
  return value->get<int64_t>();
}

int64_t ConfigFields::required_integer(std::string_view name, int64_t min, int64_t max) {
  const auto value = integer(name, min, max);
  if (!value) fail(fmt::format("field '{}' is missing; it must be {}", name, integer_rule(min, max)));
  return *value;
}

std::optional<double> ConfigFields::number(std::string_view name) {
  const json* value = find(name);
  if (!value) return std::nullopt;
  if (!value->is_number() || !std::isfinite(value->get<double>())) mistyped(name, "a number", *value);
  return value->get<double>();
}

double ConfigFields::required_number(std::string_view name) {
  const auto value = number(name);
  if (!value) fail(fmt::format("field '{}' is missing; it must be a number", name));
  return *value;
}

std::optional<bool> ConfigFields::boolean(std::string_view name) {
  const json* value = find(name);
  if (!value) return std::nullopt;
  if (!value->is_boolean()) mistyped(name, "true or false", *value);
  return value->get<bool>();
}

std::optional<std::string> ConfigFields::text(std::string_view name) {
  const json* value = find(name);
  if (!value) return std::nullopt;
  if (!value->is_string()) mistyped(name, "a string", *value);
  return value->get<std::string>();
}

std::optional<std::vector<int64_t>> ConfigFields::integers(std::string_view name, int64_t min, int64_t max) {
  const json* value = find(name);
  if (!value) return std::nullopt;
  if (!value->is_array()) mistyped(name, "a list of whole numbers", *value);
  std::vector<int64_t> list;
  for (const json& element : *value) {
    if (!in_range(element, min, max)) {
      mistyped(name, fmt::format("a list of whole numbers from {} to {}", min, max), *value);
    }
    list.push_back(element.get<int64_t>());
  }
  return list;
}

std::optional<std::vector<std::string>> ConfigFields::texts(std::string_view name) {
  const json* value = find(name);
  if (!value) return std::nullopt;
  const bool strings = value->is_array() &&
                       std::all_of(value->begin(), value->end(), [](const json& e) { return e.is_string(); });
  if (!strings) mistyped(name, "a list of strings", *value);
  return value->get<std::vector<std::string>>();
}

void ConfigFields::ignore(std::span<const std::string_view> names) {
  asked_.insert(asked_.end(), names.begin(), names.end());
}

void ConfigFields::refuse_others() const {
  for (const auto& [name, value] : object_.items()) {
    if (value.is_null() || std::find(asked_.begin(), asked_.end(), name) != asked_.end()) continue;
    const std::string near = nearest(name, asked_);
    refuse(fmt::format("unknown field {} = {}: what it does to the model is not known; {}", in_quotes(name),
                       shown(value),
                       near.empty() ? "remove it if it changes nothing that is computed"
                                    : fmt::format("did you mean '{}'?", near)));
  }
}

void ConfigFields::fail(const std::string& rule) const {
  throw Error(ErrorCode::kUnreadable, fmt::format("{}: {}", where_, rule));
}

void ConfigFields::refuse(const std::string& rule) const {
  throw Error(ErrorCode::kNotSupported, fmt::format("{}: {}", where_, rule));
}

void ConfigFields::mistyped(std::string_view name, const std::string& rule, const json& value) const {
  fail(fmt::format("field '{}' must be {}, it is {}", name, rule, shown(value)));
}

}  // namespace longspan
