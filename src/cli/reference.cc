#include "cli/reference.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

namespace longspan::cli {
namespace {

constexpr const char* kDescription = R"(.SH DESCRIPTION
Longspan prefills very long prompts for large language models on several ranks and generates from them: each rank
computes two blocks of every long prompt, and the tokens are the same on any number of ranks.
)";

constexpr const char* kClosing = R"(.SH ENVIRONMENT
Each flag has a variable, named with it above; the flag wins. A switch is on with 1 or true.
.SH EXIT STATUS
.TP
.B 0
success
.TP
.B 1
some request failed; its line says why, and the others are complete
.TP
.B 2
bad usage or an illegal layout
.TP
.B 3
a model or input file can't be read, or an output can't be written
.TP
.B 4
out of memory or of KV pages
.TP
.B 5
a rank was lost
.TP
.B 130
interrupted
.SH FILES
.TP
.I /etc/longspan/serve.env
variables for the systemd unit longspan.service, one a line
.TP
.I /usr/share/longspan/
the model in the box, evaluation data, a Grafana dashboard
.TP
.I /usr/share/doc/longspan/serving.md
the server's manual
)";

// A name that is typed: its hyphens are minus signs.
std::string typed(const std::string& word) {
  std::string escaped;
  for (const char c : word) {
    if (c == '-') escaped += '\\';
    escaped += c == '\\' ? "\\e" : std::string(1, c);
  }
  return escaped;
}

std::string prose(const std::string& text) {
  std::string escaped;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(' ', begin), text.size() - 1) + 1;
    const std::string word = text.substr(begin, end - begin);
    escaped += word.find_first_not_of("(\"") == word.find('-') ? typed(word) : word;
    begin = end;
  }
  const bool is_request = escaped.starts_with('.') || escaped.starts_with('\'');
  return (is_request ? "\\&" : "") + escaped;
}

std::string flag_entry(const FlagReference& flag) {
  std::string text = ".TP\n";
  for (size_t i = 0; i < flag.names.size(); ++i)
    text += fmt::format("{}\\fB{}\\fR", i ? ", " : "", typed(flag.names[i]));
  if (!flag.unit.empty()) text += fmt::format(" \\fI{}\\fR", typed(flag.unit));
  text += "\n" + prose(flag.help) + ".";
  if (!flag.default_text.empty()) text += fmt::format(" Default: {}.", typed(flag.default_text));
  if (!flag.variable.empty()) text += fmt::format(" Variable: {}.", flag.variable);
  return text + "\n";
}

bool has(const CommandReference& command, const FlagReference& flag) {
  return std::any_of(command.flags.begin(), command.flags.end(), [&](const FlagReference& other) {
    return other.names == flag.names && other.unit == flag.unit && other.help == flag.help &&
           other.default_text == flag.default_text;
  });
}

bool in_all(const std::vector<CommandReference>& commands, const FlagReference& flag) {
  return std::all_of(commands.begin(), commands.end(),
                     [&](const CommandReference& command) { return has(command, flag); });
}

std::vector<std::string> names_of(const std::vector<CommandReference>& commands) {
  std::vector<std::string> names;
  for (const CommandReference& command : commands) names.push_back(command.name);
  return names;
}

// How bash completes a flag's value; "": not at all.
std::string value_completion(const std::string& unit) {
  const ValueKind kind = value_kind(unit);
  switch (kind.type) {
    case ValueKind::kFolder:
      return "_longspan_paths -d";
    case ValueKind::kFile:
      return "_longspan_paths -f";
    case ValueKind::kWords:
      return fmt::format("_longspan_words '{}'", fmt::join(kind.words, " "));
    case ValueKind::kAny:
      break;
  }
  return "";
}

}  // namespace

ValueKind value_kind(const std::string& unit) {
  if (unit == "FOLDER") return {ValueKind::kFolder, {}};
  if (unit == "FILE" || unit == "PATH") return {ValueKind::kFile, {}};
  if (unit.find('|') == std::string::npos) return {ValueKind::kAny, {}};
  std::vector<std::string> words;
  for (size_t begin = 0; begin <= unit.size();) {
    const size_t end = std::min(unit.find('|', begin), unit.size());
    const std::string word = unit.substr(begin, end - begin);
    const bool literal = std::none_of(word.begin(), word.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
    if (literal) words.push_back(word);
    begin = end + 1;
  }
  return {ValueKind::kWords, words};
}

std::string man_page(const std::vector<CommandReference>& commands, const std::string& version) {
  std::string text = fmt::format(
      ".TH LONGSPAN 1 \"\" \"longspan {}\"\n.nh\n.ad l\n.SH NAME\nlongspan \\- long prompts for large "
      "language models\n"
      ".SH SYNOPSIS\n.B longspan\n.I COMMAND\n[flags]\n.br\n.B longspan help\n.RI [ COMMAND ]\n",
      version);
  text += kDescription;
  text += ".SH COMMANDS\n";
  for (const CommandReference& command : commands) {
    text += fmt::format(".SS \"longspan {}{}\"\n{}.\n", typed(command.name),
                        command.words.empty() ? "" : fmt::format(" {}", fmt::join(command.words, "|")),
                        prose(command.summary));
    for (const FlagReference& flag : command.flags)
      if (!in_all(commands, flag)) text += flag_entry(flag);
    text += fmt::format(".PP\nExample: \\fB{}\\fR\n", typed(command.example));
  }
  text += ".SH FLAGS OF ALL COMMANDS\n";
  for (const FlagReference& flag : commands.front().flags)
    if (in_all(commands, flag)) text += flag_entry(flag);
  return text + kClosing;
}

std::string bash_completion(const std::vector<CommandReference>& commands) {
  std::string flags;
  std::map<std::string, std::vector<std::string>> values;  // how: COMMAND:FLAG patterns
  for (const CommandReference& command : commands) {
    std::vector<std::string> words = command.words;
    for (const FlagReference& flag : command.flags) {
      words.insert(words.end(), flag.names.begin(), flag.names.end());
      if (flag.unit.empty()) continue;
      const bool everywhere = in_all(commands, flag);
      if (everywhere && &command != &commands.front()) continue;
      for (const std::string& name : flag.names)
        values[value_completion(flag.unit)].push_back((everywhere ? "*" : command.name) + ":" + name);
    }
    flags += fmt::format("    {}) flags='{}' ;;\n", command.name, fmt::join(words, " "));
  }
  std::string cases;
  for (const auto& [how, patterns] : values)
    cases += fmt::format("    {}) {}{}return ;;\n", fmt::join(patterns, "|"), how, how.empty() ? "" : "; ");
  const std::string names = fmt::format("{}", fmt::join(names_of(commands), " "));
  return fmt::format(R"(# Completion for bash of the commands and flags of longspan.
_longspan_words() {{ mapfile -t COMPREPLY < <(compgen -W "$1" -- "$current"); }}
_longspan_paths() {{
  compopt -o filenames
  mapfile -t COMPREPLY < <(compgen "$1" -- "$current")
}}
_longspan() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD - 1]}} flags=
  if [[ $current == = ]]; then
    current=
  elif [[ $previous == = ]]; then
    previous=${{COMP_WORDS[COMP_CWORD - 2]}}
  fi
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    _longspan_words '{0} help --help --version'
    return
  fi
  case ${{COMP_WORDS[1]}} in
{1}    help) flags='{0} man bash zsh' ;;
  esac
  case ${{COMP_WORDS[1]}}:$previous in
{2}  esac
  _longspan_words "$flags"
}}
complete -F _longspan longspan
)",
                     names, flags, cases);
}

}  // namespace longspan::cli
