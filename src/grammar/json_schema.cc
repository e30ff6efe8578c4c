#include "grammar/json_schema.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "grammar/json_rules.h"

namespace longspan {
namespace {

using json = nlohmann::ordered_json;

constexpr int64_t kMostParts = 60'000;  // nodes and edges of the grammar
constexpr int64_t kMostRepeats = 4096;
constexpr int kMostDepth = 64;       // of schemas
constexpr int kMostTextDepth = 256;  // of the JSON that they are in

const std::set<std::string> kSkipped = {"title",    "description", "default",  "examples",
                                        "$schema",  "$id",         "$comment", "deprecated",
                                        "readOnly", "writeOnly",   "$defs",    "definitions"};
const std::vector<std::string> kRead = {"type",     "enum",       "const",    "anyOf",
                                        "$ref",     "properties", "required", "additionalProperties",
                                        "items",    "minItems",   "maxItems", "minLength",
                                        "maxLength"};
const std::vector<std::string> kTypes = {"object", "array", "string", "number", "integer", "boolean", "null"};

// 1.0 is whole, as JSON Schema has it.
bool is_whole(const json& value) {
  if (!value.is_number_float()) return value.is_number_integer();
  const double number = value.get<double>();
  return std::trunc(number) == number;
}

// "~1" is "/" and "~0" is "~" in a JSON pointer.
std::string unescaped(std::string name) {
  for (const auto& [escape, character] : {std::pair{"~1", "/"}, std::pair{"~0", "~"}}) {
    for (size_t at = 0; (at = name.find(escape, at)) != std::string::npos; ++at)
      name.replace(at, 2, character);
  }
  return name;
}

// How deep the brackets of a JSON text are nested.
int depth_of(const std::string& text) {
  int depth = 0, deepest = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '"') quoted = !quoted;
    if (quoted && text[i] == '\\') ++i;
    if (quoted) continue;
    if (text[i] == '{' || text[i] == '[') deepest = std::max(deepest, ++depth);
    if (text[i] == '}' || text[i] == ']') --depth;
  }
  return deepest;
}

bool has_type(const json& value, const std::string& type) {
  if (type == "object") return value.is_object();
  if (type == "array") return value.is_array();
  if (type == "string") return value.is_string();
  if (type == "integer") return is_whole(value);
  if (type == "number") return value.is_number();
  if (type == "boolean") return value.is_boolean();
  return value.is_null();
}

class SchemaCompiler {
 public:
  explicit SchemaCompiler(const json& schema) : root_(schema), rules_(grammar_) {}

  Grammar compile() {
    const int32_t whole = grammar_.add_rule();
    const auto [begin, end] = grammar_.rule(whole);
    const int32_t root = rule_of("#", "");
    grammar_.add_call(begin, end, root);
    if (grammar_.is_left_recursive())
      throw SchemaError("", "a $ref or anyOf leads back to itself with nothing between");
    if (!grammar_.prune()) throw SchemaError("", "no JSON value that ends fits it");
    return std::move(grammar_);
  }

 private:
  // Adds what fits `schema` between two nodes. `place`: for messages.
  void value(int32_t from, int32_t to, const json& schema, const std::string& place);
  void reference(int32_t from, int32_t to, const json& schema, const std::string& place);
  void constants(int32_t from, int32_t to, const json& schema, const std::string& place);
  void of_type(int32_t from, int32_t to, const std::string& type, const json& schema,
               const std::string& place);
  void object(int32_t from, int32_t to, const json& schema, const std::string& place);
  void array(int32_t from, int32_t to, const json& schema, const std::string& place);
  void string(int32_t from, int32_t to, const json& schema, const std::string& place);

  // Throws if what is there and `further` parts are too many.
  void check_size(const std::string& place, size_t further = 0) const;
  void text(int32_t from, int32_t to, const std::string& text, const std::string& place);
  void check_keywords(const json& schema, const std::string& place) const;
  void stands_alone(const json& schema, const std::string& keyword, const std::string& place) const;
  std::vector<std::string> types_of(const json& schema, const std::string& place) const;
  std::optional<int64_t> count(const json& schema, const std::string& keyword,
                               const std::string& place) const;
  int32_t rule_of(const std::string& pointer, const std::string& place);

  const json& root_;
  Grammar grammar_;
  JsonRules rules_;
  std::map<std::string, int32_t> references_;  // rule by pointer
  int depth_ = 0;
};

void SchemaCompiler::check_size(const std::string& place, size_t further) const {
  if (grammar_.size() + static_cast<int64_t>(further) > kMostParts)
    throw SchemaError(
        place, fmt::format("makes the schema too large: its grammar may have at most {} parts", kMostParts));
}

void SchemaCompiler::text(int32_t from, int32_t to, const std::string& text, const std::string& place) {
  check_size(place, 2 * text.size());
  grammar_.add_text(from, to, text);
}

void SchemaCompiler::check_keywords(const json& schema, const std::string& place) const {
  for (const auto& [keyword, ignored] : schema.items()) {
    if (kSkipped.contains(keyword) || std::find(kRead.begin(), kRead.end(), keyword) != kRead.end()) continue;
    throw SchemaError(place + "." + keyword,
                      fmt::format("is not supported; schemas may have {}", fmt::join(kRead, ", ")));
  }
}

void SchemaCompiler::stands_alone(const json& schema, const std::string& keyword,
                                  const std::string& place) const {
  for (const auto& [other, ignored] : schema.items()) {
    if (other != keyword && !kSkipped.contains(other))
      throw SchemaError(place + "." + other, fmt::format("is not supported beside {}", keyword));
  }
}

std::vector<std::string> SchemaCompiler::types_of(const json& schema, const std::string& place) const {
  std::vector<std::string> types;
  if (schema.contains("type")) {
    const json& type = schema["type"];
    const json list = type.is_array() ? type : json::array({type});
    for (const json& item : list) {
      const std::string type_name = item.is_string() ? item.get<std::string>() : "";
      if (std::find(kTypes.begin(), kTypes.end(), type_name) == kTypes.end())
        throw SchemaError(place + ".type", fmt::format("must be of {}", fmt::join(kTypes, ", ")));
      if (std::find(types.begin(), types.end(), type_name) != types.end())
        throw SchemaError(place + ".type", fmt::format("names {} twice", type_name));
      types.push_back(type_name);
    }
    if (types.empty()) throw SchemaError(place + ".type", "must not be empty");
    return types;
  }
  if (schema.contains("properties") || schema.contains("required") || schema.contains("additionalProperties"))
    types.push_back("object");
  if (schema.contains("items") || schema.contains("minItems") || schema.contains("maxItems"))
    types.push_back("array");
  if (schema.contains("minLength") || schema.contains("maxLength")) types.push_back("string");
  return types;
}

std::optional<int64_t> SchemaCompiler::count(const json& schema, const std::string& keyword,
                                             const std::string& place) const {
  if (!schema.contains(keyword)) return std::nullopt;
  const json& number = schema[keyword];
  if (!is_whole(number) || number < 0 || number > kMostRepeats)
    throw SchemaError(place + "." + keyword,
                      fmt::format("must be a whole number from 0 to {}", kMostRepeats));
  return number.get<int64_t>();
}

// A rule for what a $ref names, made once: schemas may lead back to themselves.
int32_t SchemaCompiler::rule_of(const std::string& pointer, const std::string& place) {
  if (const auto known = references_.find(pointer); known != references_.end()) return known->second;
  const json* target = &root_;
  std::string target_place;
  if (pointer != "#") {
    for (const char* folder : {"$defs", "definitions"}) {
      const std::string start = fmt::format("#/{}/", folder);
      if (!pointer.starts_with(start)) continue;
      const std::string name = unescaped(pointer.substr(start.size()));
      if (root_.is_object() && root_.contains(folder) && root_[folder].is_object() &&
          root_[folder].contains(name))
        target = &root_[folder][name];
      target_place = fmt::format(".{}.{}", folder, name);
    }
    if (target == &root_)
      throw SchemaError(place, "names nothing; it must be \"#\", \"#/$defs/NAME\" or \"#/definitions/NAME\"");
  }
  const int32_t rule = grammar_.add_rule();
  references_[pointer] = rule;
  const auto [begin, end] = grammar_.rule(rule);
  value(begin, end, *target, target_place);
  return rule;
}

void SchemaCompiler::value(int32_t from, int32_t to, const json& schema, const std::string& place) {
  check_size(place);
  if (schema == true || (schema.is_object() && schema.empty()))
    return grammar_.add_call(from, to, rules_.any());
  if (!schema.is_object()) throw SchemaError(place, "must be an object, or true");
  if (++depth_ > kMostDepth) throw SchemaError(place, fmt::format("is nested deeper than {}", kMostDepth));
  check_keywords(schema, place);
  if (schema.contains("$ref")) {
    reference(from, to, schema, place);
  } else if (schema.contains("anyOf")) {
    stands_alone(schema, "anyOf", place);
    const json& all = schema["anyOf"];
    if (!all.is_array() || all.empty()) throw SchemaError(place + ".anyOf", "must be a list of schemas");
    for (size_t i = 0; i < all.size(); ++i) value(from, to, all[i], fmt::format("{}.anyOf[{}]", place, i));
  } else if (schema.contains("enum") || schema.contains("const")) {
    constants(from, to, schema, place);
  } else {
    const std::vector<std::string> types = types_of(schema, place);
    if (types.empty()) grammar_.add_call(from, to, rules_.any());
    for (const std::string& type : types) of_type(from, to, type, schema, place);
  }
  --depth_;
}

void SchemaCompiler::reference(int32_t from, int32_t to, const json& schema, const std::string& place) {
  stands_alone(schema, "$ref", place);
  if (!schema["$ref"].is_string()) throw SchemaError(place + ".$ref", "must be a string");
  grammar_.add_call(from, to, rule_of(schema["$ref"].get<std::string>(), place + ".$ref"));
}

void SchemaCompiler::constants(int32_t from, int32_t to, const json& schema, const std::string& place) {
  const bool one = schema.contains("const");
  const std::string keyword = one ? "const" : "enum";
  if (one && schema.contains("enum")) throw SchemaError(place + ".enum", "is not supported beside const");
  const json values = one ? json::array({schema["const"]}) : schema["enum"];
  if (!values.is_array() || values.empty()) throw SchemaError(place + ".enum", "must be a list of values");
  for (const auto& [other, ignored] : schema.items()) {
    if (other != keyword && other != "type" && !kSkipped.contains(other))
      throw SchemaError(place + "." + other, fmt::format("is not supported beside {}", keyword));
  }
  const std::vector<std::string> types = types_of(schema, place);
  bool any = false;
  for (const json& item : values) {
    const bool fits = types.empty() || std::any_of(types.begin(), types.end(), [&](const std::string& type) {
                        return has_type(item, type);
                      });
    if (fits) text(from, to, item.dump(), place + "." + keyword);
    any |= fits;
  }
  if (!any) throw SchemaError(place + "." + keyword, "has no value of the type");
}

void SchemaCompiler::of_type(int32_t from, int32_t to, const std::string& type, const json& schema,
                             const std::string& place) {
  check_size(place);
  if (type == "object") return object(from, to, schema, place);
  if (type == "array") return array(from, to, schema, place);
  if (type == "string") return string(from, to, schema, place);
  if (type == "number") return grammar_.add_call(from, to, rules_.number());
  if (type == "integer") return grammar_.add_call(from, to, rules_.integer());
  if (type == "null") return grammar_.add_text(from, to, "null");
  grammar_.add_text(from, to, "true");
  grammar_.add_text(from, to, "false");
}

void SchemaCompiler::object(int32_t from, int32_t to, const json& schema, const std::string& place) {
  const json properties = schema.contains("properties") ? schema["properties"] : json::object();
  const json required = schema.contains("required") ? schema["required"] : json::array();
  const json further = schema.contains("additionalProperties") ? schema["additionalProperties"] : json(true);
  if (!properties.is_object()) throw SchemaError(place + ".properties", "must be an object");
  if (!required.is_array()) throw SchemaError(place + ".required", "must be a list of names");
  std::set<std::string> needed;
  std::set<std::string> names;
  for (const auto& [name, ignored] : properties.items()) names.insert(name);
  for (const json& name : required) {
    if (!name.is_string() || !names.contains(name.get<std::string>()))
      throw SchemaError(place + ".required", "must name properties");
    needed.insert(name.get<std::string>());
  }
  if (properties.empty() && further != false) {
    return rules_.add_map(
        from, to, [&](int32_t a, int32_t b) { value(a, b, further, place + ".additionalProperties"); });
  }
  // Two nodes before each member: with none so far, and with some.
  int32_t none_yet = grammar_.add_node(), some = grammar_.add_node();
  const int32_t open = grammar_.add_node();
  rules_.add_byte(from, open, '{');
  grammar_.add_call(open, none_yet, rules_.space());
  bool may_be_empty = true;
  for (const auto& [name, schema_of] : properties.items()) {
    const bool must = needed.contains(name);
    may_be_empty &= !must;
    const int32_t none_next = grammar_.add_node(), some_next = grammar_.add_node();
    const int32_t member = grammar_.add_node(), comma = grammar_.add_node(), named = grammar_.add_node();
    grammar_.add_nothing(none_yet, member);
    rules_.add_byte(some, comma, ',');
    grammar_.add_call(comma, member, rules_.space());
    const std::string member_place = place + ".properties." + name;
    text(member, named, json(name).dump(), member_place);
    value(rules_.add_colon(named), some_next, schema_of, member_place);
    if (!must) grammar_.add_nothing(none_yet, none_next);
    if (!must) grammar_.add_nothing(some, some_next);
    none_yet = none_next;
    some = some_next;
  }
  if (may_be_empty) grammar_.add_text(from, to, "{}");
  const int32_t close = grammar_.add_node();
  grammar_.add_call(some, close, rules_.space());
  rules_.add_byte(close, to, '}');
}

void SchemaCompiler::array(int32_t from, int32_t to, const json& schema, const std::string& place) {
  const int64_t least = count(schema, "minItems", place).value_or(0);
  const std::optional<int64_t> most = count(schema, "maxItems", place);
  if (most && *most < least) throw SchemaError(place + ".maxItems", "must be at least minItems");
  const json items = schema.contains("items") ? schema["items"] : json(true);
  // A rule of its own: it stands here many times.
  const int32_t rule = grammar_.add_rule();
  const auto [begin, end] = grammar_.rule(rule);
  value(begin, end, items, place + ".items");
  rules_.add_array(
      from, to, [&](int32_t a, int32_t b) { grammar_.add_call(a, b, rule); }, least, most);
}

void SchemaCompiler::string(int32_t from, int32_t to, const json& schema, const std::string& place) {
  const std::optional<int64_t> least = count(schema, "minLength", place);
  const std::optional<int64_t> most = count(schema, "maxLength", place);
  if (!least && !most) return grammar_.add_call(from, to, rules_.string());
  if (most && *most < least.value_or(0))
    throw SchemaError(place + ".maxLength", "must be at least minLength");
  const int32_t open = grammar_.add_node(), close = grammar_.add_node();
  rules_.add_byte(from, open, '"');
  rules_.add_repeated(
      open, close, [&](int32_t a, int32_t b) { grammar_.add_call(a, b, rules_.character()); },
      least.value_or(0), most);
  rules_.add_byte(close, to, '"');
}

}  // namespace

Grammar compile_json_schema(const std::string& schema) {
  if (depth_of(schema) > kMostTextDepth)
    throw SchemaError("", fmt::format("is nested deeper than {} levels", kMostTextDepth));
  const json parsed = json::parse(schema, nullptr, false);
  if (parsed.is_discarded()) throw SchemaError("", "is not JSON");
  return SchemaCompiler(parsed).compile();
}

}  // namespace longspan
