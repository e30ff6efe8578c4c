#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/reference.h"

namespace longspan::cli {
namespace {

// Inside of single quotes; `special` characters of the text are the text's own.
std::string quoted(const std::string& text, const std::string& special) {
  std::string escaped;
  for (const char c : text) {
    if (special.find(c) != std::string::npos) escaped += '\\';
    escaped += c == '\'' ? "'\\''" : std::string(1, c);
  }
  return escaped;
}

std::string action(const std::string& unit) {
  const ValueKind kind = value_kind(unit);
  switch (kind.type) {
    case ValueKind::kFolder:
      return "_files -/";
    case ValueKind::kFile:
      return "_files";
    case ValueKind::kWords:
      return fmt::format("({})", fmt::join(kind.words, " "));
    case ValueKind::kAny:
      break;
  }
  return " ";
}

// For _arguments, one word for each name. Any may come again: the last one counts, or all do.
std::string argument(const FlagReference& flag) {
  std::string names;
  for (const std::string& name : flag.names) {
    const bool takes_equals = !flag.unit.empty() && name.starts_with("--");
    names += fmt::format("{}{}{}", names.empty() ? "" : ",", name, takes_equals ? "=" : "");
  }
  if (flag.names.size() > 1) names = "{" + names + "}";
  std::string text = fmt::format("        '*'{}'[{}]", names, quoted(flag.help, "[]\\"));
  if (!flag.unit.empty()) text += fmt::format(":{}:{}", quoted(flag.unit, ":\\"), action(flag.unit));
  return text + "' \\\n";
}

}  // namespace

std::string zsh_completion(const std::vector<CommandReference>& commands) {
  std::string names, cases;
  for (const CommandReference& command : commands) {
    names += fmt::format("    '{}:{}'\n", command.name, quoted(command.summary, ":\\"));
    cases += fmt::format("    {})\n      _arguments \\\n", command.name);
    for (const FlagReference& flag : command.flags) cases += argument(flag);
    if (!command.words.empty())
      cases += fmt::format("        '1:task:({})' \\\n", fmt::join(command.words, " "));
    cases += "        && return ;;\n";
  }
  return fmt::format(R"(#compdef longspan
# Completion for zsh of the commands and flags of longspan.
_longspan() {{
  local -a commands=(
{0}    'help:Show the flags of a command, a man page or a completion script'
  )
  if (( CURRENT == 2 )); then
    [[ $PREFIX == -* ]] && compadd -- --help --version
    _describe -t commands command commands
    return
  fi
  shift words
  (( CURRENT-- ))
  case $words[1] in
{1}    help)
      (( CURRENT == 2 )) || return 1
      _describe -t commands command commands
      compadd man bash zsh ;;
  esac
}}
if [[ $funcstack[1] == _longspan ]]; then
  _longspan "$@"
else
  compdef _longspan longspan
fi
)",
                     names, cases);
}

}  // namespace longspan::cli
