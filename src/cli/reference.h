#pragma once

#include <string>
#include <vector>

namespace longspan::cli {

/// A flag as --help shows it.
struct FlagReference {
  std::vector<std::string> names;  // "-m", "--model", "--model-path"
  std::string unit;                // "TOKENS", "bf16|f32"; "": it takes no value
  std::string default_text;        // "": none
  std::string help;
  std::string variable;  // "": none
};

struct CommandReference {
  std::string name, summary, example;
  std::vector<std::string> words;  // that may follow it: eval's tasks
  std::vector<FlagReference> flags;
};

/// A page for man(1), in troff. Flags that all commands have come once.
std::string man_page(const std::vector<CommandReference>& commands, const std::string& version);

/// What a flag's value may be, as its unit says.
struct ValueKind {
  enum Type { kAny, kFolder, kFile, kWords } type;
  std::vector<std::string> words;  // of kWords; none where all stand for something: "N|OFF"
};
ValueKind value_kind(const std::string& unit);

/// Scripts for shells: complete commands and flags, and values that are words, files or folders.
std::string bash_completion(const std::vector<CommandReference>& commands);
std::string zsh_completion(const std::vector<CommandReference>& commands);

}  // namespace longspan::cli
