#include "text/prompt_tokens.h"

namespace longspan {

std::vector<int32_t> prompt_tokens(const Prompt& prompt, const ChatOptions& chat, const Tokenizer& tokenizer,
                                   const ChatTemplate& chat_template) {
  if (const auto* text = std::get_if<std::string>(&prompt))
    return tokenizer.encode(*text, /*add_special=*/true);
  if (const auto* ids = std::get_if<std::vector<int32_t>>(&prompt)) return *ids;
  std::vector<ChatTurn> turns;
  for (const Message& message : std::get<std::vector<Message>>(prompt))
    turns.push_back({.role = message.role, .content = message.content});
  return tokenizer.encode(chat_template.render(turns, chat.enable_thinking), /*add_special=*/false);
}

}  // namespace longspan
