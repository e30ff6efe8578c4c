#pragma once

#include <longspan/request.h>

#include <cstdint>
#include <vector>

#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace longspan {

/// Token ids of a prompt: ids as they are, a text with what the tokenizer adds, chats rendered by the
/// template and without that. Throws what the template and the tokenizer do.
std::vector<int32_t> prompt_tokens(const Prompt& prompt, const ChatOptions& chat, const Tokenizer& tokenizer,
                                   const ChatTemplate& chat_template);

}  // namespace longspan
