#include "text/chat_template.h"

#include <fmt/format.h>
#include <longspan/error.h>

#include <algorithm>
#include <initializer_list>

#include "base/utf8.h"

namespace longspan {
namespace {

constexpr std::string_view kThinkOpen = "<think>", kThinkClose = "</think>";

std::string_view without_newlines_before(std::string_view s) {
  return s.substr(std::min(s.find_first_not_of('\n'), s.size()));
}
std::string_view without_newlines_after(std::string_view s) {
  return s.substr(0, s.find_last_not_of('\n') + 1);
}

// Python's str.strip(): white space and the four separators of ASCII.
std::string_view stripped(std::string_view s) {
  const auto is_space = [](uint32_t c) { return is_white_space(c) || (c >= 0x1c && c <= 0x1f); };
  size_t begin = s.size(), end = 0;
  for (size_t at = 0; at < s.size();) {
    const Utf8Char c = first_char(s.substr(at));
    if (!is_space(c.code_point)) {
      begin = std::min(begin, at);
      end = at + c.bytes;
    }
    at += c.bytes;
  }
  return end == 0 ? std::string_view() : s.substr(begin, end - begin);
}

void append(std::string& out, std::initializer_list<std::string_view> parts) {
  for (const std::string_view part : parts) out += part;
}

// Index of the last user turn that is not a tool's answer; past every assistant turn if there is none.
size_t last_query(const std::vector<ChatTurn>& turns) {
  for (size_t i = turns.size(); i-- > 0;) {
    const std::string& text = turns[i].content;
    const bool tool_answer = text.starts_with("<tool_response>") && text.ends_with("</tool_response>");
    if (turns[i].role == "user" && !tool_answer) return i;
  }
  return turns.size() - 1;
}

// What a Qwen3 assistant turn shows: its answer, after the question being worked on also its thoughts.
std::string without_old_thinking(std::string_view content, bool after_query, bool last) {
  std::string_view thoughts, answer = content;
  if (const size_t close = content.find(kThinkClose); close != content.npos) {
    thoughts = without_newlines_after(content.substr(0, close));
    if (const size_t open = thoughts.rfind(kThinkOpen); open != thoughts.npos) {
      thoughts.remove_prefix(open + kThinkOpen.size());
    }
    thoughts = without_newlines_before(thoughts);
    answer = without_newlines_before(content.substr(content.rfind(kThinkClose) + kThinkClose.size()));
  }
  if (!after_query || (!last && thoughts.empty())) return std::string(answer);
  return fmt::format("<think>\n{}\n</think>\n\n{}", without_newlines_before(without_newlines_after(thoughts)),
                     without_newlines_before(answer));
}

std::string render_chat_ml(const ChatFormat& format, const std::vector<ChatTurn>& turns) {
  std::string out;
  if (!format.default_system.empty() && turns[0].role != "system") {
    append(out, {"<|im_start|>system\n", format.default_system, "<|im_end|>\n"});
  }
  const size_t query = last_query(turns);
  for (size_t i = 0; i < turns.size(); ++i) {
    append(out, {"<|im_start|>", turns[i].role, "\n"});
    if (format.drops_thinking && turns[i].role == "assistant") {
      out += without_old_thinking(turns[i].content, i > query, i + 1 == turns.size());
    } else {
      out += turns[i].content;
    }
    out += "<|im_end|>\n";
  }
  append(out, {"<|im_start|>assistant\n", format.generation_suffix});
  return out;
}

std::string render_llama3(const ChatFormat& format, const std::vector<ChatTurn>& turns) {
  std::string out = format.bos;
  const auto header = [&](std::string_view role) {
    append(out, {"<|start_header_id|>", role, "<|end_header_id|>\n\n"});
  };
  size_t first = 0;
  if (!format.system_preamble.empty()) {
    header("system");
    out += format.system_preamble;
    if (turns[0].role == "system") {
      out += stripped(turns[0].content);
      first = 1;
    }
    out += "<|eot_id|>";
  }
  for (size_t i = first; i < turns.size(); ++i) {
    header(turns[i].role);
    append(out, {stripped(turns[i].content), "<|eot_id|>"});
  }
  header("assistant");
  return out + format.generation_suffix;
}

ChatFormat plain_format(ChatFormat::Kind kind) {
  ChatFormat format;
  format.kind = kind;
  if (kind == ChatFormat::Kind::kLlama3) format.bos = "<|begin_of_text|>";
  return format;
}

}  // namespace

ChatTemplate::ChatTemplate(Kind kind) : format_(plain_format(kind)) {}

ChatTemplate ChatTemplate::load(const std::filesystem::path& folder, std::string_view override_name) {
  if (override_name == "chatml") return ChatTemplate(Kind::kChatMl);
  if (override_name == "llama3") return ChatTemplate(Kind::kLlama3);
  if (!override_name.empty()) {
    throw Error(ErrorCode::kUsage,
                fmt::format("--chat-template is \"{}\"; it must be chatml or llama3", override_name));
  }
  const ChatTemplateSource source = read_chat_template(folder);
  if (source.jinja.empty()) return ChatTemplate(Kind::kNone);
  return ChatTemplate(recognize_chat_template(source.jinja, source.bos_token, source.file));
}

std::string ChatTemplate::render(const std::vector<ChatTurn>& turns, bool thinking) const {
  const auto refuse = [](const std::string& why) { throw Error(ErrorCode::kInvalidRequest, why); };
  if (format_.kind == Kind::kNone) {
    refuse(
        "the model folder has no chat template, so messages can't be rendered; choose one with "
        "--chat-template "
        "chatml or llama3, or send a prompt");
  }
  if (turns.empty()) refuse("messages is empty; it must have at least one turn");
  for (size_t i = 0; i < turns.size(); ++i) {
    const std::string& role = turns[i].role;
    if (role != "system" && role != "user" && role != "assistant") {
      refuse(fmt::format("messages[{}].role is \"{}\"; it must be system, user or assistant", i, role));
    }
  }
  if (!thinking && format_.thinking_off.empty())
    refuse("the model's chat template can't switch thinking off; leave out enable_thinking");
  const std::string text =
      format_.kind == Kind::kChatMl ? render_chat_ml(format_, turns) : render_llama3(format_, turns);
  return thinking ? text : text + format_.thinking_off;
}

}  // namespace longspan
