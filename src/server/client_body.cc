#include "server/client_body.h"

namespace longspan::server {

using nlohmann::json;

json client_body(const std::string& model, const Request& request) {
  const SamplingParams& sampling = request.sampling;
  json body = {{"model", model},
               {"max_tokens", sampling.max_tokens},
               {"temperature", sampling.temperature},
               {"top_p", sampling.top_p},
               {"seed", sampling.seed}};
  if (!sampling.stop.empty()) body["stop"] = sampling.stop;
  if (sampling.ignore_eos) body["ignore_eos"] = true;
  if (const auto* messages = std::get_if<std::vector<Message>>(&request.prompt)) {
    body["messages"] = json::array();
    for (const Message& message : *messages)
      body["messages"].push_back({{"role", message.role}, {"content", message.content}});
  } else if (const auto* ids = std::get_if<std::vector<int32_t>>(&request.prompt)) {
    body["prompt"] = *ids;
  } else {
    body["prompt"] = std::get<std::string>(request.prompt);
  }
  return body;
}

bool is_chat(const Request& request) {
  return std::holds_alternative<std::vector<Message>>(request.prompt);
}

std::string body_text(const json& body) {
  return body.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace longspan::server
