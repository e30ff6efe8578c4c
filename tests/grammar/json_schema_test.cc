#include "grammar/json_schema.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "grammar/matcher.h"

namespace longspan {
namespace {

using nlohmann::json;
using testing::HasSubstr;

Matcher matcher_of(const std::string& schema) {
  return Matcher(std::make_shared<const Grammar>(compile_json_schema(schema)));
}

// Whether `text` is one that the schema's grammar has, and "begun" where it could become one.
std::string verdict(Matcher& matcher, const std::string& text) {
  Matcher::Place place = matcher.begin();
  for (const char c : text) {
    place = matcher.after(place, static_cast<uint8_t>(c));
    if (place == Matcher::kNowhere) return "no";
  }
  return matcher.can_end(place) ? "yes" : "begun";
}

void expect_texts(const std::string& schema, const std::vector<std::string>& fit,
                  const std::vector<std::string>& do_not) {
  Matcher matcher = matcher_of(schema);
  for (const std::string& text : fit) EXPECT_EQ(verdict(matcher, text), "yes") << schema << " " << text;
  for (const std::string& text : do_not) EXPECT_EQ(verdict(matcher, text), "no") << schema << " " << text;
}

std::string refusal(const std::string& schema) {
  try {
    compile_json_schema(schema);
  } catch (const SchemaError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(JsonSchema, Scalars) {
  expect_texts(R"({"type": "boolean"})", {"true", "false"}, {"null", "truE", "true ", " true", "\"true\""});
  expect_texts(R"({"type": "null"})", {"null"}, {"0", "nul1"});
  expect_texts(R"({"type": "integer"})", {"0", "-0", "17", "-123456789012345"},
               {"01", "1.5", "+1", "1e5", "1234567890123456", "x"});
  expect_texts(R"({"type": "number"})", {"0", "-0.50", "1e5", "12.75E-12", "3e+07"},
               {"01", ".5", "1..", "1e555", "NaN", "-Inf", "0x1", "1.1234567890123456"});
  expect_texts(R"({"type": ["integer", "null"]})", {"5", "null"}, {"\"", "true"});
  expect_texts(R"({"enum": ["a", "ab", 1, null, {"k": [1, 2]}]})",
               {R"("a")", R"("ab")", "1", "null", R"({"k":[1,2]})"}, {R"("b)", R"("abc)", "2", R"({"k": )"});
  expect_texts(R"({"const": "é\n"})", {R"("é\n")"}, {R"("e)"});
  expect_texts(R"({"type": "string", "enum": ["a", 1]})", {R"("a")"}, {"1"});
}

TEST(JsonSchema, Strings) {
  expect_texts(
      R"({"type": "string"})",
      {R"("")", R"("a b")", R"("\"\\\/\b\f\n\r\t\u00e9\uD7ff")", "\"é日🙂\x7f\""},
      {"\"a\nb", "\"\t", R"("\x)", R"("\uD800)", R"("\udc00)", R"("\u12G)", "'a'", R"("a"b)",
       // Not UTF-8: a byte that only goes on, overlong forms, a surrogate, beyond the last character.
       "\"\x80", "\"\xc0\x80", "\"\xe0\x80", "\"\xed\xa0", "\"\xf0\x80", "\"\xf4\x90", "\"\xff", "\"\xc3\""});
  expect_texts(R"({"type": "string", "minLength": 2, "maxLength": 3})",
               {R"("ab")", R"("日本語")", R"("\n\u00e9a")"}, {R"("")", R"("a")", R"("abcd)"});
  expect_texts(R"({"minLength": 1})", {R"("a")", R"("abcdefgh")"}, {R"("")", "1"});
  expect_texts(R"({"type": "string", "maxLength": 0})", {R"("")"}, {R"("a)"});
}

TEST(JsonSchema, Arrays) {
  expect_texts(R"({"type": "array", "items": {"type": "integer"}})",
               {"[]", "[1]", "[1,2, 3]", "[ 1, 2 ]", "[\n  1,\n\t2\n]"},
               {"[ ]", "[,", "[1,]", "[1 ,", "[  ", "[true", "[1]]", "[\n\n"});
  expect_texts(R"({"items": {"type": "boolean"}, "minItems": 2, "maxItems": 3})",
               {"[true,false]", "[true,true,true]"}, {"[]", "[true]", "[true,true,true,"});
  expect_texts(R"({"type": "array", "minItems": 1})", {"[1]", R"([{"a":[]}, "x"])"}, {"[]"});
  expect_texts(R"({"type": "array", "maxItems": 0})", {"[]"}, {"[1"});
  expect_texts(R"({"type": "array", "items": {"type": "integer"}, "maxItems": 1})", {"[]", "[7]"}, {"[7,"});
}

TEST(JsonSchema, Objects) {
  const std::string person =
      R"({"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"},
      "tags": {"type": "array", "items": {"enum": ["x", "y"]}}}, "required": ["name", "tags"], "additionalProperties": false})";
  expect_texts(person,
               {R"({"name":"A","age":3,"tags":[]})", R"({"name": "A", "tags": ["x", "y"]})",
                "{\n  \"name\": \"A\",\n  \"tags\": [\n    \"x\"\n  ]\n}"},
               {"{}", R"({"age)", R"({"name":"A"})", R"({"name":"A","age":3})", R"({"name":"A","name)",
                R"({"name":"A","tags":[],)", R"({"name":1)", R"({"other)"});
  expect_texts(R"({"properties": {"a": {"type": "null"}, "b": {"type": "null"}}})",
               {"{}", R"({"a":null})", R"({"b":null})", R"({"a":null,"b":null})"},
               {R"({"b":null,)", "{,", "{ }"});
  expect_texts(R"({"type": "object", "additionalProperties": false})", {"{}"}, {R"({")"});
  expect_texts(R"({"type": "object", "additionalProperties": {"type": "integer"}})",
               {"{}", R"({"x":1, "y": 2})"}, {R"({"x":")", "{1", R"({"x":1,})"});
  expect_texts(R"({"type": "object"})", {"{}", R"({"a":[1,{"b":null}]})"}, {"[", "1", "\""});
  expect_texts("{}", {"{}", "[]", "\"x\"", "-1.5", "null", "[[[{\"\":[]}]]]"}, {"x", "]", "}"});
  // The order is the schema's, not the alphabet's.
  expect_texts(R"({"properties": {"z": {"type": "null"}, "a": {"type": "null"}}, "required": ["z", "a"]})",
               {R"({"z":null,"a":null})"}, {R"({"a)"});
}

TEST(JsonSchema, ReferencesAndAlternatives) {
  expect_texts(
      R"({"$defs": {"tree": {"type": "object", "properties": {"left": {"anyOf": [{"$ref": "#/$defs/tree"}, {"type": "null"}]},
      "n": {"type": "integer"}}, "required": ["left", "n"]}}, "$ref": "#/$defs/tree"})",
      {R"({"left":null,"n":1})", R"({"left":{"left":{"left":null,"n":3},"n":2},"n":1})"},
      {R"({"n)", R"({"left":1)", R"({"left":{"left":null,"n":1}})"});
  expect_texts(R"({"type": "array", "items": {"$ref": "#"}})", {"[]", "[[],[[]]]"}, {"[1", "{"});
  expect_texts(R"({"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}]})",
               {"1", "[1]"}, {"\"", "[["});
  // An alternative that nothing fits is left out.
  expect_texts(R"({"anyOf": [{"$ref": "#/$defs/endless"}, {"type": "null"}],
      "$defs": {"endless": {"properties": {"x": {"$ref": "#/$defs/endless"}}, "required": ["x"]}}})",
               {"null"}, {"{"});
}

TEST(JsonSchema, RefusesByNameWhatIsNotSupported) {
  EXPECT_THAT(refusal(R"({"type": "string", "pattern": "a+"})"),
              HasSubstr("json_schema.pattern: is not supported"));
  EXPECT_THAT(refusal(R"({"properties": {"a": {"oneOf": []}}})"),
              HasSubstr("json_schema.properties.a.oneOf: "));
  EXPECT_THAT(refusal(R"({"properties": {"a": {"type": "integer", "minimum": 1}}})"),
              HasSubstr(".properties.a.minimum: "));
  EXPECT_THAT(refusal(R"({"type": "strong"})"), HasSubstr("json_schema.type: must be of object, array"));
  EXPECT_THAT(refusal(R"({"items": {"anyOf": [true, false]}})"),
              HasSubstr(".items.anyOf[1]: must be an object"));
  EXPECT_THAT(refusal(R"({"$ref": "#/$defs/no"})"), HasSubstr("json_schema.$ref: names nothing"));
  EXPECT_THAT(refusal(R"({"$ref": "http://x"})"), HasSubstr("names nothing"));
  EXPECT_THAT(refusal(R"({"$ref": "#/$defs/a", "type": "null", "$defs": {"a": true}})"),
              HasSubstr(".type: is not supported beside $ref"));
  EXPECT_THAT(refusal(R"({"properties": {"a": {}}, "required": ["b"]})"),
              HasSubstr(".required: must name properties"));
  EXPECT_THAT(refusal(R"({"items": {}, "minItems": 3, "maxItems": 2})"),
              HasSubstr(".maxItems: must be at least minItems"));
  EXPECT_THAT(refusal(R"({"minLength": -1})"), HasSubstr(".minLength: must be a whole number"));
  EXPECT_THAT(refusal(R"({"enum": []})"), HasSubstr(".enum: must be a list"));
  EXPECT_THAT(refusal(R"({"type": "null", "enum": [1]})"), HasSubstr(".enum: has no value of the type"));
  EXPECT_THAT(refusal(R"({"$ref": "#"})"), HasSubstr("leads back to itself"));
  EXPECT_THAT(refusal(R"({"anyOf": [{"type": "null"}, {"$ref": "#"}]})"), HasSubstr("leads back to itself"));
  EXPECT_THAT(refusal(R"({"properties": {"x": {"$ref": "#"}}, "required": ["x"]})"),
              HasSubstr("no JSON value that ends"));
  EXPECT_THAT(refusal("{"), HasSubstr("json_schema: is not JSON"));
  EXPECT_THAT(refusal("3"), HasSubstr("must be an object"));
  EXPECT_EQ(refusal(R"({"title": "T", "description": "D", "default": 3, "type": "integer"})"), "accepted");
}

// n times `open`, then `inner`, then n times `close`.
std::string nested(int n, const std::string& open, const std::string& inner, const std::string& close) {
  std::string text;
  for (int i = 0; i < n; ++i) text += open;
  text += inner;
  for (int i = 0; i < n; ++i) text += close;
  return text;
}

TEST(JsonSchema, RefusesWhatIsTooLarge) {
  const std::string long_text(40'000, 'x');
  EXPECT_THAT(refusal(R"({"enum": ["a", ")" + long_text + R"("]})"),
              HasSubstr(".enum: makes the schema too"));
  EXPECT_THAT(refusal(R"({"const": ")" + long_text + R"("})"),
              HasSubstr(".const: makes the schema too large"));
  EXPECT_THAT(refusal(R"({"properties": {")" + long_text + R"(": {}}})"),
              HasSubstr("makes the schema too large"));
  EXPECT_EQ(refusal(R"({"enum": ["a", ")" + long_text.substr(0, 20'000) + R"("]})"), "accepted");
  std::string ones = "1", integers = R"({"type": "integer"})", strings = R"({"maxLength": 4000})";
  for (int i = 0; i < 70'000; ++i) ones += ",1";
  for (int i = 0; i < 70'000; ++i) integers += R"(,{"type": "integer"})";
  for (int i = 0; i < 10; ++i) strings += R"(,{"maxLength": 4000})";
  EXPECT_THAT(refusal(R"({"enum": [)" + ones + "]}"), HasSubstr("makes the schema too large"));
  EXPECT_THAT(refusal(R"({"anyOf": [)" + integers + "]}"), HasSubstr("makes the schema too large"));
  EXPECT_THAT(refusal(R"({"anyOf": [)" + strings + "]}"), HasSubstr("makes the schema too large"));
  EXPECT_EQ(refusal(R"({"maxLength": 4096})"), "accepted");
  EXPECT_EQ(refusal(R"({"maxItems": 4096})"), "accepted");
  EXPECT_THAT(refusal(R"({"maxLength": 4097})"),
              HasSubstr(".maxLength: must be a whole number from 0 to 4096"));
  EXPECT_THAT(refusal(R"({"minItems": 4097})"),
              HasSubstr(".minItems: must be a whole number from 0 to 4096"));
  EXPECT_EQ(refusal(nested(64, R"({"items":)", "{}", "}")), "accepted");
  EXPECT_THAT(refusal(nested(65, R"({"items":)", "{}", "}")), HasSubstr(".items: is nested deeper than 64"));
  EXPECT_EQ(refusal(R"({"const": )" + nested(255, "[", "", "]") + "}"), "accepted");
  EXPECT_THAT(refusal(R"({"const": )" + nested(256, "[", "", "]") + "}"),
              HasSubstr("deeper than 256 levels"));
  EXPECT_THAT(refusal(R"({"const": )" + nested(1'000'000, "[", "", "]") + "}"), HasSubstr("deeper than 256"));
  EXPECT_EQ(refusal(R"({"const": "\"[[[[)" + nested(300, "[", "", "") + "\"}"), "accepted");  // in a string
  EXPECT_THAT(refusal(R"({"type": ["string", "null", "string"], "minLength": 3})"),
              HasSubstr("json_schema.type: names string twice"));
}

TEST(JsonSchema, ReadsEscapedReferencesAndWholeNumbersWithAPoint) {
  expect_texts(R"({"$ref": "#/$defs/a~1b~0c~01", "$defs": {"a/b~c~1": {"type": "null"}}})", {"null"}, {"1"});
  expect_texts(R"({"type": "integer", "enum": [1.0, 2, 2.5]})", {"1.0", "2"}, {"2."});
  expect_texts(R"({"items": {"type": "null"}, "minItems": 1.0, "maxItems": 1})", {"[null]"},
               {"[]", "[null,"});
  EXPECT_THAT(refusal(R"({"minItems": 1.5})"), HasSubstr(".minItems: must be a whole number"));
}

// Whatever way the grammar is walked, it does not come to a dead end, and where it ends stands JSON that
// fits.
TEST(JsonSchema, EveryWalkIsJsonThatFits) {
  const std::string schema =
      R"({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "number"}, "maxItems": 3},
      "b": {"type": "string", "maxLength": 4}, "c": {"anyOf": [{"type": "boolean"}, {"enum": ["u", "v"]}]}}, "required": ["a", "c"]})";
  Matcher matcher = matcher_of(schema);
  std::mt19937 random(1);
  int ended = 0;
  for (int walk = 0; walk < 500; ++walk) {
    std::string text;
    Matcher::Place place = matcher.begin();
    while (!matcher.can_end(place)) {
      std::vector<uint8_t> bytes;
      for (int byte = 0; byte < 256; ++byte) {
        if (matcher.after(place, static_cast<uint8_t>(byte)) != Matcher::kNowhere)
          bytes.push_back(static_cast<uint8_t>(byte));
      }
      ASSERT_FALSE(bytes.empty()) << "a dead end after " << text;
      const uint8_t byte = bytes[random() % bytes.size()];
      text += static_cast<char>(byte);
      place = matcher.after(place, byte);
      ASSERT_LT(text.size(), 2000u);
    }
    ++ended;
    const json value = json::parse(text, nullptr, false);
    ASSERT_TRUE(value.is_object()) << text;
    ASSERT_TRUE(value.contains("a") && value["a"].is_array() && value["a"].size() <= 3) << text;
    for (const json& item : value["a"]) ASSERT_TRUE(item.is_number()) << text;
    ASSERT_TRUE(value["c"].is_boolean() || value["c"] == "u" || value["c"] == "v") << text;
    if (value.contains("b")) {
      ASSERT_TRUE(value["b"].is_string()) << text;
    }
    ASSERT_LE(value.size(), 3u) << text;
  }
  EXPECT_EQ(ended, 500);
}

// Lists in lists, each of one of two kinds that tell only at their end which of them they are.
std::string alike(int levels) {
  std::string defs = R"("a0": {"type": "null"})";
  for (int i = 1; i <= levels; ++i) {
    const std::string items = R"({"items": {"$ref": "#/$defs/a)" + std::to_string(i - 1) + "\"}, ";
    defs += ", \"a" + std::to_string(i) + R"(": {"anyOf": [)" + items + R"("minItems": 1}, )" + items +
            R"("minItems": 1, "maxItems": 2}]})";
  }
  return R"({"$ref": "#/$defs/a)" + std::to_string(levels) + R"(", "$defs": {)" + defs + "}}";
}

TEST(Matcher, RefusesAlternativesThatBeginAlikeWithoutEnd) {
  Matcher few = matcher_of(alike(3));
  EXPECT_EQ(verdict(few, "[[[null,null]],[[null]]]"), "yes");
  EXPECT_EQ(verdict(few, "[[[["), "no");
  Matcher many = matcher_of(alike(20));
  try {
    verdict(many, std::string(20, '['));
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidRequest);
    EXPECT_THAT(error.what(), HasSubstr("too many alternatives begin alike"));
  }
}

TEST(Matcher, FollowsManyMembersThatMayBeLeftOut) {
  std::string members;
  for (int i = 0; i < 300; ++i)
    members += (i ? ", \"p" : "\"p") + std::to_string(i) + R"(": {"type": "null"})";
  Matcher matcher = matcher_of(R"({"properties": {)" + members + "}}");
  EXPECT_EQ(verdict(matcher, R"({"p0":null,"p150": null,"p299":null})"), "yes");
  EXPECT_EQ(verdict(matcher, R"({"p0":null,"p150":null,"p149)"), "no");
}

TEST(Matcher, KeepsWhereToReturnToWhenItForgets) {
  Matcher matcher = matcher_of("{}");
  Matcher::Place place = matcher.begin();
  const std::string deep = nested(200, R"({"a":[)", "", "");
  for (const char c : deep) place = matcher.after(place, static_cast<uint8_t>(c));
  const int64_t before = matcher.bytes();
  place = matcher.forget_all_but(place);
  EXPECT_LT(matcher.bytes(), before / 10);
  for (int i = 0; i < 200; ++i) {
    EXPECT_FALSE(matcher.can_end(place));
    EXPECT_EQ(matcher.after(place, '}'), Matcher::kNowhere);
    for (const char c : std::string("]}")) place = matcher.after(place, static_cast<uint8_t>(c));
    ASSERT_NE(place, Matcher::kNowhere);
  }
  EXPECT_TRUE(matcher.can_end(place));
}

TEST(Matcher, KnowsPlacesAgainAndForgets) {
  Matcher matcher = matcher_of(R"({"type": "array", "items": {"type": "string"}})");
  const auto walk = [&](const std::string& text, Matcher::Place place) {
    for (const char c : text) place = matcher.after(place, static_cast<uint8_t>(c));
    return place;
  };
  const Matcher::Place inside = walk(R"(["a)", matcher.begin());
  EXPECT_EQ(walk("bcé", inside), inside);  // within a string nothing changes
  EXPECT_EQ(walk(R"(","x)", inside), inside);
  const int64_t known = matcher.size();
  walk(R"(", "y"])", inside);
  const int64_t more = matcher.size();
  EXPECT_GT(more, known);
  walk(R"(", "y"])", inside);
  EXPECT_EQ(matcher.size(), more);
  const Matcher::Place kept = matcher.forget_all_but(inside);
  EXPECT_EQ(matcher.size(), 1);
  EXPECT_TRUE(matcher.can_end(walk(R"("])", kept)));
  EXPECT_EQ(walk(R"("]x)", kept), Matcher::kNowhere);
}

}  // namespace
}  // namespace longspan
