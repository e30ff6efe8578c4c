#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/chat_format.h"

namespace longspan {

struct ChatTurn {
  std::string role;  // "system", "user", "assistant"
  std::string content;
};

/// Renders chat turns as a model was trained to read them. ChatML (Qwen2, Qwen3) and Llama-3 are known; they
/// are recognised by their markers in the folder's chat template (tokenizer_config.json "chat_template", or
/// chat_template.jinja).
class ChatTemplate {
 public:
  using Kind = ChatFormat::Kind;  // kNone, kChatMl, kLlama3

  /// `override_name`: "" reads the folder; "chatml" or "llama3" forces one. A folder without a template gives
  /// kNone. Throws Error(kNotSupported) for a template that is not recognised, naming --chat-template;
  /// Error(kUsage) for another `override_name`; Error(kUnreadable) for malformed files.
  static ChatTemplate load(const std::filesystem::path& folder, std::string_view override_name);

  /// The plain form of a kind: no default system turn, no dates; Llama-3's BOS is <|begin_of_text|>.
  explicit ChatTemplate(Kind kind);
  explicit ChatTemplate(ChatFormat format) : format_(std::move(format)) {}

  Kind kind() const { return format_.kind; }

  /// The answer may begin with a <think> block.
  bool thinks() const { return format_.drops_thinking; }
  /// The generation prompt opens that block.
  bool opens_thinking() const { return format_.generation_suffix.find("<think>") != std::string::npos; }

  /// The prompt text, generation prompt included; to be encoded without the post-processor's additions.
  /// Throws Error(kInvalidRequest) for an empty list or an unknown role, for kNone (naming --chat-template),
  /// and for `thinking` false where the template can't switch it off.
  std::string render(const std::vector<ChatTurn>& turns, bool thinking = true) const;

 private:
  ChatFormat format_;
};

}  // namespace longspan
