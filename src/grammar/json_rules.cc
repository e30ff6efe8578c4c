#include "grammar/json_rules.h"

namespace longspan {
namespace {

constexpr int64_t kMostIndent = 20;
constexpr int64_t kMostDigits = 15;
constexpr int64_t kMostExponentDigits = 2;

struct Range {
  uint8_t low, high;
};

}  // namespace

void JsonRules::add_byte(int32_t from, int32_t to, char byte) {
  grammar_.add_bytes(from, to, static_cast<uint8_t>(byte), static_cast<uint8_t>(byte));
}

int32_t JsonRules::add_colon(int32_t from) {
  const int32_t colon = grammar_.add_node(), after = grammar_.add_node();
  add_byte(from, colon, ':');
  grammar_.add_call(colon, after, space());
  return after;
}

void JsonRules::add_repeated(int32_t from, int32_t to, const Part& part, int64_t least,
                             std::optional<int64_t> most) {
  for (int64_t i = 0; i < least; ++i) {
    const int32_t next = grammar_.add_node();
    part(from, next);
    from = next;
  }
  for (int64_t i = least; most && i < *most; ++i) {
    grammar_.add_nothing(from, to);
    const int32_t next = grammar_.add_node();
    part(from, next);
    from = next;
  }
  grammar_.add_nothing(from, to);
  if (!most) part(from, from);
}

int32_t JsonRules::space() {
  if (space_ >= 0) return space_;
  space_ = grammar_.add_rule();
  const auto [begin, end] = grammar_.rule(space_);
  grammar_.add_nothing(begin, end);
  add_byte(begin, end, ' ');
  const int32_t line = grammar_.add_node();
  add_byte(begin, line, '\n');
  add_repeated(
      line, end,
      [this](int32_t from, int32_t to) {
        add_byte(from, to, ' ');
        add_byte(from, to, '\t');
      },
      0, kMostIndent);
  return space_;
}

int32_t JsonRules::character() {
  if (character_ >= 0) return character_;
  character_ = grammar_.add_rule();
  const auto [begin, end] = grammar_.rule(character_);
  for (const Range plain : {Range{0x20, '"' - 1}, Range{'"' + 1, '\\' - 1}, Range{'\\' + 1, 0x7F}})
    grammar_.add_bytes(begin, end, plain.low, plain.high);
  // UTF-8, from the last byte backwards.
  const int32_t one = grammar_.add_node(), two = grammar_.add_node();
  grammar_.add_bytes(one, end, 0x80, 0xBF);
  grammar_.add_bytes(two, one, 0x80, 0xBF);
  grammar_.add_bytes(begin, one, 0xC2, 0xDF);
  const auto lead = [&](Range first, Range second, int32_t to) {
    const int32_t node = grammar_.add_node();
    grammar_.add_bytes(begin, node, first.low, first.high);
    grammar_.add_bytes(node, to, second.low, second.high);
  };
  lead({0xE0, 0xE0}, {0xA0, 0xBF}, one);
  lead({0xE1, 0xEC}, {0x80, 0xBF}, one);
  lead({0xED, 0xED}, {0x80, 0x9F}, one);
  lead({0xEE, 0xEF}, {0x80, 0xBF}, one);
  lead({0xF0, 0xF0}, {0x90, 0xBF}, two);
  lead({0xF1, 0xF3}, {0x80, 0xBF}, two);
  lead({0xF4, 0xF4}, {0x80, 0x8F}, two);

  const int32_t escape = grammar_.add_node();
  add_byte(begin, escape, '\\');
  for (const char c : {'"', '\\', '/', 'b', 'f', 'n', 'r', 't'}) add_byte(escape, end, c);
  const auto hex = [&](int32_t from, int32_t to) {
    for (const Range range : {Range{'0', '9'}, Range{'A', 'F'}, Range{'a', 'f'}})
      grammar_.add_bytes(from, to, range.low, range.high);
  };
  const int32_t u = grammar_.add_node(), d = grammar_.add_node();
  const int32_t three = grammar_.add_node(), pair = grammar_.add_node(), last = grammar_.add_node();
  add_byte(escape, u, 'u');
  for (const Range first :
       {Range{'0', '9'}, Range{'A', 'C'}, Range{'E', 'F'}, Range{'a', 'c'}, Range{'e', 'f'}})
    grammar_.add_bytes(u, three, first.low, first.high);
  for (const char first : {'D', 'd'}) add_byte(u, d, first);
  grammar_.add_bytes(d, pair, '0', '7');
  hex(three, pair);
  hex(pair, last);
  hex(last, end);
  return character_;
}

int32_t JsonRules::string() {
  if (string_ >= 0) return string_;
  string_ = grammar_.add_rule();
  const auto [begin, end] = grammar_.rule(string_);
  const int32_t inside = grammar_.add_node();
  add_byte(begin, inside, '"');
  grammar_.add_call(inside, inside, character());
  add_byte(inside, end, '"');
  return string_;
}

// From one digit to `most`; returns the node after them.
int32_t JsonRules::digits(int32_t from, int64_t most) {
  const int32_t to = grammar_.add_node();
  add_repeated(
      from, to, [this](int32_t a, int32_t b) { grammar_.add_bytes(a, b, '0', '9'); }, 1, most);
  return to;
}

int32_t JsonRules::integer() {
  if (integer_ >= 0) return integer_;
  integer_ = grammar_.add_rule();
  const auto [begin, end] = grammar_.rule(integer_);
  const int32_t first = grammar_.add_node(), rest = grammar_.add_node();
  grammar_.add_nothing(begin, first);
  add_byte(begin, first, '-');
  add_byte(first, end, '0');
  grammar_.add_bytes(first, rest, '1', '9');
  add_repeated(
      rest, end, [this](int32_t a, int32_t b) { grammar_.add_bytes(a, b, '0', '9'); }, 0, kMostDigits - 1);
  return integer_;
}

int32_t JsonRules::number() {
  if (number_ >= 0) return number_;
  number_ = grammar_.add_rule();
  const auto [begin, end] = grammar_.rule(number_);
  const int32_t whole = grammar_.add_node(), point = grammar_.add_node();
  grammar_.add_call(begin, whole, integer());
  grammar_.add_nothing(whole, end);
  add_byte(whole, point, '.');
  const int32_t fraction = digits(point, kMostDigits);
  grammar_.add_nothing(fraction, end);
  const int32_t sign = grammar_.add_node(), exponent = grammar_.add_node();
  for (const int32_t mantissa : {whole, fraction}) {
    add_byte(mantissa, sign, 'e');
    add_byte(mantissa, sign, 'E');
  }
  grammar_.add_nothing(sign, exponent);
  add_byte(sign, exponent, '+');
  add_byte(sign, exponent, '-');
  grammar_.add_nothing(digits(exponent, kMostExponentDigits), end);
  return number_;
}

void JsonRules::add_array(int32_t from, int32_t to, const Part& item, int64_t least,
                          std::optional<int64_t> most) {
  const int32_t open = grammar_.add_node();
  add_byte(from, open, '[');
  if (least == 0) add_byte(open, to, ']');
  if (most && *most == 0) return;
  const int32_t before = grammar_.add_node(), after = grammar_.add_node(), last = grammar_.add_node();
  grammar_.add_call(open, before, space());
  item(before, after);
  std::optional<int64_t> further;
  if (most) further = *most - 1;
  add_repeated(
      after, last,
      [&](int32_t a, int32_t b) {
        const int32_t comma = grammar_.add_node(), next = grammar_.add_node();
        add_byte(a, comma, ',');
        grammar_.add_call(comma, next, space());
        item(next, b);
      },
      least > 1 ? least - 1 : 0, further);
  const int32_t close = grammar_.add_node();
  grammar_.add_call(last, close, space());
  add_byte(close, to, ']');
}

void JsonRules::add_map(int32_t from, int32_t to, const Part& value) {
  const int32_t open = grammar_.add_node(), first = grammar_.add_node();
  const int32_t member = grammar_.add_node(), comma = grammar_.add_node(), close = grammar_.add_node();
  add_byte(from, open, '{');
  add_byte(open, to, '}');
  grammar_.add_call(open, first, space());
  const int32_t name = grammar_.add_node();
  grammar_.add_call(first, name, string());
  value(add_colon(name), member);
  add_byte(member, comma, ',');
  grammar_.add_call(comma, first, space());
  grammar_.add_call(member, close, space());
  add_byte(close, to, '}');
}

int32_t JsonRules::any() {
  if (any_ >= 0) return any_;
  any_ = grammar_.add_rule();
  const auto [begin, end] = grammar_.rule(any_);
  for (const char* word : {"true", "false", "null"}) grammar_.add_text(begin, end, word);
  grammar_.add_call(begin, end, string());
  grammar_.add_call(begin, end, number());
  const Part item = [this](int32_t from, int32_t to) { grammar_.add_call(from, to, any_); };
  add_array(begin, end, item, 0, std::nullopt);
  add_map(begin, end, item);
  return any_;
}

}  // namespace longspan
