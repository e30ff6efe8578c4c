#include "server/streamed_answer.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "server/client_body.h"
#include "server/event_reader.h"

namespace longspan::server {
namespace {

using nlohmann::json;

constexpr size_t kLongestReason = 64;  // bytes of a failure that the server words

int64_t count_of(const json& usage, const char* name) {
  return usage.is_object() && usage.contains(name) && usage[name].is_number_integer()
             ? usage[name].get<int64_t>()
             : 0;
}

bool is_text(const json& object, const char* name) {
  return object.contains(name) && object[name].is_string() &&
         !object[name].get_ref<const std::string&>().empty();
}

bool brings_text(const json& choice) {
  if (!choice.is_object()) return false;
  if (is_text(choice, "text")) return true;
  if (!choice.contains("delta") || !choice["delta"].is_object()) return false;
  return is_text(choice["delta"], "content") || is_text(choice["delta"], "reasoning_content");
}

class AnswerReader {
 public:
  explicit AnswerReader(const std::function<double()>& now) : now_(now) {}

  void take(std::string_view bytes) {
    events_.push(bytes, [this](std::string_view data) { on_event(data); });
  }

  StreamedAnswer finish() {
    if (answer_.failure.empty() && !done_) answer_.failure = "a cut stream";
    answer_.end_s = now_();
    if (!answer_.first_s && answer_.failure.empty()) answer_.first_s = answer_.end_s;
    return std::move(answer_);
  }

  void fail(const std::string& why) {
    if (answer_.failure.empty()) answer_.failure = why.substr(0, kLongestReason);
  }

 private:
  void on_event(std::string_view data) {
    if (data == "[DONE]") {
      done_ = true;
      return;
    }
    const json chunk = json::parse(data, nullptr, false);
    if (!chunk.is_object()) return fail("an event that is no JSON object");
    if (chunk.contains("error")) {
      const json& error = chunk["error"];
      const bool coded = error.is_object() && is_text(error, "code");
      return fail(coded ? error["code"].get<std::string>() : "an error in the stream");
    }
    if (chunk.contains("usage") && chunk["usage"].is_object()) {
      const json& usage = chunk["usage"];
      answer_.prompt_tokens = count_of(usage, "prompt_tokens");
      answer_.new_tokens = count_of(usage, "completion_tokens");
      if (usage.contains("prompt_tokens_details"))
        answer_.cached_tokens = count_of(usage["prompt_tokens_details"], "cached_tokens");
    }
    const bool has_choice =
        chunk.contains("choices") && chunk["choices"].is_array() && !chunk["choices"].empty();
    if (!has_choice || !brings_text(chunk["choices"][0])) return;
    const double now = now_();
    if (answer_.first_s) answer_.gaps_s.push_back(now - last_s_);
    if (!answer_.first_s) answer_.first_s = now;
    last_s_ = now;
  }

  const std::function<double()>& now_;
  EventReader events_;
  StreamedAnswer answer_;
  double last_s_ = 0;
  bool done_ = false;
};

}  // namespace

StreamedAnswer ask_streaming(HttpClient& client, const std::string& model, const Request& request,
                             const std::function<double()>& now) {
  json body = client_body(model, request);
  body["stream"] = true;
  body["stream_options"] = {{"include_usage", true}};
  AnswerReader reader(now);
  try {
    const HttpAnswer answer =
        client.post_stream(is_chat(request) ? "/chat/completions" : "/completions", body_text(body),
                           [&reader](std::string_view bytes) { reader.take(bytes); });
    if (answer.status != 200) reader.fail(fmt::format("status {}", answer.status));
  } catch (const NoAnswer& error) {
    reader.fail(error.reason());
  }
  return reader.finish();
}

}  // namespace longspan::server
