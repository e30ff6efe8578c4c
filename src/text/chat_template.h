#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

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
  enum class Kind { kNone, kChatMl, kLlama3 };

  /// `override_name`: "" reads the folder; "chatml" or "llama3" forces one. A folder without a template gives
  /// kNone. Throws Error(kNotSupported) for a template that is not recognised, naming --chat-template.
  static ChatTemplate load(const std::filesystem::path& folder, std::string_view override_name);
  explicit ChatTemplate(Kind kind) : kind_(kind) {}

  Kind kind() const { return kind_; }

  /// The prompt text, generation prompt included; to be encoded without the post-processor's additions.
  /// Throws Error(kInvalidRequest) for an empty list or an unknown role, and for kNone (naming
  /// --chat-template).
  std::string render(const std::vector<ChatTurn>& turns) const;

 private:
  Kind kind_;
};

}  // namespace longspan
