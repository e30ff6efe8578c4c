#include "text/chat_format.h"

#include <fmt/format.h>
#include <longspan/error.h>

#include <initializer_list>

#include "text/jinja_text.h"

namespace longspan {
namespace {

using Kind = ChatFormat::Kind;

class Recognizer {
 public:
  Recognizer(std::string_view jinja, std::string_view bos_token, std::string_view file)
      : text_(canonical_jinja(jinja)), bos_token_(bos_token), file_(file) {}

  ChatFormat run() {
    if (has("{{#'")) refuse("writes text outside {{ }}, a form that Longspan doesn't know");
    if (has("<|im_start|>") && has("<|im_end|>")) {
      chat_ml();
    } else if (has("<|start_header_id|>") && has("<|eot_id|>")) {
      llama3();
    } else {
      refuse("is neither ChatML nor Llama-3");
    }
    return std::move(format_);
  }

 private:
  [[noreturn]] void refuse(std::string_view why) const {
    throw Error(ErrorCode::kNotSupported,
                fmt::format("{}: the chat template {}; choose a format with --chat-template chatml or llama3",
                            file_, why));
  }

  bool has(std::string_view part) const { return text_.find(part) != text_.npos; }
  bool has_all(std::initializer_list<std::string_view> parts) const {
    for (const std::string_view part : parts) {
      if (!has(part)) return false;
    }
    return true;
  }

  // The template's end must be the generation prompt: `header` in a literal, perhaps more text in it, and no
  // more than Qwen3's switch for an empty <think> block after it.
  void generation_prompt(std::string_view header) {
    constexpr std::string_view kCondition = "{%ifadd_generation_prompt%}{{'";
    constexpr std::string_view kThinkingOff =
        "{%ifenable_thinkingisdefinedandenable_thinkingisfalse%}{{'<think>\\n\\n</"
        "think>\\n\\n'}}{%endif%}{%endif%}";
    const size_t conditional = text_.rfind(kCondition);
    const size_t always = text_.rfind("{%endfor%}{{'");
    const bool is_conditional = conditional != text_.npos;
    if (!is_conditional && always == text_.npos) refuse("ends in no generation prompt that Longspan knows");
    const size_t literal_at = text_.find('\'', is_conditional ? conditional : always) + 1;
    const JinjaLiteral literal = read_jinja_literal(text_, literal_at);
    std::string_view rest = literal.end == text_.npos ? "" : std::string_view(text_).substr(literal.end);
    const bool known_end =
        is_conditional ? rest == "}}{%endif%}" || (rest.starts_with("}}") && rest.substr(2) == kThinkingOff)
                       : rest == "}}";
    if (!literal.value.starts_with(header) || !known_end)
      refuse("ends in a generation prompt that Longspan doesn't know");
    if (rest.find(kThinkingOff) != rest.npos) format_.thinking_off = "<think>\n\n</think>\n\n";
    format_.generation_suffix = literal.value.substr(header.size());
  }

  void chat_ml() {
    format_.kind = Kind::kChatMl;
    for (const std::string_view part :
         {"|trim", "strftime_now", "bos_token", "<|im_sep|>", "<|start_header_id|>"}) {
      if (has(part))
        refuse(fmt::format("is a form of ChatML that Longspan doesn't know (it has \"{}\")", part));
    }
    if (!has("'<|im_start|>'+message.role+'\\n'+message.content+'<|im_end|>\\n'") &&
        !has("'<|im_start|>'+message.role+'\\n'+content+'<|im_end|>\\n'")) {
      refuse("is a form of ChatML that Longspan doesn't know (turns are written in another way)");
    }
    generation_prompt("<|im_start|>assistant\n");
    default_system();
    const std::string_view body =
        std::string_view(text_).substr(0, text_.rfind("{%ifadd_generation_prompt%}"));
    if (body.find("think>") != body.npos) {
      format_.drops_thinking =
          has_all({"content.split('</think>')[-1].lstrip('\\n')", "loop.index0>ns.last_query_index",
                   "loop.lastor(notloop.lastandreasoning_content)",
                   "reasoning_content.strip('\\n')+'\\n</think>\\n\\n'+content.lstrip('\\n')"});
      if (!format_.drops_thinking) refuse("treats <think> blocks in a way that Longspan doesn't know");
    }
  }

  // A whole system turn in one literal is what a chat without one gets (Qwen2, Qwen2.5).
  void default_system() {
    constexpr std::string_view kOpen = "<|im_start|>system\n", kClose = "<|im_end|>\n";
    for (size_t at = 0; (at = text_.find("'<|im_start|>system\\n", at)) != text_.npos; ++at) {
      const std::string value = read_jinja_literal(text_, at + 1).value;
      if (!value.ends_with(kClose)) continue;
      const std::string content = value.substr(kOpen.size(), value.size() - kOpen.size() - kClose.size());
      if (!format_.default_system.empty() && format_.default_system != content)
        refuse("has several system texts");
      format_.default_system = content;
    }
    if (!format_.default_system.empty() && !has("messages[0].role=='system'") &&
        !has("messages[0].role!='system'")) {
      refuse("has a system text with a condition that Longspan doesn't know");
    }
  }

  void llama3() {
    format_.kind = Kind::kLlama3;
    if (!has("'<|start_header_id|>'+message.role+'<|end_header_id|>\\n\\n'+message.content|trim+'<|eot_id|>"
             "'")) {
      refuse("is a form of Llama-3's that Longspan doesn't know (turns are written in another way)");
    }
    if (has("{%setcontent=bos_token+content%}") || text_.starts_with("{{bos_token}}")) {
      format_.bos = bos_token_;
    } else if (has("bos_token")) {
      refuse("uses bos_token in a way that Longspan doesn't know");
    }
    generation_prompt("<|start_header_id|>assistant<|end_header_id|>\n\n");
    if (has("date_string") || has("Today Date") || has("Knowledge Date")) {
      dated_system();
    } else if (has("<|start_header_id|>system") || has("{%setsystem_message='")) {
      refuse("has a system text of its own");
    }
  }

  // Llama-3.1's system turn, which states two dates.
  void dated_system() {
    if (has("strftime_now")) {
      refuse(
          "writes today's date into the system turn (Llama-3.2), so that equal chats would give different "
          "tokens");
    }
    constexpr std::string_view kDate = "{%ifnotdate_stringisdefined%}{%setdate_string='";
    constexpr std::string_view kCutting = "{{'<|start_header_id|>system<|end_header_id|>\\n\\n'}}";
    constexpr std::string_view kKnowledge = "{{'Cutting Knowledge Date: ";
    if (!has_all({kDate, kCutting, kKnowledge, "{{'Today Date: '+date_string+'\\n\\n'}}",
                  "{{system_message}}{{'<|eot_id|>'}}", "{%setsystem_message=messages[0].content|trim%}",
                  "{%setmessages=messages[1:]%}{%else%}{%setsystem_message=''%}{%endif%}"})) {
      refuse("writes dates into the system turn in a way that Longspan doesn't know");
    }
    const std::string date = read_jinja_literal(text_, text_.find(kDate) + kDate.size()).value;
    const std::string knowledge = read_jinja_literal(text_, text_.find(kKnowledge) + 3).value;
    format_.system_preamble = fmt::format("{}Today Date: {}\n\n", knowledge, date);
  }

  std::string text_;  // canonical
  std::string_view bos_token_, file_;
  ChatFormat format_;
};

}  // namespace

ChatFormat recognize_chat_template(std::string_view jinja, std::string_view bos_token,
                                   std::string_view file) {
  return Recognizer(jinja, bos_token, file).run();
}

}  // namespace longspan
