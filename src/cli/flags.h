#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace CLI {
class App;
}

namespace longspan::cli {

/// Adds the flags of one command to a CLI11 parser, so that every flag has one environment form, one line of
/// help with its unit, and one way to say what is wrong with a value. `names` are comma-separated, as CLI11
/// takes them: "-m,--model,--model-path"; the first long one names the flag in messages and, in capitals with
/// underscores, its variable. Targets hold the defaults and must outlive the parse. Values are checked while
/// parsing; Error(kUsage) and Error(kNotSupported) escape from it.
class FlagSet {
 public:
  /// Words that are accepted, and what each stands for (usually itself).
  using Choices = std::vector<std::pair<std::string, std::string>>;
  /// Words that are known and refused, and what to say.
  using Refused = std::map<std::string, std::string>;

  FlagSet(CLI::App& app, std::vector<std::string>& notes) : app_(app), notes_(notes) {}

  void integer(const std::string& names, int32_t& target, int64_t min, int64_t max, const std::string& unit,
               const std::string& help);
  void integer(const std::string& names, int64_t& target, int64_t min, int64_t max, const std::string& unit,
               const std::string& help);
  void unsigned_integer(const std::string& names, uint64_t& target, const std::string& unit,
                        const std::string& help);
  /// Comma-separated whole numbers; the list is never empty.
  void integers(const std::string& names, std::vector<int64_t>& target, int64_t min, int64_t max,
                const std::string& unit, const std::string& help);
  /// A finite number; `min` itself is legal only if `min_is_legal`.
  void number(const std::string& names, double& target, double min, bool min_is_legal, double max,
              const std::string& unit, const std::string& help);
  void text(const std::string& names, std::string& target, const std::string& unit, const std::string& help);
  /// May be given several times; no text may be empty. `separator`: between several in one value; '\0': none.
  void texts(const std::string& names, std::vector<std::string>& target, const std::string& unit,
             const std::string& help, char separator = '\0');
  void choice(const std::string& names, std::string& target, const Choices& choices, const Refused& refused,
              const std::string& help);
  /// A choice with one legal word.
  void fixed(const std::string& names, const std::string& word, const Refused& refused,
             const std::string& help);
  /// A flag without a value; `on` is what the target becomes.
  void toggle(const std::string& names, bool& target, bool on, const std::string& help);
  void positional(const std::string& name, std::string& target, const std::string& help);
  /// Any other value; `parse` gets the flag's name and the text.
  void value(const std::string& names, const std::string& default_text, const std::string& unit,
             const std::string& help,
             const std::function<void(const std::string& flag, const std::string& text)>& parse);

  /// A switch that says what other flags imply: accepted.
  void accepted(const std::string& names);
  /// Known elsewhere, without effect here: accepted, with a note.
  void ignored(const std::string& names, bool takes_value);
  void refused(const std::string& names, bool takes_value, const std::string& message);

 private:
  CLI::App& app_;
  std::vector<std::string>& notes_;
};

/// The first long name in `names`, with its dashes; a flag without one gives its short name.
std::string flag_name(const std::string& names);
/// "--page-size" -> "LONGSPAN_PAGE_SIZE".
std::string environment_name(const std::string& flag);

/// A whole number in [min, max]. Throws Error(kUsage) "FLAG TEXT: ..." with the nearest legal value.
int64_t parse_integer(const std::string& flag, const std::string& text, int64_t min, int64_t max);
/// A finite number in [min, max], or (min, max] unless `min_is_legal`.
double parse_number(const std::string& flag, const std::string& text, double min, bool min_is_legal,
                    double max);
/// Comma-separated parse_integer.
std::vector<int64_t> parse_integers(const std::string& flag, const std::string& text, int64_t min,
                                    int64_t max);

}  // namespace longspan::cli
