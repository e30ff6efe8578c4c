#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace longspan {

/// How a chat template renders plain system, user and assistant turns.
struct ChatFormat {
  enum class Kind { kNone, kChatMl, kLlama3 };

  Kind kind = Kind::kNone;
  std::string bos;  // text before everything
  std::string
      default_system;  // ChatML: the system turn's content where the first turn is not one; empty: no turn
  std::string system_preamble;  // Llama-3.1: what stands before the system text; not empty: a system turn is
                                // always written, first
  std::string generation_suffix;  // what the generation prompt has after the assistant's header
  std::string thinking_off;  // what it has behind that if the chat is to be answered without thinking; empty:
                             // the template has no such switch
  bool drops_thinking = false;  // Qwen3: <think> blocks of turns before the last question are left out
};

/// What a Jinja chat template does, told from its text. Throws Error(kNotSupported), naming `file` and
/// --chat-template, for one that is neither ChatML nor Llama-3 or does more than ChatFormat can say.
ChatFormat recognize_chat_template(std::string_view jinja, std::string_view bos_token, std::string_view file);

/// A folder's template as published: "chat_template" and "bos_token" of tokenizer_config.json;
/// chat_template.jinja comes first where it is there. Throws Error(kUnreadable).
struct ChatTemplateSource {
  std::string jinja;      // empty: the folder has none
  std::string bos_token;  // empty: none
  std::string file;       // where the template was found
};
ChatTemplateSource read_chat_template(const std::filesystem::path& folder);

}  // namespace longspan
