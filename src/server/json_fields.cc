#include "server/json_fields.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "base/json_reason.h"
#include "base/nearest.h"
#include "server/api_error.h"

namespace longspan::server {
namespace {

using nlohmann::json;

constexpr size_t kMaxDepth = 64;
constexpr size_t kShownName = 64;

[[noreturn]] void bad_body(const std::string& message) {
  ApiError error;
  error.message = message;
  throw error;
}

std::string shown(const json& value) {
  if (value.is_string()) return "a string";
  if (value.is_array()) return "a list";
  if (value.is_object()) return "an object";
  return value.dump();
}

bool is_whole(const json& value, int64_t min, int64_t max) {
  if (value.is_number_unsigned()) {
    return max >= 0 && value.get<uint64_t>() <= static_cast<uint64_t>(max) &&
           (min <= 0 || value.get<uint64_t>() >= static_cast<uint64_t>(min));
  }
  return value.is_number_integer() && value.get<int64_t>() >= min && value.get<int64_t>() <= max;
}

/// Refuses what a parse into a tree takes without a word: much nesting and names given twice. Not a parser's
/// callback, for at each object's end that goes through all elements of the list around it.
class BodyRules final : public json::json_sax_t {
 public:
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(size_t) override { return enter(); }
  bool start_array(size_t) override { return enter(); }
  bool end_object() override { return leave(); }
  bool end_array() override { return leave(); }
  bool key(string_t& name) override {
    if (keys_.back().insert(name).second) return true;
    const std::string shown_name = name.substr(0, kShownName);
    throw bad_field(shown_name, fmt::format("\"{}\" is given twice", shown_name));
  }
  bool parse_error(size_t, const std::string&, const json::exception&) override { return false; }

 private:
  bool enter() {
    if (keys_.size() == kMaxDepth)
      bad_body(fmt::format("the body is nested deeper than {} levels", kMaxDepth));
    keys_.emplace_back();
    return true;
  }
  bool leave() {
    keys_.pop_back();
    return true;
  }

  std::vector<std::set<std::string>> keys_;  // of the objects and lists around the current place
};

}  // namespace

json parse_body(std::string_view text) {
  if (text.empty()) bad_body("the body is empty; it must be a JSON object");
  BodyRules rules;
  json::sax_parse(text, &rules);  // what is no JSON is told below
  try {
    json body = json::parse(text);
    if (!body.is_object()) bad_body(fmt::format("the body must be a JSON object, not {}", shown(body)));
    return body;
  } catch (const json::parse_error& e) {
    bad_body("the body is not JSON: " + json_reason(e.what(), e.byte, text.size()));
  } catch (const json::exception&) {  // a number that no double can hold
    bad_body("the body is not JSON: a number is out of range");
  }
}

void unknown_field(const std::string& name, const std::vector<std::string>& legal) {
  const std::string near = nearest(name.substr(0, kShownName), legal);
  const std::string hint = near.empty() ? fmt::format("legal: {}", fmt::join(legal, ", "))
                                        : fmt::format("did you mean \"{}\"?", near);
  throw bad_field(name.substr(0, kShownName),
                  fmt::format("unknown field \"{}\"; {}", name.substr(0, kShownName), hint));
}

void Field::must_be(const std::string& rule) const {
  throw bad_field(name_, fmt::format("\"{}\" must be {}, not {}", name_, rule, shown(value_)));
}

void Field::fail(const std::string& why) const {
  throw bad_field(name_, fmt::format("\"{}\" {}", name_, why));
}

Field Field::item(size_t i) const {
  return {fmt::format("{}[{}]", name_, i), value_[i]};
}

Field Field::member(const std::string& key) const {
  if (!value_.contains(key)) {
    const std::string name = fmt::format("{}.{}", name_, key);
    throw bad_field(name, fmt::format("\"{}\" is missing", name));
  }
  return {fmt::format("{}.{}", name_, key), value_[key]};
}

const Field& Field::object(const std::vector<std::string>& keys) const {
  if (!value_.is_object()) must_be("an object");
  for (const auto& [key, value] : value_.items()) {
    if (std::find(keys.begin(), keys.end(), key) == keys.end())
      unknown_field(fmt::format("{}.{}", name_, key),
                    {fmt::format("{}.{}", name_, fmt::join(keys, ", " + name_ + "."))});
  }
  return *this;
}

size_t Field::list(const std::string& of) const {
  if (!value_.is_array()) must_be(fmt::format("a list of {}", of));
  if (value_.empty()) fail("must not be empty");
  return value_.size();
}

std::string Field::string() const {
  if (!value_.is_string()) must_be("a string");
  return value_.get<std::string>();
}

bool Field::boolean() const {
  if (!value_.is_boolean()) must_be("true or false");
  return value_.get<bool>();
}

int64_t Field::integer(int64_t min, int64_t max) const {
  if (!is_whole(value_, min, max)) {
    must_be(max >= kMax32 ? fmt::format("a whole number >= {}", min)
                          : fmt::format("a whole number from {} to {}", min, max));
  }
  return value_.get<int64_t>();
}

uint64_t Field::unsigned_integer() const {
  if (value_.is_number_unsigned()) return value_.get<uint64_t>();
  if (!value_.is_number_integer()) must_be("a whole number");
  return static_cast<uint64_t>(value_.get<int64_t>());
}

double Field::number(double min, double max) const {
  const double value = value_.is_number() ? value_.get<double>() : std::nan("");
  if (!(value >= min && value <= max)) {
    must_be(std::isinf(max) || max >= std::numeric_limits<float>::max()
                ? fmt::format("a number >= {}", min)
                : fmt::format("a number from {} to {}", min, max));
  }
  return value;
}

std::vector<int32_t> Field::token_ids() const {
  std::vector<int32_t> ids;
  ids.reserve(list("token ids"));
  for (size_t i = 0; i < value_.size(); ++i) {
    const json& id = value_[i];
    if (!is_whole(id, 0, kMax32)) item(i).integer(0, kMax32);
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

}  // namespace longspan::server
