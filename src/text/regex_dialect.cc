#include "text/regex_dialect.h"

#include <fmt/format.h>
#include <longspan/error.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <vector>

#include "base/utf8.h"
#include "text/unicode_tables.h"

namespace longspan {
namespace {

constexpr std::string_view kCategories[] = {"L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc", "Me",
                                            "N",  "Nd", "Nl", "No", "P",  "Pc", "Pd", "Ps", "Pe", "Pi",
                                            "Pf", "Po", "S",  "Sm", "Sc", "Sk", "So", "Z",  "Zs", "Zl"};

// Case folding makes these pairs equal to one character (a ligature, a sharp s) in Oniguruma only.
constexpr std::string_view kFoldingPairs[] = {"ss", "ff", "fi", "fl", "st"};

class Translator {
 public:
  explicit Translator(std::string_view pattern) : pattern_(pattern) {}

  std::string run() {
    while (at_ < pattern_.size()) item();
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(std::string_view what) const {
    throw Error(ErrorCode::kNotSupported,
                fmt::format("pre-tokeniser regex: {} at byte {} is not supported (pattern: {})", what, at_,
                            replace_invalid_utf8(pattern_.substr(0, 200))));
  }

  bool looking_at(std::string_view text) const { return pattern_.substr(at_).starts_with(text); }
  bool caseless() const { return !groups_.empty() && groups_.back(); }
  void copy(size_t bytes) {
    out_ += pattern_.substr(at_, bytes);
    at_ += bytes;
  }

  void item() {
    const char c = pattern_[at_];
    if (caseless()) {
      caseless_item(c);
    } else if (c == '\\') {
      escape(false);
    } else if (c == '[') {
      char_class();
    } else if (c == '(') {
      open_group();
    } else if (c == ')') {
      close_group();
    } else if (c == '*' || c == '+' || c == '?') {
      copy(1);
      if (at_ < pattern_.size() && (pattern_[at_] == '?' || pattern_[at_] == '+')) copy(1);
    } else if (c == '{') {
      interval();
    } else if (c == '^' || c == '$' || c == ']' || c == '}') {
      refuse(fmt::format("'{}'", c));
    } else {
      copy(1);  // a literal, '.' or '|'
    }
  }

  void caseless_item(char c) {
    if (c == ')') return close_group();
    const bool letter = std::isalpha(static_cast<unsigned char>(c)) != 0;
    if (!letter && c != '\'' && c != '|' && c != ' ') refuse("anything but ASCII letters in (?i: )");
    if (letter && at_ > 0) {
      const char pair[] = {static_cast<char>(std::tolower(static_cast<unsigned char>(pattern_[at_ - 1]))),
                           static_cast<char>(std::tolower(static_cast<unsigned char>(c)))};
      if (std::ranges::count(kFoldingPairs, std::string_view(pair, 2)) != 0) {
        refuse(fmt::format("\"{}\" in (?i: )", std::string_view(pair, 2)));
      }
    }
    copy(1);
  }

  void open_group() {
    if (looking_at("(*")) refuse("\"(*\"");
    if (!looking_at("(?")) {
      groups_.push_back(false);
      copy(1);
      return;
    }
    for (const std::string_view opening : {"(?:", "(?=", "(?!", "(?>", "(?i:"}) {
      if (looking_at(opening)) {
        groups_.push_back(opening == "(?i:");
        copy(opening.size());
        return;
      }
    }
    refuse(fmt::format("group \"{}\"", replace_invalid_utf8(pattern_.substr(at_, 4))));
  }

  void close_group() {
    if (groups_.empty()) refuse("unmatched ')'");
    groups_.pop_back();
    copy(1);
  }

  void interval() {
    const size_t close = pattern_.find('}', at_);
    const std::string_view body = pattern_.substr(at_ + 1, close == pattern_.npos ? close : close - at_ - 1);
    const auto allowed = [](char c) { return (c >= '0' && c <= '9') || c == ','; };
    if (close == pattern_.npos || body.empty() || body[0] == ',' || std::ranges::count(body, ',') > 1 ||
        !std::ranges::all_of(body, allowed)) {
      refuse("'{' that is not {n}, {n,} or {n,m}");
    }
    copy(body.size() + 2);
    if (at_ < pattern_.size() && (pattern_[at_] == '+' || pattern_[at_] == '?'))
      refuse("'+' or '?' after '}'");
  }

  // One escape; true if it stands for a set of characters.
  bool escape(bool in_class) {
    if (at_ + 1 == pattern_.size()) refuse("a '\\' at the end");
    const char c = pattern_[at_ + 1];
    switch (c) {
      case 'r':
      case 'n':
      case 't':
      case 'f':
        copy(2);
        return false;
      case 's':  // PCRE2's own \s counts U+180E too
      case 'S':
        out_ += c == 's' ? "\\p{White_Space}" : "\\P{White_Space}";
        at_ += 2;
        return true;
      case 'd':
      case 'D':
        at_ += 2;
        category("Nd", c == 'D', in_class);
        return true;
      case 'p':
      case 'P': {
        const size_t close = pattern_.find('}', at_);
        if (pattern_.substr(at_ + 2, 1) != "{" || close == pattern_.npos) refuse("\\p without {name}");
        const std::string_view name = pattern_.substr(at_ + 3, close - at_ - 3);
        if (std::ranges::count(kCategories, name) == 0) {
          refuse(fmt::format("property \\p{{{}}} (known: general categories)", replace_invalid_utf8(name)));
        }
        at_ = close + 1;
        category(name, c == 'P', in_class);
        return true;
      }
      default:
        if (static_cast<unsigned char>(c) >= 0x80 || std::isalnum(static_cast<unsigned char>(c)) != 0) {
          refuse(fmt::format("escape \\{}", static_cast<unsigned char>(c) < 0x80 ? c : '?'));
        }
        copy(2);
        return false;
    }
  }

  // A general category with the characters that PCRE2 may not know yet.
  void category(std::string_view name, bool negated, bool in_class) {
    if (negated && in_class) refuse("a negated category inside [ ]");
    if (!in_class) out_ += negated ? "[^" : "[";
    out_ += fmt::format("\\p{{{}}}", name);
    for (const CategoryRange& range : newer_characters()) {
      if (std::string_view(range.category).starts_with(name)) {
        out_ += fmt::format("\\x{{{:x}}}-\\x{{{:x}}}", range.first, range.last);
      }
    }
    if (!in_class) out_ += ']';
  }

  void char_class() {
    copy(1);
    if (at_ < pattern_.size() && pattern_[at_] == '^') copy(1);
    if (at_ < pattern_.size() && pattern_[at_] == ']') refuse("an empty class");
    bool after_set = false;  // the item before was a set, so a '-' would not be a range
    while (at_ < pattern_.size() && pattern_[at_] != ']') {
      const char c = pattern_[at_];
      if (c == '[') refuse("'[' inside [ ] (write \\[)");
      if (looking_at("&&")) refuse("'&&' inside [ ]");
      if (c == '-' && after_set && !looking_at("-]")) refuse("'-' after a class inside [ ]");
      if (c == '-' && looking_at("-\\") && !looking_at("-\\]") && set_escape_follows()) {
        refuse("a range that ends in a class");
      }
      after_set = false;
      if (c == '\\') {
        after_set = escape(true);
      } else {
        copy(1);
      }
    }
    if (at_ == pattern_.size()) refuse("a '[' without ']'");
    copy(1);
  }

  bool set_escape_follows() const {
    return at_ + 2 < pattern_.size() &&
           std::string_view("sSdDpP").find(pattern_[at_ + 2]) != std::string_view::npos;
  }

  std::string_view pattern_;
  size_t at_ = 0;
  std::string out_;
  std::vector<bool> groups_;  // open groups; true: caseless
};

}  // namespace

std::string to_pcre2_pattern(std::string_view oniguruma) {
  return Translator(oniguruma).run();
}

}  // namespace longspan
