// Rendered chats against transformers' apply_chat_template, and templates that must not be guessed at.
#include "text/chat_template.h"

#include <fstream>
#include <string>

#include "text/jinja_text.h"
#include "text_test_util.h"

namespace longspan {
namespace {

using nlohmann::json;
using Kind = ChatTemplate::Kind;

class Folder {
 public:
  Folder()
      : path(std::filesystem::path(::testing::TempDir()) /
             (std::string("longspan_chat_") +
              ::testing::UnitTest::GetInstance()->current_test_info()->name())) {
    std::filesystem::remove_all(path);
    std::filesystem::create_directories(path);
  }
  ~Folder() { std::filesystem::remove_all(path); }
  void write(const std::string& name, const std::string& text) const { std::ofstream(path / name) << text; }

  std::filesystem::path path;
};

std::vector<ChatTurn> turns_of(const json& messages) {
  std::vector<ChatTurn> turns;
  for (const json& m : messages) turns.push_back({m["role"], m["content"]});
  return turns;
}

TEST(ChatTemplate, RendersWhatTransformersRenders) {
  const json golden = read_golden("chats.json");
  const std::string bos = golden["bos_token"];
  ASSERT_GT(golden["rows"].size(), 60u);
  for (const json& row : golden["rows"]) {
    const std::string name = row["template"];
    const ChatTemplate t(recognize_chat_template(golden["templates"][name].get<std::string>(), bos, name));
    EXPECT_EQ(t.render(turns_of(row["messages"])), row["text"].get<std::string>()) << name;
  }
}

TEST(ChatTemplate, ThinkingIsSwitchedOffWhereTheTemplateCan) {
  const json golden = read_golden("chats.json");
  const std::vector<ChatTurn> hi = {{"user", "hi"}};
  const auto load = [&](const char* name) {
    return ChatTemplate(recognize_chat_template(golden["templates"][name].get<std::string>(), "", name));
  };
  const ChatTemplate qwen3 = load("qwen3"), always = load("qwen3-thinking"), llama3 = load("llama3");
  EXPECT_EQ(qwen3.render(hi, false), qwen3.render(hi) + "<think>\n\n</think>\n\n");
  EXPECT_THROW(always.render(hi, false), Error);
  EXPECT_THROW(llama3.render(hi, false), Error);
  EXPECT_TRUE(qwen3.thinks() && !qwen3.opens_thinking());
  EXPECT_TRUE(always.thinks() && always.opens_thinking());
  EXPECT_FALSE(llama3.thinks() || llama3.opens_thinking());
}

TEST(ChatTemplate, IsReadFromEveryPlaceThatFoldersKeepItIn) {
  const json golden = read_golden("chats.json");
  const std::string chatml = golden["templates"]["chatml"], llama3 = golden["templates"]["llama3"];
  const std::vector<ChatTurn> hi = {{"user", "hi"}};
  {
    const Folder f;
    EXPECT_EQ(ChatTemplate::load(f.path, "").kind(), Kind::kNone);
    f.write("tokenizer_config.json", "{\"chat_template\": null}");
    EXPECT_EQ(ChatTemplate::load(f.path, "").kind(), Kind::kNone);
    f.write("tokenizer_config.json", json{{"chat_template", chatml}, {"bos_token", nullptr}}.dump());
    EXPECT_EQ(ChatTemplate::load(f.path, "").kind(), Kind::kChatMl);
    f.write("tokenizer_config.json",
            json{{"chat_template",
                  {{{"name", "tool_use"}, {"template", "x"}}, {{"name", "default"}, {"template", chatml}}}}}
                .dump());
    EXPECT_EQ(ChatTemplate::load(f.path, "").kind(), Kind::kChatMl);
    f.write("tokenizer_config.json",
            json{{"chat_template", chatml}, {"bos_token", {{"content", "<bos>"}}}}.dump());
    f.write("chat_template.jinja", llama3 + "\n");
    EXPECT_EQ(ChatTemplate::load(f.path, "").render(hi),
              "<bos><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>"
              "<|start_header_id|>assistant<|end_header_id|>\n\n");
    EXPECT_EQ(ChatTemplate::load(f.path, "chatml").render(hi),
              "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
    EXPECT_TRUE(ChatTemplate::load(f.path, "llama3")
                    .render(hi)
                    .starts_with("<|begin_of_text|><|start_header_id|>user"));
    expect_error(ErrorCode::kUsage, "--chat-template is \"alpaca\"; it must be chatml or llama3",
                 [&] { ChatTemplate::load(f.path, "alpaca"); });
  }
  const auto recall = std::filesystem::path(LONGSPAN_SOURCE_DIR) / "models/recall-moe";
  EXPECT_EQ(ChatTemplate::load(recall, "").render(hi), ChatTemplate(Kind::kChatMl).render(hi));
}

TEST(ChatTemplate, MalformedFilesAreNamed) {
  const Folder f;
  for (const char* text :
       {"{", "[]", "{\"chat_template\": 7}", "{\"chat_template\": [7]}", "{\"bos_token\": 7}",
        "{\"chat_template\": [{\"name\": \"rag\", \"template\": \"x\"}]}"}) {
    f.write("tokenizer_config.json", text);
    expect_error(ErrorCode::kUnreadable, "tokenizer_config.json", [&] { ChatTemplate::load(f.path, ""); });
  }
}

TEST(ChatTemplate, UnknownTemplatesAreRefusedWithWhatToDo) {
  const json templates = read_golden("chats.json")["templates"];
  const std::string chatml = templates["chatml"], qwen3 = templates["qwen3"], llama31 = templates["llama3.1"],
                    llama3 = templates["llama3"], qwen2 = templates["qwen2"];
  const auto replaced = [](std::string text, const std::string& from, const std::string& to) {
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return text.replace(at, from.size(), to);
  };
  const std::string unknown[] = {
      "{{ bos_token }}{% for m in messages %}[INST] {{ m.content }} [/INST]{% endfor %}",
      "<|im_start|><|im_end|>",
      replaced(chatml, "+ message['content']", "+ message['content'] | trim"),
      replaced(chatml, "'\\n'}}", "'\\n\\n'}}"),
      replaced(chatml, "{% for", "{{ bos_token }}{% for"),
      replaced(chatml, "{% for", "  {{ '' }}{% for"),
      replaced(chatml, "{{ '<|im_start|>assistant\\n' }}", "{{ '<|im_start|>model\\n' }}"),
      replaced(chatml, "{{ '<|im_start|>assistant\\n' }}", "{{ '<|im_start|>assistant\\n' }}{{ '<think>' }}"),
      replaced(chatml, "{% if add_generation_prompt %}", "{% if true %}"),
      replaced(qwen3, "loop.index0 > ns.last_query_index", "true"),
      replaced(qwen3, "[-1].lstrip('\\n') %}\n        {%- endif", "[-1] %}\n        {%- endif"),
      replaced(qwen2, "!= 'system'", "!= 'developer'"),
      replaced(llama3, "| trim", ""),
      replaced(llama3, "bos_token + content", "content + bos_token"),
      replaced(llama31, "{{- system_message }}", "{{- system_message + '!' }}"),
      replaced(llama31, "{{- \"Today Date: \" + date_string", "{{- \"Date: \" + date_string"),
      replaced(llama31, "{{- bos_token }}", "{{- bos_token }}{{ '<|start_header_id|>system' }}")
          .substr(0, 60),
  };
  for (const std::string& text : unknown) {
    SCOPED_TRACE(text);
    expect_error(ErrorCode::kNotSupported, "--chat-template",
                 [&] { recognize_chat_template(text, "<s>", "f"); });
  }
  expect_error(ErrorCode::kNotSupported, "writes today's date", [&] {
    recognize_chat_template(replaced(llama31, "\"26 Jul 2024\"", "strftime_now(\"%d %b %Y\")"), "<s>", "f");
  });
}

TEST(ChatTemplate, TurnsThatCannotBeRenderedAreRefused) {
  const ChatTemplate t(Kind::kChatMl);
  expect_error(ErrorCode::kInvalidRequest, "messages is empty", [&] { t.render({}); });
  expect_error(ErrorCode::kInvalidRequest, "messages[1].role is \"tool\"", [&] {
    t.render({{"user", ""}, {"tool", ""}});
  });
  expect_error(ErrorCode::kInvalidRequest, "--chat-template", [] {
    ChatTemplate(Kind::kNone).render({{"user", "x"}});
  });
}

TEST(JinjaText, HasOneSpellingForEqualTemplates) {
  EXPECT_EQ(canonical_jinja("{%- if  a -%}\n {{ \"x\\n\" + 'y' }}  {%- endif %}\n"),
            "{%ifa%}{{'x\\ny'}}{%endif%}");
  EXPECT_EQ(canonical_jinja("{{ m[\"role\"] }}{# note #}{{ m['content'] }}"), "{{m.role}}{{m.content}}");
  EXPECT_EQ(canonical_jinja("a{% b %}\n  {% c %}\n\n{{ d }} "), "{{#'a'}}{%b%}{%c%}{{#'\\n'}}{{d}}{{#' '}}");
  EXPECT_EQ(canonical_jinja("{% a %}  {% b %}"), "{%a%}{{#'  '}}{%b%}");
  EXPECT_EQ(canonical_jinja("{{ 'it\\'s' + \"}}\" }}"), "{{'it\\'s}}'}}");
  for (const char* broken : {"{", "{{", "{{'", "{%", "{#", "{{'\\", "{{-", "{%-", "{#-", "{{}", "a{"})
    canonical_jinja(broken);
}

}  // namespace
}  // namespace longspan
