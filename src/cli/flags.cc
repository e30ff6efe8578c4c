#include "cli/flags.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <longspan/error.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <charconv>
#include <cmath>
#include <limits>

#include "base/nearest.h"

namespace longspan::cli {
namespace {

constexpr int64_t kUnbounded = std::numeric_limits<int32_t>::max();

[[noreturn]] void bad_value(const std::string& flag, const std::string& text, const std::string& rule) {
  throw Error(ErrorCode::kUsage, fmt::format("{} {}: {}", flag, text.empty() ? "\"\"" : text, rule));
}

std::string range_text(int64_t min, int64_t max) {
  return max >= kUnbounded ? fmt::format("a whole number >= {}", min)
                           : fmt::format("a whole number from {} to {}", min, max);
}

std::string join_words(const FlagSet::Choices& choices, const char* separator) {
  std::string joined;
  for (const auto& [word, meaning] : choices) joined += (joined.empty() ? "" : separator) + word;
  return joined;
}

std::string choose(const std::string& flag, const std::string& text, const FlagSet::Choices& choices,
                   const FlagSet::Refused& refused) {
  std::vector<std::string> words;
  for (const auto& [word, meaning] : choices) {
    if (word == text) return meaning;
    words.push_back(word);
  }
  if (const auto it = refused.find(text); it != refused.end()) {
    throw Error(ErrorCode::kNotSupported, fmt::format("{} {}: {}", flag, text, it->second));
  }
  const std::string near = nearest(text, words);
  bad_value(flag, text,
            fmt::format("must be {}{}{}", words.size() > 1 ? "one of " : "", join_words(choices, ", "),
                        near.empty() ? "" : fmt::format("; did you mean {}?", near)));
}

}  // namespace

std::string flag_name(const std::string& names) {
  const size_t begin = names.find("--");
  if (begin == std::string::npos) return names.substr(0, names.find(','));
  return names.substr(begin, names.find(',', begin) - begin);
}

std::string environment_name(const std::string& flag) {
  std::string name = "LONGSPAN_";
  for (const char c : flag.substr(flag.find_first_not_of('-'))) {
    name += c == '-' ? '_' : (c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c);
  }
  return name;
}

int64_t parse_integer(const std::string& flag, const std::string& text, int64_t min, int64_t max) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = end == text.data() + text.size() && !text.empty();
  if (!whole || error == std::errc::invalid_argument)
    bad_value(flag, text, "must be " + range_text(min, max));
  if (error == std::errc::result_out_of_range || value < min || value > max) {
    const bool low = text[0] == '-' || (error == std::errc() && value < min);
    bad_value(flag, text, fmt::format("must be {}; nearest: {}", range_text(min, max), low ? min : max));
  }
  return value;
}

double parse_number(const std::string& flag, const std::string& text, double min, bool min_is_legal,
                    double max) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool parsed = error == std::errc() && end == text.data() + text.size() && std::isfinite(value);
  if (parsed && (min_is_legal ? value >= min : value > min) && value <= max) return value;
  const std::string low = fmt::format("{} {}", min_is_legal ? ">=" : ">", min);
  bad_value(flag, text,
            std::isinf(max) ? fmt::format("must be a number {}", low)
                            : fmt::format("must be a number {} and <= {}", low, max));
}

std::vector<int64_t> parse_integers(const std::string& flag, const std::string& text, int64_t min,
                                    int64_t max) {
  std::vector<int64_t> values;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    values.push_back(parse_integer(flag, text.substr(begin, end - begin), min, max));
    begin = end + 1;
  }
  return values;
}

void FlagSet::value(const std::string& names, const std::string& default_text, const std::string& unit,
                    const std::string& help,
                    const std::function<void(const std::string&, const std::string&)>& parse) {
  const std::string flag = flag_name(names);
  CLI::Option* option = app_.add_option_function<std::string>(
      names, [flag, parse](const std::string& text) { parse(flag, text); }, help);
  option->take_last()->type_name(unit)->envname(environment_name(flag));
  if (!default_text.empty()) option->default_str(default_text);
}

void FlagSet::integer(const std::string& names, int32_t& target, int64_t min, int64_t max,
                      const std::string& unit, const std::string& help) {
  max = std::min<int64_t>(max, std::numeric_limits<int32_t>::max());
  value(names, fmt::format("{}", target), unit, help,
        [&target, min, max](const std::string& flag, const std::string& text) {
          target = static_cast<int32_t>(parse_integer(flag, text, min, max));
        });
}

void FlagSet::integer(const std::string& names, int64_t& target, int64_t min, int64_t max,
                      const std::string& unit, const std::string& help) {
  value(names, fmt::format("{}", target), unit, help,
        [&target, min, max](const std::string& flag, const std::string& text) {
          target = parse_integer(flag, text, min, max);
        });
}

void FlagSet::unsigned_integer(const std::string& names, uint64_t& target, const std::string& unit,
                               const std::string& help) {
  value(names, fmt::format("{}", target), unit, help,
        [&target](const std::string& flag, const std::string& text) {
          const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), target);
          if (error != std::errc() || end != text.data() + text.size()) {
            bad_value(flag, text, "must be a whole number from 0 to 18446744073709551615");
          }
        });
}

void FlagSet::integers(const std::string& names, std::vector<int64_t>& target, int64_t min, int64_t max,
                       const std::string& unit, const std::string& help) {
  value(names, fmt::format("{}", fmt::join(target, ",")), unit, help,
        [&target, min, max](const std::string& flag, const std::string& text) {
          target = parse_integers(flag, text, min, max);
        });
}

void FlagSet::number(const std::string& names, double& target, double min, bool min_is_legal, double max,
                     const std::string& unit, const std::string& help) {
  value(names, fmt::format("{}", target), unit, help,
        [=, &target](const std::string& flag, const std::string& text) {
          target = parse_number(flag, text, min, min_is_legal, max);
        });
}

void FlagSet::text(const std::string& names, std::string& target, const std::string& unit,
                   const std::string& help) {
  value(names, target, unit, help, [&target](const std::string&, const std::string& text) { target = text; });
}

void FlagSet::texts(const std::string& names, std::vector<std::string>& target, const std::string& unit,
                    const std::string& help, char separator) {
  const std::string flag = flag_name(names);
  app_.add_option_function<std::vector<std::string>>(
          names,
          [&target, flag](const std::vector<std::string>& texts) {
            for (const std::string& text : texts) {
              if (text.empty()) bad_value(flag, text, "must not be empty");
            }
            target = texts;
          },
          help)
      ->delimiter(separator)
      ->type_size(1)
      ->expected(1)
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->type_name(unit)
      ->envname(environment_name(flag));
}

void FlagSet::choice(const std::string& names, std::string& target, const Choices& choices,
                     const Refused& refused, const std::string& help) {
  value(names, target, join_words(choices, "|"), help,
        [&target, choices, refused](const std::string& flag, const std::string& text) {
          target = choose(flag, text, choices, refused);
        });
}

void FlagSet::fixed(const std::string& names, const std::string& word, const Refused& refused,
                    const std::string& help) {
  value(names, word, word, help, [word, refused](const std::string& flag, const std::string& text) {
    choose(flag, text, {{word, word}}, refused);
  });
}

void FlagSet::toggle(const std::string& names, bool& target, bool on, const std::string& help) {
  const std::string flag = flag_name(names);
  app_.add_flag_function(
          names, [&target, on](int64_t count) { target = count > 0 ? on : !on; }, help)
      ->check([flag](const std::string& text) {
        if (text != "true" && text != "false" && text != "1" && text != "0")
          bad_value(flag, text, "must be true, false, 1 or 0");
        return std::string();
      })
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)
      ->envname(environment_name(flag_name(names)));
}

void FlagSet::positional(const std::string& name, std::string& target, const std::string& help) {
  app_.add_option_function<std::string>(
          name, [&target](const std::string& text) { target = text; }, help)
      ->type_name("");
}

void FlagSet::accepted(const std::string& names) {
  app_.add_flag_callback(
          names, [] {}, "")
      ->group("")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
}

void FlagSet::ignored(const std::string& names, bool takes_value) {
  const std::string flag = flag_name(names);
  auto* notes = &notes_;
  CLI::Option* option = takes_value
                            ? app_.add_option_function<std::string>(
                                  names, [flag, notes](const std::string&) { notes->push_back(flag); }, "")
                            : app_.add_flag_callback(
                                  names, [flag, notes] { notes->push_back(flag); }, "");
  option->group("")->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
}

void FlagSet::refused(const std::string& names, bool takes_value, const std::string& message) {
  const std::string flag = flag_name(names);
  const auto refuse = [flag, message] {
    throw Error(ErrorCode::kNotSupported, fmt::format("{}: {}", flag, message));
  };
  CLI::Option* option = takes_value ? app_.add_option_function<std::string>(
                                          names, [refuse](const std::string&) { refuse(); }, "")
                                    : app_.add_flag_callback(names, refuse, "");
  option->group("")->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
}

}  // namespace longspan::cli
